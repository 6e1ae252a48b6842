// Attention over a q8_0 cache on the PTX interpreter: by plain arithmetic, and on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_steps.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::cuda::Kernel;

TEST_CASE("attention over q8_0 is softmax(q k) v at every context length") { check_contexts(DType::q8_0, 2, {32, 64}); }

TEST_CASE("attention over q8_0 of every head size, decode rows and prefill chunks in one step") {
  check_heads(DType::q8_0, {32, 64, 96, 128, 160, 192, 224, 256});
}

TEST_CASE("attention over q8_0 with a window, ALiBi, a soft cap, a shared prefix, many heads") {
  check_options(DType::q8_0, {32, 64});
  check_all_options(DType::q8_0, {96, 128, 224, 256});
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
    round_as_stored(a.k, DType::q8_0, dim);
    round_as_stored(a.v, DType::q8_0, dim);
    check_attention(shape, {{&a, 69, 70}, {&a, 0, 40}});
  }
}

TEST_CASE("a query's bits over q8_0 do not depend on the batch, the chunks, the blocks or the workspace") {
  check_codes_company(DType::q8_0, 32);
}

TEST_CASE("decoding over q8_0 takes few warp instructions for a byte of the cache") {
  for (const int arch : built_archs()) {
    check_codes_lint(DType::q8_0, arch, {64, Kernel::attention_spans_q8_0_64, 0.40});
    check_codes_lint(DType::q8_0, arch, {128, Kernel::attention_spans_q8_0_128, 0.32});
    check_codes_lint(DType::q8_0, arch, {256, Kernel::attention_spans_q8_0_256, 0.28});
  }
}

TEST_CASE("attention's q8_0 kernels were run whole, without bank conflicts or wasted sectors") {
  CHECK(uncovered(Kernel::attention_fma_q8_0) == "");
  for (const Kernel kernel :
       {Kernel::attention_tiles_q8_0_64, Kernel::attention_spans_q8_0_64, Kernel::attention_tiles_q8_0_128,
        Kernel::attention_spans_q8_0_128, Kernel::attention_tiles_q8_0_256, Kernel::attention_spans_q8_0_256}) {
    check_report(DType::q8_0, kernel);
  }
}
