// Streaming gives the text of decode, for any ids; decoding inverts encoding.
#include <random>

#include "base/utf8.h"
#include "engine/text/detokenizer.h"
#include "tests/catch.h"
#include "tests/text/tokenizer_cases.h"

using namespace inferd;
using namespace inferd::test;

namespace {

std::string stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids, bool skip_special) {
  Detokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  for (const TokenId id : ids) {
    const std::string piece = detokenizer.push(id);
    CHECK(is_valid_utf8(piece));
    text += piece;
  }
  const std::string rest = detokenizer.finish();
  CHECK(is_valid_utf8(rest));
  return text + rest;
}

std::string random_text(std::mt19937* rng, std::size_t characters) {
  static constexpr std::pair<char32_t, char32_t> kRanges[] = {
      {0x20, 0x7E},   {0x20, 0x7E},     {0x01, 0x1F},     {0xA0, 0x24F},      {0x300, 0x36F},
      {0x400, 0x4FF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3}, {0x1F300, 0x1F6FF}, {0x10000, 0x10FFFF}};
  std::string text;
  for (std::size_t i = 0; i < characters; ++i) {
    const auto& [low, high] = kRanges[(*rng)() % std::size(kRanges)];
    append_utf8(&text, low + static_cast<char32_t>((*rng)() % (high - low + 1)));
  }
  return text;
}

}  // namespace

TEST_CASE("streamed text is decode's text, for every tokenizer and random ids") {
  std::mt19937 rng(11);
  for (const auto& [name, tokenizer] : small_tokenizers()) {
    CAPTURE(name);
    for (int round = 0; round < 100; ++round) {
      std::vector<TokenId> ids(rng() % 30);
      for (TokenId& id : ids) id = static_cast<TokenId>(rng() % static_cast<unsigned>(tokenizer->vocab_size() + 3)) - 1;
      for (const bool skip : {false, true}) CHECK(stream(*tokenizer, ids, skip) == tokenizer->decode(ids, skip));
    }
    for (const std::string& text : corpus_texts()) {
      const auto ids = tokenizer->encode(MarkedText::untrusted(text), true);
      for (const bool skip : {false, true}) CHECK(stream(*tokenizer, ids, skip) == tokenizer->decode(ids, skip));
    }
  }
}

TEST_CASE("every tail of an answer streams as it decodes") {
  const auto& all = small_tokenizers();
  const std::string text = "héllo 你好 🙂👩‍💻 \u0e01\u0e33 \U00020000 ok";
  for (const char* name :
       {"llama2", "llama3", "qwen2", "llama2.F16.gguf", "bpe_fallback.model", "unigram_fallback.model"}) {
    const Tokenizer& tokenizer = *all.at(name);
    const auto ids = tokenizer.encode(MarkedText::untrusted(text), false);
    for (std::size_t first = 0; first <= ids.size(); ++first) {
      for (std::size_t last = first; last <= ids.size(); ++last) {
        const std::vector<TokenId> part(ids.begin() + static_cast<std::ptrdiff_t>(first),
                                        ids.begin() + static_cast<std::ptrdiff_t>(last));
        CHECK(stream(tokenizer, part, true) == tokenizer.decode(part, true));
      }
    }
  }
}

TEST_CASE("byte-level vocabularies give every text back") {
  std::mt19937 rng(5);
  const auto& all = small_tokenizers();
  for (const char* name :
       {"llama3", "llama3.bf16.gguf", "bloom_like.json", "contiguous.json", "merged_next.json", "blank_added.json"}) {
    const Tokenizer& tokenizer = *all.at(name);
    CAPTURE(name);
    for (int round = 0; round < 300; ++round) {
      const std::string text = random_text(&rng, rng() % 60);
      CHECK(tokenizer.decode(tokenizer.encode(MarkedText::untrusted(text), false), true) == text);
    }
    for (const std::string& text : corpus_texts())
      CHECK(tokenizer.decode(tokenizer.encode(MarkedText::untrusted(text), false), true) == text);
  }
}

TEST_CASE("SentencePiece with byte fallback gives text back, but for one leading space's fate") {
  std::mt19937 rng(6);
  const auto& all = small_tokenizers();
  for (const char* name : {"llama2", "llama2.F16.gguf", "bpe_fallback.model"}) {
    const Tokenizer& tokenizer = *all.at(name);
    for (int round = 0; round < 200; ++round) {
      const std::string text = random_text(&rng, rng() % 60);
      CHECK(tokenizer.decode(tokenizer.encode(MarkedText::untrusted(text), false), true) == text);
    }
  }
}

TEST_CASE("random bytes: invalid UTF-8 becomes U+FFFD, nothing breaks") {
  std::mt19937 rng(9);
  for (const auto& [name, tokenizer] : small_tokenizers()) {
    CAPTURE(name);
    for (int round = 0; round < 40; ++round) {
      std::string bytes(rng() % 80, '\0');
      for (char& c : bytes) c = static_cast<char>(rng());
      const auto ids = tokenizer->encode(MarkedText::untrusted(bytes), true);
      for (const TokenId id : ids) CHECK((id >= 0 && id < tokenizer->vocab_size()));
      CHECK(ids == tokenizer->encode(MarkedText::untrusted(replace_invalid_utf8(bytes)), true));
    }
  }
}

TEST_CASE("ids outside the vocabulary have no text") {
  const auto& tokenizer = *small_tokenizers().at("llama2.F16.gguf");
  for (const TokenId id : {-1, -2147483647, static_cast<TokenId>(tokenizer.vocab_size()), 2147483647, 575}) {
    CHECK(tokenizer.token_bytes(id).empty());
    CHECK_FALSE(tokenizer.is_special(id));
  }
}

TEST_CASE("long words cost no more than their length warrants") {
  for (const auto& [name, tokenizer] : small_tokenizers()) {
    CAPTURE(name);
    std::string mixed;
    for (int i = 0; i < 40'000; ++i) mixed += static_cast<char>('a' + i * 7919 % 26);
    for (const std::string& text :
         {std::string(200'000, 'a'), std::string(200'000, ' '), mixed, std::string(100'000, '\n')}) {
      CHECK(tokenizer->encode(MarkedText::untrusted(text), false).size() <= text.size() + 2);
    }
    std::string marks = "e";
    for (int i = 0; i < 50'000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
    CHECK_FALSE(tokenizer->encode(MarkedText::untrusted(marks), false).empty());
  }
}
