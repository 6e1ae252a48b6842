// BERT encoders of both formats against golden vectors, and batching.
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

/// Embeddings of one expected.json, each alone and all in one batch. `normalized`: the reference vectors, normalised.
void check_embeddings(const std::filesystem::path& path, const Json& expected, bool normalized) {
  INFO(path.string());
  const auto backend = test_backend();
  TestModel model(*backend, path);
  REQUIRE(model.loaded.encoder != nullptr);
  EncoderModel& encoder = *model.loaded.encoder;
  std::vector<std::vector<std::int32_t>> inputs;
  for (const Json& one : expected["embeddings"]) {
    inputs.push_back(ids_of(one["input_ids"]));
    REQUIRE(static_cast<std::int64_t>(inputs.back().size()) <= encoder.max_sequence_tokens());
    std::vector<float> reference = one["embedding"].get<std::vector<float>>();
    if (normalized) {
      double square = 0;
      for (float x : reference) square += static_cast<double>(x) * x;
      for (float& x : reference) x = static_cast<float>(x / std::sqrt(square));
    }
    const std::vector<float> got = encode(*backend, encoder, {inputs.back()}).at(0);
    REQUIRE(got.size() == reference.size());
    CHECK(cosine(got, reference) > 0.999999);
    float scale = 0;
    for (float x : reference) scale = std::max(scale, std::fabs(x));
    CHECK(relative_error(got.data(), reference, scale) <= 2e-3);
  }
  REQUIRE(inputs.size() > 2);
  const auto together = encode(*backend, encoder, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) CHECK(together[i] == encode(*backend, encoder, {inputs[i]}).at(0));
}

TEST_CASE("BERT folders agree with the reference and say how they pool") {
  for (const char* name : {"bert", "bert_cls"}) {
    const auto folder = golden_dir() / "models" / name;
    const Json expected = read_golden(folder / "expected.json");
    check_embeddings(folder, expected, false);
    const auto backend = test_backend();
    TestModel model(*backend, folder);
    CHECK(model.loaded.encoder->max_sequence_tokens() == expected["max_seq_length"].get<std::int64_t>());
    CHECK(model.loaded.encoder->embedding_dim() == model.config.hidden_size);
    CHECK(model.loaded.encoder->info().family == "bert");
    CHECK(model.loaded.decoder == nullptr);
  }
}

TEST_CASE("a BERT GGUF agrees with the reference") {
  check_embeddings(golden_dir() / "gguf/bert.f16.gguf", read_golden(golden_dir() / "models/bert/expected.json"), true);
}

TEST_CASE("default activations keep sentence vectors close") {
  const auto backend = test_backend(ActivationMode::automatic);
  TestModel model(*backend, golden_dir() / "models/bert");
  const Json golden = read_golden(golden_dir() / "models/bert/expected.json");
  for (const Json& one : golden["embeddings"]) {
    const std::vector<float> got = encode(*backend, *model.loaded.encoder, {ids_of(one["input_ids"])}).at(0);
    CHECK(cosine(got, one["embedding"].get<std::vector<float>>()) > 0.99);
  }
}

}  // namespace
}  // namespace inferd::testing
