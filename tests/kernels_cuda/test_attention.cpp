// Attention over the paged cache on the PTX interpreter, by plain arithmetic.
#include "kernels/cuda/activation.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_steps.h"

using namespace inferd;
using namespace inferd::cuda::test;

TEST_CASE("attention is softmax(q k) v at every context length") { check_contexts(DType::f32, 2, {8, 48}); }

TEST_CASE("attention of decode rows and prefill chunks in one step") {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const AttentionShape shape{.heads = 6, .kv_heads = 2, .dim = 24, .type = type};
    const AttentionSequence a(shape, 300, 1), b(shape, 40, 2), c(shape, 17, 3);
    check_attention(shape, {{&a, 299, 300}, {&b, 3, 40}, {&c, 16, 17}, {&c, 0, 5}}, 6);
  }
}

TEST_CASE("attention with a window, ALiBi, a soft cap, a shared prefix") {
  const auto mixed = [](const AttentionShape& shape) {
    const AttentionSequence a(shape, 290, 1), b(shape, 70, 2), c(shape, 33, 3);
    check_attention(shape, {{&a, 289, 290}, {&b, 3, 70}, {&c, 0, 33}, {&a, 255, 258}});
  };
  for (const int window : {1, 15, 16, 17, 32, 33, 65, 257}) {
    CAPTURE(window);
    mixed({.heads = 4, .kv_heads = 2, .dim = 16, .window = window});
  }
  mixed({.heads = 4, .kv_heads = 2, .dim = 16, .alibi = true});
  mixed({.heads = 4, .kv_heads = 4, .dim = 16, .softcap = 5.0f, .scale = 1.0f});
  mixed({.heads = 4, .kv_heads = 1, .dim = 16, .window = 40, .softcap = 5.0f, .alibi = true, .prefix = 20});
  for (const int prefix : {1, 31, 32, 33, 60}) mixed({.heads = 2, .kv_heads = 1, .dim = 8, .prefix = prefix});
}

TEST_CASE("attention of wide, narrow and many heads") {
  for (const int dim : {8, 32, 64, 120, 128, 136, 256}) {
    CAPTURE(dim);
    const AttentionShape shape{.heads = 5, .kv_heads = 1, .dim = dim};
    const AttentionSequence a(shape, 70, 1), b(shape, 9, 2);
    check_attention(shape, {{&a, 69, 70}, {&b, 0, 9}});
  }
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const AttentionShape wide{.heads = 5, .kv_heads = 1, .dim = 200, .type = type, .softcap = 20.0f, .alibi = true};
    const AttentionSequence a(wide, 260, 1), b(wide, 9, 2);
    check_attention(wide, {{&a, 259, 260}, {&b, 0, 9}, {&a, 252, 258}});
  }
  const AttentionShape shape{.heads = 40, .kv_heads = 2, .dim = 8};  // more heads in a group than a block has rows
  const AttentionSequence a(shape, 40, 1);
  check_attention(shape, {{&a, 39, 40}, {&a, 0, 5}});
}

TEST_CASE("a query's bits do not depend on the batch, the chunks, the blocks or the workspace") {
  for (const AttentionShape& shape :
       {AttentionShape{.heads = 4, .kv_heads = 2, .dim = 16},
        AttentionShape{.heads = 4, .kv_heads = 2, .dim = 16, .type = DType::bf16, .window = 70, .alibi = true},
        AttentionShape{.heads = 3, .kv_heads = 1, .dim = 24, .type = DType::f16, .softcap = 3.0f}}) {
    check_company(built_archs().front(), shape, {0, 31, 255, 256, 289});
  }
}

TEST_CASE("attention in a step whose maxima are a bucket's") {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .dim = 16};
  const AttentionSequence a(shape, 290, 1), b(shape, 5, 2);
  const std::vector<AttentionChunk> chunks = {{&a, 289, 290}, {&b, 4, 5}, {&b, 0, 5}};
  SimLauncher sim(built_archs().front(), kAttentionWorkspace, 1);
  AttentionStep step(sim, shape, chunks, 1);
  step.batch.max_query_len = 40;
  step.batch.max_context_len = 1500;
  cuda::attention(sim, step.args);
  CHECK(attention_error(shape, chunks, step.output()) <= attention_tolerance(shape.type, shape.dim));
}

TEST_CASE("attention writes an activation") {
  const AttentionShape shape{.heads = 4, .kv_heads = 2, .dim = 8};
  const AttentionSequence a(shape, 290, 1);
  SimLauncher sim(built_archs().front(), kAttentionWorkspace, 1);
  AttentionStep step(sim, shape, {{&a, 289, 290}, {&a, 0, 20}}, 1);
  cuda::attention(sim, step.args);
  const std::vector<float> expected = step.output();
  Activation activation{nullptr, 21, 32, cuda::kF32Form};
  std::size_t bytes = 0;
  cuda::activation_planes(nullptr, 21, 32, cuda::kF32Form, &bytes);
  activation.data = sim.allocate(bytes, "activation");
  step.args.out = {};
  step.args.out_activation = activation;
  cuda::attention(sim, step.args);
  const std::vector<float> found = sim.get<float>(activation.data, 21 * 64);
  for (std::size_t row = 0; row < 21; ++row) {
    for (std::size_t i = 0; i < 64; ++i) REQUIRE(found[row * 64 + i] == (i < 32 ? expected[row * 32 + i] : 0.0f));
  }
}

TEST_CASE("a step without tokens launches nothing") {
  SimLauncher sim(built_archs().front());
  const BatchTensors batch;
  AttentionArgs args;
  args.batch = &batch;
  cuda::attention(sim, args);
}

TEST_CASE("workspace for attention holds the rows and the partials of all sequences") {
  const std::size_t rows = 100 * 4 * 64 * 4, partials = 8 * 3 * 4 * 66 * 4;
  CHECK(cuda::attention_workspace_bytes(100, 8, 600, 4, 64) >= rows + partials);
  CHECK(cuda::attention_workspace_bytes(100, 8, 600, 4, 64) <= rows + partials + 1024);
}

TEST_CASE("attention's plain kernels were run whole") {
  for (const cuda::Kernel kernel : {cuda::Kernel::attention_fma_f32, cuda::Kernel::attention_fma_f16,
                                    cuda::Kernel::attention_fma_bf16, cuda::Kernel::attention_combine}) {
    CHECK(uncovered(kernel) == "");
  }
}
