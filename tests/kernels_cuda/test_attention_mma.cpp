// Attention over the paged cache on the PTX interpreter, on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_steps.h"

using namespace inferd;
using namespace inferd::cuda::test;

TEST_CASE("tensor-core attention is softmax(q k) v at every context length") { check_contexts(DType::f16, 1, {64}); }

TEST_CASE("tensor-core attention of every head size") {
  for (const DType type : {DType::f16, DType::bf16}) check_heads(type, {64, 80, 96, 128, 256});
}

TEST_CASE("tensor-core attention with a window, ALiBi, a soft cap, a shared prefix, many heads") {
  check_options(DType::f16, {64});
  for (const DType type : {DType::f16, DType::bf16}) check_all_options(type, {64, 80, 96, 128, 256});
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
    check_attention(shape, {{&a, 69, 70}, {&a, 0, 40}});
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
    for (const Kernel kernel : kernels) check_report(type, kernel);
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
