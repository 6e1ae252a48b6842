// The hard corpus on the vocabularies of published models (label model: they are fetched, not in the repository).
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "tests/catch.h"
#include "tests/text/tokenizer_cases.h"

using namespace inferd;
using namespace inferd::test;

namespace {

constexpr const char* kSmolLm = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr const char* kQwen = "models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf";
constexpr const char* kMiniLm = "models/all-MiniLM-L6-v2";

bool have(const char* path) {
  if (std::filesystem::exists(source_path(path))) return true;
  WARN("not tested, " << path << " is not there");
  return false;
}

void check(const Tokenizer& tokenizer, const std::string& name) {
  for (const TokenizerCase& c : corpus_cases(name)) {
    CAPTURE(shown(c.text));
    CHECK(tokenizer.encode(MarkedText::trusted(c.text), false) == c.ids);
    CHECK(shown(tokenizer.decode(c.ids, false)) == shown(c.decoded));
  }
}

}  // namespace

TEST_CASE("SmolLM2") {
  if (!have(kSmolLm)) return;
  const auto tokenizer = tokenizer_of_model(kSmolLm);
  check(*tokenizer, "smollm2");
  CHECK(tokenizer->special().eos == 2);
  CHECK(tokenizer->special().stop == std::vector<TokenId>{0, 2});
  CHECK(tokenizer->encode(MarkedText::trusted("Hi"), true) == tokenizer->encode(MarkedText::trusted("Hi"), false));
}

TEST_CASE("Qwen2.5") {
  if (!have(kQwen)) return;
  const auto tokenizer = tokenizer_of_model(kQwen);
  check(*tokenizer, "qwen25");
  CHECK(tokenizer->special().stop == std::vector<TokenId>{151643, 151645});
  CHECK(tokenizer->token_bytes(151935).empty());
  CHECK_FALSE(tokenizer->is_special(151657));
  for (const char* text : {"<tool_call>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>"}) {
    const TokenId id = *tokenizer->special_id(text);
    for (const TokenId got : tokenizer->encode(MarkedText::untrusted(text), false)) CHECK(got != id);
  }
}

TEST_CASE("MiniLM") {
  if (!have(kMiniLm)) return;
  check(*tokenizer_of_model(kMiniLm), "minilm");
}

TEST_CASE("encoding from many threads gives one result") {
  if (!have(kSmolLm)) return;
  const auto tokenizer = tokenizer_of_model(kSmolLm);
  const auto cases = corpus_cases("smollm2");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (const TokenizerCase& c : cases) wrong[t] += tokenizer->encode(MarkedText::trusted(c.text), false) != c.ids;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

TEST_CASE("English goes through byte-level BPE at megabytes a second") {
  if (!have(kSmolLm) || !have(kQwen)) return;
  std::string text;
  const std::string english = read_text(source_path("tests/reference/fidelity_text.txt"));
  while (text.size() < (2u << 20)) text += english;
  for (const char* path : {kSmolLm, kQwen}) {
    const auto begin_load = std::chrono::steady_clock::now();
    const auto tokenizer = tokenizer_of_model(path);
    const auto begin = std::chrono::steady_clock::now();
    const auto ids = tokenizer->encode(MarkedText::untrusted(text), false);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const std::chrono::duration<double> load = begin - begin_load;
    const double speed = static_cast<double>(text.size()) / 1e6 / seconds.count();
    std::cout << path << ": load " << load.count() << " s, " << speed << " MB/s, "
              << static_cast<double>(text.size()) / static_cast<double>(ids.size()) << " bytes a token\n";
    CHECK(tokenizer->decode(ids, true) == text);
    CHECK(speed > 0.2);  // far below the goal of 5, for loaded machines and sanitizers
  }
}
