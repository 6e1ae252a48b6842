// Every weight format on the PTX interpreter, bit for bit: rows looked up from packed weights are dequantize_row's.
#include <bit>
#include <cstdint>
#include <limits>

#include "base/errors.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/pack.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/sim_weight.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::testing::half_offsets;
using inferd::testing::kLinearTypes;
using inferd::testing::StoredMatrix;

namespace {

/// The sign and bits of a float; all NaNs are one.
std::uint32_t bits(float value) { return value != value ? 0x7fc00000u : std::bit_cast<std::uint32_t>(value); }

void require_rows(SimLauncher& sim, const cuda::CudaWeight& weight, const std::vector<float>& expected) {
  const std::int64_t rows = weight.rows(), columns = weight.columns();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i);
  EmbeddingArgs args;
  args.weight = &weight;
  args.ids = sim.put(ids, DType::i32, {rows}, "ids");
  args.out = sim.output(DType::f32, {rows, columns}, "out");
  cuda::embedding(sim, args);
  const auto out = sim.get<float>(args.out.data, expected.size());
  std::string differs;
  for (std::size_t i = 0; i < out.size() && differs.empty(); ++i) {
    if (bits(out[i]) == bits(expected[i])) continue;
    differs = "row " + std::to_string(i / static_cast<std::size_t>(columns)) + " column " +
              std::to_string(i % static_cast<std::size_t>(columns)) + ": expected " + std::to_string(expected[i]) +
              ", found " + std::to_string(out[i]);
  }
  REQUIRE(differs == "");
}

std::vector<int> column_counts(DType dtype) {
  const int block = dtype_info(dtype).block_elements;
  if (block == 1) return {1, 2, 15, 63, 64, 65, 130};
  if (block == 32) return {32, 64, 96, 256};
  return {block, 2 * block, 3 * block};
}

/// Scales that a file may hold though no quantiser writes them.
void make_hostile(StoredMatrix& matrix) {
  const std::uint16_t halves[] = {0x7c00, 0xfc00, 0x7e01, 0x0001, 0x83ff, 0x7bff, 0x8000, 0x0000};
  std::byte* at = matrix.memory.data() + 1;
  const auto block = static_cast<std::size_t>(dtype_info(matrix.dtype).block_bytes);
  std::size_t n = 0;
  for (std::size_t b = 1; b < matrix.memory.size(); b += block, at += block, ++n) {
    if (group_format(matrix.dtype).bits > 0 || has_wide_table(matrix.dtype)) {
      const std::uint32_t floats[] = {0x7f800000, 0xff800000, 0x7fc00001, 0x00000001, 0x807fffff, 0x7f7fffff};
      std::memcpy(at, &floats[n % 6], 4);
      continue;
    }
    if (matrix.dtype == DType::mxfp4) at[0] = static_cast<std::byte>(n % 2 == 0 ? n / 2 % 4 : 255 - n / 2 % 4);
    if (matrix.dtype == DType::iq1_m) {
      for (std::size_t i = 0; i < 4; ++i) {
        at[49 + 2 * i] =
            (at[49 + 2 * i] & std::byte{15}) | static_cast<std::byte>((halves[n % 8] >> (4 * i) & 15) << 4);
      }
    }
    std::size_t k = n;
    for (const int offset : half_offsets(matrix.dtype)) std::memcpy(at + offset, &halves[k++ * 3 % 8], 2);
  }
}

}  // namespace

TEST_CASE("every type is decoded bit for bit, for every remainder of rows and columns") {
  for (const int arch : built_archs()) {
    for (const DType dtype : kLinearTypes) {
      for (const int columns : column_counts(dtype)) {
        for (const int rows :
             columns == column_counts(dtype)[1] ? std::vector<int>{1, 15, 16, 17, 33} : std::vector{17}) {
          CAPTURE(arch, dtype_info(dtype).name, rows, columns);
          SimLauncher sim(arch, 0, 1);
          const StoredMatrix matrix(dtype, rows, columns, static_cast<std::uint32_t>(columns + rows));
          const cuda::CudaWeight weight = sim_weight(sim, {matrix.source()}, {.also_embedding = true});
          require_rows(sim, weight, matrix.widened());
        }
      }
    }
  }
}

TEST_CASE("infinite, undefined, subnormal and zero scales are decoded bit for bit") {
  for (const DType dtype : kLinearTypes) {
    if (!dtype_info(dtype).quantized) continue;
    CAPTURE(dtype_info(dtype).name);
    SimLauncher sim(built_archs()[0], 0, 1);
    StoredMatrix matrix(dtype, 17, column_counts(dtype)[1], 3);
    make_hostile(matrix);
    require_rows(sim, sim_weight(sim, {matrix.source()}), matrix.widened());
  }
}

TEST_CASE("plain types keep every bit pattern") {
  SimLauncher sim(built_archs()[0], 0, 1);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    CAPTURE(dtype_info(dtype).name);
    StoredMatrix matrix(dtype, 256, 256, 0);
    for (std::size_t i = 0; i < 65536; ++i) {
      const auto half = static_cast<std::uint16_t>(i);
      std::memcpy(matrix.memory.data() + 1 + 2 * i, &half, 2);
    }
    require_rows(sim, sim_weight(sim, {matrix.source()}), matrix.widened());
  }
}

TEST_CASE("parts of several types are stacked by rows") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix a(DType::q4_k, 17, 256, 1), b(DType::q4_k, 3, 256, 2), c(DType::q6_k, 5, 256, 3);
  const cuda::CudaWeight weight = sim_weight(sim, {a.source(), b.source(), c.source()});
  CHECK(weight.parts().size() == 2);
  std::vector<float> expected = a.widened();
  for (const StoredMatrix* more : {&b, &c}) {
    const std::vector<float> rows = more->widened();
    expected.insert(expected.end(), rows.begin(), rows.end());
  }
  require_rows(sim, weight, expected);
}

TEST_CASE("columns stored in another order are put back") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix matrix(DType::g4_32, 17, 96, 4);
  std::vector<std::int32_t> order(96);
  for (int i = 0; i < 96; ++i) order[static_cast<std::size_t>(i)] = i * 35 % 96;
  WeightSource source = matrix.source();
  source.column_order = order.data();
  const std::vector<float> stored = matrix.widened();
  std::vector<float> expected(stored.size());
  for (std::size_t i = 0; i < stored.size(); ++i) {
    expected[i / 96 * 96 + static_cast<std::size_t>(order[i % 96])] = stored[i];
  }
  require_rows(sim, sim_weight(sim, {source}), expected);
}

TEST_CASE("a matrix is packed and uploaded in chunks") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix matrix(DType::f32, 4500, 1024, 11);  // 17.6 MiB
  const cuda::CudaWeight weight = sim_weight(sim, {matrix.source()});
  CHECK(weight.bytes() > std::size_t{17} << 20);
  const std::vector<std::int32_t> ids{0, 4095, 4096, 4499};  // 16 MiB are 4096 rows
  EmbeddingArgs args;
  args.weight = &weight;
  args.ids = sim.put(ids, DType::i32, {4}, "ids");
  args.out = sim.output(DType::f32, {4, 1024}, "out");
  cuda::embedding(sim, args);
  const auto out = sim.get<float>(args.out.data, 4 * 1024);
  const std::vector<float> expected = matrix.widened();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto row = expected.begin() + std::int64_t{ids[i]} * 1024;
    CHECK(std::equal(row, row + 1024, out.begin() + static_cast<std::ptrdiff_t>(i * 1024)));
  }
}

TEST_CASE("activation forms follow the format, the mode and the architecture") {
  SimLauncher sim(built_archs()[0], 0, 1);
  SimWeightMemory memory(sim);
  ThreadPool pool(2);
  const auto forms = [&](DType dtype, ActivationMode mode, int arch) {
    const StoredMatrix matrix(dtype, 3, 256, 1);
    const std::vector<WeightSource> sources{matrix.source()};
    return cuda::CudaWeight(sources, {}, mode, arch, memory, pool).activation_forms();
  };
  CHECK(forms(DType::f32, ActivationMode::automatic, 90) == cuda::kF32Form);
  CHECK(forms(DType::f16, ActivationMode::automatic, 75) == cuda::kF16Form);
  CHECK(forms(DType::q4_k, ActivationMode::automatic, 80) == cuda::kF16Form);
  CHECK(forms(DType::bf16, ActivationMode::automatic, 80) == cuda::kBf16Form);
  CHECK(forms(DType::bf16, ActivationMode::automatic, 75) == cuda::kF32Form);
  CHECK(forms(DType::q4_k, ActivationMode::f32, 80) == cuda::kF32Form);
}

TEST_CASE("matrices made for int8 activations read them, unless rows are looked up too or activations are exact") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix matrix = StoredMatrix(DType::g8_32, 17, 96, 1).give_rows_one_scale();
  const auto weight = [&](const WeightOptions& options, ActivationMode mode) {
    return sim_weight(sim, {matrix.source()}, options, mode);
  };
  const cuda::CudaWeight int8 = weight({}, ActivationMode::automatic);
  CHECK(int8.activation_forms() == cuda::kInt8Form);
  CHECK(int8.parts()[0].format == cuda::WeightFormat::i8);
  CHECK(int8.bytes() == 2 * (2 * 16 * 64 + 64));
  const cuda::CudaWeight exact = weight({}, ActivationMode::f32);
  CHECK(exact.activation_forms() == cuda::kF32Form);
  require_rows(sim, exact, matrix.widened());
  const cuda::CudaWeight embedding = weight({.also_embedding = true}, ActivationMode::automatic);
  CHECK(embedding.activation_forms() == cuda::kF16Form);
  require_rows(sim, embedding, matrix.widened());
  // Sums of more columns might not fit.
  const StoredMatrix longest = StoredMatrix(DType::g8_128, 1, 131072, 1).give_rows_one_scale();
  const StoredMatrix longer = StoredMatrix(DType::g8_128, 1, 131072 + 128, 1).give_rows_one_scale();
  CHECK(sim_weight(sim, {longest.source()}).activation_forms() == cuda::kInt8Form);
  CHECK(sim_weight(sim, {longer.source()}).activation_forms() == cuda::kF16Form);
}

TEST_CASE("an order of columns that is no permutation is refused") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix matrix(DType::g4_32, 3, 32, 1);
  std::vector<std::int32_t> order(32);
  for (int i = 0; i < 32; ++i) order[static_cast<std::size_t>(i)] = i;
  WeightSource source = matrix.source();
  source.column_order = order.data();
  for (const std::int32_t wrong : {-1, 0, 32}) {
    order[7] = wrong;
    CHECK_THROWS_AS(sim_weight(sim, {source}), CheckpointError);
  }
}
