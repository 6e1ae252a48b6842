// Draft models in the simulation: the answers are those without, the draft model's cache is right wherever a guess is
// made, and guesses that do not pay stop.
#include "engine/speculation/draft_policy.h"
#include "tests/engine/grammar_harness.h"
#include "tests/engine/speculation_harness.h"

namespace inferd {
namespace {

MakeDraft draft_of(const SimOptions& sim) {
  return [sim](VirtualClock* clock) { return make_sim_model(sim, clock); };
}

/// Another model's logits, but in some rows (which ones follows from the row) a token of no merit comes first.
class Fickle final : public Model {
 public:
  Fickle(std::unique_ptr<Model> model, std::uint32_t one_in) : model_(std::move(model)), one_in_(one_in) {}
  const ModelInfo& info() const override { return model_->info(); }
  KvSpec kv_spec() const override { return model_->kv_spec(); }
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override {
    Tensor logits = model_->forward(batch, kv, logit_rows, hook);
    for (std::int64_t row = 0; row < logits.dim(0); ++row) {
      float* values = logits.as<float>() + row * logits.row_stride;
      const auto mark = static_cast<std::uint32_t>(std::abs(values[0]) * 1e4f);
      if (mark % one_in_ == 0) values[(mark / one_in_) % static_cast<std::uint32_t>(logits.dim(1))] += 100.0f;
    }
    return logits;
  }

 private:
  std::unique_ptr<Model> model_;
  std::uint32_t one_in_;
};

MakeDraft fickle_draft_of(const SimOptions& sim, std::uint32_t one_in) {
  return [=](VirtualClock* clock) { return std::make_unique<Fickle>(make_sim_model(sim, clock), one_in); };
}

/// As speculating, with room for `blocks` of both models.
EngineOptions drafting(std::int64_t blocks, SpeculationMode mode = SpeculationMode::draft) {
  EngineOptions options = speculating(2 * blocks, mode);
  options.max_logit_rows = 64;
  options.max_batch_tokens = 512;
  return options;
}

Request plain_request(int i, std::int64_t outputs = 60) {
  Request request = make_request(4 + (i * 13) % 60, outputs, i);
  for (TokenId& token : request.prompt) token %= 5;
  request.stop_token_ids = {5};
  request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.0f;
  request.sampling.top_p = i % 3 == 1 ? 0.9f : 1.0f;
  return request;
}

TEST_CASE("a draft model changes no token, log-probability or reason, whatever it guesses") {
  const SimOptions sim = repetitive_sim();
  SimOptions stranger = sim;
  stranger.seed = 99;
  SimOptions wider = sim;  // the padding of its vocabulary differs
  wider.vocab_size = 9;
  SimOptions narrower = sim;
  narrower.vocab_size = 4;
  SimOptions broken = sim;
  broken.poison_token = 3;
  using Case = std::pair<MakeDraft, std::int64_t>;  // and how many guesses must be accepted
  for (const auto& [draft, least] :
       {Case{draft_of(sim), 100}, Case{draft_of(stranger), 100}, Case{fickle_draft_of(sim, 3), 100},
        Case{draft_of(wider), 20}, Case{draft_of(narrower), 20}, Case{draft_of(broken), 0}}) {
    for (const SpeculationMode mode : {SpeculationMode::draft, SpeculationMode::automatic}) {
      for (const std::int64_t batch : {16, 40, 512}) {
        INFO("batch " << batch << ", mode " << static_cast<int>(mode));
        EngineOptions options = drafting(200, mode);
        options.max_batch_tokens = batch;
        const DecoderStats stats = check_all(sim, options, 24, draft);
        CHECK(stats.draft_tokens >= stats.drafts);
        CHECK(stats.accepted_draft_tokens <= stats.draft_tokens);
        if (batch == 512 && mode == SpeculationMode::draft) CHECK(stats.accepted_draft_tokens >= least);
      }
    }
  }
}

TEST_CASE("one request at a time, and preempted") {
  for (const auto& draft : {draft_of(repetitive_sim()), fickle_draft_of(repetitive_sim(), 2)}) {
    EngineOptions options = drafting(60);
    options.max_concurrent_requests = 1;
    CHECK(check_all(repetitive_sim(), options, 24, draft).accepted_draft_tokens > 300);
    SimOptions endless = repetitive_sim();
    endless.eos_probability = 0.0;
    for (const bool prefix_cache : {true, false}) {
      options = drafting(9);
      options.prefix_cache = prefix_cache;
      const DecoderStats stats = check_all(endless, options, 24, draft);
      CHECK(stats.preemptions > 2);
      CHECK(stats.accepted_draft_tokens > 50);
    }
  }
}

/// With the model itself as its draft every guess is right, if the draft's cache is: a stale or a missing key shows.
TEST_CASE("a model that drafts for itself is never wrong: alone, batched, in chunks, preempted, on prefix hits") {
  SimOptions sim = repetitive_sim();
  sim.vocab_size = 32;
  for (const auto& [blocks, batch] : {std::pair{200, 512}, {200, 23}, {14, 512}, {9, 40}}) {
    INFO(blocks << " blocks, " << batch << " rows");
    EngineOptions options = drafting(blocks);
    options.max_batch_tokens = batch;
    SimCore bench(options, sim, nullptr, draft_of(sim));
    std::vector<std::shared_ptr<TokenStream>> streams;
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 17; ++i) streams.push_back(bench.submit(plain_request(i, 20 + 5 * i)));
      bench.run();
    }
    const DecoderStats stats = bench.core.stats();
    CHECK(stats.draft_tokens > 200);
    CHECK(stats.accepted_draft_tokens == stats.draft_tokens);
    if (blocks > 20) CHECK(stats.cached_prompt_tokens > 100);
    if (blocks < 20) CHECK(stats.preemptions > 2);
  }
}

TEST_CASE("a request drafted for by the model itself needs a step for seven tokens") {
  SimOptions sim = repetitive_sim();
  sim.eos_probability = 0.0;
  SimCore bench(drafting(40), sim, nullptr, draft_of(sim));
  const auto stream = bench.submit(plain_request(1, 140));
  bench.run();
  CHECK(stream->stats().output_tokens == 140);
  CHECK(bench.core.stats().steps == 1 + 20);  // the first token comes with the prompt
  CHECK(bench.core.stats().accepted_draft_tokens == 19 * 6 + 5);
}

TEST_CASE("beyond the draft model's context nothing is guessed, and prefixes are shared all the same") {
  SimOptions sim = repetitive_sim();
  sim.eos_probability = 0.0;
  SimOptions shorter = sim;
  shorter.max_context = 50;
  SimCore bench(drafting(40), sim, nullptr, draft_of(shorter));
  Request request = plain_request(1, 120);
  request.prompt.resize(20, 3);
  const auto first = bench.submit(request);
  bench.run();
  Answer answer;
  drain(*first, &answer);
  CHECK(answer.tokens == answer_alone(sim, request, 256).tokens);
  const DecoderStats stats = bench.core.stats();
  CHECK(stats.accepted_draft_tokens == stats.draft_tokens);
  // The last position it computes is 49, which guesses token 50: after 20 tokens and the prompt's own next one.
  CHECK(stats.draft_tokens > 20);
  CHECK(stats.draft_tokens <= 30);
  Request next = request;
  next.prompt.insert(next.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  const auto second = bench.submit(next);
  bench.run();
  CHECK(second->stats().cached_tokens == 128);
}

TEST_CASE("constrained answers fit their grammar with a draft model, and are the same") {
  SimOptions sim;
  sim.vocab_size = 300;
  sim.max_context = 512;
  sim.printable = false;
  const auto grammar = over(schema_grammar(Json::parse(
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x","yy"]}},"required":["a","b"]})")));
  SimCore bench(drafting(200), sim, nullptr, draft_of(sim));
  std::vector<Request> requests;
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 17; ++i) {
    requests.push_back(plain_request(i));
    requests.back().stop_token_ids = {257};
    if (i % 4 != 0) requests.back().grammar = grammar;
    streams.push_back(bench.submit(requests.back()));
  }
  bench.run();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    Answer answer;
    drain(*streams[i], &answer);
    const Answer alone = answer_alone(sim, requests[i], 512);
    CHECK(answer.tokens == alone.tokens);
    CHECK(answer.reason == alone.reason);
  }
  CHECK(bench.core.stats().accepted_draft_tokens > 50);
}

/// Seconds of virtual time for `count` requests of 190 tokens each, all at once.
double seconds_for(int count, const EngineOptions& options, const SimOptions& sim, const MakeDraft& draft,
                   DecoderStats* stats) {
  SimCore bench(options, sim, nullptr, draft);
  const TimePoint start = bench.clock.now();
  std::vector<std::shared_ptr<TokenStream>> streams;  // kept: a request nobody reads is cancelled
  for (int i = 0; i < count; ++i) {
    Request request = plain_request(i, 190);
    request.stop_token_ids.clear();
    streams.push_back(bench.submit(request));
  }
  bench.run();
  *stats = bench.core.stats();
  return std::chrono::duration<double>(bench.clock.now() - start).count();
}

TEST_CASE("automatic: good guesses save time, bad ones are given up before they cost much") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  sim.step_s = 0.0085;
  sim.token_s = 0.0015;  // a row costs 0.15 of a step, as SpeculationOptions says
  SimOptions small = sim;
  small.step_s /= 10;
  small.token_s /= 10;
  SimOptions stranger = small;
  stranger.seed = 99;
  for (const int count : {1, 4}) {
    INFO(count << " requests");
    EngineOptions options = drafting(600, SpeculationMode::off);
    options.max_concurrent_requests = count;
    options.max_batch_tokens = 64;
    DecoderStats stats;
    const double without = seconds_for(count, options, sim, {}, &stats);
    options.speculation.mode = SpeculationMode::automatic;
    const double good = seconds_for(count, options, sim, draft_of(small), &stats);
    INFO(without << " s without, " << good << " s with itself");
    CHECK(good < without * (count == 1 ? 0.5 : 0.75));
    SimOptions broken = small;
    broken.poison_token = 1;  // its logits are not finite
    const double none = seconds_for(count, options, sim, draft_of(broken), &stats);
    INFO(none << " s with a broken one");
    CHECK(none < without * 1.08);
    CHECK(stats.draft_tokens < stats.output_tokens / 20);
    const double bad = seconds_for(count, options, sim, draft_of(stranger), &stats);
    INFO(bad << " s with a stranger, which guessed " << stats.draft_tokens << " of " << stats.output_tokens);
    CHECK(bad < without * 1.08);
    CHECK(stats.draft_tokens < stats.output_tokens / 5);
  }
}

TEST_CASE("automatic: a repetition is taken from the text where that promises more than the draft model") {
  SimOptions sim = repetitive_sim();
  SimOptions stranger = sim;
  stranger.seed = 99;
  stranger.vocab_size = 4;
  EngineOptions options = drafting(60, SpeculationMode::automatic);
  options.max_concurrent_requests = 1;
  const DecoderStats by_text = check_all(sim, options, 24);
  const DecoderStats both = check_all(sim, options, 24, draft_of(stranger));
  CHECK(by_text.accepted_draft_tokens > 75);
  CHECK(both.accepted_draft_tokens > by_text.accepted_draft_tokens / 2);
}

TEST_CASE("automatic: a repetition costs nothing, and is taken although the draft model is never wrong either") {
  SimOptions sim = small_sim();
  sim.eos_probability = 0.0;
  sim.step_s = 0.0085;
  sim.token_s = 0.0015;
  SimOptions small = sim;
  small.step_s *= 0.3;
  small.token_s *= 0.3;
  EngineOptions options = drafting(60, SpeculationMode::automatic);
  options.speculation.row_cost = 0.15;
  const auto seconds = [&](const MakeDraft& draft) {
    SimCore bench(options, sim, nullptr, draft);
    const TimePoint start = bench.clock.now();
    Request request = plain_request(0, 200);
    request.sampling.logit_bias = {{3, 100.0f}};  // says nothing else
    request.stop_token_ids.clear();
    const auto stream = bench.submit(request);
    bench.run();
    CHECK(stream->stats().output_tokens == 200);
    return std::chrono::duration<double>(bench.clock.now() - start).count();
  };
  const double by_text = seconds({}), both = seconds(draft_of(small));
  INFO(by_text << " s by repetition, " << both << " s with a draft model");
  CHECK(both < by_text * 1.3);  // the draft model takes in the tokens all the same
}

TEST_CASE("what a step of the draft model costs is measured") {
  DraftCost cost(1000, 100, 0.1);
  CHECK(cost.ratio() == 0.1);
  cost.note_model(1, 1.0);
  CHECK(cost.ratio() == 0.1);
  cost.note_draft(1, 0.3);
  CHECK(cost.ratio() == Approx(0.3));
  cost.note_draft(11, 0.6);  // ten rows more double it
  CHECK(cost.ratio() == Approx(0.3));
  cost.note_draft(1, 0.4);
  CHECK(cost.ratio() == Approx(0.31));
  cost.note_draft(300, 1000.0);
  cost.note_model(0, 1000.0);
  cost.note_model(1, 0.0);
  CHECK(cost.ratio() == Approx(0.31));
  CHECK(DraftCost(0, 0, 0.1).ratio() == 0.0);
}

TEST_CASE("a guess pays for its row and its share of the draft model's step") {
  const SpeculationOptions automatic{SpeculationMode::automatic, 8, 0.12};
  CHECK(draft_worth(automatic, 0.5, 1, 8).length == 3);
  CHECK(draft_worth(automatic, 0.5, 1, 8, 0.1).length == 2);  // 0.25 > 0.22 > 0.125
  CHECK(draft_worth(automatic, 0.5, 1, 8, 0.4).length == 0);
  CHECK(draft_worth(automatic, 0.9, 4, 8, 0.1).length == 7);  // 0.48 / 1.36 + 0.1 = 0.45
  CHECK(draft_worth(automatic, 0.9, 4, 8, 0.1).gain ==
        Approx(0.9 + 0.81 + 0.729 + 0.6561 + 0.59049 + 0.531441 + 0.4782969 - 7 * (0.48 / 1.36 + 0.1)));
  CHECK(draft_worth({SpeculationMode::draft, 5, 0.12}, 0.0, 16, 8, 2.0).length == 5);
}

/// Its rotary embedding depends on the prompt.
class Placed final : public Model {
 public:
  explicit Placed(std::unique_ptr<Model> model) : model_(std::move(model)) {}
  const ModelInfo& info() const override { return model_->info(); }
  KvSpec kv_spec() const override { return model_->kv_spec(); }
  bool has_places() const override { return true; }
  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override {
    return model_->forward(batch, kv, logit_rows, hook);
  }

 private:
  std::unique_ptr<Model> model_;
};

TEST_CASE("drafts that are impossible are refused") {
  const MakeDraft placed = [](VirtualClock* clock) {
    return std::make_unique<Placed>(make_sim_model(small_sim(), clock));
  };
  CHECK_THROWS_AS(SimCore(drafting(40), small_sim(), nullptr, placed), ConfigError);
  SimCore fits(drafting(40), small_sim(), nullptr, draft_of(small_sim()));
  CHECK(fits.core.kv_plan().block_bytes == 2 * kSimBlockBytes);
  CHECK(fits.core.kv_plan().num_blocks == 40);
  for (const SpeculationMode mode : {SpeculationMode::off, SpeculationMode::ngram}) {
    CHECK_THROWS_AS(SimCore(drafting(40, mode), small_sim(), nullptr, draft_of(small_sim())), ConfigError);
  }
  SimCore without(drafting(40), small_sim());  // nothing is guessed without a draft model
  without.submit(make_request(5, 50));
  without.run();
  CHECK(without.core.stats().drafts == 0);
}

}  // namespace
}  // namespace inferd
