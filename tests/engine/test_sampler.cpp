// The sampler against numpy's answers, its distribution, and its edge cases.
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <span>

#include "engine/sampler/philox.h"
#include "engine/sampler/sampler.h"
#include "tests/catch.h"

namespace inferd {
namespace {

using Json = nlohmann::json;

Json load_cases() {
  std::ifstream file(INFERD_SOURCE_DIR "/tests/golden/sampler/cases.json");
  REQUIRE(file.good());
  return Json::parse(file);
}

std::vector<float> row_of(const Json& spec) {
  if (spec.contains("values")) return spec["values"].get<std::vector<float>>();
  std::vector<float> row(spec["size"].get<std::size_t>());
  const auto salt = spec["formula"].get<std::uint32_t>();
  for (std::size_t id = 0; id < row.size(); ++id) {
    std::uint32_t x = static_cast<std::uint32_t>(id) * 2654435761u + salt * 40503u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    row[id] = static_cast<float>(static_cast<double>(x & 0xFFFFFu) / 65536.0 - 8.0);
  }
  return row;
}

struct Rules {
  explicit Rules(const Json& p) {
    params.temperature = p["temperature"];
    params.top_k = p["top_k"];
    params.top_p = p["top_p"];
    params.min_p = p["min_p"];
    params.repetition_penalty = p["repetition_penalty"];
    params.presence_penalty = p["presence_penalty"];
    params.frequency_penalty = p["frequency_penalty"];
    for (const Json& pair : p["logit_bias"])
      params.logit_bias.emplace_back(pair[0].get<TokenId>(), pair[1].get<float>());
    banned = p["banned"].get<std::vector<TokenId>>();
    for (const TokenId token : p["prompt"].get<std::vector<TokenId>>()) counts.add_prompt(token);
    for (const TokenId token : p["output"].get<std::vector<TokenId>>()) counts.add_output(token);
  }
  SamplingParams params;
  std::vector<TokenId> banned;
  TokenCounts counts;
};

SampleResult sample(Sampler* sampler, const std::vector<float>& row, const SampleInput& input, TokenEvent* out) {
  std::copy(row.begin(), row.end(), sampler->row().begin());
  return sampler->sample(input, out);
}

/// Frequencies of `draws` positions under one seed.
std::vector<int> histogram(const std::vector<float>& row, const SamplingParams& params, int draws) {
  Sampler sampler(static_cast<std::int64_t>(row.size()));
  std::vector<int> counts(row.size(), 0);
  for (int i = 0; i < draws; ++i) {
    TokenEvent event;
    REQUIRE(sample(&sampler, row, {.params = params, .position = i}, &event) == SampleResult::token);
    ++counts[static_cast<std::size_t>(event.token)];
  }
  return counts;
}

TEST_CASE("Philox gives the published vectors") {
  const Json all = load_cases();
  for (const Json& known : all["philox"]) {
    CHECK(philox_4x32(known["counter"].get<std::array<std::uint32_t, 4>>(),
                      known["key"].get<std::array<std::uint32_t, 2>>()) ==
          known["out"].get<std::array<std::uint32_t, 4>>());
  }
  CHECK(philox_4x32({0, 0, 0, 0}, {0, 0}) ==
        std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(uniform_draw(1, 2) != uniform_draw(1, 3));
  CHECK(uniform_draw(1, 2) != uniform_draw(2, 2));
}

TEST_CASE("every rule and mix of rules draws what numpy draws") {
  int draws = 0;
  const Json all = load_cases();
  for (const Json& item : all["cases"]) {
    INFO(item["name"].get<std::string>());
    const std::vector<float> row = row_of(item["row"]);
    Rules rules(item["params"]);
    Sampler sampler(static_cast<std::int64_t>(row.size()));
    TokenEvent event;
    SampleInput input{.params = rules.params, .counts = &rules.counts, .banned = rules.banned, .top_logprobs = 20};
    if (item["all_banned"].get<bool>()) {
      CHECK(sample(&sampler, row, input, &event) == SampleResult::all_banned);
      continue;
    }
    for (const Json& draw : item["draws"]) {
      rules.params.seed = draw["seed"];
      input.position = draw["position"];
      REQUIRE(sample(&sampler, row, input, &event) == SampleResult::token);
      CHECK(event.token == draw["token"].get<TokenId>());
      CHECK(event.logprob == Approx(draw["logprob"].get<double>()).margin(2e-6));
      const Json& top = item["top"];
      REQUIRE(event.top.size() == top.size());
      for (std::size_t i = 0; i < top.size(); ++i) {
        CHECK(event.top[i].token == top[i][0].get<TokenId>());
        CHECK(event.top[i].logprob == Approx(top[i][1].get<double>()).margin(2e-6));
      }
      ++draws;
    }
  }
  CHECK(draws > 500);
}

TEST_CASE("draws follow the distribution (chi-square, fixed seeds)") {
  std::vector<float> row(16);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = std::sin(static_cast<float>(i) * 1.7f) * 1.5f;
  const int draws = 200000;
  const auto chi_square = [&](const SamplingParams& params, const std::vector<std::size_t>& kept) {
    const std::vector<int> counts = histogram(row, params, draws);
    double total = 0.0;
    for (const std::size_t id : kept) total += std::exp(row[id] / params.temperature);
    double chi = 0.0;
    int seen = 0;
    for (const std::size_t id : kept) {
      const double expected = draws * std::exp(row[id] / params.temperature) / total;
      chi += (counts[id] - expected) * (counts[id] - expected) / expected;
      seen += counts[id];
    }
    CHECK(seen == draws);
    return chi;
  };
  std::vector<std::size_t> all(row.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  std::vector<std::size_t> best = all;
  std::sort(best.begin(), best.end(), [&](std::size_t a, std::size_t b) { return row[a] > row[b]; });
  best.resize(5);
  for (const std::int64_t seed : {1, 42, -7}) {
    SamplingParams params;
    params.seed = seed;
    CHECK(chi_square(params, all) < 37.7);  // 15 degrees of freedom, 0.1% point
    params.temperature = 0.6f;
    CHECK(chi_square(params, all) < 37.7);
    params.top_k = 5;
    CHECK(chi_square(params, best) < 18.5);  // 4 degrees, 0.1%
  }
}

TEST_CASE("a draw depends on seed and position alone") {
  std::vector<float> row(300);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>((i * 37) % 100) * 0.02f;
  SamplingParams params;
  params.seed = 5;
  Sampler fresh(300), used(300);
  TokenEvent a, b, other;
  for (int position = 0; position < 50; ++position) {
    SamplingParams noise;
    noise.seed = position;
    noise.top_p = 0.5f;
    sample(&used, row, {.params = noise, .position = 99, .top_logprobs = 3}, &other);
    sample(&fresh, row, {.params = params, .position = position}, &a);
    sample(&used, row, {.params = params, .position = position, .top_logprobs = 5}, &b);
    CHECK(a.token == b.token);
  }
}

TEST_CASE("temperature 0 takes the lowest id of the best") {
  std::vector<float> row(1000, -1.0f);
  row[700] = row[30] = row[999] = 3.0f;
  SamplingParams params;
  params.temperature = 0.0f;
  Sampler sampler(1000);
  TokenEvent event;
  REQUIRE(sample(&sampler, row, {.params = params}, &event) == SampleResult::token);
  CHECK(event.token == 30);
  params.logit_bias = {{30, -100.0f}};
  REQUIRE(sample(&sampler, row, {.params = params}, &event) == SampleResult::token);
  CHECK(event.token == 700);
}

TEST_CASE("log-probabilities are those of the raw row, whatever the rules do") {
  std::vector<float> row = {1.0f, 2.0f, 3.0f, 0.0f};
  double sum = 0.0;
  for (const float x : row) sum += std::exp(x);
  SamplingParams params;
  params.temperature = 0.0f;
  params.logit_bias = {{0, 50.0f}, {2, -100.0f}};
  params.repetition_penalty = 1.7f;
  TokenCounts counts;
  counts.add_prompt(0);
  counts.add_output(1);
  Sampler sampler(4);
  TokenEvent event;
  REQUIRE(sample(&sampler, row, {.params = params, .counts = &counts, .top_logprobs = 2}, &event) ==
          SampleResult::token);
  CHECK(event.token == 0);
  CHECK(event.logprob == Approx(1.0 - std::log(sum)).margin(1e-6));
  REQUIRE(event.top.size() == 2);
  CHECK(event.top[0].token == 2);
  CHECK(event.top[1].token == 1);
  REQUIRE(sample(&sampler, row, {.params = params, .counts = &counts, .top_logprobs = 0}, &event) ==
          SampleResult::token);
  CHECK(event.top.empty());
  CHECK(event.logprob == Approx(1.0 - std::log(sum)).margin(1e-6));
  REQUIRE(sample(&sampler, row, {.params = params, .counts = &counts, .top_logprobs = 30}, &event) ==
          SampleResult::token);
  CHECK(event.top.size() == 4);
  std::copy(row.begin(), row.end(), sampler.row().begin());
  REQUIRE(sampler.score(3, 1, &event));
  CHECK(event.token == 3);
  CHECK(event.logprob == Approx(-std::log(sum)).margin(1e-6));
  CHECK(event.top.at(0).token == 2);
}

TEST_CASE("a mask allows what bans of all others leave, before top_k and top_p") {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(0.0f, 3.0f);
  constexpr std::size_t kSize = 200;  // not whole words of a mask
  std::vector<float> row(kSize);
  Sampler sampler(kSize);
  for (std::int64_t round = 0; round < 200; ++round) {
    for (float& logit : row) logit = normal(rng);
    std::vector<std::uint64_t> mask((kSize - 1) / 64 + (round % 5 == 0 ? 0 : 1));  // what is beyond its end is banned
    std::vector<TokenId> banned;
    for (std::size_t id = 0; id < kSize; ++id) {
      const bool allowed = id / 64 < mask.size() && rng() % 8 == 0;
      if (allowed) mask[id / 64] |= std::uint64_t{1} << (id % 64);
      if (!allowed) banned.push_back(static_cast<TokenId>(id));
    }
    SamplingParams params;
    params.temperature = round % 4 == 0 ? 0.0f : 1.3f;
    params.top_k = round % 3 == 0 ? 4 : 0;
    params.top_p = round % 3 == 1 ? 0.6f : 1.0f;
    params.seed = round;
    TokenEvent by_mask, by_bans;
    const auto words = std::span<const std::uint64_t>(mask);
    REQUIRE(sample(&sampler, row, {.params = params, .allowed = words, .top_logprobs = 3}, &by_mask) ==
            SampleResult::token);
    REQUIRE(sample(&sampler, row, {.params = params, .banned = banned, .top_logprobs = 3}, &by_bans) ==
            SampleResult::token);
    CHECK(by_mask.token == by_bans.token);
    CHECK(by_mask.logprob == by_bans.logprob);
    CHECK(by_mask.top.at(0).token == by_bans.top.at(0).token);
  }
  const std::vector<std::uint64_t> none(4);
  TokenEvent event;
  CHECK(sample(&sampler, row, {.params = SamplingParams(), .allowed = std::span<const std::uint64_t>(none)}, &event) ==
        SampleResult::all_banned);
}

TEST_CASE("NaN and infinity anywhere end the request; -inf too") {
  for (const std::size_t size : {1u, 7u, 33u, 5000u}) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()}) {
      for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
        std::vector<float> row(size, 0.5f);
        row[at] = bad;
        Sampler sampler(static_cast<std::int64_t>(size));
        TokenEvent event;
        CHECK(sample(&sampler, row, {.params = SamplingParams()}, &event) == SampleResult::not_finite);
        std::copy(row.begin(), row.end(), sampler.row().begin());
        CHECK_FALSE(sampler.score(0, 0, &event));
      }
    }
  }
}

TEST_CASE("extreme rules still give a token") {
  std::mt19937 rng(11);
  std::vector<float> row(64);
  TokenCounts counts;
  for (int i = 0; i < 64; i += 2) counts.add_output(i);
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> odd = {0.0f, 1e-38f, 1e-45f, 1e38f, -1.0f, 0.5f, 1.0f, 2.0f, inf, nan, 3e38f};
  Sampler sampler(64);
  for (int i = 0; i < 20000; ++i) {
    const auto pick = [&] { return odd[rng() % odd.size()]; };
    SamplingParams params;
    params.temperature = pick();
    params.top_p = pick();
    params.min_p = pick();
    params.repetition_penalty = pick();
    params.presence_penalty = pick();
    params.frequency_penalty = pick();
    params.top_k = static_cast<int>(rng() % 200) - 50;
    params.logit_bias = {{static_cast<TokenId>(rng() % 64), pick()}, {-5, 1.0f}, {64, 1.0f}};
    params.seed = i;
    for (float& x : row) x = static_cast<float>(rng() % 1000) * (i % 3 == 0 ? 1e35f : 0.01f) - 5.0f;
    TokenEvent event;
    REQUIRE(sample(&sampler, row, {.params = params, .counts = &counts, .top_logprobs = 2}, &event) ==
            SampleResult::token);
    REQUIRE(event.token >= 0);
    REQUIRE(event.token < 64);
  }
}

}  // namespace
}  // namespace inferd
