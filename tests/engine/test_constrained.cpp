// Sequences with a grammar: every answer fits it, and is the same alone, in company, preempted, and with drafts.
#include "tests/engine/grammar_harness.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

constexpr TokenId kEnd = 257;

SimOptions byte_sim() {
  SimOptions sim;
  sim.vocab_size = 300;  // more than the tokenizer has
  sim.max_context = 512;
  sim.printable = false;
  return sim;
}

std::shared_ptr<const TokenGrammar> grammar_of(const char* schema) { return over(schema_grammar(Json::parse(schema))); }

const char* const kSchemas[] = {
    R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x","yy"]}},"required":["a","b"],"additionalProperties":false})",
    R"({"type":"array","items":{"type":"boolean"},"maxItems":20})", R"({"type":"string","maxLength":8})",
    R"({"type":"number"})"};

Request constrained(int i) {
  Request request = make_request(8 + 5 * i % 40, 120, i);
  for (TokenId& token : request.prompt) token = 32 + token % 90;
  request.stop_token_ids = {kEnd};
  request.top_logprobs = i % 3 - 1;
  request.sampling.temperature = i % 5 == 0 ? 0.0f : 1.0f;
  request.sampling.top_k = i % 4 == 0 ? 5 : 0;
  request.sampling.top_p = i % 4 == 1 ? 0.7f : 1.0f;
  if (i % 6 != 5) request.grammar = grammar_of(kSchemas[static_cast<std::size_t>(i) % 4]);
  return request;
}

std::string text_of(const Answer& answer) {
  std::string text;
  for (const TokenId token : answer.tokens) {
    if (token < 256) text += static_cast<char>(static_cast<unsigned char>(token));
  }
  return text;
}

/// All at once, each compared with itself alone. Returns the core's statistics.
DecoderStats check_all(const EngineOptions& options) {
  const SimOptions sim = byte_sim();
  SimCore bench(options, sim);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 24; ++i) streams.push_back(bench.submit(constrained(i)));
  bench.run();
  int whole = 0;
  for (int i = 0; i < 24; ++i) {
    const Request request = constrained(i);
    const Answer alone = answer_alone(sim, request, bench.core.context_length());
    Answer answer;
    drain(*streams[static_cast<std::size_t>(i)], &answer);
    CHECK(answer.tokens == alone.tokens);
    CHECK(answer.reason == alone.reason);
    CHECK(equal_events(answer.events, alone.events));
    if (request.grammar == nullptr || answer.reason != FinishReason::stop) continue;
    ++whole;
    INFO(text_of(answer));
    CHECK(accepts(request.grammar, text_of(answer)));
    CHECK(answer.tokens.back() == kEnd);
  }
  CHECK(whole > 10);
  return bench.core.stats();
}

TEST_CASE("answers fit their grammar, and do not depend on company") {
  check_all(small_options(200));
  EngineOptions one = small_options(200);
  one.max_concurrent_requests = 1;
  check_all(one);
}

TEST_CASE("a sequence that was preempted goes on where its grammar was") {
  EngineOptions options = small_options(11);
  options.max_concurrent_requests = 16;
  CHECK(check_all(options).preemptions > 0);
}

TEST_CASE("drafts change no answer, and only those that fit are made") {
  EngineOptions options = small_options(200);
  options.speculation = {SpeculationMode::ngram, 4, 0.1};
  options.max_logit_rows = 64;
  const DecoderStats stats = check_all(options);
  CHECK(stats.drafts > 0);
}

TEST_CASE("logprobs are those of the raw row: the mask changes the draw only") {
  const SimOptions sim = byte_sim();
  Request request = make_request(10, 1, 3);
  request.stop_token_ids = {kEnd};
  request.top_logprobs = 5;
  SimCore free(small_options(40), sim), bound(small_options(40), sim);
  const auto first = free.submit(request);
  request.grammar = grammar_of(R"({"const":1})");
  const auto second = bound.submit(request);
  free.run();
  bound.run();
  Answer a, b;
  drain(*first, &a);
  drain(*second, &b);
  CHECK(b.tokens == std::vector<TokenId>{'1'});
  REQUIRE(a.events.size() == 1);
  REQUIRE(b.events.size() == 1);
  CHECK(std::equal(a.events[0].top.begin(), a.events[0].top.end(), b.events[0].top.begin(), b.events[0].top.end(),
                   [](const auto& x, const auto& y) { return x.token == y.token && x.logprob == y.logprob; }));
  CHECK(b.events[0].logprob < 0.0f);
}

TEST_CASE("a request that bans what its grammar needs ends, and says why") {
  SimCore bench(small_options(40), byte_sim());
  Request request = make_request(10, 20, 3);
  request.stop_token_ids = {kEnd};
  request.grammar = grammar_of(R"({"const":12})");
  request.sampling.logit_bias = {{'2', -100.0f}};
  const auto stream = bench.submit(request);
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::blocked);
}

TEST_CASE("a text that is complete ends, even where no end token may come") {
  SimCore bench(small_options(40), byte_sim());
  Request request = make_request(10, 20, 3);
  request.stop_token_ids.clear();
  request.grammar = grammar_of(R"({"const":12})");
  const auto without = bench.submit(request);
  request.stop_token_ids = {kEnd};
  request.min_output_tokens = 10;
  const auto banned = bench.submit(request);
  bench.run();
  for (const auto& stream : {without, banned}) {
    Answer answer;
    drain(*stream, &answer);
    CHECK(answer.reason == FinishReason::stop);
    CHECK(text_of(answer) == "12");
  }
}

TEST_CASE("a limit cuts an answer off in the middle, as length") {
  SimCore bench(small_options(40), byte_sim());
  Request request = make_request(10, 2, 3);
  request.stop_token_ids = {kEnd};
  request.grammar = grammar_of(R"({"const":"abc"})");
  const auto stream = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*stream, &answer);
  CHECK(answer.reason == FinishReason::length);
  CHECK(text_of(answer) == "\"a");
}

}  // namespace
}  // namespace inferd
