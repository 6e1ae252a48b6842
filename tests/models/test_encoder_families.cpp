// Encoders beside plain BERT, and rerankers, against what transformers computes (tests/reference/make_encoders.py).
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "base/errors.h"
#include "engine/text/tokenizer.h"
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

std::filesystem::path folder_of(const std::string& name) { return golden_dir() / "encoders" / name; }

float largest(const std::vector<float>& values) {
  float scale = 0;
  for (const float x : values) scale = std::max(scale, std::fabs(x));
  return scale;
}

/// model: the folder of the expected values, or a file made of it.
void check_embedder_files(const std::filesystem::path& path, const Json& expected) {
  INFO(path.string());
  const auto backend = test_backend();
  TestModel model(*backend, path);
  REQUIRE(model.loaded.encoder != nullptr);
  EncoderModel& encoder = *model.loaded.encoder;
  CHECK(encoder.kind() == EncoderKind::embedding);
  const auto tokenizer = load_tokenizer(*model.checkpoint);
  std::vector<std::vector<std::int32_t>> inputs;
  for (const Json& one : expected["embeddings"]) {
    inputs.push_back(ids_of(one["input_ids"]));
    INFO(one["text"].get<std::string>());
    CHECK(tokenizer->encode(MarkedText::untrusted(one["text"].get<std::string>()), true) == inputs.back());
    const auto reference = one["embedding"].get<std::vector<float>>();
    const auto got = encode(*backend, encoder, {inputs.back()}).at(0);
    REQUIRE(got.size() == reference.size());
    CHECK(relative_error(got.data(), reference, largest(reference)) <= 1e-4);
  }
  REQUIRE(inputs.size() > 2);
  const auto together = encode(*backend, encoder, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i) CHECK(together[i] == encode(*backend, encoder, {inputs[i]}).at(0));
}

void check_embedder(const std::string& name, const std::string& suffix = "") {
  check_embedder_files(folder_of(name + suffix), read_golden(folder_of(name) / "expected.json"));
}

void check_reranker_files(const std::filesystem::path& path, const Json& expected, bool pairs,
                          const ModelOptions& options) {
  INFO(path.string());
  const auto backend = test_backend();
  TestModel model(*backend, path, 256, options);
  REQUIRE(model.loaded.encoder != nullptr);
  EncoderModel& encoder = *model.loaded.encoder;
  CHECK(encoder.kind() == EncoderKind::reranker);
  CHECK(encoder.embedding_dim() == 1);
  const auto tokenizer = load_tokenizer(*model.checkpoint);
  std::vector<std::vector<std::int32_t>> inputs, types;
  for (const Json& one : expected["pairs"]) {
    inputs.push_back(ids_of(one["input_ids"]));
    types.push_back(pairs ? ids_of(one["type_ids"]) : std::vector<std::int32_t>(inputs.back().size(), 0));
    if (pairs) {
      const PairEncoding pair = tokenizer->encode_pair(MarkedText::untrusted(one["query"].get<std::string>()),
                                                       MarkedText::untrusted(one["document"].get<std::string>()));
      CHECK(pair.ids == inputs.back());
      CHECK(pair.type_ids == types.back());
    }
    const auto got = encode(*backend, encoder, {inputs.back()}, {types.back()}).at(0);
    REQUIRE(got.size() == 1);
    CHECK(std::fabs(got[0] - one["logit"].get<float>()) <=
          1e-4f * std::max(1.0f, std::fabs(one["logit"].get<float>())));
  }
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    const auto two = encode(*backend, encoder, {inputs[i - 1], inputs[i]}, {types[i - 1], types[i]});
    CHECK(two.at(0) == encode(*backend, encoder, {inputs[i - 1]}, {types[i - 1]}).at(0));
    CHECK(two.at(1) == encode(*backend, encoder, {inputs[i]}, {types[i]}).at(0));
  }
}

void check_reranker(const std::string& name, bool pairs, const ModelOptions& options = {},
                    const std::string& suffix = "") {
  check_reranker_files(folder_of(name + suffix), read_golden(folder_of(name) / "expected.json"), pairs, options);
}

std::filesystem::path qwen3_file(const std::string& name) { return folder_of("qwen3_gguf") / name; }

/// Options with the words' ids, as a server finds them in the model's tokenizer.
ModelOptions with_words(const std::filesystem::path& path) {
  ModelOptions options;
  const auto checkpoint = Checkpoint::open(path);
  const auto tokenizer = load_tokenizer(*checkpoint);
  options.yes_token = tokenizer->encode(MarkedText::untrusted("yes"), false).at(0);
  options.no_token = tokenizer->encode(MarkedText::untrusted("no"), false).at(0);
  return options;
}

TEST_CASE("XLM-RoBERTa counts positions from behind its padding, and reads unigram vocabularies") {
  check_embedder("xlmr");
  const auto backend = test_backend();
  TestModel model(*backend, folder_of("xlmr"));
  CHECK(model.loaded.encoder->max_sequence_tokens() == 128);  // of 130 positions, two are not for text
}

TEST_CASE("encoders with rotary positions and gated MLPs agree with the reference in both layouts") {
  check_embedder("gte");
  check_embedder("nomic");
  check_embedder("nomic_native");
}

TEST_CASE("cross-encoders score pairs as the reference does") {
  check_reranker("bert_rerank", true);
  check_reranker("xlmr_rerank", true);
  check_reranker("gte_rerank", true);
}

TEST_CASE("the same encoders and cross-encoders in GGUF") {
  check_embedder("xlmr", ".gguf");
  check_embedder("nomic", ".gguf");
  check_reranker("xlmr_rerank", true, {}, ".gguf");
  const auto backend = test_backend();
  CHECK(TestModel(*backend, folder_of("xlmr.gguf")).loaded.encoder->max_sequence_tokens() == 128);
}

TEST_CASE("a decoder with a pooling module gives the vectors of its last tokens") {
  check_embedder("qwen3_embedding");
  const auto backend = test_backend();
  TestModel model(*backend, folder_of("qwen3_embedding"));
  CHECK(model.loaded.decoder == nullptr);
  CHECK(model.loaded.encoder->embedding_dim() == 32);
  CHECK(model.loaded.encoder->max_sequence_tokens() == 512);
  CHECK(model.loaded.encoder->normalizes());
}

TEST_CASE("a decoder reranks by the words yes and no, or by a head") {
  check_reranker("qwen3-reranker", false, with_words(folder_of("qwen3-reranker")));
  check_reranker("qwen3_score", false);
  const auto backend = test_backend();
  CHECK_THROWS_AS(TestModel(*backend, folder_of("qwen3-reranker")), CheckpointError);  // the words are not known
}

TEST_CASE("Qwen3-Embedding in GGUF: the last token is the end of text, also where early files say nothing of it") {
  for (const char* name : {"embedding", "embedding_early"}) {
    check_embedder_files(qwen3_file(std::string(name) + ".gguf"),
                         read_golden(qwen3_file(std::string(name) + ".expected.json")));
    const auto backend = test_backend();
    TestModel model(*backend, qwen3_file(std::string(name) + ".gguf"));
    CHECK(model.loaded.decoder == nullptr);
    CHECK(model.loaded.encoder->normalizes());
    CHECK(model.loaded.encoder->max_sequence_tokens() == 512);
  }
}

TEST_CASE("Qwen3-Reranker in GGUF: by the rows of its classifier, or by the words where the file has none") {
  for (const char* name : {"reranker", "reranker_untied"}) {  // the words are not asked of the tokenizer
    check_reranker_files(qwen3_file(std::string(name) + ".gguf"),
                         read_golden(qwen3_file(std::string(name) + ".expected.json")), false, {});
  }
  const auto plain = qwen3_file("reranker_plain.gguf");
  check_reranker_files(plain, read_golden(qwen3_file("reranker_plain.expected.json")), false, with_words(plain));
}

TEST_CASE("a classifier whose labels are not yes and no is refused by name") {
  std::ifstream in(qwen3_file("reranker.gguf"), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::size_t key = bytes.find("qwen3.classifier.output_labels");
  REQUIRE(key != std::string::npos);
  bytes.replace(bytes.find("yes", key), 3, "yea");
  const auto path = std::filesystem::temp_directory_path() / ("inferd-labels-" + std::to_string(::getpid()) + ".gguf");
  std::ofstream(path, std::ios::binary) << bytes;
  std::string message;
  try {
    const auto backend = test_backend();
    TestModel model(*backend, path);
  } catch (const CheckpointError& error) {
    message = error.what();
  }
  std::filesystem::remove(path);
  INFO(message);
  for (const char* part : {"qwen3.classifier.output_labels", "yes and no", "2 labels"}) {
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace
}  // namespace inferd::testing
