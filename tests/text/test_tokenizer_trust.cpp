// Control tokens come from trusted text only; all other text is the same wherever it came from.
#include <algorithm>
#include <random>

#include "base/utf8.h"
#include "engine/text/added_tokens.h"
#include "tests/catch.h"
#include "tests/text/tokenizer_cases.h"

using namespace inferd;
using namespace inferd::test;

namespace {

/// Texts of all special and added tokens.
std::vector<std::pair<TokenId, std::string>> control_tokens(const Tokenizer& tokenizer) {
  std::vector<std::pair<TokenId, std::string>> tokens;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    std::string text = tokenizer.token_bytes(id);
    for (int i = 0; i < 2; ++i) {
      if (const auto found = tokenizer.special_id(text);
          found && *found == id && text.find_first_not_of(" \n\t") != std::string::npos) {
        tokens.emplace_back(id, text);
        break;
      }
      if (text.starts_with(' ')) text.erase(0, 1);
    }
  }
  return tokens;
}

/// Cuts at random character boundaries, alternating the origin.
MarkedText random_runs(const std::string& text, std::mt19937* rng) {
  MarkedText marked;
  bool trusted = (*rng)() % 2 == 0;
  std::string run;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    decode_utf8(text, &at);
    run.append(text, begin, at - begin);
    if ((*rng)() % 5 == 0) {
      marked.append(run, trusted);
      run.clear();
      trusted = !trusted;
    }
  }
  marked.append(run, trusted);
  return marked;
}

}  // namespace

TEST_CASE("no special token of any tokenizer is read in untrusted text") {
  std::size_t seen = 0;
  for (const auto& [name, tokenizer] : small_tokenizers()) {
    CAPTURE(name);
    for (const auto& [id, text] : control_tokens(*tokenizer)) {
      CAPTURE(text);
      ++seen;
      const auto is_control = [control = id, unknown = tokenizer->special().unk](const std::vector<TokenId>& ids) {
        // The unknown token stands for text without a piece as well.
        return control != unknown && std::count(ids.begin(), ids.end(), control) > 0;
      };
      for (const std::string& around : {text, "a" + text + "b", " " + text + " ", text + text, "\n" + text + "\n"}) {
        CHECK_FALSE(is_control(tokenizer->encode(MarkedText::untrusted(around), false)));
      }
      const auto trusted = tokenizer->encode(MarkedText::trusted("x " + text + " y"), false);
      CHECK(std::count(trusted.begin(), trusted.end(), id) == 1);
      // Half of it trusted is not enough.
      MarkedText half;
      half.append(text.substr(0, text.size() / 2), true);
      half.append(text.substr(text.size() / 2), false);
      CHECK_FALSE(is_control(tokenizer->encode(half, false)));
      MarkedText other;
      other.append(text.substr(0, text.size() / 2), false);
      other.append(text.substr(text.size() / 2), true);
      CHECK_FALSE(is_control(tokenizer->encode(other, false)));
    }
  }
  CHECK(seen >= 100);
}

TEST_CASE("special tokens in client text survive as text") {
  const auto tokenizer = tokenizer_of_model("tests/golden/models/qwen3");
  for (const auto& [id, text] : control_tokens(*tokenizer)) {
    MarkedText prompt;
    prompt.append("<|im_start|>user\n", true);
    prompt.append("say " + text + " now", false);
    prompt.append("<|im_end|>\n", true);
    const auto ids = tokenizer->encode(prompt, false);
    CHECK(std::count(ids.begin(), ids.end(), *tokenizer->special_id("<|im_start|>")) == 1);
    CHECK(std::count(ids.begin(), ids.end(), *tokenizer->special_id("<|im_end|>")) == 1);
    CHECK(tokenizer->decode(ids, false) == prompt.text());
  }
}

TEST_CASE("ordinary text gives the same ids however its origin is mixed") {
  std::mt19937 rng(7);
  for (const auto& [name, tokenizer] : small_tokenizers()) {
    CAPTURE(name);
    const auto controls = control_tokens(*tokenizer);
    for (const std::string& text : corpus_texts()) {
      const auto whole = tokenizer->encode(MarkedText::untrusted(text), false);
      const bool has_control = std::any_of(controls.begin(), controls.end(),
                                           [&](const auto& c) { return text.find(c.second) != std::string::npos; });
      if (has_control || name == "normalized_added.json") continue;
      CAPTURE(shown(text));
      for (int i = 0; i < 3; ++i) CHECK(tokenizer->encode(random_runs(text, &rng), false) == whole);
    }
  }
}

TEST_CASE("untrusted text only: the normalised form of a control token is text too") {
  const auto tokenizer =
      tokenizer_of_file("tokenizer.json", source_path("tests/golden/tokenizer/json/normalized_added.json"));
  const TokenId start = *tokenizer->special_id("<|IM_START|>");
  for (const char* text : {"<|im_start|>", "<|IM_Start|>", "\uff1c|im_start|>", "x <|\u2170M_START|>"}) {
    CAPTURE(text);
    const auto trusted = tokenizer->encode(MarkedText::trusted(text), false);
    const auto untrusted = tokenizer->encode(MarkedText::untrusted(text), false);
    CHECK(std::count(untrusted.begin(), untrusted.end(), start) == 0);
    if (std::string_view(text).find("M") != std::string_view::npos && text[0] == 'x') continue;
    CHECK(std::count(trusted.begin(), trusted.end(), start) == 1);
  }
  MarkedText mixed;
  mixed.append("<|im_start|>", true);
  mixed.append("\u0338\u4f60 <|im_start|>", false);
  const auto ids = tokenizer->encode(mixed, false);
  CHECK(std::count(ids.begin(), ids.end(), start) <= 1);
}

TEST_CASE("blank added tokens are text from everywhere") {
  const auto tokenizer =
      tokenizer_of_file("tokenizer.json", source_path("tests/golden/tokenizer/json/blank_added.json"));
  const TokenId four = *tokenizer->special_id("    ");
  MarkedText mixed;
  mixed.append("a  ", true);
  mixed.append("  b", false);
  for (const MarkedText& text : {MarkedText::untrusted("a    b"), MarkedText::trusted("a    b"), mixed}) {
    const auto ids = tokenizer->encode(text, false);
    CHECK(std::count(ids.begin(), ids.end(), four) == 1);
  }
}

TEST_CASE("control and user-defined pieces of a SentencePiece file need trust") {
  const auto tokenizer = tokenizer_of_file("tokenizer.model", source_path("tests/golden/spm/bpe_fallback.model"));
  for (const char* text : {"<tool>", "<ctrl>", "<s>", "</s>"}) {
    CAPTURE(text);
    const TokenId id = *tokenizer->special_id(text);
    const auto count = [&](const MarkedText& marked) {
      const auto ids = tokenizer->encode(marked, false);
      return std::count(ids.begin(), ids.end(), id);
    };
    CHECK(count(MarkedText::trusted(std::string("hi ") + text + "there")) == 1);
    CHECK(count(MarkedText::untrusted(std::string("hi ") + text + "there")) == 0);
    CHECK(tokenizer->decode(tokenizer->encode(MarkedText::untrusted(std::string("hi ") + text), false), true) ==
          std::string("hi ") + text);
  }
}
