// A query's bits by itself, in company, in chunks and with spans kept apart.
#pragma once

#include <vector>

#include "tests/catch.h"
#include "tests/kernels_cuda/attention_case.h"

namespace inferd::cuda::test {

inline constexpr std::size_t kAttentionWorkspace = std::size_t{1} << 20;

/// One sequence of 290 tokens; `positions`: queries of it that are decoded one by one.
inline void check_company(int arch, const AttentionShape& shape, const std::vector<int>& positions) {
  const int length = 290;
  CAPTURE(arch, shape.dim);
  const AttentionSequence a(shape, length, 1), b(shape, 100, 2);
  const auto run = [&](const std::vector<AttentionChunk>& chunks, std::size_t workspace, unsigned seed) {
    SimLauncher sim(arch, workspace, 1);
    return attend(sim, shape, chunks, seed);
  };
  const std::vector<float> whole = run({{&a, 0, length}}, 0, 1);
  const std::vector<float> between = run({{&b, 7, 100}, {&a, 0, length}, {&b, 99, 100}}, kAttentionWorkspace, 2);
  CHECK(rows_of(between, 93, length, shape) == whole);
  for (const int position : positions) {
    CAPTURE(position);
    const std::vector<float> expected = rows_of(whole, position, 1, shape);
    const AttentionChunk decode{&a, position, position + 1};
    CHECK(run({decode}, kAttentionWorkspace, 3) == expected);
    CHECK(run({decode}, 0, 4) == expected);  // no room for partials: one block takes all spans
    CHECK(rows_of(run({{&b, 2, 90}, decode, {&b, 99, 100}}, kAttentionWorkspace, 5), 88, 1, shape) == expected);
  }
  CHECK(run({{&a, 258, 261}}, kAttentionWorkspace, 6) == rows_of(whole, 258, 3, shape));
  CHECK(run({{&a, 250, length}}, kAttentionWorkspace, 7) == rows_of(whole, 250, length - 250, shape));
}

}  // namespace inferd::cuda::test
