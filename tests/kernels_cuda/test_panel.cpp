// panel_* on the PTX interpreter: packed weights of every format as rows of 16 bits, each value rounded once; and what
// becomes of products.
#include <algorithm>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/dev/panel_params.h"
#include "kernels/cuda/linear_panels.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_weight.h"
#include "tests/ptxsim/float_formats.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::kLinearTypes;
using inferd::testing::StoredMatrix;

namespace {

constexpr Kernel kPanelKernels[] = {
    Kernel::panel_f16,   Kernel::panel_bf16,  Kernel::panel_q8_0,  Kernel::panel_q4_0,   Kernel::panel_q4_1,
    Kernel::panel_q5_0,  Kernel::panel_q5_1,  Kernel::panel_q2_k,  Kernel::panel_q3_k,   Kernel::panel_q4_k,
    Kernel::panel_q5_k,  Kernel::panel_q6_k,  Kernel::panel_g2_32, Kernel::panel_g2_64,  Kernel::panel_g3_32,
    Kernel::panel_g3_64, Kernel::panel_g4_32, Kernel::panel_g4_64, Kernel::panel_iq4_nl, Kernel::panel_iq4_xs,
    Kernel::panel_g8_32, Kernel::panel_g8_64, Kernel::panel_t4_16, Kernel::panel_t4_32,  Kernel::panel_h4_64};

/// A weight in the 16 bits that a panel holds it in.
std::uint16_t half_of(DType dtype, float value) {
  return dtype == DType::bf16 ? ptxsim::float_to_bf16(value) : ptxsim::float_to_f16(value);
}

/// Row of a part that stands in row `row` of its tiles; -1: padding. Of an interleaved part gates come first.
std::int64_t part_row(const CudaWeight::Part& part, std::int64_t row) {
  if (!part.interleaved) return row < part.rows ? row : -1;
  const std::int64_t half = part.rows / 2, of_half = row / 16 * 8 + row % 8;
  return of_half >= half ? -1 : of_half + (row % 16 < 8 ? 0 : half);
}

/// Empty if rows of the tiles [first, first + tiles) are right, else the first that is not.
std::string check(SimLauncher& sim, const CudaWeight& weight, DType dtype, const std::vector<float>& w,
                  std::int64_t first, std::int64_t tiles) {
  const CudaWeight::Part& part = weight.parts()[0];
  const std::int64_t stride = padded_columns(weight.columns()), columns = weight.columns();
  const Tensor out = sim.output(DType::f16, {16 * tiles, stride}, "panel");
  write_panel(sim, part, first, tiles, out.as<std::uint16_t>());
  const auto found = sim.get<std::uint16_t>(out.data, static_cast<std::size_t>(16 * tiles * stride));
  for (std::int64_t i = 0; i < 16 * tiles * stride; ++i) {
    const std::int64_t row = part_row(part, 16 * first + i / stride), column = i % stride;
    const bool padding = row < 0 || column >= columns;
    const std::uint16_t expected =
        padding ? std::uint16_t{0} : half_of(dtype, w[static_cast<std::size_t>(row * columns + column)]);
    const std::uint16_t got = found[static_cast<std::size_t>(i)];
    // A zero of the padding may be a code of zero less its minimum, which is -0.
    if (got == expected || ((got | expected) & 0x7fff) == 0) continue;
    return "row " + std::to_string(i / stride) + " column " + std::to_string(column) + ": expected " +
           std::to_string(expected) + ", found " + std::to_string(got);
  }
  return "";
}

/// Columns that are a tile, not one, and more tiles than a block has.
std::vector<std::int64_t> column_counts(DType dtype) {
  const std::int64_t block = dtype_info(dtype).block_elements;
  if (block == 1) return {1, 64, 65, 577};
  if (block == 32) return {32, 64, 96, 544};
  return {block, 3 * block};
}

}  // namespace

TEST_CASE("every format becomes rows of 16 bits, each value rounded once") {
  for (const int arch : built_archs()) {
    for (const DType dtype : kLinearTypes) {
      if (dtype == DType::f32) continue;
      for (const std::int64_t columns : column_counts(dtype)) {
        const bool first = columns == column_counts(dtype)[0];
        for (const std::int64_t rows :
             first ? std::vector<std::int64_t>{1, 15, 16, 17, 33} : std::vector<std::int64_t>{33}) {
          CAPTURE(arch, dtype_info(dtype).name, rows, columns);
          SimLauncher sim(arch, 0, first ? 6 : 1);
          const StoredMatrix matrix(dtype, rows, columns, static_cast<std::uint32_t>(columns + rows));
          const CudaWeight weight = sim_weight(sim, {matrix.source()});
          REQUIRE(check(sim, weight, dtype, matrix.widened(), 0, (rows + 15) / 16) == "");
          if (rows == 33) REQUIRE(check(sim, weight, dtype, matrix.widened(), 1, 1) == "");
        }
      }
    }
  }
}

TEST_CASE("gates and ups lie as in their tiles") {
  for (const int arch : built_archs()) {
    for (const std::int64_t rows : {7, 8, 9, 20}) {
      CAPTURE(arch, rows);
      SimLauncher sim(arch, 0, 1);
      const StoredMatrix gate(DType::q4_k, rows, 256, 1), up(DType::q4_k, rows, 256, 2);
      const CudaWeight weight = sim_weight(sim, {gate.source(), up.source()}, {.gated = true});
      std::vector<float> w = gate.widened();
      const std::vector<float> more = up.widened();
      w.insert(w.end(), more.begin(), more.end());
      REQUIRE(check(sim, weight, DType::q4_k, w, 0, (rows + 7) / 8) == "");
    }
  }
}

namespace {

struct Finish {
  ActivationFunction function;
  bool interleaved, scaled, inputs;  // addend and bias
  int outputs;
};

/// Empty if the outputs that are there are right, and those beside them are left alone.
std::string check_finish(int arch, const Finish& c) {
  constexpr int kTokens = 3, kFirst = 5, kMore = 7;
  const int width = kFirst + c.outputs + kMore, rows = c.interleaved ? 2 * width : width;
  const int stride = (c.interleaved ? 2 : 1) * (c.outputs + 15) / 16 * 16 + 16;
  SimLauncher sim(arch);
  const std::vector<float> products = normals(static_cast<std::size_t>(kTokens * stride), 1), scales{0.5f, 4.0f, 1.0f};
  const std::vector<float> bias = normals(static_cast<std::size_t>(rows), 2);
  const std::vector<float> addend = normals(static_cast<std::size_t>(kTokens * rows), 4);
  const std::vector<float> residual = normals(static_cast<std::size_t>(kTokens * width), 3);
  PanelFinishParams params{};
  params.products = sim.put(products, DType::f32, {kTokens, stride}, "products").as<float>();
  if (c.scaled) params.x_scale = sim.put(scales, DType::f32, {kTokens}, "scales").as<float>();
  params.stride = stride;
  params.first = kFirst;
  params.outputs = c.outputs;
  params.interleaved = c.interleaved;
  params.epilogue.function = c.function;
  params.epilogue.half = c.interleaved ? width : 0;
  if (c.inputs) {
    params.epilogue.bias = sim.put(bias, DType::f32, {rows}, "bias").as<float>();
    params.epilogue.addend = sim.put(addend, DType::f32, {kTokens, rows}, "addend").as<float>();
    params.epilogue.addend_stride = rows;
  }
  const Tensor out = sim.put(residual, DType::f32, {kTokens, width}, "out");
  params.epilogue.out = out.as<float>();
  if (c.inputs) params.epilogue.residual = out.as<float>();
  params.epilogue.residual_stride = params.epilogue.out_stride = width;
  sim.run(Kernel::panel_finish, {kTokens, static_cast<unsigned>((c.outputs + kPanelThreads - 1) / kPanelThreads)},
          params);
  const auto found = sim.get<float>(out.data, residual.size());
  for (int i = 0; i < kTokens * width; ++i) {
    const int t = i / width, column = i % width, o = column - kFirst;
    const auto sum = [&](int row, int product) {
      const double scale = c.scaled ? double{scales[static_cast<std::size_t>(t)]} : 1.0;
      const double more = !c.inputs ? 0.0
                                    : double{bias[static_cast<std::size_t>(row)]} +
                                          double{addend[static_cast<std::size_t>(t * rows + row)]};
      return double{products[static_cast<std::size_t>(t * stride + product)]} * scale + more;
    };
    double expected = double{residual[static_cast<std::size_t>(i)]};
    if (o >= 0 && o < c.outputs) {
      const int gate = c.interleaved ? o / 8 * 16 + o % 8 : o;
      double value = activated(c.function, sum(column, gate));
      if (c.interleaved) value *= sum(width + column, gate + 8);
      expected = c.inputs ? expected + value : value;
    }
    const double got = double{found[static_cast<std::size_t>(i)]};
    if (std::fabs(got - expected) <= 4e-6 * (1 + std::fabs(expected))) continue;
    return "element " + std::to_string(i) + ": expected " + std::to_string(expected) + ", found " + std::to_string(got);
  }
  return "";
}

}  // namespace

TEST_CASE("products get their row's scale and their epilogue") {
  for (const int arch : built_archs()) {
    for (const bool interleaved : {false, true}) {
      for (const bool scaled : {false, true}) {
        for (const int outputs : {1, 8, 255, 256, 257}) {
          CAPTURE(arch, interleaved, scaled, outputs);
          REQUIRE(check_finish(arch, {ActivationFunction::silu, interleaved, scaled, true, outputs}) == "");
        }
      }
      for (const ActivationFunction function : {ActivationFunction::none, ActivationFunction::gelu_erf,
                                                ActivationFunction::gelu_tanh, ActivationFunction::tanh}) {
        CAPTURE(arch, interleaved, static_cast<int>(function));
        REQUIRE(check_finish(arch, {function, interleaved, true, false, 40}) == "");
      }
    }
  }
}

TEST_CASE("panels were run whole, and every sector they move is used") {
  for (const Kernel kernel : kPanelKernels) {
    CAPTURE(kernel_info(kernel).entry);
    CHECK(uncovered(kernel) == "");
    for (const int arch : built_archs()) CHECK(report(kernel, arch).sector_use >= 0.95);
  }
  CHECK(uncovered(Kernel::panel_finish) == "");
}

TEST_CASE("faults in the panel kernels are noticed") {
  const int arch = mutant_arch();
  const auto panels_right = [arch](DType dtype, std::int64_t columns) {
    SimLauncher sim(arch, 0, 1);
    const StoredMatrix matrix(dtype, 33, columns, 5);
    const CudaWeight weight = sim_weight(sim, {matrix.source()});
    return check(sim, weight, dtype, matrix.widened(), 0, 3) == "" &&
           check(sim, weight, dtype, matrix.widened(), 1, 1) == "";
  };
  // Decoding is test_weight_formats.cpp's.
  CHECK(unlisted_mutants("panel", {{Kernel::panel_f16, [&] { return panels_right(DType::f16, 577); }}}) == "");
  CHECK(unlisted_mutants("panel", {{Kernel::panel_q8_0, [&] { return panels_right(DType::q8_0, 544); }}},
                         "weight_formats.cuh") == "");
  const auto finish_right = [arch] {
    for (const bool interleaved : {false, true}) {
      for (const bool scaled : {false, true}) {
        for (const ActivationFunction function : {ActivationFunction::none, ActivationFunction::silu}) {
          for (const int outputs : {8, 255, 257}) {
            if (check_finish(arch, {function, interleaved, scaled, scaled, outputs}) != "") return false;
          }
        }
      }
    }
    return true;
  };
  CHECK(unlisted_mutants("panel", {{Kernel::panel_finish, finish_right}}, "epilogue.cuh") == "");
}
