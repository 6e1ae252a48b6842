// Golden encoders on the CUDA backend: vectors, pooling, heads, batches.
#include "tests/catch.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

double scale_of(const std::vector<float>& row) {
  double scale = 0;
  for (const float x : row) scale = std::max(scale, std::fabs(static_cast<double>(x)));
  return scale;
}

/// In a folder, or beside a file.
Json expected_of(std::filesystem::path path) {
  return read_golden(path.extension() == ".gguf" ? path.replace_extension("expected.json") : path / "expected.json");
}

/// The vectors of an expected.json, each input alone; then all in one batch, to the same bits.
void check_vectors(Backend& backend, const std::filesystem::path& path, double bar) {
  INFO(path.string());
  TestModel model(backend, path);
  REQUIRE(model.loaded.encoder != nullptr);
  const Json expected = expected_of(path);
  std::vector<std::vector<std::int32_t>> inputs;
  std::vector<std::vector<float>> alone;
  for (const Json& one : expected["embeddings"]) {
    inputs.push_back(ids_of(one["input_ids"]));
    const auto reference = one["embedding"].get<std::vector<float>>();
    alone.push_back(encode(backend, *model.loaded.encoder, {inputs.back()}).at(0));
    REQUIRE(alone.back().size() == reference.size());
    CHECK(relative_error(alone.back().data(), reference, scale_of(reference)) <= bar);
  }
  REQUIRE(inputs.size() > 2);
  CHECK(encode(backend, *model.loaded.encoder, inputs) == alone);
}

/// Logits of pairs, alone and two at a time.
void check_scores(Backend& backend, const std::filesystem::path& path, double bar) {
  INFO(path.string());
  TestModel model(backend, path);
  REQUIRE(model.loaded.encoder != nullptr);
  const auto score = [&](std::initializer_list<Json> pairs) {
    std::vector<std::vector<std::int32_t>> inputs, types;
    for (const Json& one : pairs) {
      inputs.push_back(ids_of(one["input_ids"]));
      types.push_back(one.contains("type_ids") ? ids_of(one["type_ids"])
                                               : std::vector<std::int32_t>(inputs.back().size(), 0));
    }
    return encode(backend, *model.loaded.encoder, inputs, types);
  };
  const Json expected = expected_of(path);
  for (const Json& one : expected["pairs"]) {
    const double logit = one["logit"].get<double>();
    CHECK(std::fabs(score({one}).at(0).at(0) - logit) <= bar * std::max(1.0, std::fabs(logit)));
  }
  const Json &first = expected["pairs"][0], &second = expected["pairs"][1];
  const auto both = score({first, second});
  CHECK(both.at(0) == score({first}).at(0));
  CHECK(both.at(1) == score({second}).at(0));
}

TEST_CASE("encoders of every family agree with the reference, alone and in a batch") {
  cuda::test::use_fake_gpu("arch=90,eager=1");
  for (const auto& [mode, bar] : {std::pair{ActivationMode::f32, 2e-3}, {ActivationMode::automatic, 5e-2}}) {
    const auto backend = make_cuda_backend({.activations = mode});
    for (const char* name : {"models/bert", "models/bert_cls", "encoders/xlmr", "encoders/gte", "encoders/nomic",
                             "encoders/qwen3_embedding", "encoders/qwen3_gguf/embedding.gguf"}) {
      check_vectors(*backend, golden_dir() / name, bar);
    }
    for (const char* name : {"bert_rerank", "gte_rerank", "qwen3_score", "qwen3_gguf/reranker_untied.gguf"}) {
      check_scores(*backend, golden_dir() / "encoders" / name, bar);
    }
  }
}

}  // namespace
}  // namespace inferd::testing
