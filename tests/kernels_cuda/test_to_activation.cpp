// to_activation on the PTX interpreter: every form against its definition, padding included.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

// Rounded to a format of `bits` bits of precision whose smallest step is 2^least, ties to even.
double rounded(double x, int bits, int least) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent = 0;
  std::frexp(x, &exponent);
  const double step = std::ldexp(1.0, std::max(exponent - bits, least));
  return std::nearbyint(x / step) * step;
}

// NaN equals NaN.
bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

bool has_nan(const std::vector<float>& x) {
  return std::any_of(x.begin(), x.end(), [](float v) { return std::isnan(v); });
}

// As activation.h defines the form, and as near to x as its step allows.
void check_int8(const cuda::ActivationPlanes& planes, SimLauncher& sim, const std::vector<float>& x, std::int64_t row) {
  float largest = 0;
  for (const float v : x) largest = std::fmax(largest, std::fabs(v));
  if (has_nan(x)) largest = std::numeric_limits<float>::quiet_NaN();
  const float scale = largest / 127.0f;
  const float factor = largest >= cuda::kLeastInt8Row ? 127.0f / largest : 0.0f;
  HOLDS(same(static_cast<double>(sim.get<float>(planes.int8_scale + row, 1)[0]), static_cast<double>(scale)));
  const auto stride = static_cast<std::size_t>(planes.stride);
  const auto codes = sim.get<std::int8_t>(planes.int8 + static_cast<std::size_t>(row) * stride, stride);
  for (std::size_t i = 0; i < stride; ++i) {
    CAPTURE(row, i);
    const float product = i < x.size() ? x[i] * factor : 0.0f;
    HOLDS(static_cast<int>(codes[i]) == (std::isnan(product) ? 0 : static_cast<int>(std::nearbyint(product))));
    if (i >= x.size() || factor == 0.0f || !std::isfinite(largest)) continue;
    HOLDS(std::fabs(static_cast<double>(x[i]) / static_cast<double>(scale) - codes[i]) <= 0.50002);
  }
}

void check_row(const cuda::ActivationPlanes& planes, SimLauncher& sim, const std::vector<float>& x, std::int64_t row) {
  const auto stride = static_cast<std::size_t>(planes.stride);
  const auto at = static_cast<std::size_t>(row) * stride;
  const auto value = [&](std::size_t i) { return i < x.size() ? static_cast<double>(x[i]) : 0.0; };
  if (planes.f32 != nullptr) {
    const auto f32 = sim.get<float>(planes.f32 + at, stride);
    for (std::size_t i = 0; i < stride; ++i) HOLDS(same(f32[i], value(i)));
  }
  if (planes.bf16 != nullptr) {
    const auto bf16 = sim.get<std::uint16_t>(planes.bf16 + at, stride);
    for (std::size_t i = 0; i < stride; ++i) HOLDS(same(bf16_to_f32(bf16[i]), rounded(value(i), 8, -133)));
  }
  if (planes.int8 != nullptr) check_int8(planes, sim, x, row);
  if (planes.f16 != nullptr) {
    double largest = 0;
    for (const float v : x) largest = std::fmax(largest, std::fabs(v));
    int exponent = 0;
    std::frexp(largest, &exponent);  // largest in [2^(exponent - 1), 2^exponent)
    if (std::isinf(largest) || has_nan(x)) exponent = 129;
    const double scale = largest == 0 ? 1.0 : std::ldexp(1.0, std::max(exponent - 14, -126));
    HOLDS(static_cast<double>(sim.get<float>(planes.f16_scale + row, 1)[0]) == scale);
    const auto f16 = sim.get<std::uint16_t>(planes.f16 + at, stride);
    const auto sums = sim.get<float>(planes.f16_sums + at / 16, stride / 16);
    for (std::size_t i = 0; i < stride; ++i) HOLDS(same(f16_to_f32(f16[i]), rounded(value(i) / scale, 11, -24)));
    for (std::size_t i = 0; i < stride / 16; ++i) {
      double sum = 0, size = 0;
      for (std::size_t j = 0; j < 16; ++j) {
        sum += static_cast<double>(f16_to_f32(f16[16 * i + j]));
        size += std::fabs(static_cast<double>(f16_to_f32(f16[16 * i + j])));
      }
      if (std::isfinite(size)) {
        HOLDS(std::fabs(static_cast<double>(sums[i]) - sum) <= size * 0x1p-22);
      }
    }
  }
}

/// Nobody wrote to the two rows from `first` on.
void check_spare_rows(const cuda::ActivationPlanes& planes, SimLauncher& sim, std::int64_t first) {
  const auto untouched = [&](const auto* plane, std::int64_t width) {
    if (plane == nullptr) return true;
    const std::size_t bytes = static_cast<std::size_t>(2 * width) * sizeof *plane;
    const auto found = sim.get<std::uint8_t>(plane + first * width, bytes);
    return std::all_of(found.begin(), found.end(), [](std::uint8_t byte) { return byte == 0xff; });
  };
  HOLDS(untouched(planes.f32, planes.stride));
  HOLDS(untouched(planes.bf16, planes.stride));
  HOLDS(untouched(planes.f16, planes.stride));
  HOLDS(untouched(planes.f16_scale, 1));
  HOLDS(untouched(planes.f16_sums, planes.stride / 16));
  HOLDS(untouched(planes.int8, planes.stride));
  HOLDS(untouched(planes.int8_scale, 1));
}

void check(int arch, std::int64_t columns, std::int64_t stride, std::uint32_t forms,
           const std::vector<std::vector<float>>& rows, int schedules = 6) {
  CAPTURE(arch, columns, stride, forms);
  SimLauncher sim(arch, 0, schedules);
  const auto count = static_cast<std::int64_t>(rows.size());
  std::vector<float> x(static_cast<std::size_t>(count * stride), std::numeric_limits<float>::quiet_NaN());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::copy(rows[r].begin(), rows[r].end(), x.begin() + static_cast<std::ptrdiff_t>(r) * stride);
  }
  ToActivationArgs args;
  args.x = sim.put(x, DType::f32, {count, columns}, "x");
  args.x.row_stride = stride;
  args.out.rows = count + 2;
  args.out.columns = columns;
  args.out.forms = forms;
  std::size_t bytes = 0;
  cuda::activation_planes(nullptr, args.out.rows, columns, forms, &bytes);
  args.out.data = sim.allocate(bytes, "activation", true);
  cuda::to_activation(sim, args);
  const auto planes = cuda::activation_planes(args.out.data, args.out.rows, columns, forms);
  for (std::size_t r = 0; r < rows.size(); ++r) check_row(planes, sim, rows[r], static_cast<std::int64_t>(r));
  check_spare_rows(planes, sim, count);
}

std::vector<float> random_row(std::int64_t columns, float size, std::mt19937& random) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> row(static_cast<std::size_t>(columns));
  for (float& v : row) v = normal(random);
  return row;
}

void check_widths(int arch, int schedules) {
  std::mt19937 random(1);
  for (const std::int64_t columns : {1, 7, 8, 9, 63, 64, 65, 66, 67, 69, 100, 2047, 2048, 2049, 2120}) {
    std::vector<std::vector<float>> rows;
    for (const float size : {1.0f, 1e-6f, 3e4f}) rows.push_back(random_row(columns, size, random));
    check(arch, columns, columns, 15, rows, schedules);               // rows of any alignment
    check(arch, columns, (columns + 7) / 4 * 4, 4, rows, schedules);  // of 16 bytes
    check(arch, columns, (columns + 7) / 4 * 4, 8, rows, schedules);
  }
  for (const std::uint32_t forms : {1u, 2u, 3u, 5u, 9u, 10u, 12u}) {
    check(arch, 70, 72, forms, {random_row(70, 1, random), random_row(70, 2, random)}, schedules);
  }
}

void check_ends(int arch, int schedules) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  check(arch, 4, 4, 15,
        {{0, 0, -0.0f, 0},
         {1, -1, 0.5f, 2},
         {16383.99f, 1, 0, -1e-9f},
         {3.38e38f, -1, 1e30f, 0},
         {1e-38f, -1e-40f, 0, 1e-45f},
         {0x1p-113f, 0, 0, 0},
         {0x1p-100f, 0x1p-101f, -0x1p-102f, 0},
         {0x1.fffffep-101f, 0, -0x1.fffffep-101f, 0},
         {1, nan, 2, 3},
         {1, -nan, inf, 3},
         {1, -inf, 1e38f, 3}},
        schedules);
}

}  // namespace

TEST_CASE("Every form of a row is what activation.h says, and its padding zeros") {
  for (const int arch : built_archs()) check_widths(arch, 6);
}

TEST_CASE("Rows at the ends of f32 stay finite, others keep what is not") {
  for (const int arch : built_archs()) check_ends(arch, 6);
}

TEST_CASE("Halves between two int8 codes go to the even one") {
  for (const int arch : built_archs()) {
    const std::vector<float> row{127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, -127, 0.49999997f};
    check(arch, 11, 11, 8, {row});
    SimLauncher sim(arch);
    ToActivationArgs args;
    args.x = sim.put(row, DType::f32, {1, 11}, "x");
    std::size_t bytes = 0;
    cuda::activation_planes(nullptr, 1, 11, cuda::kInt8Form, &bytes);
    args.out = {sim.allocate(bytes, "activation", true), 1, 11, cuda::kInt8Form};
    cuda::to_activation(sim, args);
    const auto codes = sim.get<std::int8_t>(cuda::activation_planes(args.out.data, 1, 11, 8).int8, 11);
    CHECK(codes == std::vector<std::int8_t>{127, 0, 2, 2, 0, -2, -2, 126, -126, -127, 0});
  }
}

TEST_CASE("to_activation was run whole") { CHECK(uncovered(cuda::Kernel::to_activation) == ""); }

TEST_CASE("faults in to_activation are noticed") {
  const auto is_right = [] {
    check_ends(mutant_arch(), 1);
    check_widths(mutant_arch(), 1);
    return true;
  };
  CHECK(unlisted_mutants("norm", {{cuda::Kernel::to_activation, is_right}}) == "");
}
