// Exact linear kernels on the PTX interpreter against f64.
#include "kernels/cuda/linear_exact.h"

#include "kernels/cuda/activation.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_weight.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::kLinearTypes;
using inferd::testing::StoredMatrix;

namespace {

// A lane adds K / 32 products (four lanes, eight warps), each rounded once; eleven further additions; the epilogue's.
double tolerance(std::int64_t columns) { return (static_cast<double>(columns) / 32 + 20) * 0x1p-24; }

/// The f32 form of x, padding included.
float* put_x(SimLauncher& sim, const std::vector<float>& x, std::int64_t columns) {
  const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / columns, stride = padded_columns(columns);
  std::vector<float> padded(static_cast<std::size_t>(tokens * stride));
  for (std::size_t i = 0; i < x.size(); ++i) {
    padded[i / static_cast<std::size_t>(columns) * static_cast<std::size_t>(stride) +
           i % static_cast<std::size_t>(columns)] = x[i];
  }
  return sim.put(padded, DType::f32, {tokens, stride}, "x").as<float>();
}

EpilogueParams plain_epilogue(const Tensor& out) {
  EpilogueParams epilogue{};
  epilogue.out = out.as<float>();
  epilogue.out_stride = out.row_stride;
  return epilogue;
}

/// x times all parts of the weight, without any epilogue.
std::vector<float> run(SimLauncher& sim, const CudaWeight& weight, const std::vector<float>& x) {
  const std::int64_t columns = weight.columns(), tokens = static_cast<std::int64_t>(x.size()) / columns;
  const Tensor out = sim.output(DType::f32, {tokens, weight.rows()}, "out");
  const float* on_device = put_x(sim, x, columns);
  for (const CudaWeight::Part& part : weight.parts()) {
    linear_exact(sim, part, on_device, padded_columns(columns), tokens, plain_epilogue(out));
  }
  return sim.get<float>(out.data, static_cast<std::size_t>(out.elements()));
}

}  // namespace

TEST_CASE("every type gives the f64 product within f32 rounding") {
  for (const int arch : built_archs()) {
    for (const DType dtype : kLinearTypes) {
      const std::int64_t block = dtype_info(dtype).block_elements;
      for (const std::int64_t columns : {block == 1 ? 70 : block, (block == 1 ? 577 : (577 + block) / block * block)}) {
        CAPTURE(arch, dtype_info(dtype).name, columns);
        SimLauncher sim(arch, 0, columns <= 256 ? 6 : 1);
        const StoredMatrix matrix(dtype, 17, columns, 7);
        const std::vector<float> x = normals(static_cast<std::size_t>(9 * columns), 8);
        const Products expected = products(matrix.widened(), x, static_cast<std::size_t>(columns));
        const std::vector<float> y = run(sim, sim_weight(sim, {matrix.source()}), x);
        REQUIRE(first_difference(y, expected.sums, expected.magnitudes, tolerance(columns)) == "");
      }
    }
  }
}

TEST_CASE("unit vectors give the weights themselves") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::q4_k, DType::q3_k, DType::g4_128, DType::iq2_xs}) {
    CAPTURE(dtype_info(dtype).name);
    SimLauncher sim(built_archs()[0], 0, 1);
    const StoredMatrix matrix(dtype, 16, 256, 9);
    std::vector<float> unit(256 * 256);
    for (std::size_t i = 0; i < 256; ++i) unit[257 * i] = 1.0f;
    const std::vector<float> w = matrix.widened();
    const std::vector<float> y = run(sim, sim_weight(sim, {matrix.source()}), unit);
    for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(y[i] == w[i % 16 * 256 + i / 16]);
  }
}

TEST_CASE("rows and tokens of every remainder") {
  for (const int arch : built_archs()) {
    for (const std::int64_t rows : {1, 15, 16, 17, 40}) {
      for (const std::int64_t tokens : {1, 7, 8, 9, 17}) {
        for (const std::int64_t columns : {1, 63, 64, 65, 520, 600}) {
          CAPTURE(arch, rows, tokens, columns);
          SimLauncher sim(arch, 0, rows == 17 && tokens == 9 ? 6 : 1);
          const StoredMatrix matrix(DType::f16, rows, columns, static_cast<std::uint32_t>(rows));
          const std::vector<float> x = normals(static_cast<std::size_t>(tokens * columns), 4);
          const Products expected = products(matrix.widened(), x, static_cast<std::size_t>(columns));
          const std::vector<float> y = run(sim, sim_weight(sim, {matrix.source()}), x);
          REQUIRE(first_difference(y, expected.sums, expected.magnitudes, tolerance(columns)) == "");
        }
      }
    }
  }
}

TEST_CASE("a row's bits do not depend on the rows beside it") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix matrix(DType::q5_k, 33, 768, 5);
  const CudaWeight weight = sim_weight(sim, {matrix.source()});
  const std::vector<float> x = normals(19 * 768, 6);
  const std::vector<float> all = run(sim, weight, x);
  for (const std::size_t count : {1u, 2u, 8u, 11u}) {
    const std::vector<float> last = run(sim, weight, {x.end() - static_cast<std::ptrdiff_t>(count * 768), x.end()});
    REQUIRE(std::equal(last.begin(), last.end(), all.end() - static_cast<std::ptrdiff_t>(last.size())));
  }
}

TEST_CASE("parts of several types and orders of columns are stacked") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix a(DType::g4_32, 17, 96, 1), b(DType::g4_32, 9, 96, 2), c(DType::bf16, 5, 96, 3);
  std::vector<std::int32_t> order(96);
  for (int i = 0; i < 96; ++i) order[static_cast<std::size_t>(i)] = i * 35 % 96;
  std::vector<WeightSource> sources{a.source(), b.source(), c.source()};
  sources[1].column_order = order.data();
  const CudaWeight weight = sim_weight(sim, sources);
  REQUIRE(weight.parts().size() == 3);
  std::vector<float> w = a.widened();
  const std::vector<float> stored = b.widened(), last = c.widened();
  std::vector<float> ordered(stored.size());
  for (std::size_t i = 0; i < stored.size(); ++i) {
    ordered[i / 96 * 96 + static_cast<std::size_t>(order[i % 96])] = stored[i];
  }
  w.insert(w.end(), ordered.begin(), ordered.end());
  w.insert(w.end(), last.begin(), last.end());
  const std::vector<float> x = normals(10 * 96, 4);
  const Products expected = products(w, x, 96);
  REQUIRE(first_difference(run(sim, weight, x), expected.sums, expected.magnitudes, tolerance(96)) == "");
}

namespace {

/// Empty if right: a product with an addend, a bias, a function and a residual that is the output itself, columns in
/// another order.
std::string check_epilogue(int arch, DType dtype, ActivationFunction function, bool gated, bool plain) {
  SimLauncher sim(arch, 0, 1);
  const std::int64_t rows = 18, outs = gated ? rows / 2 : rows;
  const int block = dtype_info(dtype).block_elements;
  const std::int64_t columns = block == 1 ? 70 : block;
  const auto wide = static_cast<std::size_t>(columns);
  const StoredMatrix first(dtype, 9, columns, 1), second(dtype, 9, columns, 2);
  std::vector<std::int32_t> order(wide);
  for (std::size_t i = 0; i < wide; ++i) order[i] = static_cast<std::int32_t>(columns - 1 - static_cast<int>(i));
  std::vector<WeightSource> sources{first.source(), second.source()};
  for (WeightSource& source : sources) source.column_order = plain ? nullptr : order.data();
  const CudaWeight weight = sim_weight(sim, sources, {.gated = gated});
  if (weight.parts().size() != 1) return "not one part";
  const std::vector<float> x = normals(8 * wide, 2);
  const std::vector<float> addend = normals(static_cast<std::size_t>(8 * rows), 3);
  const std::vector<float> bias = normals(static_cast<std::size_t>(rows), 4);
  const std::vector<float> residual = normals(static_cast<std::size_t>(8 * outs), 5);
  const Tensor out = sim.put(residual, DType::f32, {8, outs}, "out");
  EpilogueParams epilogue = plain_epilogue(out);
  epilogue.function = function;
  epilogue.half = gated ? 9 : 0;
  if (!plain) {
    epilogue.addend = sim.put(addend, DType::f32, {8, rows}, "addend").as<float>();
    epilogue.addend_stride = rows;
    epilogue.bias = sim.put(bias, DType::f32, {rows}, "bias").as<float>();
    epilogue.residual = out.as<float>();
    epilogue.residual_stride = outs;
  }
  linear_exact(sim, weight.parts()[0], put_x(sim, x, columns), padded_columns(columns), 8, epilogue);
  std::vector<float> w = first.widened(), more = second.widened();
  w.insert(w.end(), more.begin(), more.end());
  std::vector<float> ordered(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) {
    ordered[plain ? i : i / wide * wide + static_cast<std::size_t>(order[i % wide])] = w[i];
  }
  Products product = products(ordered, x, wide);
  for (std::size_t i = 0; i < product.sums.size() && !plain; ++i) {
    product.sums[i] += double{addend[i]} + double{bias[i % 18]};
    product.magnitudes[i] += std::fabs(addend[i]) + std::fabs(bias[i % 18]);
  }
  std::vector<double> expected, magnitudes;
  for (std::size_t t = 0; t < 8; ++t) {
    for (std::size_t c = 0; c < static_cast<std::size_t>(outs); ++c) {
      const std::size_t at = 18 * t + c, to = static_cast<std::size_t>(outs) * t + c;
      double value = activated(function, product.sums[at]), magnitude = product.magnitudes[at] * 1.2 + 0.1;
      if (gated) {
        magnitude = magnitude * std::fabs(product.sums[at + 9]) + product.magnitudes[at + 9] * std::fabs(value);
        value *= product.sums[at + 9];
      }
      expected.push_back(value + (plain ? 0 : double{residual[to]}));
      magnitudes.push_back(magnitude + std::fabs(residual[to]));
    }
  }
  return first_difference(sim.get<float>(out.data, expected.size()), expected, magnitudes, tolerance(columns));
}

}  // namespace

TEST_CASE("addend, bias, function and residual, gated or not, of every type") {
  using F = ActivationFunction;
  for (const int arch : built_archs()) {
    for (const DType dtype : kLinearTypes) {
      for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
        for (const int kind : {0, 1, 2, 3}) {
          CAPTURE(arch, dtype_info(dtype).name, static_cast<int>(function), kind);
          REQUIRE(check_epilogue(arch, dtype, function, kind % 2 != 0, kind / 2 != 0) == "");
        }
      }
    }
  }
}

TEST_CASE("gate and up rows are interleaved, for every remainder") {
  for (const int arch : built_archs()) {
    for (const std::int64_t half : {1, 7, 8, 9, 24}) {
      for (const DType dtype : {DType::f32, DType::q6_k}) {
        const std::int64_t columns = dtype == DType::f32 ? 70 : 256;
        CAPTURE(arch, half, dtype_info(dtype).name);
        SimLauncher sim(arch, 0, half == 9 ? 6 : 1);
        const StoredMatrix gate(dtype, half, columns, 1), up(dtype, half, columns, 2);
        const CudaWeight weight = sim_weight(sim, {gate.source(), up.source()}, {.gated = true});
        REQUIRE(weight.parts().size() == 1);
        const std::vector<float> x = normals(static_cast<std::size_t>(3 * columns), 3);
        const std::vector<float> bias = normals(static_cast<std::size_t>(2 * half), 4);
        const Tensor out = sim.output(DType::f32, {3, half}, "out");
        EpilogueParams epilogue = plain_epilogue(out);
        epilogue.bias = sim.put(bias, DType::f32, {2 * half}, "bias").as<float>();
        epilogue.function = ActivationFunction::silu;
        epilogue.half = static_cast<std::int32_t>(half);
        linear_exact(sim, weight.parts()[0], put_x(sim, x, columns), padded_columns(columns), 3, epilogue);
        const Products gates = products(gate.widened(), x, static_cast<std::size_t>(columns));
        const Products ups = products(up.widened(), x, static_cast<std::size_t>(columns));
        std::vector<double> expected(gates.sums.size()), magnitudes(expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
          const double g = gates.sums[i] + double{bias[i % static_cast<std::size_t>(half)]};
          const double u =
              ups.sums[i] + double{bias[static_cast<std::size_t>(half) + i % static_cast<std::size_t>(half)]};
          expected[i] = g / (1 + std::exp(-g)) * u;
          magnitudes[i] = (gates.magnitudes[i] + 1) * (std::fabs(u) + 1) + (std::fabs(g) + 1) * (ups.magnitudes[i] + 1);
        }
        REQUIRE(first_difference(sim.get<float>(out.data, expected.size()), expected, magnitudes, tolerance(columns)) ==
                "");
      }
    }
  }
}

TEST_CASE("gates and ups of different types are two parts") {
  SimLauncher sim(built_archs()[0], 0, 1);
  const StoredMatrix gate(DType::q4_k, 20, 256, 1), up(DType::q6_k, 20, 256, 2);
  const CudaWeight weight = sim_weight(sim, {gate.source(), up.source()}, {.gated = true});
  REQUIRE(weight.parts().size() == 2);
  CHECK(weight.gated());
  CHECK_FALSE(weight.parts()[0].interleaved);
  std::vector<float> w = gate.widened();
  const std::vector<float> more = up.widened();
  w.insert(w.end(), more.begin(), more.end());
  const std::vector<float> x = normals(2 * 256, 4);
  const Products expected = products(w, x, 256);
  REQUIRE(first_difference(run(sim, weight, x), expected.sums, expected.magnitudes, tolerance(256)) == "");
}

TEST_CASE("the exact kernels were run whole") {
  for (int k = 0; k < kNumKernels; ++k) {
    if (std::string(kKernels[k].entry).rfind("linear_exact_", 0) == 0) CHECK(uncovered(static_cast<Kernel>(k)) == "");
  }
}

TEST_CASE("faults in the exact kernels are noticed") {
  using F = ActivationFunction;
  const int arch = mutant_arch();
  const std::pair<DType, Kernel> some[] = {{DType::f32, Kernel::linear_exact_f32},
                                           {DType::q3_k, Kernel::linear_exact_q3_k}};
  for (const auto& [dtype, kernel] : some) {
    CAPTURE(dtype_info(dtype).name);
    const StoredMatrix small(dtype, 9, 256, 7), large(dtype, 17, 768, 7);
    const std::vector<float> x = normals(9 * 768, 8);
    const auto product_is_right = [&](const StoredMatrix& matrix, std::ptrdiff_t tokens) {
      SimLauncher sim(arch, 0, tokens == 9 ? 2 : 1);
      const std::vector<float> some_x(x.begin(), x.begin() + tokens * matrix.columns);
      const Products expected = products(matrix.widened(), some_x, static_cast<std::size_t>(matrix.columns));
      return first_difference(run(sim, sim_weight(sim, {matrix.source()}), some_x), expected.sums, expected.magnitudes,
                              tolerance(matrix.columns)) == "";
    };
    const auto is_right = [&, type = dtype] {
      if (!product_is_right(large, 9)) return false;
      for (int tokens = 2; tokens < 8; ++tokens) {
        if (!product_is_right(small, tokens)) return false;
      }
      for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
        for (const bool gated : {false, true}) {
          if (check_epilogue(arch, type, function, gated, false) != "") return false;
        }
      }
      return check_epilogue(arch, type, F::none, true, true) == "";
    };
    CHECK(unlisted_mutants("linear_exact", {{kernel, is_right}}, "epilogue.cuh") == "");
  }
}
