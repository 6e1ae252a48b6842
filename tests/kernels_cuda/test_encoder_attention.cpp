// Attention inside the sequences of a batch on the PTX interpreter.
#include "kernels/cuda/activation.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_case.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

/// Whole sequences in one step; returns [T, heads * dim].
std::vector<float> encode(SimLauncher& sim, const AttentionShape& shape,
                          const std::vector<const AttentionSequence*>& sequences, bool activation = false) {
  BatchTensors batch;
  std::vector<std::int32_t> starts = {0};
  std::vector<float> qkv;
  const int width = shape.heads * shape.dim;
  for (const AttentionSequence* s : sequences) {
    for (int token = 0; token < s->length; ++token) {
      for (const std::vector<float>* part : {&s->q, &s->k, &s->v}) {
        qkv.insert(qkv.end(), part->begin() + static_cast<std::ptrdiff_t>(token) * width,
                   part->begin() + static_cast<std::ptrdiff_t>(token + 1) * width);
      }
    }
    batch.num_tokens += s->length;
    batch.max_query_len = std::max(batch.max_query_len, s->length);
    starts.push_back(batch.num_tokens);
  }
  batch.num_sequences = static_cast<std::int32_t>(sequences.size());
  batch.query_starts = sim.put(starts, DType::i32, {batch.num_sequences + 1}, "query_starts");
  EncoderAttentionArgs args;
  args.qkv = sim.put(qkv, DType::f32, {batch.num_tokens, 3 * width}, "qkv");
  args.num_heads = shape.heads;
  args.head_dim = shape.dim;
  args.batch = &batch;
  args.scale = shape.scale_or_default();
  if (activation) {  // f32 rows; width must be a multiple of 64
    args.out_activation = {nullptr, batch.num_tokens, width, cuda::kF32Form};
    std::size_t bytes = 0;
    cuda::activation_planes(nullptr, batch.num_tokens, width, cuda::kF32Form, &bytes);
    args.out_activation.data = sim.allocate(bytes, "activation");
    cuda::encoder_attention(sim, args);
    return sim.get<float>(args.out_activation.data, static_cast<std::size_t>(batch.num_tokens) * width);
  }
  args.out = sim.output(DType::f32, {batch.num_tokens, width}, "out");
  cuda::encoder_attention(sim, args);
  return sim.get<float>(args.out.data, static_cast<std::size_t>(batch.num_tokens) * width);
}

AttentionShape shape_of(int heads, int dim) {
  return {.heads = heads, .kv_heads = heads, .dim = dim, .prefix = 1 << 20};  // all keys are seen by all queries
}

}  // namespace

TEST_CASE("encoder_attention is softmax(q k) v over the whole sequence") {
  for (const int dim : {8, 32, 64, 256}) {
    const AttentionShape shape = shape_of(dim < 256 ? 2 : 1, dim);
    for (const int length : {1, 15, 16, 17, 31, 32, 33, 270}) {
      if (length > 64 && dim != 8 && dim != 256) continue;
      CAPTURE(dim, length);
      const AttentionSequence a(shape, length, 1), b(shape, 3, 2);
      for (const int arch : built_archs()) {
        SimLauncher sim(arch, 0, length < 32 ? 6 : 1);
        CHECK(attention_error(shape, {{&b, 0, 3}, {&a, 0, length}}, encode(sim, shape, {&b, &a})) <= 3e-5);
      }
    }
  }
}

TEST_CASE("encoder_attention of a sequence has the same bits in any batch") {
  const AttentionShape shape = shape_of(3, 32);
  const AttentionSequence a(shape, 50, 1), b(shape, 77, 2);
  for (const int arch : built_archs()) {
    SimLauncher sim(arch);
    const std::vector<float> alone = encode(sim, shape, {&a});
    const std::vector<float> together = encode(sim, shape, {&b, &a});
    CHECK(std::equal(alone.begin(), alone.end(), together.begin() + 77 * 3 * 32));
  }
}

TEST_CASE("encoder_attention writes an activation") {
  const AttentionShape shape = shape_of(2, 32);
  const AttentionSequence a(shape, 20, 1);
  SimLauncher sim(built_archs().front(), std::size_t{1} << 16, 1);
  CHECK(encode(sim, shape, {&a}, true) == encode(sim, shape, {&a}));
}

TEST_CASE("a step without tokens launches nothing") {
  SimLauncher sim(built_archs().front());
  const BatchTensors batch;
  EncoderAttentionArgs args;
  args.batch = &batch;
  cuda::encoder_attention(sim, args);
}

TEST_CASE("faults in encoder_attention are noticed") {
  struct Step {
    AttentionShape shape;
    AttentionSequence a, b;
    std::vector<double> expected;
    Step(int dim, int length) : shape(shape_of(2, dim)), a(shape, length, 1), b(shape, 3, 2) {
      for (const auto& [sequence, tokens] : {std::pair(&b, 3), std::pair(&a, length)}) {
        for (int token = 0; token < tokens; ++token) {
          const std::vector<double> row = attention_reference(shape, *sequence, token, tokens);
          expected.insert(expected.end(), row.begin(), row.end());
        }
      }
    }
    bool is_right() const {
      SimLauncher sim(mutant_arch(), 0, 1);
      const std::vector<float> out = encode(sim, shape, {&b, &a});
      return std::equal(out.begin(), out.end(), expected.begin(), expected.end(),
                        [](float found, double wanted) { return std::fabs(found - wanted) <= 3e-5; });
    }
  };
  std::vector<Step> steps;
  // Loops over columns take one to four turns and more.
  for (const auto& [dim, length] : {std::pair(8, 1), {8, 17}, {72, 5}, {136, 33}, {256, 15}, {8, 64}, {8, 270}}) {
    steps.emplace_back(dim, length);
  }
  const auto is_right = [&] {
    return std::all_of(steps.begin(), steps.end(), [](const Step& step) { return step.is_right(); });
  };
  CHECK(unlisted_mutants("attention", {{cuda::Kernel::encoder_attention_fma, is_right}}) == "");
}

TEST_CASE("encoder_attention was run whole") { CHECK(uncovered(cuda::Kernel::encoder_attention_fma) == ""); }
