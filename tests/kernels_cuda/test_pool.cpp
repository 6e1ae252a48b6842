// pool on the PTX interpreter against fp64.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

std::vector<double> reference(const std::vector<float>& x, int stride, int columns, const std::vector<int>& starts,
                              PoolingKind kind, bool normalize) {
  std::vector<double> out;
  for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
    std::vector<double> row;
    const int begin = starts[s], end = starts[s + 1];
    for (int c = 0; c < columns; ++c) {
      const auto at = [&](int r) { return double{x[static_cast<std::size_t>(r * stride + c)]}; };
      double value = kind == PoolingKind::last ? at(end - 1) : at(begin);
      for (int r = begin + 1; r < end; ++r) {
        if (kind == PoolingKind::mean) value += at(r);
        if (kind == PoolingKind::max) value = std::max(value, at(r));
      }
      row.push_back(kind == PoolingKind::mean ? value / (end - begin) : value);
    }
    double squares = 0;
    for (const double value : row) squares += value * value;
    for (const double value : row) out.push_back(normalize ? value / std::max(std::sqrt(squares), 1e-12) : value);
  }
  return out;
}

std::vector<float> run(SimLauncher& sim, const std::vector<float>& x, int stride, int columns,
                       const std::vector<int>& starts, PoolingKind kind, bool normalize, int out_stride) {
  const int rows = starts.back(), sequences = static_cast<int>(starts.size()) - 1;
  BatchTensors batch;
  batch.query_starts = sim.put(starts, DType::i32, {sequences + 1}, "query_starts");
  batch.num_sequences = sequences;
  PoolArgs args;
  args.x = sim.put(x, DType::f32, {rows, columns}, "x");
  args.x.row_stride = stride;
  args.batch = &batch;
  args.kind = kind;
  args.normalize = normalize;
  args.out = sim.put(std::vector<float>(static_cast<std::size_t>(sequences * out_stride), 7.0f), DType::f32,
                     {sequences, columns}, "out");
  args.out.row_stride = out_stride;
  cuda::pool(sim, args);
  return sim.get<float>(args.out.data, static_cast<std::size_t>(sequences * out_stride));
}

void check_kinds(int arch, int schedules) {
  const std::vector<int> starts = {0, 1, 3, 34, 67, 132};
  for (const PoolingKind kind : {PoolingKind::mean, PoolingKind::cls, PoolingKind::last, PoolingKind::max}) {
    for (const int columns : {1, 2, 3, 4, 31, 32, 33, 34, 100, 257, 1000, 1281}) {
      for (const bool normalize : {false, true}) {
        CAPTURE(arch, int(kind), columns, normalize);
        const int stride = columns + (normalize ? 4 : 0), out_stride = columns + 1;
        const std::vector<float> x = normals(static_cast<std::size_t>(starts.back() * stride), 3, 10.0f);
        SimLauncher sim(arch, 0, schedules);
        const auto out = run(sim, x, stride, columns, starts, kind, normalize, out_stride);
        const auto expected = reference(x, stride, columns, starts, kind, normalize);
        for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
          for (int c = 0; c < columns; ++c) {
            const double wanted = expected[s * static_cast<std::size_t>(columns) + static_cast<std::size_t>(c)];
            // f64 all the way: one rounding to f32, two with the norm.
            HOLDS(std::fabs(out[s * static_cast<std::size_t>(out_stride) + static_cast<std::size_t>(c)] - wanted) <=
                  std::fabs(wanted) * 1.2e-7 + 1e-7 * (kind == PoolingKind::mean ? 1.0 : 0.0));
          }
          HOLDS(out[s * static_cast<std::size_t>(out_stride) + static_cast<std::size_t>(columns)] == 7.0f);
        }
      }
    }
  }
}

void check_ends(int arch, int schedules) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  SimLauncher sim(arch, 0, schedules);
  const auto zeros = run(sim, {0, 0, 0, 0}, 4, 4, {0, 1}, PoolingKind::cls, true, 4);
  HOLDS(zeros == std::vector<float>(4, 0.0f));
  const std::vector<float> x = {1, nan, -inf, -0.0f, nan, 2, -inf, -0.0f, 3, 4, -inf, -0.0f};
  const auto most = run(sim, x, 4, 4, {0, 3}, PoolingKind::max, false, 4);
  HOLDS(std::isnan(most[0]));
  HOLDS(std::isnan(most[1]));
  HOLDS(most[2] == -inf);
  HOLDS(most[3] == 0.0f);
  const auto divided = run(sim, x, 4, 4, {0, 3}, PoolingKind::mean, true, 4);
  HOLDS(std::isnan(divided[3]));
}

}  // namespace

TEST_CASE("pool agrees with fp64 for every kind, width and length") {
  for (const int arch : built_archs()) check_kinds(arch, 6);
}

TEST_CASE("pool of rows without length, and of rows that are not finite") {
  for (const int arch : built_archs()) check_ends(arch, 6);
}

TEST_CASE("a sequence is pooled to the same bits wherever it lies") {
  for (const int arch : built_archs()) {
    const std::vector<float> x = normals(90 * 40, 8);
    for (const PoolingKind kind : {PoolingKind::mean, PoolingKind::max}) {
      SimLauncher sim(arch, 0, 1);
      const auto together = run(sim, x, 40, 40, {0, 13, 90}, kind, true, 40);
      const auto alone = run(sim, std::vector<float>(x.begin() + 13 * 40, x.end()), 40, 40, {0, 77}, kind, true, 40);
      HOLDS(std::memcmp(alone.data(), &together[40], 40 * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("pool was run whole") {
  CHECK(uncovered(cuda::Kernel::pool) == "");
  CHECK(uncovered(cuda::Kernel::normalize_rows) == "");
}

TEST_CASE("faults in pool are noticed") {
  const auto is_right = [] {
    check_ends(mutant_arch(), 1);
    check_kinds(mutant_arch(), 1);
    return true;
  };
  CHECK(unlisted_mutants("rows", {{cuda::Kernel::pool, is_right}, {cuda::Kernel::normalize_rows, is_right}}) == "");
}
