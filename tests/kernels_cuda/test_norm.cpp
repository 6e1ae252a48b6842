// norm on the PTX interpreter against fp64; its activations against to_activation.
#include <cmath>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

enum class Added { nothing, bias, residual };

struct Case {
  NormKind kind = NormKind::rms;
  int columns = 64;
  Added added = Added::nothing;
  int pad = 0;              // floats between rows of x, residual and out
  std::uint32_t forms = 0;  // of the activation, 0: none
  bool out = true;          // false: only the activation
  bool in_place = false;    // out is x
  float scale = 1.0f, centre = 2.0f;
  int weight_offset = 0;  // floats that the weight lies behind an address of 16 bytes
  int rows = 3;
  int schedules = 6;
};

std::vector<double> reference(const Case& c, const std::vector<float>& x, const std::vector<float>& weight,
                              const std::vector<float>& added) {
  const std::size_t columns = static_cast<std::size_t>(c.columns), stride = columns + static_cast<std::size_t>(c.pad);
  std::vector<double> out;
  for (std::size_t r = 0; r < static_cast<std::size_t>(c.rows); ++r) {
    double mean = 0, squares = 0;
    for (std::size_t i = 0; i < columns; ++i) mean += double{x[r * stride + i]} / c.columns;
    if (c.kind == NormKind::rms) mean = 0;
    for (std::size_t i = 0; i < columns; ++i) squares += std::pow(x[r * stride + i] - mean, 2);
    const double factor = 1.0 / std::sqrt(squares / c.columns + 1e-5);
    for (std::size_t i = 0; i < columns; ++i) {
      const double plus = c.added == Added::nothing ? 0.0 : added[c.added == Added::bias ? i : r * stride + i];
      out.push_back((x[r * stride + i] - mean) * factor * weight[i] + plus);
    }
  }
  return out;
}

void check(int arch, const Case& c) {
  CAPTURE(arch, int(c.kind), c.columns, int(c.added), c.pad, c.forms, c.out, c.in_place);
  const int stride = c.columns + c.pad;
  const auto count = static_cast<std::size_t>(c.rows * stride);
  std::vector<float> x = normals(count, static_cast<std::uint32_t>(c.columns), c.scale);
  for (float& value : x) value += c.centre * c.scale;
  const std::vector<float> weight = normals(static_cast<std::size_t>(c.columns), 5);
  const std::vector<float> added = normals(c.added == Added::residual ? count : static_cast<std::size_t>(c.columns), 6);
  SimLauncher sim(arch, 0, c.schedules);
  const auto put = [&](const std::vector<float>& rows, const char* name) {
    Tensor tensor = sim.put(rows, DType::f32, {c.rows, c.columns}, name);
    tensor.row_stride = stride;
    return tensor;
  };
  NormArgs args;
  args.kind = c.kind;
  args.x = put(x, "x");
  std::vector<float> stored(static_cast<std::size_t>(c.weight_offset), 0.0f);
  stored.insert(stored.end(), weight.begin(), weight.end());
  args.weight = sim.put(stored, DType::f32, {c.weight_offset + c.columns}, "weight");
  args.weight = Tensor(args.weight.as<float>() + c.weight_offset, DType::f32, {c.columns});
  if (c.added == Added::bias) args.bias = sim.put(added, DType::f32, {c.columns}, "bias");
  if (c.added == Added::residual) args.residual = put(added, "residual");
  // A residual is written in place, as the models do.
  if (c.out) args.out = c.in_place ? args.x : args.residual ? args.residual : put(x, "out");
  std::size_t bytes = 0;
  if (c.forms != 0) {
    cuda::activation_planes(nullptr, c.rows + 1, c.columns, c.forms, &bytes);
    args.activation = {sim.allocate(bytes, "activation", true), c.rows + 1, c.columns, c.forms};
  }
  cuda::norm(sim, args);

  const std::vector<double> expected = reference(c, x, weight, added);
  std::vector<float> result;
  if (c.out) {
    const auto out = sim.get<float>(args.out.data, count);
    const auto& before = args.out.data == args.residual.data ? added : x;
    for (int r = 0; r < c.rows; ++r) {
      for (int i = 0; i < stride; ++i) {
        const auto at = static_cast<std::size_t>(r * stride + i);
        if (i >= c.columns) {
          HOLDS(out[at] == before[at]);
          continue;
        }
        const double wanted = expected[static_cast<std::size_t>(r * c.columns + i)];
        // Sums of up to 32 in a row, then trees, in f32; cancellation against the mean of LayerNorm.
        HOLDS(std::fabs(out[at] - wanted) < 4e-6 * (1 + std::fabs(wanted)));
        result.push_back(out[at]);
      }
    }
  }
  if (c.forms == 0) return;
  if (!c.out) {
    Case both = c;
    both.out = true, both.forms = 0;
    check(arch, both);
    NormArgs again = args;
    again.activation = {};
    again.out = sim.output(DType::f32, {c.rows, c.columns}, "out");
    cuda::norm(sim, again);
    result = sim.get<float>(again.out.data, static_cast<std::size_t>(c.rows * c.columns));
  }
  // The bits of to_activation of the same rows.
  ToActivationArgs convert;
  convert.x = sim.put(result, DType::f32, {c.rows, c.columns}, "result");
  convert.out = args.activation;
  convert.out.data = sim.allocate(bytes, "expected", true);
  cuda::to_activation(sim, convert);
  const auto found = sim.get<std::uint8_t>(args.activation.data, bytes);
  HOLDS(found == sim.get<std::uint8_t>(convert.out.data, bytes));
}

/// What one kernel does to its widths, in every way.
bool holds_for(const std::vector<int>& widths, int arch, int schedules) {
  for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
    for (const int columns : widths) {
      Case c{.kind = kind, .columns = columns, .rows = 2, .schedules = schedules};
      c.centre = columns == 1 ? 0.0f : 2.0f;
      c.forms = 5;
      check(arch, c);
      c.added = Added::bias;
      c.pad = 4;
      c.forms = 15;
      check(arch, c);
      c.added = Added::residual;
      c.pad = 3;
      c.forms = 8;
      check(arch, c);
      c.out = false;
      c.pad = 0;
      c.weight_offset = 1;
      c.forms = 7;
      check(arch, c);
    }
  }
  return true;
}

}  // namespace

TEST_CASE("norm agrees with fp64 for every kernel's widths, aligned or not, whatever is added") {
  for (const int arch : built_archs()) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const int columns : {1, 7, 8, 9, 63, 64, 65, 384, 577, 1023, 1024, 1025, 2047, 2048, 2049, 4096, 4097}) {
        check(arch, {.kind = kind, .columns = columns, .centre = columns == 1 ? 0.0f : 2.0f});
        check(arch, {.kind = kind, .columns = columns, .added = Added::bias, .pad = 4, .forms = 12, .rows = 1});
        check(arch, {.kind = kind, .columns = columns, .added = Added::residual, .pad = 3, .rows = 1});
      }
      check(arch, {.kind = kind, .columns = 640, .in_place = true});
    }
  }
}

TEST_CASE("norm of the widest rows") {
  for (const int arch : built_archs()) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const int columns : {8191, 8192, 8193, 16384, 32768}) {
        check(arch,
              {.kind = kind, .columns = columns, .added = Added::residual, .forms = 14, .rows = 1, .schedules = 2});
      }
      for (const int columns : {5000, 7999, 20001}) {
        check(
            arch,
            {.kind = kind, .columns = columns, .added = Added::bias, .pad = 1, .forms = 1, .rows = 1, .schedules = 2});
      }
    }
  }
}

TEST_CASE("norm writes every form of activation as to_activation does, with or without rows of f32") {
  for (const int arch : built_archs()) {
    for (const std::uint32_t forms : {1u, 2u, 4u, 8u, 15u}) {
      for (const int columns : {1, 64, 100, 1000, 1500, 3000}) {
        check(arch, {.columns = columns, .forms = forms, .centre = 0});
        check(arch, {.columns = columns, .added = Added::bias, .forms = forms, .out = false, .centre = 0});
      }
    }
    check(arch, {.columns = 6000, .forms = 15, .out = false, .schedules = 2});
    check(arch, {.columns = 9000, .forms = 15, .out = false, .schedules = 2});
  }
}

TEST_CASE("norm of tiny and huge rows") {
  for (const int arch : built_archs()) {
    check(arch, {.kind = NormKind::layer, .columns = 300, .scale = 1e-6f});
    check(arch, {.columns = 300, .forms = 4, .scale = 1e15f});
  }
}

TEST_CASE("norm was run whole") {
  for (const cuda::Kernel kernel : {cuda::Kernel::norm_1024, cuda::Kernel::norm_2048, cuda::Kernel::norm_4096,
                                    cuda::Kernel::norm_8192, cuda::Kernel::norm_wide}) {
    CHECK(uncovered(kernel) == "");
  }
}

TEST_CASE("faults in norms are noticed") {
  std::vector<Suspect> suspects;
  const auto add = [&](cuda::Kernel kernel, std::initializer_list<int> widths) {
    const std::vector<int> all = widths;
    suspects.push_back({kernel, [all] { return holds_for(all, mutant_arch(), 1); }});
  };
  add(cuda::Kernel::norm_1024, {1, 7, 8, 9, 64, 66, 67, 69, 100, 577, 1022, 1023, 1024});
  if (all_mutants()) {
    add(cuda::Kernel::norm_8192, {4098, 4099, 4104, 4105, 5005, 7999, 8180, 8190, 8192});
    add(cuda::Kernel::norm_wide, {8200, 8201, 8218, 8219, 9004, 16384, 16389, 20006, 20007});
  }
  CHECK(unlisted_mutants("norm", suspects) == "");
}
