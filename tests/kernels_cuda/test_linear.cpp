// The linear op on the PTX interpreter: stacked parts, orders of columns, gating, epilogues and activations out.
#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/linear_rows_params.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/linear_reference.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::StoredMatrix;

namespace {

struct Matrix {
  DType dtype;
  std::int64_t rows;
  bool ordered = false;  // stored in an order of columns of its own
  bool int8 = false;     // made for int8 activations
};

struct Case {
  std::vector<Matrix> matrices;
  std::int64_t columns = 0;
  std::int64_t tokens = 0;
  Epilogue epilogue = Epilogue::none;
  bool inputs = false;          // with addend, bias, and a residual that is the output
  std::uint32_t out_forms = 0;  // writes an activation
  bool keeps_out = true;        // and f32 rows
  ActivationMode mode = ActivationMode::automatic;
};

ActivationFunction function_of(Epilogue epilogue) {
  switch (epilogue) {
    case Epilogue::gelu_erf:
    case Epilogue::gelu_erf_gated:
      return ActivationFunction::gelu_erf;
    case Epilogue::gelu_tanh:
    case Epilogue::gelu_tanh_gated:
      return ActivationFunction::gelu_tanh;
    case Epilogue::silu_gated:
      return ActivationFunction::silu;
    case Epilogue::tanh:
      return ActivationFunction::tanh;
    case Epilogue::none:
      break;
  }
  return ActivationFunction::none;
}

// 16-bit forms round what f32 arithmetic gives.
double rounding_of(std::uint32_t form) { return form == kF32Form ? 0 : form == kBf16Form ? 0x1p-8 : 0x1p-11; }

void check(int arch, const Case& c, int schedules = 1) {
  CAPTURE(arch, c.tokens, c.columns, c.matrices.size(), static_cast<int>(c.epilogue), c.inputs, c.out_forms);
  const bool gated = is_gated(c.epilogue);
  const auto wide = static_cast<std::size_t>(c.columns);
  std::int64_t rows = 0;
  for (const Matrix& matrix : c.matrices) rows += matrix.rows;
  const std::int64_t columns = gated ? rows / 2 : rows;
  SimLauncher sim(arch, linear_workspace_bytes(c.tokens, std::max(c.columns, columns)), schedules);
  std::vector<std::int32_t> order(wide);
  for (std::size_t i = 0; i < wide; ++i) order[i] = static_cast<std::int32_t>((i * 37 + 5) % wide);
  std::vector<StoredMatrix> stored;
  std::vector<WeightSource> sources;
  std::vector<float> w;
  for (const Matrix& matrix : c.matrices) {
    stored.emplace_back(matrix.dtype, matrix.rows, c.columns, static_cast<std::uint32_t>(stored.size() + 1));
  }
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (c.matrices[i].int8) stored[i].give_rows_one_scale();
    sources.push_back(stored[i].source());
    const std::vector<float> values = stored[i].widened();
    const std::size_t at = w.size();
    w.resize(at + values.size());
    const bool ordered = c.matrices[i].ordered;
    if (ordered) sources.back().column_order = order.data();
    for (std::size_t k = 0; k < values.size(); ++k) {
      w[at + (ordered ? k / wide * wide + static_cast<std::size_t>(order[k % wide]) : k)] = values[k];
    }
  }
  const CudaWeight weight = sim_weight(sim, sources, {.gated = gated}, c.mode);
  const SimActivation x(sim, random_rows(c.tokens + 2, c.columns, 7), c.tokens + 2, c.columns,
                        weight.activation_forms());

  EpilogueReference reference;
  reference.function = function_of(c.epilogue);
  reference.gated = gated;
  LinearArgs args;
  args.x = x.view;
  args.num_tokens = c.tokens;
  args.weight = &weight;
  args.epilogue = c.epilogue;
  if (c.keeps_out) args.out = sim.output(DType::f32, {c.tokens, columns}, "out");
  if (c.inputs) {
    reference.addend = random_rows(c.tokens, rows, 1);
    reference.bias = random_rows(1, rows, 2);
    reference.residual = random_rows(c.tokens, columns, 3);
    args.addend = sim.put(reference.addend, DType::f32, {c.tokens, rows}, "addend");
    args.bias = sim.put(reference.bias, DType::f32, {rows}, "bias");
    args.residual = sim.put(reference.residual, DType::f32, {c.tokens, columns}, "residual");
    if (c.keeps_out) args.out = args.residual;
  }
  if (c.out_forms != 0) {
    std::size_t bytes = 0;
    activation_planes(nullptr, c.tokens, columns, c.out_forms, &bytes);
    args.out_activation = {sim.allocate(bytes, "out activation", true), c.tokens, columns, c.out_forms};
  }
  linear(sim, args);

  // Parts may read different forms.
  Product product;
  product.sums.resize(static_cast<std::size_t>(c.tokens * rows));
  product.error = product.sums;
  for (const CudaWeight::Part& part : weight.parts()) {
    std::vector<double> values = values_of(sim, x.view, part.form);
    values.resize(static_cast<std::size_t>(c.tokens) * wide);
    const Product whole = multiply(w, values, wide);
    for (std::size_t i = 0; i < whole.sums.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) % rows;
      if (row < part.first_row || row >= part.first_row + part.rows) continue;
      product.sums[i] = whole.sums[i];
      product.error[i] = whole.error[i];
    }
  }
  const Product expected = reference(product, static_cast<std::size_t>(rows));
  if (c.keeps_out) {
    const std::vector<float> found = sim.get<float>(args.out.data, expected.sums.size());
    HOLDS(first_difference(found, expected.sums, expected.error, 1) == "");
  }
  for (const std::uint32_t form : {kF32Form, kBf16Form, kF16Form, kInt8Form}) {
    if ((c.out_forms & form) == 0) continue;
    const std::vector<double> found = values_of(sim, args.out_activation, form);
    const auto half_step = [&](std::size_t i) {
      if (form != kInt8Form) return rounding_of(form) * std::fabs(expected.sums[i]);
      const auto row = expected.sums.begin() + static_cast<std::ptrdiff_t>(i) / columns * columns;
      double largest = 0;
      for (auto at = row; at != row + columns; ++at) largest = std::fmax(largest, std::fabs(*at));
      return largest * (1 + 1e-4) / 254;
    };
    for (std::size_t i = 0; i < found.size(); ++i) {
      CAPTURE(form, i, found[i], expected.sums[i]);
      HOLDS(std::fabs(found[i] - expected.sums[i]) <= expected.error[i] + half_step(i));
    }
  }
}

/// Gates and ups that lie side by side, into outputs: whatever the function, with or without the inputs.
void check_late_gate(int arch, ActivationFunction function, std::size_t half, bool inputs, int schedules) {
  CAPTURE(arch, static_cast<int>(function), half, inputs);
  constexpr std::size_t kTokens = 3;
  SimLauncher sim(arch, 0, schedules);
  const auto put = [&](const std::vector<float>& values, const char* name) {
    return sim.put(values, DType::f32, {static_cast<std::int64_t>(values.size())}, name).as<float>();
  };
  const std::int64_t width = static_cast<std::int64_t>(half);
  const std::vector<float> sums = random_rows(kTokens, 2 * width, 4);
  EpilogueReference reference;
  reference.function = function;
  reference.gated = true;
  FinishGatedParams params{};
  params.sums = put(sums, "sums");
  params.epilogue.function = function;
  params.epilogue.half = static_cast<std::int32_t>(half);
  params.epilogue.out_stride = params.epilogue.residual_stride = width + 1;
  std::vector<float> out(kTokens * (half + 1), -5.0f);
  if (inputs) {
    reference.addend = random_rows(kTokens, 2 * width, 1);
    reference.bias = random_rows(1, 2 * width, 2);
    reference.residual = random_rows(kTokens, width, 3);
    for (std::size_t i = 0; i < kTokens * half; ++i) out[i / half * (half + 1) + i % half] = reference.residual[i];
    params.epilogue.addend = put(reference.addend, "addend");
    params.epilogue.addend_stride = 2 * width;
    params.epilogue.bias = put(reference.bias, "bias");
  }
  params.epilogue.out = put(out, "out");
  if (inputs) params.epilogue.residual = params.epilogue.out;
  sim.run(Kernel::linear_finish_gated, {kTokens, static_cast<unsigned>((half + 255) / 256)}, params);
  Product product{std::vector<double>(sums.begin(), sums.end()), std::vector<double>(sums.size(), 0.0)};
  const Product expected = reference(product, 2 * half);
  const std::vector<float> found = sim.get<float>(params.epilogue.out, out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t token = i / (half + 1), column = i % (half + 1);
    const std::size_t at = token * half + column;
    HOLDS((column == half ? found[i] == -5.0f : std::fabs(found[i] - expected.sums[at]) <= expected.error[at]));
  }
}

/// Notes the grids of launches, and runs nothing.
class GridRecorder final : public Launcher {
 public:
  GridRecorder(int arch, std::size_t workspace_bytes) {
    arch_ = arch;
    multiprocessors_ = 132;
    workspace_ = reinterpret_cast<std::byte*>(std::size_t{1} << 40);
    workspace_bytes_ = workspace_bytes;
  }
  void launch(Kernel kernel, Grid grid, unsigned, const void*, std::size_t) override { grids[kernel] = grid; }

  std::map<Kernel, Grid> grids;
};

void check_late_gates(int arch, int schedules) {
  using F = ActivationFunction;
  for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
    check_late_gate(arch, function, 1, true, schedules);
    check_late_gate(arch, function, 257, false, schedules);
  }
  for (const std::size_t half : {31, 32, 255, 256, 512, 600}) check_late_gate(arch, F::silu, half, true, schedules);
}

void check_orders(int arch, int schedules) {
  check(arch, {{{DType::g4_32, 33, true}, {DType::g4_32, 17}, {DType::bf16, 9, true}}, 320, 3}, schedules);
  for (const std::int64_t columns : {960, 2112}) {  // four turns of 256 columns, and nine
    check(arch, {{{DType::q4_1, 5, true}, {DType::f16, 5, true}, {DType::bf16, 9, true}}, columns, 2}, schedules);
  }
}

}  // namespace

TEST_CASE("stacked matrices of one type, of several, and in orders of columns") {
  for (const int arch : built_archs()) {
    for (const std::int64_t tokens : {1, 9, 40}) {
      check(arch, {{{DType::q4_0, 33}, {DType::q4_0, 17}, {DType::q4_0, 5}}, 96, tokens});
      check(arch,
            {{{DType::q4_k, 33}, {DType::q6_k, 17}, {DType::f16, 5}, {DType::bf16, 9}, {DType::f32, 3}}, 256, tokens});
      check(arch, {{{DType::g4_32, 33, true}, {DType::g4_32, 17}, {DType::bf16, 9, true}}, 320, tokens}, 6);
    }
  }
}

TEST_CASE("matrices made for int8 activations alone and beside others") {
  const Matrix int8{DType::g8_32, 33, false, true};
  for (const int arch : built_archs()) {
    for (const std::int64_t tokens : {1, 9, 40}) {
      check(arch, {{int8, {DType::g8_32, 17, false, true}, {DType::g8_32, 5}, {DType::f16, 9}}, 96, tokens});
      check(arch, {{int8, int8}, 160, tokens, Epilogue::silu_gated, true, kInt8Form, false}, 6);
      check(arch, {{int8, {DType::q8_0, 33}}, 160, tokens, Epilogue::silu_gated, true, kInt8Form});
    }
    check(arch, {{int8}, 96, 9, Epilogue::none, true, 0, true, ActivationMode::f32});
  }
}

TEST_CASE("many columns in an order of their own") {
  for (const int arch : built_archs()) check_orders(arch, 1);
}

TEST_CASE("every epilogue, with and without its inputs") {
  for (const int arch : built_archs()) {
    for (const bool inputs : {false, true}) {
      for (const Epilogue epilogue : {Epilogue::none, Epilogue::gelu_erf, Epilogue::gelu_tanh, Epilogue::tanh}) {
        check(arch, {{{DType::q8_0, 20}}, 64, 3, epilogue, inputs});
      }
      for (const Epilogue epilogue : {Epilogue::silu_gated, Epilogue::gelu_tanh_gated, Epilogue::gelu_erf_gated}) {
        check(arch, {{{DType::q8_0, 20}, {DType::q8_0, 20}}, 64, 3, epilogue, inputs});
        // Halves that are no one part.
        check(arch, {{{DType::q8_0, 300}, {DType::q4_0, 300}}, 64, 3, epilogue, inputs});
      }
    }
  }
}

TEST_CASE("outputs become activations of every form, beside f32 rows or instead") {
  for (const int arch : built_archs()) {
    for (const bool keeps_out : {false, true}) {
      for (const std::uint32_t forms : {1u, 2u, 4u, 8u, 15u}) {
        check(arch, {{{DType::f16, 70}}, 64, 5, Epilogue::gelu_erf, true, forms, keeps_out});
        check(arch, {{{DType::q4_k, 70}, {DType::q4_k, 70}}, 256, 5, Epilogue::silu_gated, false, forms, keeps_out});
        check(arch, {{{DType::q4_k, 70}, {DType::q6_k, 70}}, 256, 5, Epilogue::silu_gated, false, forms, keeps_out});
      }
    }
  }
}

TEST_CASE("the f32 mode reads the f32 form") {
  for (const int arch : built_archs()) {
    check(arch,
          {{{DType::q4_k, 20}, {DType::f16, 9, true}}, 256, 9, Epilogue::none, true, 0, true, ActivationMode::f32});
    check(arch,
          {{{DType::q4_k, 20}, {DType::f16, 20}}, 256, 9, Epilogue::silu_gated, true, 1, false, ActivationMode::f32});
  }
}

TEST_CASE("late gates of every function, for every remainder") {
  for (const int arch : built_archs()) check_late_gates(arch, 6);
}

TEST_CASE("tokens are not limited by what a grid's second dimension holds") {
  constexpr std::int64_t kTokens = 70000, kColumns = 128, kHalf = 300;
  const std::uint32_t forms = kF32Form | kBf16Form | kF16Form;
  for (const int arch : built_archs()) {
    SimLauncher sim(arch);
    const StoredMatrix gate(DType::q4_k, kHalf, 256, 1), up(DType::q6_k, kHalf, 256, 2);
    const StoredMatrix dense_gate(DType::f32, kHalf, kColumns, 3), dense_up(DType::f16, kHalf, kColumns, 4);
    std::vector<std::int32_t> order(kColumns);
    std::iota(order.rbegin(), order.rend(), 0);
    const StoredMatrix ordered_gate(DType::f16, kHalf, kColumns, 5), ordered_up(DType::q8_0, kHalf, kColumns, 6);
    WeightSource ordered = ordered_gate.source();
    ordered.column_order = order.data();
    for (const std::vector<WeightSource>& sources : {std::vector{gate.source(), up.source()},
                                                     {dense_gate.source(), dense_up.source()},
                                                     {ordered, ordered_up.source()}}) {
      const CudaWeight weight = sim_weight(sim, sources, {.gated = true});
      GridRecorder recorder(arch, linear_workspace_bytes(kTokens, 2 * kHalf));
      void* somewhere = reinterpret_cast<void*>(std::size_t{1} << 41);
      LinearArgs args;
      args.x = {somewhere, kTokens, weight.columns(), weight.activation_forms()};
      args.num_tokens = kTokens;
      args.weight = &weight;
      args.epilogue = Epilogue::silu_gated;
      args.out_activation = {somewhere, kTokens, kHalf, forms};
      linear(recorder, args);
      CHECK(recorder.grids.count(Kernel::linear_finish_gated) == 1);
      for (const auto& [kernel, grid] : recorder.grids) {
        CAPTURE(kernel_info(kernel).entry);
        CHECK((grid.x > 0 && grid.y > 0 && grid.z > 0));
        CHECK((grid.y <= 65535 && grid.z <= 65535));
      }
    }
  }
}

TEST_CASE("no tokens, no launch") {
  SimLauncher sim(built_archs()[0]);
  const StoredMatrix matrix(DType::f16, 8, 64, 1);
  const CudaWeight weight = sim_weight(sim, {matrix.source()});
  LinearArgs args;
  args.weight = &weight;
  linear(sim, args);
}

TEST_CASE("the kernels beside the products were run whole") {
  if (built_archs()[0] >= 80) CHECK(uncovered(Kernel::linear_permute) == "");  // bf16 has no columns to order on sm_75
  CHECK(uncovered(Kernel::linear_finish_gated) == "");
}

TEST_CASE("faults in the kernels beside the products are noticed", "[.mutants]") {
  const auto permutes = [] {
    check_orders(mutant_arch(), 1);
    return true;
  };
  const auto finishes = [] {
    check_late_gates(mutant_arch(), 1);
    return true;
  };
  CHECK(unlisted_mutants("linear_rows",
                         {{Kernel::linear_permute, permutes}, {Kernel::linear_finish_gated, finishes}}) == "");
}
