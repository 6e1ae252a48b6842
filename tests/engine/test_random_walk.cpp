// 300,000 random operations over tiny pools, as many where the device draws the tokens, and as many with a draft model;
// the books are checked after each step and every answer against the model alone.
#include <cstdlib>
#include <map>
#include <random>

#include "tests/engine/device_backend.h"
#include "tests/engine/sim_harness.h"

namespace inferd {
namespace {

struct Live {
  std::shared_ptr<TokenStream> stream;
  Request request;
  Answer so_far;
  bool may_be_cancelled = false;
};

class Walk {
 public:
  Walk(std::uint64_t seed, std::int64_t blocks, const EngineOptions& options, DeviceBackend* device = nullptr,
       std::optional<std::uint64_t> draft_seed = {})
      : rng_(seed),
        sim_(walk_sim(seed)),
        device_(device),
        sure_drafts_(draft_seed == seed),
        bench_(options, sim_, device, draft_seed ? draft_of(*draft_seed) : MakeDraft{}),
        blocks_(blocks) {}

  void run(int operations) {
    for (int i = 0; i < operations; ++i) operate();
    while (bench_.core.size() > 0) step();
    collect();
    REQUIRE(live_.empty());
    REQUIRE(bench_.core.stats().kv_blocks_used == 0);
  }

  std::int64_t checked = 0, cancelled = 0, expired = 0, refused = 0;
  DecoderStats stats() const { return bench_.core.stats(); }

 private:
  static SimOptions walk_sim(std::uint64_t seed) {
    SimOptions sim = small_sim();
    sim.seed = seed;
    sim.vocab_size = 24;
    sim.eos_token = 23;
    sim.eos_probability = 0.05;
    sim.step_s = 0.01;
    sim.poison_token = 22;
    return sim;
  }
  static MakeDraft draft_of(std::uint64_t seed) {
    SimOptions sim = walk_sim(seed);
    sim.step_s = 0.001;
    return [sim](VirtualClock* clock) { return make_sim_model(sim, clock); };
  }
  std::int64_t below(std::int64_t limit) {
    return static_cast<std::int64_t>(rng_() % static_cast<std::uint64_t>(limit));
  }

  Request random_request() {
    Request request;
    // Few families of prompts, so that prefixes are shared, differing at a random place.
    const std::int64_t family = below(6);
    const std::int64_t length = 1 + below(std::min<std::int64_t>(90, blocks_ * 16 + 4));
    for (std::int64_t i = 0; i < length; ++i)
      request.prompt.push_back(static_cast<TokenId>((family * 5 + i * (family + 1)) % 22));
    if (below(3) == 0) request.prompt[static_cast<std::size_t>(below(length))] = static_cast<TokenId>(below(22));
    if (below(60) == 0) request.prompt.back() = 22;
    if (below(10) == 0) request.cache_salt.assign(1, 's');
    request.max_output_tokens = below(50);
    request.min_output_tokens = below(4) == 0 ? below(10) : 0;
    request.stop_token_ids = {23};
    request.priority = static_cast<int>(below(8) == 0 ? below(3) - 1 : 0);
    request.sampling.seed = below(1000);
    request.sampling.temperature = below(4) == 0 ? 0.0f : 1.0f;
    request.sampling.logit_bias = {{22, -100.0f}};
    // Named twice: a rule without a form on the device. Such a request also keeps steps from running ahead.
    if (device_ != nullptr && below(8) == 0) request.sampling.logit_bias.emplace_back(22, -100.0f);
    // A draft model does not count its own guesses.
    if (below(4) == 0 && !sure_drafts_) request.sampling.repetition_penalty = 1.3f;
    if (below(4) == 0) request.top_logprobs = static_cast<int>(below(3));
    if (below(8) == 0) request.prompt_logprobs = static_cast<int>(below(3));
    if (below(15) == 0) request.deadline = bench_.clock.now() + std::chrono::milliseconds(below(400));
    return request;
  }

  void operate() {
    const std::int64_t kind = below(100);
    if (kind < 22) {
      const Request request = random_request();
      auto result = bench_.core.submit(request);
      if (auto* stream = std::get_if<std::shared_ptr<TokenStream>>(&result)) {
        live_.push_back({*stream, request, {}, request.deadline.has_value()});
      } else {
        ++refused;
      }
    } else if (kind < 27 && !live_.empty()) {
      Live& victim = live_[static_cast<std::size_t>(below(static_cast<std::int64_t>(live_.size())))];
      victim.stream->cancel();
      victim.may_be_cancelled = true;
    } else if (kind == 99 && below(200) == 0) {
      bench_.core.finish_all(FinishReason::shutdown);
      bench_.core.check_integrity();
      for (Live& live : live_) live.may_be_cancelled = true;
    } else {
      step();
    }
  }

  void step() {
    bench_.core.step();
    bench_.core.check_integrity();
    collect();
  }

  void collect() {
    std::erase_if(live_, [&](Live& live) {
      drain(*live.stream, &live.so_far);
      if (live.so_far.reason == FinishReason::none) return false;
      verify(live);
      return true;
    });
  }

  void verify(Live& live) {
    const Answer alone = answer_alone(sim_, live.request, bench_.core.context_length());
    const auto& events = live.so_far.events;
    REQUIRE(events.size() <= alone.events.size());
    REQUIRE(equal_events(events,
                         {alone.events.begin(), alone.events.begin() + static_cast<std::ptrdiff_t>(events.size())}));
    switch (live.so_far.reason) {
      case FinishReason::cancelled:
      case FinishReason::shutdown:
        REQUIRE(live.may_be_cancelled);
        ++cancelled;
        break;
      case FinishReason::deadline:
        REQUIRE(live.request.deadline.has_value());
        ++expired;
        break;
      case FinishReason::error:
        REQUIRE(live.request.prompt.back() == 22);
        break;
      default:
        REQUIRE(live.so_far.reason == alone.reason);
        REQUIRE(events.size() == alone.events.size());
        if (live.request.prompt_logprobs >= 0) {
          REQUIRE(live.stream->take_prompt_logprobs().size() == live.request.prompt.size());
        }
        ++checked;
    }
    REQUIRE(live.stream->stats().output_tokens == static_cast<std::int64_t>(events.size()));
  }

  std::mt19937_64 rng_;
  SimOptions sim_;
  DeviceBackend* device_;
  bool sure_drafts_;  // the model drafts for itself
  SimCore bench_;
  std::int64_t blocks_;
  std::vector<Live> live_;
};

/// INFERD_WALK_SEEDS=N runs N rounds of other seeds, for long runs by hand.
int rounds_of_seeds() {
  const char* rounds_text = std::getenv("INFERD_WALK_SEEDS");
  return rounds_text != nullptr ? std::atoi(rounds_text) : 3;
}

/// What the walks of one test came to, together.
struct Totals {
  void add(const Walk& walk) {
    const DecoderStats stats = walk.stats();
    preemptions += stats.preemptions;
    cached += stats.cached_prompt_tokens;
    drafted += stats.draft_tokens;
    accepted += stats.accepted_draft_tokens;
    checked += walk.checked;
    cancelled += walk.cancelled;
    expired += walk.expired;
    refused += walk.refused;
  }
  /// The walks must have been where it hurts.
  void check() const {
    INFO("preemptions " << preemptions << ", cached " << cached << ", checked " << checked << ", cancelled "
                        << cancelled << ", expired " << expired);
    CHECK(preemptions > 100);
    CHECK(cached > 10000);
    CHECK(checked > 2000);
    CHECK(cancelled > 500);
    CHECK(expired > 50);
  }
  std::int64_t preemptions = 0, cached = 0, drafted = 0, accepted = 0;
  std::int64_t checked = 0, cancelled = 0, expired = 0, refused = 0;
};

/// Calls walk(round, variant, blocks, options) for ten sizes in each round.
template <typename Function>
void for_each_walk(Function walk) {
  const int rounds = rounds_of_seeds();
  for (int round = 0; round < rounds; ++round) {
    int variant = 0;
    for (const std::int64_t blocks : {3, 6, 9, 14, 40}) {
      for (const std::int64_t batch : {7, 32}) {
        EngineOptions options = small_options(blocks);
        options.max_batch_tokens = batch;
        options.max_concurrent_requests = 6;
        options.max_queued_requests = 10;
        options.max_logit_rows = variant % 2 == 0 ? 6 : 16;
        options.queue_wait_s = 1e9;
        options.prefix_cache = variant != 4;
        walk(round, variant, blocks, options);
        ++variant;
      }
    }
  }
}

TEST_CASE("random walk: 300,000 operations over tiny pools") {
  Totals totals;
  for_each_walk([&](int round, int variant, std::int64_t blocks, EngineOptions options) {
    options.speculation.mode = static_cast<SpeculationMode>((variant + round) % 3);
    const auto seed = static_cast<std::uint64_t>(round * 100 + variant + 1);
    INFO("seed " << seed);
    Walk walk(seed, blocks, options);
    walk.run(10000);
    totals.add(walk);
  });
  totals.check();
  INFO("drafted " << totals.drafted << ", accepted " << totals.accepted << ", refused " << totals.refused);
  CHECK(totals.refused > 100);
  CHECK(totals.drafted > 10000);
  CHECK(totals.accepted > 200);
}

TEST_CASE("random walk a step ahead: 300,000 operations where the device draws") {
  Totals totals;
  std::int64_t drawn = 0, host_rows = 0;
  for_each_walk([&](int round, int variant, std::int64_t blocks, EngineOptions options) {
    options.steps_ahead = variant == 7 ? 0 : 1;
    options.speculation.mode = variant == 3 ? SpeculationMode::automatic : SpeculationMode::off;
    const auto seed = static_cast<std::uint64_t>(round * 100 + variant + 5000);
    INFO("seed " << seed);
    DeviceBackend device(std::make_unique<SimBackend>(), {});
    Walk walk(seed, blocks, options, &device);
    walk.run(10000);
    totals.add(walk);
    drawn += device.drawn;
    host_rows += device.downloads;
  });
  totals.check();
  INFO("drawn " << drawn << ", on the host " << host_rows);
  CHECK(drawn > 50000);
  CHECK(host_rows > 1000);
}

TEST_CASE("random walk with a draft model: 300,000 operations, and the model's own guesses are always right") {
  Totals totals;
  std::int64_t sure = 0;
  for_each_walk([&](int round, int variant, std::int64_t blocks, EngineOptions options) {
    const bool itself = (variant + round) % 2 == 0;
    options.kv_cache_bytes *= 2;  // as many blocks for both
    options.speculation.mode = variant % 4 < 2 ? SpeculationMode::draft : SpeculationMode::automatic;
    const auto seed = static_cast<std::uint64_t>(round * 100 + variant + 9000);
    INFO("seed " << seed);
    Walk walk(seed, blocks, options, nullptr, itself ? seed : seed + 1);
    walk.run(10000);
    totals.add(walk);
    if (!itself || options.speculation.mode != SpeculationMode::draft) return;
    // Any stale key, missing token or wrong block of the draft model's cache would show here.
    CHECK(walk.stats().accepted_draft_tokens == walk.stats().draft_tokens);
    sure += walk.stats().draft_tokens;
  });
  totals.check();
  INFO("drafted " << totals.drafted << ", accepted " << totals.accepted << ", sure " << sure);
  CHECK(totals.drafted > 10000);
  CHECK(sure > 2000);
}

}  // namespace
}  // namespace inferd
