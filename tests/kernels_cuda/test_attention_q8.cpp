// Attention over a q8_0 cache on the PTX interpreter: by plain arithmetic, and on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_company.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

/// Plain arithmetic takes code * scale as it is. Tensor cores round it to f16, as they do queries and weights, by 2^-11
/// at most: twice what f16 pages cost a score (2e-3 in all), and once more for values.
double tolerance(int dim) { return dim == 64 || dim == 128 || dim == 256 ? 4e-3 : 3e-5; }

void check(const AttentionShape& shape, const std::vector<AttentionChunk>& chunks, int schedules = 1) {
  for (const int arch : built_archs()) {
    CAPTURE(arch, shape.dim, shape.window, shape.prefix);
    SimLauncher sim(arch, kAttentionWorkspace, schedules);
    CHECK(attention_error(shape, chunks, attend(sim, shape, chunks)) <= tolerance(shape.dim));
  }
}

}  // namespace

TEST_CASE("attention over q8_0 is softmax(q k) v at every context length") {
  for (const int dim : {32, 64}) {
    const AttentionShape shape{.heads = 4, .kv_heads = 2, .dim = dim, .type = DType::q8_0};
    for (const int context : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 600}) {
      CAPTURE(context);
      const AttentionSequence sequence(shape, context, static_cast<unsigned>(context));
      const int schedules = context < 300 && dim == 64 ? 2 : 1;
      check(shape, {{&sequence, context - 1, context}}, schedules);
      if (context < 300) check(shape, {{&sequence, std::max(0, context - 20), context}}, schedules);
    }
  }
}

TEST_CASE("attention over q8_0 of every head size, decode rows and prefill chunks in one step") {
  for (const int dim : {32, 64, 96, 128, 160, 192, 224, 256}) {
    const AttentionShape shape{.heads = 6, .kv_heads = 2, .dim = dim, .type = DType::q8_0};
    const AttentionSequence a(shape, 70, 1), b(shape, 40, 2);
    check(shape, {{&a, 69, 70}, {&b, 5, 40}, {&a, 60, 63}}, dim == 64 || dim == 256 ? 6 : 2);
  }
}

TEST_CASE("attention over q8_0 with a window, ALiBi, a soft cap, a shared prefix, many heads") {
  const auto mixed = [](const AttentionShape& shape) {
    const AttentionSequence a(shape, 290, 1), b(shape, 90, 2), c(shape, 33, 3);
    check(shape, {{&a, 289, 290}, {&b, 3, 90}, {&c, 0, 33}, {&a, 254, 258}});
  };
  for (const int window : {1, 16, 17, 63, 64, 65, 257}) {
    mixed({.heads = 2, .kv_heads = 2, .dim = 64, .type = DType::q8_0, .window = window});
  }
  for (const int dim : {32, 64}) {
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = DType::q8_0, .softcap = 5.0f});
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = DType::q8_0, .alibi = true});
    for (const int prefix : {1, 63, 64, 65, 80}) {
      mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = DType::q8_0, .prefix = prefix});
    }
  }
  for (const int dim : {96, 128, 224, 256}) {
    const AttentionShape shape{.heads = 5,
                               .kv_heads = 1,
                               .dim = dim,
                               .type = DType::q8_0,
                               .window = 200,
                               .softcap = 5.0f,
                               .alibi = true,
                               .prefix = 20};
    const AttentionSequence a(shape, 300, 1), b(shape, 30, 2);
    check(shape, {{&a, 299, 300}, {&b, 3, 30}, {&a, 250, 258}});
  }
  const AttentionShape many{.heads = 40, .kv_heads = 2, .dim = 64, .type = DType::q8_0};  // more than an mma has rows
  const AttentionSequence a(many, 40, 1);
  check(many, {{&a, 39, 40}, {&a, 0, 9}});
}

TEST_CASE("runs of a q8_0 row have scales of their own, down to the smallest and to zero") {
  for (const int dim : {64, 96}) {
    AttentionShape shape{.heads = 2, .kv_heads = 1, .dim = dim, .type = DType::q8_0};
    AttentionSequence a(shape, 70, 1);
    for (std::size_t run = 0; run < a.k.size() / 32; ++run) {
      const float size = run % 7 == 0 ? 0.0f : run % 7 == 1 ? 1e-6f : run % 7 == 2 ? 1e-3f : 1.0f;
      for (std::size_t i = run * 32; i < run * 32 + 32; ++i) {
        a.k[i] *= size;
        a.v[i] *= size;
      }
    }
    round_as_stored(a.k, DType::q8_0);
    round_as_stored(a.v, DType::q8_0);
    check(shape, {{&a, 69, 70}, {&a, 0, 40}});
  }
}

TEST_CASE("a query's bits over q8_0 do not depend on the batch, the chunks, the blocks or the workspace") {
  for (const AttentionShape& shape :
       {AttentionShape{.heads = 4, .kv_heads = 2, .dim = 32, .type = DType::q8_0, .window = 70, .alibi = true},
        AttentionShape{.heads = 4, .kv_heads = 2, .dim = 64, .type = DType::q8_0},
        AttentionShape{.heads = 2, .kv_heads = 1, .dim = 128, .type = DType::q8_0, .softcap = 3.0f},
        AttentionShape{.heads = 1, .kv_heads = 1, .dim = 256, .type = DType::q8_0, .window = 70}}) {
    check_company(built_archs().back(), shape, {0, 63, 64, 255, 256, 289});
  }
}

TEST_CASE("decoding over q8_0 takes few warp instructions for a byte of the cache") {
  using cuda::Kernel;
  constexpr int kContext = 1024;
  const struct {
    int dim;
    Kernel kernel;
    double most;
  } lints[] = {{64, Kernel::attention_spans_q8_0_64, 0.40},
               {128, Kernel::attention_spans_q8_0_128, 0.32},
               {256, Kernel::attention_spans_q8_0_256, 0.28}};
  for (const auto& lint : lints) {
    const AttentionShape shape{.heads = 8, .kv_heads = 1, .dim = lint.dim, .type = DType::q8_0};
    const AttentionSequence sequence(shape, kContext, 1);
    for (const int arch : built_archs()) {
      SimLauncher sim(arch, kAttentionWorkspace, 1);
      const auto before = report(lint.kernel, arch).instructions;
      attend(sim, shape, {{&sequence, kContext - 1, kContext}});
      const auto taken = static_cast<double>(report(lint.kernel, arch).instructions - before);
      const double per_byte = taken / static_cast<double>(2 * row_bytes(DType::q8_0, kContext * lint.dim));
      CAPTURE(arch, lint.dim);
      CHECK(per_byte <= lint.most);
    }
  }
}

TEST_CASE("attention's q8_0 kernels were run whole, without bank conflicts or wasted sectors") {
  using cuda::Kernel;
  CHECK(uncovered(Kernel::attention_fma_q8_0) == "");
  for (const int arch : built_archs()) {
    for (const Kernel kernel :
         {Kernel::attention_tiles_q8_0_64, Kernel::attention_spans_q8_0_64, Kernel::attention_tiles_q8_0_128,
          Kernel::attention_spans_q8_0_128, Kernel::attention_tiles_q8_0_256, Kernel::attention_spans_q8_0_256}) {
      const ptxsim::KernelReport found = report(kernel, arch);
      CAPTURE(arch, found.kernel, ptxsim::format_report({found}), found.never_executed);
      CHECK(found.coverage >= 0.95);
      CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
      CHECK(found.sector_use >= 0.95);
    }
  }
}
