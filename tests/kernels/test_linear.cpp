// Linear layers: every type and level against fp64, invariance of rows, stacking, embedding.
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <new>

#include "base/errors.h"
#include "tests/catch.h"
#include "tests/kernels/linear_harness.h"

namespace {
std::atomic<std::int64_t> allocations{0};
}

// Not inlined, or the compiler takes the malloc inside for a mismatched pair.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* at = std::malloc(size > 0 ? size : 1)) return at;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* at) noexcept { std::free(at); }
[[gnu::noinline]] void operator delete(void* at, std::size_t) noexcept { std::free(at); }

using namespace inferd;
using namespace inferd::testing;

namespace {

struct Shape {
  std::int64_t rows;
  std::int64_t columns;
};

/// Awkward shapes a type allows: rows around tiles, columns odd multiples of its block.
std::vector<Shape> shapes_of(DType dtype) {
  const int block = dtype_info(dtype).block_elements;
  if (block == 256) return {{1, 256}, {15, 512}, {16, 768}, {17, 256}, {31, 256}, {48, 1280}, {100, 512}};
  if (block >= 64) return {{1, 128}, {15, 256}, {16, 384}, {17, 640}, {31, 128}, {48, 1152}, {100, 512}};
  std::vector<Shape> shapes = {{1, 32}, {15, 64}, {16, 96}, {17, 256}, {31, 576}, {48, 896}, {100, 352}};
  if (block == 1) shapes.insert(shapes.end(), {{17, 1}, {33, 45}, {20, 1000}});
  return shapes;
}

constexpr std::int64_t kMostTokens = 33;
const std::int64_t kTokenCounts[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23};

void check_type(const std::string& isa, DType dtype, ActivationMode mode) {
  const auto backend = cpu(isa, 2, mode);
  std::uint32_t seed = 1;
  for (const Shape& shape : shapes_of(dtype)) {
    INFO(isa << " " << dtype_info(dtype).name << " " << shape.rows << " x " << shape.columns);
    const StoredMatrix matrix(dtype, shape.rows, shape.columns, ++seed);
    const WeightSource source = matrix.source();
    const auto weight = backend->load_weight({&source, 1}, {});
    REQUIRE(weight->rows() == shape.rows);
    REQUIRE(weight->columns() == shape.columns);
    REQUIRE(weight->bytes() > 0);
    const std::vector<float> x = random_rows(kMostTokens, shape.columns, seed + 100);
    const std::vector<float> out = run_linear(*backend, *weight, x, kMostTokens);
    const std::vector<float> seen = seen_inputs(*backend, *weight, x, kMostTokens);
    if (mode == ActivationMode::f32) REQUIRE(seen == x);
    CHECK(worst_error(out, seen, matrix.widened(), kMostTokens, shape.rows, shape.columns) < 2e-6);
    for (std::int64_t tokens : kTokenCounts) {
      INFO("tokens " << tokens);
      CHECK(same_bits(run_linear(*backend, *weight, x, tokens), out, static_cast<std::size_t>(tokens * shape.rows)));
    }
  }
}

}  // namespace

TEST_CASE("every type at every level agrees with fp64 of the same inputs, whatever the batch") {
  for (const std::string& isa : available_levels()) {
    for (DType dtype : kLinearTypes) check_type(isa, dtype, ActivationMode::automatic);
  }
}

TEST_CASE("f32 activations are taken as they are, for quantised weights too") {
  for (const std::string& isa : available_levels()) {
    for (DType dtype : kLinearTypes) check_type(isa, dtype, ActivationMode::f32);
  }
}

TEST_CASE("results do not depend on the number of threads or the place of a row in the batch") {
  const std::int64_t tokens = 150;  // more than one chunk of tokens at this width
  for (const std::string& isa : available_levels()) {
    for (DType dtype : {DType::q4_1, DType::q6_k, DType::f16}) {
      INFO(isa << " " << dtype_info(dtype).name);
      const StoredMatrix matrix(dtype, 200, 2048, 7);
      const WeightSource source = matrix.source();
      const std::vector<float> x = random_rows(tokens, 2048, 8);
      std::vector<float> first;
      for (int threads : {1, 2, 3}) {
        const auto backend = cpu(isa, threads);
        const auto weight = backend->load_weight({&source, 1}, {});
        const std::vector<float> out = run_linear(*backend, *weight, x, tokens);
        if (first.empty()) first = out;
        CHECK(same_bits(out, first, out.size()));
        const std::vector<float> last_row(x.end() - 2048, x.end());
        const std::vector<float> alone = run_linear(*backend, *weight, last_row, 1);
        CHECK(std::memcmp(alone.data(), out.data() + (tokens - 1) * 200, 200 * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("levels agree with each other up to rounding") {
  const StoredMatrix matrix(DType::q4_k, 64, 512, 3);
  const WeightSource source = matrix.source();
  const std::vector<float> x = random_rows(5, 512, 4);
  std::vector<float> reference;
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 1);
    const std::vector<float> out = run_linear(*backend, *backend->load_weight({&source, 1}, {}), x, 5);
    if (reference.empty()) reference = out;
    for (std::size_t i = 0; i < out.size(); ++i) CHECK(out[i] == Approx(reference[i]).epsilon(1e-3).margin(1e-2));
  }
}

TEST_CASE("stacked parts of several types give what each gives alone") {
  const std::int64_t columns = 512;
  const std::int64_t tokens = 6;
  const std::vector<float> x = random_rows(tokens, columns, 11);
  const StoredMatrix parts[] = {{DType::q4_k, 48, columns, 1},
                                {DType::q6_k, 21, columns, 2},
                                {DType::f16, 3, columns, 3},
                                {DType::q8_0, 1, columns, 4},
                                {DType::q4_k, 60, columns, 5}};
  for (ActivationMode mode : {ActivationMode::automatic, ActivationMode::f32}) {
    for (const std::string& isa : available_levels()) {
      const auto backend = cpu(isa, 2, mode);
      std::vector<WeightSource> sources;
      std::int64_t rows = 0;
      for (const StoredMatrix& part : parts) {
        sources.push_back(part.source());
        rows += part.rows;
      }
      const auto stacked = backend->load_weight(sources, {});
      REQUIRE(stacked->rows() == rows);
      const std::vector<float> out = run_linear(*backend, *stacked, x, tokens);
      std::int64_t at = 0;
      for (const WeightSource& source : sources) {
        INFO(isa << " part at row " << at);
        const std::vector<float> alone = run_linear(*backend, *backend->load_weight({&source, 1}, {}), x, tokens);
        for (std::int64_t t = 0; t < tokens; ++t) {
          CHECK(std::memcmp(&out[t * rows + at], &alone[t * source.rows], source.rows * sizeof(float)) == 0);
        }
        at += source.rows;
      }
    }
  }
}

TEST_CASE("embedding rows are bit-equal to the stored rows, and can accumulate") {
  for (DType dtype : kLinearTypes) {
    for (const Shape& shape : shapes_of(dtype)) {
      INFO(dtype_info(dtype).name << " " << shape.rows << " x " << shape.columns);
      const auto backend = cpu("auto", 2);
      const StoredMatrix matrix(dtype, shape.rows, shape.columns, 5);
      const WeightSource source = matrix.source();
      const auto weight = backend->load_weight({&source, 1}, {.also_embedding = true});
      const std::vector<float> expected = matrix.widened();
      std::vector<std::int32_t> ids;
      for (std::int64_t r = 0; r < shape.rows; ++r) ids.push_back(static_cast<std::int32_t>(shape.rows - 1 - r));
      std::vector<float> out(expected.size());
      const Tensor id_tensor(ids.data(), DType::i32, {shape.rows});
      backend->embedding({.out = rows_of(out, shape.rows, shape.columns), .weight = weight.get(), .ids = id_tensor});
      for (std::int64_t r = 0; r < shape.rows; ++r) {
        const std::int64_t id = shape.rows - 1 - r;
        REQUIRE(std::memcmp(&out[r * shape.columns], &expected[id * shape.columns], shape.columns * sizeof(float)) ==
                0);
      }
      std::vector<float> twice = out;
      backend->embedding({.out = rows_of(twice, shape.rows, shape.columns),
                          .weight = weight.get(),
                          .ids = id_tensor,
                          .accumulate = true});
      for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(twice[i] == out[i] + out[i]);
    }
  }
}

TEST_CASE("published blocks decode to their published values through the packed layout") {
  const auto read = [](const std::string& name) {
    std::ifstream file(std::string(INFERD_SOURCE_DIR) + "/tests/golden/unit/ggml_blocks/" + name, std::ios::binary);
    REQUIRE(file.good());
    return std::vector<char>(std::istreambuf_iterator<char>(file), {});
  };
  const auto backend = cpu("auto", 1);
  for (DType dtype : kLinearTypes) {
    if (!dtype_info(dtype).quantized || dtype_info(dtype).ggml_type < 0) continue;
    const std::string name(dtype_info(dtype).name);
    INFO(name);
    const std::vector<char> blocks = read(name + ".bin");
    const std::vector<char> bytes = read(name + ".f32");
    std::vector<float> expected(bytes.size() / sizeof(float));
    std::memcpy(expected.data(), bytes.data(), bytes.size());
    const auto columns = static_cast<std::int64_t>(expected.size());
    REQUIRE(row_bytes(dtype, columns) == blocks.size());
    const WeightSource source{reinterpret_cast<const std::byte*>(blocks.data()), dtype, 1, columns};
    const auto weight = backend->load_weight({&source, 1}, {.also_embedding = true});
    std::vector<float> out(expected.size());
    std::int32_t id = 0;
    backend->embedding({.out = rows_of(out, 1, columns), .weight = weight.get(), .ids = Tensor(&id, DType::i32, {1})});
    for (std::size_t i = 0; i < out.size(); ++i) REQUIRE(out[i] == Approx(expected[i]).epsilon(1e-6));
  }
}

TEST_CASE("packing costs little memory") {
  for (DType dtype : kLinearTypes) {
    INFO(dtype_info(dtype).name);
    const StoredMatrix matrix(dtype, 256, 1024, 5);
    const WeightSource source = matrix.source();
    const auto backend = cpu("auto", 1);
    const double stored = static_cast<double>(row_bytes(dtype, 1024)) * 256;
    CHECK(static_cast<double>(backend->load_weight({&source, 1}, {})->bytes()) < 1.06 * stored);
  }
}

TEST_CASE("matrices that cannot be packed are refused") {
  const auto backend = cpu("auto", 1);
  const std::byte byte{};
  const auto load = [&](DType dtype, std::int64_t rows, std::int64_t columns) {
    const WeightSource source{&byte, dtype, rows, columns};
    return backend->load_weight({&source, 1}, {});
  };
  CHECK_THROWS_AS(load(DType::i64, 4, 32), CheckpointError);
  CHECK_THROWS_AS(load(DType::q4_0, 4, 33), CheckpointError);
  CHECK_THROWS_AS(load(DType::q4_k, 4, 128), CheckpointError);
  CHECK_THROWS_AS(load(DType::f32, 0, 32), CheckpointError);
  CHECK_THROWS_AS(load(DType::f32, 4, -32), CheckpointError);
  CHECK_THROWS_AS(load(DType::f32, std::int64_t{1} << 60, 32), MemoryError);
  CHECK_THROWS_AS(load(DType::f32, 1, std::int64_t{1} << 60), MemoryError);
  CHECK_THROWS_AS(load(DType::f32, 1 << 30, 1 << 20), MemoryError);
}

TEST_CASE("a linear layer allocates nothing") {
  const auto backend = cpu("auto", 2);
  const StoredMatrix matrix(DType::q4_1, 96, 64, 5);
  const WeightSource source = matrix.source();
  const auto weight = backend->load_weight({&source, 1}, {});
  std::vector<float> x = random_rows(5, 64, 1);
  std::vector<float> out(5 * 96);
  PoisonedActivation activation(*backend, 5, 64, weight->activation_forms());
  const LinearArgs args{.x = activation.view, .num_tokens = 5, .weight = weight.get(), .out = rows_of(out, 5, 96)};
  const std::int64_t before = allocations;
  backend->to_activation({.x = rows_of(x, 5, 64), .out = activation.view});
  backend->linear(args);
  CHECK(allocations == before);
}
