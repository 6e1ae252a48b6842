// Every family takes quantised weights: it loads, and answers near its unquantised self.
#include <numeric>

#include "base/log.h"
#include "engine/fidelity/kl_divergence.h"
#include "engine/fidelity/teacher_forced.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "tests/weights/test_support.h"

using namespace inferd;
using inferd::test::golden;

namespace {

constexpr std::size_t kTokens = 24;

struct Loaded {
  Loaded(const Checkpoint& checkpoint, Backend& backend) {
    ModelOptions options;
    options.max_batch_tokens = options.max_logit_rows = kTeacherChunk;
    model = load_model(checkpoint, read_model_config(checkpoint), backend, options);
  }
  LoadedModel model;
};

std::vector<float> logits_of(Model& model, Backend& backend) {
  std::vector<TokenId> tokens(kTokens);
  for (std::size_t i = 0; i < kTokens; ++i) tokens[i] = static_cast<TokenId>(i * 29 % 200 + 3);
  std::vector<float> out;
  TeacherForced(model, backend).run(tokens, [&](std::size_t, std::span<const float> row) {
    out.insert(out.end(), row.begin(), row.end());
  });
  return out;
}

/// Mean KL of the model from what its files say, quantised to `to`; -1 where there is nothing to compare.
double cost(const std::string& model, LoadQuantization to) {
  spdlog::set_level(spdlog::level::off);
  const auto backend = make_cpu_backend({.threads = 2});
  auto checkpoint = Checkpoint::open(golden(model));
  const Loaded before(*checkpoint, *backend);
  checkpoint = quantize_checkpoint(std::move(checkpoint), {.to = to, .threads = 2, .model = model});
  const Loaded after(*checkpoint, *backend);
  REQUIRE((before.model.decoder == nullptr) == (after.model.decoder == nullptr));
  if (before.model.decoder == nullptr || before.model.decoder->longest_context() > 0) return -1;
  CHECK(after.model.decoder->info().quantization.find(" from ") != std::string::npos);
  const std::vector<float> p = logits_of(*before.model.decoder, *backend),
                           q = logits_of(*after.model.decoder, *backend);
  REQUIRE(p.size() == q.size());
  const std::size_t vocabulary = p.size() / kTokens;
  double kl = 0;
  for (std::size_t i = 0; i < kTokens; ++i) {
    kl += kl_divergence({p.data() + i * vocabulary, vocabulary}, {q.data() + i * vocabulary, vocabulary});
  }
  return kl / kTokens;
}

}  // namespace

TEST_CASE("decoders of every family answer as before at 8 bits, and nearly so at 4") {
  for (const char* model : {"models/llama2", "models/llama3", "models/qwen1", "models/qwen2", "models/qwen3",
                            "models/qwen2_moe", "models/qwen3_moe", "models/chatglm2", "models/chatglm3", "models/glm4",
                            "models/bloom", "gguf/qwen2_moe.bf16.gguf", "gguf/qwen3_moe.bf16.gguf"}) {
    CAPTURE(model);
    const double int8 = cost(model, LoadQuantization::int8), int4 = cost(model, LoadQuantization::int4);
    CAPTURE(int8);
    CAPTURE(int4);
    CHECK(int8 > 0);
    CHECK(int8 < 0.01);
    CHECK(int4 > int8);
    CHECK(int4 < 0.5);
  }
}

TEST_CASE("ChatGLM-6B and encoders load quantised") {
  for (const char* model : {"models/chatglm1", "models/bert"}) {
    CAPTURE(model);
    CHECK(cost(model, LoadQuantization::int4) == -1);
  }
}
