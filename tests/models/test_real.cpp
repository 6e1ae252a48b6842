// Real models of models/: greedy text is sensible and the same every time; prints speeds.
#include <chrono>
#include <cstdio>

#include "engine/text/tokenizer.h"
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

std::filesystem::path real(const char* name) { return std::filesystem::path(INFERD_SOURCE_DIR) / "models" / name; }

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string continue_greedily(Sequences& sequences, const Tokenizer& tokenizer, int id, const std::string& prompt,
                              int count) {
  std::vector<std::int32_t> out;
  std::vector<float> row = sequences.step({{id, tokenizer.encode(MarkedText::trusted(prompt), true)}}).at(0);
  for (int i = 0; i < count; ++i) {
    out.push_back(argmax(row));
    if (i + 1 < count) row = sequences.step({{id, {out.back()}}}).at(0);
  }
  sequences.drop(id);
  return tokenizer.decode(out, false);
}

/// Prefill of 512 tokens and 128 decode steps, as llama-bench measures them.
void print_speed(const char* name, Backend& backend, Model& model) {
  Sequences sequences(backend, model, DType::f16, 256);
  std::vector<std::int32_t> prompt(512);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(i * 31 % 1000 + 100);
  sequences.step({{9, {1, 2, 3}}});
  auto start = std::chrono::steady_clock::now();
  sequences.step({{0, prompt}});
  const double prefill_s = seconds_since(start);
  start = std::chrono::steady_clock::now();
  for (int i = 0; i < 128; ++i) sequences.step({{1, {100 + i}}});
  const double decode_s = seconds_since(start);
  std::printf("%s on %s: prefill 512: %.0f tok/s, decode 128: %.1f tok/s\n", name, backend.name().c_str(),
              512 / prefill_s, 128 / decode_s);
}

void check_model(const char* file, const std::string& prompt, const std::string& expected_word) {
  const auto backend = test_backend(ActivationMode::automatic);
  TestModel model(*backend, real(file), 512);
  REQUIRE(model.loaded.decoder != nullptr);
  const auto tokenizer = load_tokenizer(*model.checkpoint);
  Sequences sequences(*backend, *model.loaded.decoder, DType::f16, 64);
  const std::string first = continue_greedily(sequences, *tokenizer, 0, prompt, 24);
  CHECK(first == continue_greedily(sequences, *tokenizer, 1, prompt, 24));
  INFO(first);
  CHECK(first.find(expected_word) != std::string::npos);
  std::printf("%s: %s|%s\n", file, prompt.c_str(), first.c_str());
  print_speed(file, *backend, *model.loaded.decoder);
}

TEST_CASE("SmolLM2 continues a sentence") {
  check_model("SmolLM2-135M-Instruct.Q4_1.gguf", "The capital of France is", "Paris");
}

TEST_CASE("Qwen2.5-Coder continues a function") {
  check_model("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
              "def fibonacci(n):\n    if n <= 1:\n        return n\n    return", "fibonacci(n");
}

TEST_CASE("MiniLM puts like sentences close together") {
  const auto backend = test_backend(ActivationMode::automatic);
  TestModel model(*backend, real("all-MiniLM-L6-v2"));
  REQUIRE(model.loaded.encoder != nullptr);
  const auto tokenizer = load_tokenizer(*model.checkpoint);
  std::vector<std::vector<std::int32_t>> inputs;
  for (const char* text :
       {"A man is eating food.", "Someone is having a meal.", "The stock market fell sharply today."}) {
    inputs.push_back(tokenizer->encode(MarkedText::untrusted(text), true));
  }
  const auto vectors = encode(*backend, *model.loaded.encoder, inputs);
  const auto dot = [&](int a, int b) {
    double sum = 0;
    for (std::size_t i = 0; i < vectors[0].size(); ++i) sum += static_cast<double>(vectors[a][i]) * vectors[b][i];
    return sum;
  };
  CHECK(vectors[0].size() == 384);
  CHECK(dot(0, 0) == Approx(1.0).epsilon(1e-5));
  CHECK(dot(0, 1) > 0.5);
  CHECK(dot(0, 2) < 0.2);
  CHECK(model.loaded.encoder->max_sequence_tokens() == 256);
}

}  // namespace
}  // namespace inferd::testing
