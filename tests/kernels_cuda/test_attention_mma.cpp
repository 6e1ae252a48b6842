// Attention over the paged cache on the PTX interpreter, on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_company.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

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
    SimLauncher sim(arch, kAttentionWorkspace, schedules);
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

TEST_CASE("tensor-core attention with a window, ALiBi, a soft cap, a shared prefix, many heads") {
  const auto mixed = [](const AttentionShape& shape) {
    const AttentionSequence a(shape, 290, 1), b(shape, 90, 2), c(shape, 33, 3);
    check(shape, {{&a, 289, 290}, {&b, 3, 90}, {&c, 0, 33}, {&a, 254, 258}});
  };
  for (const int window : {1, 16, 17, 63, 64, 65, 257}) {
    mixed({.heads = 2, .kv_heads = 2, .dim = 64, .type = DType::f16, .window = window});
  }
  mixed({.heads = 2, .kv_heads = 1, .dim = 64, .type = DType::f16, .softcap = 5.0f});
  mixed({.heads = 2, .kv_heads = 1, .dim = 64, .type = DType::f16, .alibi = true});
  for (const int prefix : {1, 32, 63, 64, 65, 80}) {
    mixed({.heads = 2, .kv_heads = 1, .dim = 64, .type = DType::f16, .prefix = prefix});
  }
  for (const DType type : {DType::f16, DType::bf16}) {
    for (const int dim : {64, 80, 96, 128, 256}) {
      const AttentionShape shape{.heads = 5,
                                 .kv_heads = 1,
                                 .dim = dim,
                                 .type = type,
                                 .window = 200,
                                 .softcap = 5.0f,
                                 .alibi = true,
                                 .prefix = 20};
      const AttentionSequence a(shape, 300, 1), b(shape, 30, 2);
      check(shape, {{&a, 299, 300}, {&b, 3, 30}, {&a, 250, 258}});
    }
  }
  const AttentionShape many{.heads = 40, .kv_heads = 2, .dim = 64, .type = DType::f16};  // more than an mma has rows
  const AttentionSequence a(many, 40, 1);
  check(many, {{&a, 39, 40}, {&a, 0, 9}});
}

TEST_CASE("queries far outside f16's range keep their precision on tensor cores") {
  for (const float size : {1e-30f, 1e-6f, 1e6f, 1e30f}) {
    CAPTURE(size);
    AttentionShape shape{.heads = 2, .kv_heads = 1, .dim = 64, .type = DType::f16};
    shape.scale = 0.125f / size;
    AttentionSequence a(shape, 70, 1);
    for (std::size_t i = 0; i < a.q.size(); ++i) {  // largest elements stand anywhere in a row and differ by much
      a.q[i] *= i % 64 == i / 64 * 13 % 64 ? 8.0f * size : size;
    }
    check(shape, {{&a, 69, 70}, {&a, 0, 40}});
  }
}

TEST_CASE("a query's bits do not depend on how tensor cores come to it") {
  for (const AttentionShape& shape :
       {AttentionShape{.heads = 4, .kv_heads = 2, .dim = 64, .type = DType::f16},
        AttentionShape{.heads = 3, .kv_heads = 1, .dim = 80, .type = DType::bf16, .window = 70, .alibi = true},
        AttentionShape{.heads = 2, .kv_heads = 1, .dim = 96, .type = DType::f16, .softcap = 3.0f},
        AttentionShape{.heads = 1, .kv_heads = 1, .dim = 128, .type = DType::bf16},
        AttentionShape{.heads = 2, .kv_heads = 1, .dim = 256, .type = DType::f16}}) {
    check_company(built_archs().back(), shape, {0, 63, 64, 255, 256, 289});
  }
}

TEST_CASE("attention's tensor-core kernels were run whole, without bank conflicts or wasted sectors") {
  using cuda::Kernel;
  const auto lint = [](DType type, std::initializer_list<Kernel> kernels) {
    for (const int arch : archs_for(type)) {
      for (const Kernel kernel : kernels) {
        const ptxsim::KernelReport found = report(kernel, arch);
        CAPTURE(arch, found.kernel, ptxsim::format_report({found}), found.never_executed);
        CHECK(found.coverage >= 0.95);
        CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
        CHECK(found.sector_use >= 0.95);
      }
    }
  };
  lint(DType::f16, {Kernel::attention_tiles_f16_64, Kernel::attention_spans_f16_64, Kernel::attention_tiles_f16_80,
                    Kernel::attention_spans_f16_80, Kernel::attention_tiles_f16_96, Kernel::attention_spans_f16_96,
                    Kernel::attention_tiles_f16_128, Kernel::attention_spans_f16_128, Kernel::attention_tiles_f16_256,
                    Kernel::attention_spans_f16_256});
  lint(DType::bf16, {Kernel::attention_tiles_bf16_64, Kernel::attention_spans_bf16_64, Kernel::attention_tiles_bf16_80,
                     Kernel::attention_spans_bf16_80, Kernel::attention_tiles_bf16_96, Kernel::attention_spans_bf16_96,
                     Kernel::attention_tiles_bf16_128, Kernel::attention_spans_bf16_128,
                     Kernel::attention_tiles_bf16_256, Kernel::attention_spans_bf16_256});
}
