// embedding on the PTX interpreter: which rows, where to, and added to what. Decoding: test_weight_formats.cpp.
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/sim_weight.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::testing::kLinearTypes;
using inferd::testing::StoredMatrix;

namespace {

/// Empty if right, else what is not.
std::string check(int arch, DType dtype, std::int64_t columns, int pad, bool accumulate, bool ordered) {
  SimLauncher sim(arch, 0, columns == 256 ? 6 : 1);
  const StoredMatrix first(dtype, 16, columns, 1), second(DType::f16, 20, columns, 2);
  const auto wide = static_cast<std::size_t>(columns);
  std::vector<std::int32_t> order(wide);
  for (std::size_t i = 0; i < wide; ++i) order[i] = static_cast<std::int32_t>((i + 5) % wide);
  std::vector<WeightSource> sources{first.source(), second.source()};
  if (ordered) sources[0].column_order = order.data();
  const cuda::CudaWeight weight = sim_weight(sim, sources);
  std::vector<float> w = first.widened(), below = second.widened();
  if (ordered) {
    std::vector<float> stored = w;
    for (std::size_t i = 0; i < w.size(); ++i)
      w[i / wide * wide + static_cast<std::size_t>(order[i % wide])] = stored[i];
  }
  w.insert(w.end(), below.begin(), below.end());
  const std::vector<std::int32_t> ids{8, 28, 0, 8, 16, 1};
  std::vector<float> before(ids.size() * (wide + static_cast<std::size_t>(pad)));
  for (std::size_t i = 0; i < before.size(); ++i) before[i] = static_cast<float>(i % 64) - 10.25f;
  EmbeddingArgs args;
  args.weight = &weight;
  args.ids = sim.put(ids, DType::i32, {6}, "ids");
  args.out = sim.put(before, DType::f32, {6, columns}, "out");
  args.out.row_stride = columns + pad;
  args.accumulate = accumulate;
  cuda::embedding(sim, args);
  const auto out = sim.get<float>(args.out.data, before.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t row = i / (wide + static_cast<std::size_t>(pad)),
                      column = i % (wide + static_cast<std::size_t>(pad));
    float expected = before[i];
    if (column < wide) {
      const float value = w[static_cast<std::size_t>(ids[row]) * wide + column];
      expected = accumulate ? before[i] + value : value;
    }
    if (out[i] == expected) continue;
    return "row " + std::to_string(row) + " column " + std::to_string(column) + ": expected " +
           std::to_string(expected) + ", found " + std::to_string(out[i]);
  }
  return "";
}

}  // namespace

TEST_CASE("embedding writes or adds rows of any part, between strides, in any order of columns") {
  for (const int arch : built_archs()) {
    for (const DType dtype : kLinearTypes) {
      const std::int64_t block = dtype_info(dtype).block_elements;
      for (const std::int64_t columns : {block == 1 ? 66 : block, 2048 + (block == 1 ? 63 : block)}) {
        for (const int pad : {0, 1, 2}) {
          CAPTURE(arch, dtype_info(dtype).name, columns, pad);
          REQUIRE(check(arch, dtype, columns, pad, pad % 2 == 0, false) == "");
          REQUIRE(check(arch, dtype, columns, pad, pad % 2 != 0, true) == "");
        }
      }
    }
  }
}

TEST_CASE("embedding of no tokens does nothing") {
  SimLauncher sim(built_archs()[0]);
  const StoredMatrix matrix(DType::f16, 3, 64, 1);
  const cuda::CudaWeight weight = sim_weight(sim, {matrix.source()});
  EmbeddingArgs args;
  args.weight = &weight;
  args.ids = Tensor(sim.allocate(16, "ids"), DType::i32, {0});
  args.out = sim.output(DType::f32, {0, 64}, "out");
  cuda::embedding(sim, args);
}

TEST_CASE("embedding was run whole") {
  for (int k = 0; k < cuda::kNumKernels; ++k) {
    const auto kernel = static_cast<cuda::Kernel>(k);
    if (std::string(cuda::kKernels[k].file) == "embedding") CHECK(uncovered(kernel) == "");
  }
}

TEST_CASE("faults in an embedding kernel are noticed") {
  const int arch = mutant_arch();
  const auto is_right = [arch] {
    if (check(arch, DType::f32, 2111, 1, true, false) != "") return false;
    for (int columns = 1; columns <= 66; ++columns) {
      if (check(arch, DType::f32, columns, columns % 2, columns % 4 < 2, columns % 3 == 0) != "") return false;
    }
    return true;
  };
  CHECK(unlisted_mutants("embedding", {{cuda::Kernel::embedding_f32, is_right}}) == "");
}
