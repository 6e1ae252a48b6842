// Broken and hostile tokenizer files: refused with a CheckpointError, or harmless.
#include <cmath>
#include <cstring>
#include <random>

#include "base/errors.h"
#include "tests/catch.h"
#include "tests/text/tokenizer_cases.h"
#include "tests/weights/gguf_builder.h"

using namespace inferd;
using namespace inferd::test;

namespace {

std::unique_ptr<Tokenizer> from_json(const std::string& text) {
  return load_tokenizer(MemoryCheckpoint({{"tokenizer.json", text}}));
}

std::string with_model(const std::string& model, const std::string& rest = "") {
  return R"({"added_tokens": [], "model": )" + model + rest + "}";
}

std::unique_ptr<Tokenizer> from_gguf(const GgufBuilder& builder) {
  const std::string bytes = builder.build();
  return load_tokenizer(MemoryCheckpoint(std::as_bytes(std::span(bytes.data(), bytes.size()))));
}

void use(const Tokenizer& tokenizer) {
  for (const char* text : {"", "hello world 123", "你好\n\n🙂", "<s>a</s>"}) {
    const auto ids = tokenizer.encode(MarkedText::trusted(text), true);
    (void)tokenizer.decode(ids, false);
    (void)tokenizer.encode_pair(MarkedText::untrusted(text), MarkedText::trusted(text));
  }
}

GgufBuilder byte_level() {
  GgufBuilder builder;
  builder.text("general.architecture", "llama")
      .text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "gpt-2");
  return builder;
}

}  // namespace

TEST_CASE("malformed tokenizer.json files are refused") {
  const char* bad[] = {
      "",
      "null",
      "[]",
      "{",
      "{}",
      R"({"model": null})",
      R"({"model": []})",
      R"({"model": {"type": "WordLevel", "vocab": {}}})",
      R"({"model": {"type": "BPE"}})",
      R"({"model": {"type": "BPE", "vocab": {}}})",
      R"({"model": {"type": "BPE", "vocab": [1]}})",
      R"({"model": {"type": "BPE", "vocab": {"a": -1}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 4194304}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 18446744073709551615}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 1.5}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": "0"}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"]}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["aa"]}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [1]}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": {}}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "end_of_word_suffix": "</w>"}})",
      R"({"model": {"type": "BPE", "vocab": {"a": 0}, "byte_fallback": "yes"}})",
      R"({"model": {"type": "Unigram", "vocab": {}}})",
      R"({"model": {"type": "Unigram", "vocab": [["a"]]}})",
      R"({"model": {"type": "Unigram", "vocab": [["a", "b"]]}})",
      R"({"model": {"type": "Unigram", "vocab": [["a", 1e300]]}})",
      R"({"model": {"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1}})",
      R"({"model": {"type": "WordPiece", "vocab": {"a": 0}, "max_input_chars_per_word": -1}})",
  };
  for (const char* text : bad) {
    CAPTURE(text);
    CHECK_THROWS_AS(from_json(text), CheckpointError);
  }
}

TEST_CASE("unknown or broken components are refused by name") {
  const std::string model = R"({"type": "BPE", "vocab": {"a": 0}, "merges": []})";
  const char* bad[] = {
      R"(, "normalizer": {"type": "Nonsense"})",
      R"(, "normalizer": {})",
      R"(, "normalizer": [])",
      R"(, "normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""})",
      R"(, "normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "x"})",
      R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "!!!"})",
      R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAAAAA="})",
      R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "//////////8="})",
      R"(, "normalizer": {"type": "Sequence"})",
      R"(, "pre_tokenizer": {"type": "UnicodeScripts"})",
      R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a"}, "behavior": "Isolated"})",
      R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"})",
      R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Sideways"})",
      R"(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\C"}, "behavior": "Isolated"})",
      R"(, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}, {"type": "Digits"}]})",
      R"(, "decoder": {"type": "CTC"})",
      R"(, "decoder": {"type": "Strip", "content": " ", "start": 5, "stop": 0})",
      R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]})",
      R"(, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "a", "type_id": 0}}], "special_tokens": {"a": {"ids": [99]}}})",
      R"(, "post_processor": {"type": "TemplateProcessing", "pair": [{"SpecialToken": {"id": "a", "type_id": 0}}], "special_tokens": {"a": {"ids": [99]}}})",
      R"(, "post_processor": {"type": "BertProcessing", "sep": ["x", -5], "cls": ["y", 0]})",
      R"(, "post_processor": {"type": "Other"})",
  };
  for (const char* rest : bad) {
    CAPTURE(rest);
    CHECK_THROWS_AS(from_json(with_model(model, rest)), CheckpointError);
  }
  const char* bad_tokens[] = {R"([{"content": "x"}])",
                              R"([{"id": -1, "content": "x"}])",
                              R"([{"id": 4194304, "content": "x"}])",
                              R"([{"id": 0, "content": "x"}])",
                              R"([{"id": 1, "content": 5}])",
                              R"([5])",
                              R"({})"};
  for (const char* tokens : bad_tokens) {
    CAPTURE(tokens);
    CHECK_THROWS_AS(from_json(R"({"model": )" + model + R"(, "added_tokens": )" + tokens + "}"), CheckpointError);
  }
  CHECK_NOTHROW(from_json(with_model(model)));
}

TEST_CASE("a pattern that backtracks without end is stopped") {
  const auto tokenizer = from_json(with_model(
      R"({"type": "BPE", "vocab": {"a": 0}, "merges": []})",
      R"x(, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+(a+)+(a+)+(a+)+$(?<=b)"}, "behavior": "Isolated"})x"));
  CHECK_THROWS_AS(tokenizer->encode(MarkedText::untrusted(std::string(5000, 'a') + "b c"), false), std::runtime_error);
  CHECK_NOTHROW(tokenizer->encode(MarkedText::untrusted("short"), false));
}

TEST_CASE("mutated tokenizer.json files load or are refused, and never crash") {
  std::mt19937 rng(17);
  int refused = 0;
  for (const char* name : {"llama2", "llama3", "bert"}) {
    const std::string text = read_text(source_path(std::string("tests/golden/models/") + name + "/tokenizer.json"));
    for (int round = 0; round < 150; ++round) {
      std::string mutated = text;
      for (unsigned n = 1 + rng() % 6; n > 0; --n) {
        const std::size_t at = rng() % mutated.size();
        switch (rng() % 4) {
          case 0:
            mutated[at] = static_cast<char>(rng());
            break;
          case 1:
            mutated.erase(at, rng() % 20);
            break;
          case 2:
            mutated.insert(at, mutated.substr(rng() % mutated.size(), rng() % 30));
            break;
          default:
            mutated[at] = "0123456789-\"[]{},:"[rng() % 18];
            break;
        }
      }
      try {
        use(*from_json(mutated));
      } catch (const CheckpointError&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 50);
}

TEST_CASE("mutated and truncated SentencePiece files load or are refused, and never crash") {
  std::mt19937 rng(19);
  int refused = 0;
  for (const char* name : {"bpe_fallback", "bpe_plain", "unigram_nfkc", "unigram_fallback"}) {
    const std::string bytes = read_text(source_path(std::string("tests/golden/spm/") + name + ".model"));
    for (int round = 0; round < 60; ++round) {
      std::string mutated = bytes;
      if (round % 3 == 0) mutated.resize(rng() % mutated.size());
      for (unsigned n = 1 + rng() % 8; n > 0 && !mutated.empty(); --n)
        mutated[rng() % mutated.size()] = static_cast<char>(rng());
      try {
        use(*load_tokenizer(MemoryCheckpoint({{"tokenizer.model", mutated}})));
      } catch (const CheckpointError&) {
        ++refused;
      }
    }
  }
  CHECK(refused > 40);
}

TEST_CASE("malformed protobuf is refused") {
  const std::string bad[] = {"",
                             std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11),  // a length of 2^64 - 1
                             std::string("\x0a\x05\x0a\x03"
                                         "ab",
                                         6),                                                   // truncated piece
                             std::string("\x0b\x00", 2),                                       // group
                             std::string("\x00\x00", 2),                                       // field 0
                             std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11),  // endless number
                             std::string("\x0a\x05\x0a\x01"
                                         "a\x18\x09",
                                         7),  // type 9
                             std::string("\x0a\x08\x0a\x01"
                                         "a\x15\x00\x00\xc0\x7f",
                                         10),                          // score NaN
                             std::string("\x0a\x03\x0a\x01\xff", 5)};  // not UTF-8
  for (const std::string& bytes : bad) {
    CAPTURE(shown(bytes));
    CHECK_THROWS_AS(load_tokenizer(MemoryCheckpoint({{"tokenizer.model", bytes}})), CheckpointError);
  }
}

TEST_CASE("GGUF vocabularies that contradict themselves are refused") {
  const std::vector<std::string> tokens = {"a", "b", "ab", "<s>"};
  CHECK_NOTHROW(
      use(*from_gguf(byte_level().strings("tokenizer.ggml.tokens", tokens).strings("tokenizer.ggml.merges", {"a b"}))));
  // Names the pre-tokenizer that is not known.
  try {
    from_gguf(GgufBuilder()
                  .text("tokenizer.ggml.model", "gpt2")
                  .text("tokenizer.ggml.pre", "mystery-bpe")
                  .strings("tokenizer.ggml.tokens", tokens)
                  .strings("tokenizer.ggml.merges", {"a b"}));
    FAIL("accepted");
  } catch (const CheckpointError& error) {
    CHECK(std::string(error.what()).find("mystery-bpe") != std::string::npos);
  }
  const auto refuse = [](GgufBuilder builder) { CHECK_THROWS_AS(from_gguf(builder), CheckpointError); };
  refuse(GgufBuilder());
  refuse(byte_level());
  refuse(byte_level().strings("tokenizer.ggml.tokens", {}));
  refuse(byte_level().strings("tokenizer.ggml.tokens", tokens));  // no merges
  refuse(byte_level().strings("tokenizer.ggml.tokens", tokens).strings("tokenizer.ggml.merges", {"a"}));
  refuse(byte_level().strings("tokenizer.ggml.tokens", tokens).strings("tokenizer.ggml.merges", {""}));
  refuse(byte_level().strings("tokenizer.ggml.tokens", tokens).strings("tokenizer.ggml.merges", {"b a"}));
  refuse(byte_level()
             .strings("tokenizer.ggml.tokens", tokens)
             .strings("tokenizer.ggml.merges", {"a b"})
             .u32("tokenizer.ggml.eos_token_id", 4));
  refuse(byte_level()
             .strings("tokenizer.ggml.tokens", tokens)
             .strings("tokenizer.ggml.merges", {"a b"})
             .array<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1}));
  refuse(byte_level()
             .strings("tokenizer.ggml.tokens", tokens)
             .strings("tokenizer.ggml.merges", {"a b"})
             .array<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 77}));
  refuse(byte_level().u32("tokenizer.ggml.tokens", 5));
  refuse(GgufBuilder().text("tokenizer.ggml.model", "rwkv").strings("tokenizer.ggml.tokens", tokens));
  refuse(GgufBuilder().text("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens));
  refuse(GgufBuilder()
             .text("tokenizer.ggml.model", "llama")
             .strings("tokenizer.ggml.tokens", tokens)
             .array<float>("tokenizer.ggml.scores", 6, {1.0f}));
  refuse(GgufBuilder()
             .text("tokenizer.ggml.model", "llama")
             .strings("tokenizer.ggml.tokens", tokens)
             .array<float>("tokenizer.ggml.scores", 6, {1.0f, 0.0f, NAN, 0.0f}));
  refuse(GgufBuilder()
             .text("tokenizer.ggml.model", "t5")
             .strings("tokenizer.ggml.tokens", tokens)
             .array<float>("tokenizer.ggml.scores", 6, {0, 0, 0, 0})
             .array<std::uint8_t>("tokenizer.ggml.precompiled_charsmap", 0, {9, 0, 0, 0, 1}));
}

TEST_CASE("a charsmap whose trie points anywhere is harmless") {
  std::mt19937 rng(23);
  const std::vector<std::string> tokens = {"a", "b", "ab", "\u2581"};
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint8_t> map(4 + 64 * 4 + 16);
    for (std::uint8_t& byte : map) byte = static_cast<std::uint8_t>(round % 2 == 0 ? rng() : rng() % 4 * 64);
    const std::uint32_t size = 64 * 4;
    std::memcpy(map.data(), &size, 4);
    use(*from_gguf(GgufBuilder()
                       .text("tokenizer.ggml.model", "t5")
                       .strings("tokenizer.ggml.tokens", tokens)
                       .array<float>("tokenizer.ggml.scores", 6, {0, -1, -2, -3})
                       .array<std::uint8_t>("tokenizer.ggml.precompiled_charsmap", 0, map)));
  }
}

TEST_CASE("tiktoken files: bad lines are refused, good ones need a class that is known") {
  const std::string config = R"({"tokenizer_class": "ChatGLM4Tokenizer"})";
  CHECK_NOTHROW(use(*load_tokenizer(
      MemoryCheckpoint({{"tokenizer.model", "YQ== 0\nYg== 1\nYWI= 2\n"}, {"tokenizer_config.json", config}}))));
  for (const char* text : {"YQ== 0\nYg== 0\n", "YQ== 0\n!! 1\n", "YQ== 0\nYg==\n", "YQ== 0\nYg== 99999999999\n",
                           "YQ== 0\nYg== -1\n", "YQ== 0\n 1\n"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(load_tokenizer(MemoryCheckpoint({{"tokenizer.model", text}, {"tokenizer_config.json", config}})),
                    CheckpointError);
  }
  CHECK_THROWS_AS(load_tokenizer(MemoryCheckpoint(std::map<std::string, std::string>{{"tokenizer.model", "YQ== 0\n"}})),
                  CheckpointError);
}

TEST_CASE("a folder without a tokenizer, and broken configuration beside one") {
  CHECK_THROWS_AS(load_tokenizer(MemoryCheckpoint(std::map<std::string, std::string>{})), CheckpointError);
  const std::string tokenizer = read_text(source_path("tests/golden/models/llama3/tokenizer.json"));
  for (const auto& [file, text] : std::vector<std::pair<std::string, std::string>>{
           {"tokenizer_config.json", "[]"},
           {"tokenizer_config.json", R"({"bos_token": 5})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": {"-1": {"content": "x"}}})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": {"9999999": {"content": "x"}}})"},
           {"config.json", R"({"eos_token_id": "x"})"},
           {"config.json", R"({"eos_token_id": -7})"},
           {"generation_config.json", R"({"eos_token_id": [1, "x"]})"}}) {
    CAPTURE(file, text);
    CHECK_THROWS_AS(load_tokenizer(MemoryCheckpoint({{"tokenizer.json", tokenizer}, {file, text}})), CheckpointError);
  }
}
