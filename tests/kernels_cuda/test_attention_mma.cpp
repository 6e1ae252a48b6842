// Attention over the paged cache on the PTX interpreter, on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_case.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

constexpr std::size_t kWorkspace = std::size_t{1} << 20;

/// Queries and weights are rounded to 16 bits. A weight's error of 2^-12 (f16) averages out to less than that in a sum
/// of normals, below 5 in size; a score's is 2^-12 of the length of q times that of one key, 8 at most.
double tolerance(DType type) { return type == DType::f16 ? 2e-3 : 1.6e-2; }

std::vector<int> archs_for(DType type) {
  std::vector<int> archs = built_archs();
  if (type == DType::bf16) std::erase(archs, 75);
  return archs;
}

void check(const AttentionShape& shape, const std::vector<AttentionChunk>& chunks, int schedules = 1) {
  for (const int arch : archs_for(shape.type)) {
    CAPTURE(arch, shape.dim, shape.window, shape.prefix);
    SimLauncher sim(arch, kWorkspace, schedules);
    CHECK(attention_error(shape, chunks, attend(sim, shape, chunks)) <= tolerance(shape.type));
  }
}

}  // namespace

TEST_CASE("tensor-core attention is softmax(q k) v at every context length") {
  const AttentionShape shape{.heads = 4, .kv_heads = 1, .dim = 64, .type = DType::f16};
  for (const int context : {1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 600}) {
    CAPTURE(context);
    const AttentionSequence sequence(shape, context, static_cast<unsigned>(context));
    check(shape, {{&sequence, context - 1, context}}, context < 300 ? 2 : 1);
    if (context < 300) check(shape, {{&sequence, std::max(0, context - 20), context}}, 2);
  }
}

TEST_CASE("tensor-core attention of every head size") {
  for (const DType type : {DType::f16, DType::bf16}) {
    for (const int dim : {64, 80, 96, 128, 256}) {
      const AttentionShape shape{.heads = 6, .kv_heads = 2, .dim = dim, .type = type};
      const AttentionSequence a(shape, 70, 1), b(shape, 40, 2);
      check(shape, {{&a, 69, 70}, {&b, 5, 40}, {&a, 60, 63}}, 2);
    }
  }
}
