// Contexts, memory, staged copies and launches over the fake driver.
#include <cstring>
#include <numeric>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/driver_launcher.h"
#include "kernels/cuda/images.h"
#include "tests/catch.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/errors.h"

namespace inferd::cuda {
namespace {

using inferd::testing::error_of;
using inferd::testing::has;

constexpr std::size_t kGpuBytes = std::size_t{1} << 30;

/// One GPU with its stream. The fake's settings are the process's.
struct Gpu {
  Gpu() : driver(open()), context(driver, 0), stream(context) {}
  static Driver open() {
    test::use_fake_gpu("memory=1073741824,seed=5");
    return Driver::open();
  }
  Driver driver;
  Context context;
  Stream stream;
};

std::vector<std::byte> pattern(std::size_t bytes) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>(i * 7 + i / 251);
  return out;
}

}  // namespace

TEST_CASE("device memory starts as zeros, is given back, and says what was missing", "[fake]") {
  const Gpu gpu;
  CHECK(gpu.context.info().arch() == 80);
  CHECK(gpu.context.label() == "GPU 0, Simulated GPU 0 (sm_80)");
  Staging staging(gpu.stream);
  const std::size_t before = gpu.context.free_bytes();
  CHECK(before == kGpuBytes);
  {
    const DeviceMemory memory(gpu.stream, 1000);
    CHECK(memory.bytes() == 1000);
    CHECK(gpu.context.free_bytes() == before - 1000);
    std::vector<std::byte> read(1000, std::byte{7});
    staging.download(read.data(), memory.data(), 1000);
    CHECK(read == std::vector<std::byte>(1000));
    DeviceMemory moved = DeviceMemory(gpu.stream, 0);
    moved = DeviceMemory(gpu.stream, 24);
    CHECK(moved.bytes() == 24);
    const FatalError full = error_of([&] { DeviceMemory(gpu.stream, kGpuBytes); });
    CHECK(full.code == ExitCode::no_memory);
    CHECK(std::string(full.what()) == "GPU 0, Simulated GPU 0 (sm_80): needs 1073741824 bytes of device memory, " +
                                          std::to_string(kGpuBytes - 1024) + " are free");
  }
  CHECK(gpu.context.free_bytes() == before);
}

TEST_CASE("uploads of every size arrive, however the chunks are used") {
  const Gpu gpu;
  Staging staging(gpu.stream);
  const std::vector<std::byte> data = pattern(7 * Staging::kLeastChunk + 13);
  for (int round = 0; round < 2; ++round) {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4096}, Staging::kLeastChunk - 1,
                                    Staging::kLeastChunk, Staging::kLeastChunk + 1, data.size()}) {
      const DeviceMemory memory(gpu.stream, bytes);
      std::vector<std::byte> source(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(bytes));
      const std::vector<std::byte> expected = source;
      staging.upload(memory.data(), source.data(), bytes);
      std::fill(source.begin(), source.end(), std::byte{0xee});  // the caller's again
      std::vector<std::byte> read(bytes);
      staging.download(read.data(), memory.data(), bytes);
      CHECK(read == expected);
    }
    staging.stage(3 * Staging::kLeastChunk);  // larger chunks from here on
  }
}

TEST_CASE("many small uploads reuse the chunks only after they were copied") {
  const Gpu gpu;
  Staging staging(gpu.stream);
  constexpr std::size_t kPiece = 300'000, kPieces = 40;  // almost three times round all chunks
  const DeviceMemory memory(gpu.stream, kPiece * kPieces);
  const std::vector<std::byte> data = pattern(kPiece * kPieces);
  for (std::size_t i = 0; i < kPieces; ++i) {
    staging.upload(memory.data() + i * kPiece, data.data() + i * kPiece, kPiece);
  }
  std::vector<std::byte> read(data.size());
  staging.download(read.data(), memory.data(), read.size());
  CHECK(read == data);
}

TEST_CASE("memory to be filled is not what a copy still reads, and grows with what is asked for") {
  const Gpu gpu;
  Staging staging(gpu.stream);
  const std::vector<std::size_t> sizes = {1000, 0, 1, Staging::kLeastChunk, 700'000, 700'000, 3 * Staging::kLeastChunk,
                                          5};
  std::vector<DeviceMemory> memory;
  const std::vector<std::byte> data = pattern(4 * Staging::kLeastChunk);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    memory.emplace_back(gpu.stream, sizes[i]);
    std::byte* staged = staging.stage(sizes[i]);
    CHECK(reinterpret_cast<std::uintptr_t>(staged) % 256 == 0);
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(i), sizes[i], staged);
    staging.send(memory[i].data(), sizes[i]);
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    std::vector<std::byte> read(sizes[i]);
    staging.download(read.data(), memory[i].data(), sizes[i]);
    CHECK(std::equal(read.begin(), read.end(), data.begin() + static_cast<std::ptrdiff_t>(i)));
  }
}

TEST_CASE("a kernel of this binary runs on the GPU", "[fake]") {
  const Gpu gpu;
  Staging staging(gpu.stream);
  DriverLauncher launcher(gpu.stream);
  CHECK(launcher.arch() == 80);
  CHECK(launcher.multiprocessors() == 4);
  std::vector<float> x(5 * 300);
  std::iota(x.begin(), x.end(), 0.0f);
  const std::vector<std::int32_t> rows = {4, 0, 4};
  const DeviceMemory in(gpu.stream, x.size() * 4), index(gpu.stream, 12), out(gpu.stream, 3 * 300 * 4);
  staging.upload(in.data(), x.data(), x.size() * 4);
  staging.upload(index.data(), rows.data(), 12);
  gather_rows(launcher, {.x = Tensor(in.data(), DType::f32, {5, 300}),
                         .rows = Tensor(index.data(), DType::i32, {3}),
                         .out = Tensor(out.data(), DType::f32, {3, 300})});
  std::vector<float> got(3 * 300);
  staging.download(got.data(), out.data(), got.size() * 4);
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i] == x[static_cast<std::size_t>(rows[i / 300]) * 300 + i % 300]);
  }
}

TEST_CASE("a GPU is refused if it is not there, or no kernel was built for it", "[fake]") {
  const Gpu gpu;
  const FatalError absent = error_of([&] { Context(gpu.driver, 1); });
  CHECK(absent.code == ExitCode::bad_config);
  CHECK(std::string(absent.what()) == "cuda:1: this machine has 1 GPU");
  const int first = image_archs().front(), last = image_archs().back();
  CHECK(arch_problem(first).empty());
  CHECK(arch_problem(first + 1).empty());
  CHECK(arch_problem(last).empty());
  CHECK(arch_problem(120).empty());
  CHECK(has(arch_problem(70), "this GPU is sm_70; built: sm_" + std::to_string(first)));
}

TEST_CASE("a kernel that reaches beyond its memory loses the GPU for good", "[fake]") {
  const Gpu gpu;
  DriverLauncher launcher(gpu.stream);
  const DeviceMemory in(gpu.stream, 64), index(gpu.stream, 4), out(gpu.stream, 32);
  gather_rows(launcher, {.x = Tensor(in.data(), DType::f32, {1, 16}),
                         .rows = Tensor(index.data(), DType::i32, {1}),
                         .out = Tensor(out.data(), DType::f32, {1, 16})});
  for (int i = 0; i < 2; ++i) {
    const FatalError lost = error_of([&] { gpu.stream.synchronize(); });
    CHECK(lost.code == ExitCode::gpu_lost);
    CHECK(has(lost.what(), "(GPU 0, Simulated GPU 0 (sm_80)): CUDA error 700"));
  }
}

}  // namespace inferd::cuda
