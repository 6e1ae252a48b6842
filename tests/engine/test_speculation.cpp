// Speculation: drafts, how many are made, and that answers, books and counts are those of decoding token by token.
#include "engine/speculation/draft_policy.h"
#include "engine/speculation/ngram_draft.h"
#include "tests/engine/speculation_harness.h"

namespace inferd {
namespace {

std::vector<TokenId> draft_of(const std::vector<TokenId>& tokens, std::int64_t limit, std::int64_t agreed) {
  std::vector<TokenId> draft{99};
  CHECK(ngram_draft(tokens, limit, &draft) == agreed);
  return draft;
}

TEST_CASE("a draft is what followed the longest agreement, of equal ones the latest") {
  using Tokens = std::vector<TokenId>;
  CHECK(draft_of({1, 2, 3, 4, 5, 1, 2}, 3, 2) == Tokens{3, 4, 5});
  CHECK(draft_of({1, 2, 7, 5, 1, 2, 8, 5, 1, 2}, 2, 3) == Tokens{8, 5});        // "5 1 2" over "1 2"
  CHECK(draft_of({9, 1, 2, 7, 3, 1, 2, 8, 4, 9, 1, 2}, 2, 3) == Tokens{7, 3});  // the longer one lies further back
  CHECK(draft_of({1, 2, 7, 0, 1, 2, 8, 3, 1, 2}, 1, 2) == Tokens{8});           // equally long: the latest
  CHECK(draft_of({4, 1, 2, 3, 9, 3}, 4, 0).empty());                            // one token is not enough
  CHECK(draft_of({5, 5}, 4, 0).empty());
  CHECK(draft_of({5, 5, 5}, 4, 2) == Tokens{5, 5, 5, 5});  // goes on beyond the end
  CHECK(draft_of({1, 2, 1, 2, 1}, 5, 3) == Tokens{2, 1, 2, 1, 2});
  CHECK(draft_of({1, 2, 3, 1, 2}, 0, 0).empty());
  CHECK(draft_of({}, 4, 0).empty());
  Tokens loop;
  for (int i = 0; i < 100; ++i) loop.push_back(i % 10);
  CHECK(draft_of(loop, 12, kMostNgram) == Tokens{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1});
}

TEST_CASE("drafts grow with their success, and shrink with the sequences that decode") {
  const SpeculationOptions automatic{SpeculationMode::automatic, 8, 0.12};
  CHECK(draft_worth(automatic, 0.5, 1, 8).length == 3);  // 0.5 ^ 3 = 0.125 > 0.12
  CHECK(draft_worth(automatic, 0.95, 1, 8).length == 8);
  CHECK(draft_worth(automatic, 0.95, 1, 2).length == 2);
  CHECK(draft_worth(automatic, 0.1, 1, 8).length == 0);
  CHECK(draft_worth(automatic, 0.5, 4, 8).length == 1);   // 0.48 / 1.36 = 0.35 of a token a row
  CHECK(draft_worth(automatic, 0.5, 16, 8).length == 0);  // 1.92 / 2.8 = 0.69
  CHECK(draft_worth(automatic, 0.8, 16, 8).length == 1);
  CHECK(draft_worth({SpeculationMode::ngram, 5, 0.12}, 0.0, 16, 8).length == 5);
  CHECK(draft_worth({SpeculationMode::ngram, 5, 0.12}, 1.0, 1, -1).length == 0);
  CHECK(draft_worth({SpeculationMode::off, 5, 0.12}, 1.0, 1, 8).length == 0);
}

TEST_CASE("a request whose drafts fail gets none, tries again later, and comes back when they succeed") {
  const SpeculationOptions automatic{SpeculationMode::automatic, 8, 0.12};
  const auto length = [&](const DraftRecord& record) { return draft_worth(automatic, record.rate(), 1, 8).length; };
  DraftRecord record;
  int failures = 0;
  for (; length(record) > 0; ++failures) {
    REQUIRE(failures < 20);
    record.note(0, length(record));
  }
  CHECK(failures > 3);
  int idle = 0;
  for (; length(record) == 0; ++idle) {
    REQUIRE(idle < 200);
    record.note_idle();
  }
  CHECK(idle > 10);
  for (int i = 0; i < 10; ++i) record.note(length(record), length(record));
  CHECK(length(record) == 8);
}

TEST_CASE("speculation changes no token, log-probability or reason: greedy, seeded, penalties, bias, stop tokens") {
  for (const SpeculationMode mode : {SpeculationMode::ngram, SpeculationMode::automatic}) {
    for (const std::int64_t batch : {16, 40, 512}) {
      INFO("batch " << batch);
      EngineOptions options = speculating(200, mode);
      options.max_batch_tokens = batch;
      const DecoderStats stats = check_all(repetitive_sim(), options, 24);
      CHECK(stats.draft_tokens >= stats.drafts);
      CHECK(stats.accepted_draft_tokens < stats.draft_tokens);
      if (batch == 512) CHECK(stats.accepted_draft_tokens > (mode == SpeculationMode::ngram ? 50 : 0));
    }
  }
}

TEST_CASE("one request at a time") {
  for (const SpeculationMode mode : {SpeculationMode::ngram, SpeculationMode::automatic}) {
    EngineOptions options = speculating(60, mode);
    options.max_concurrent_requests = 1;
    const DecoderStats stats = check_all(repetitive_sim(), options, 24);
    CHECK(stats.accepted_draft_tokens > (mode == SpeculationMode::ngram ? 150 : 75));
    CHECK(stats.steps < stats.output_tokens);  // prompts took steps too
  }
}

TEST_CASE("drafts preempt nobody, and survive preemption") {
  SimOptions sim = repetitive_sim();
  sim.eos_probability = 0.0;
  for (const bool prefix_cache : {true, false}) {
    EngineOptions options = speculating(9);
    options.prefix_cache = prefix_cache;
    const DecoderStats stats = check_all(sim, options, 24);
    CHECK(stats.preemptions > 2);
    CHECK(stats.accepted_draft_tokens > 50);
  }
}

TEST_CASE("no rows to spare, no drafts") {
  EngineOptions options = speculating(60);
  options.max_concurrent_requests = 4;
  options.max_logit_rows = 4;
  options.max_batch_tokens = 4;
  check_all(repetitive_sim(), options, 12);
}

TEST_CASE("a draft's rejected tokens never enter the prefix cache, its accepted ones do") {
  SimOptions sim = repetitive_sim();
  sim.eos_probability = 0.0;
  SimCore bench(speculating(64), sim);
  Request request = repetitive_request(1);
  request.prompt = {0, 1, 2, 3, 0, 1, 2, 3};
  request.max_output_tokens = 72;
  const auto first = bench.submit(request);
  bench.run();  // checks after every step that published blocks hold their sequence's tokens
  REQUIRE(bench.core.stats().accepted_draft_tokens > 0);
  REQUIRE(bench.core.stats().accepted_draft_tokens < bench.core.stats().draft_tokens);
  Answer answer;
  drain(*first, &answer);
  Request next = request;
  next.prompt.insert(next.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  next.prompt.push_back(1);
  const auto second = bench.submit(next);
  bench.run();
  CHECK(second->stats().cached_tokens >= 64);  // 79 tokens at least were computed: four full blocks
  Answer continued;
  drain(*second, &continued);
  CHECK(continued.tokens == answer_alone(sim, next, 256).tokens);
}

TEST_CASE("drafts stop short of the output limit and of the context's end") {
  SimOptions sim = repetitive_sim();
  sim.eos_probability = 0.0;
  sim.max_context = 48;
  EngineOptions options = speculating(3);
  SimCore bench(options, sim);
  for (const std::int64_t limit : {1, 2, 3, 7, 40, 1000}) {
    Request request = repetitive_request(0);
    request.prompt = {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2};
    request.max_output_tokens = limit;
    const auto stream = bench.submit(request);
    bench.run();
    CHECK(stream->stats().output_tokens == std::min<std::int64_t>(limit, 36));
    CHECK(stream->finish_reason() == FinishReason::length);
  }
}

TEST_CASE("a step given up forgets its drafts") {
  SimCore bench(speculating(20), repetitive_sim());
  Request request = repetitive_request(0);
  request.prompt = {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1};
  request.max_output_tokens = 100;
  const auto stream = bench.submit(request);
  bench.core.step();
  int layers = 0;
  bench.core.on_progress([&] {
    if (++layers == 1) stream->cancel();  // during the forward
  });
  bench.core.step();
  bench.core.check_integrity();
  bench.run();
  CHECK(stream->finish_reason() == FinishReason::cancelled);
  CHECK(bench.core.stats().kv_blocks_used == 0);
}

}  // namespace
}  // namespace inferd
