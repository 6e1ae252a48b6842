// sample's tests: what a row is asked, one call for some rows, and what is right: fp64 where nothing is within rounding
// of a border, and the host's sampler.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/sampler/philox.h"
#include "engine/sampler/sampler.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"

namespace inferd::cuda::test {

inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// What one request asks for.
struct Ask {
  SamplingParams params;
  std::int64_t position = 0;
  int top_logprobs = -1;
  std::vector<TokenId> banned;
  std::int64_t banned_until = 1 << 20;
  std::vector<TokenCounts::Entry> counts;
  int spare_counts = 1;  // room for new tokens
};

struct Got {
  int token = 0;
  SampleStatus status = SampleStatus::token;
  float logprob = 0;
  std::vector<TokenLogprob> top;
  SampleRules rules;  // afterwards
  std::vector<TokenCount> counts;
};

struct Setting {
  int arch = 80;
  int schedules = 6;
  int pad = 0;  // floats between rows; memory ends with the last one
  bool logprobs = true;
};

/// One call of `sample` for all rows; row r has slot n - 1 - r.
inline std::vector<Got> sample(const Setting& setting, const std::vector<std::vector<float>>& rows,
                               const std::vector<Ask>& asks) {
  const int count = static_cast<int>(rows.size()), vocab = static_cast<int>(rows[0].size());
  const int stride = vocab + setting.pad;
  SimLauncher sim(setting.arch, cuda::sample_workspace_bytes(count), setting.schedules);
  std::vector<SampleRules> rules(rows.size());
  std::vector<float> logits;
  std::vector<int> slots;
  for (int r = 0; r < count; ++r) {
    const Ask& ask = asks[static_cast<std::size_t>(r)];
    logits.resize(static_cast<std::size_t>(r) * static_cast<std::size_t>(stride), std::nanf(""));
    logits.insert(logits.end(), rows[static_cast<std::size_t>(r)].begin(), rows[static_cast<std::size_t>(r)].end());
    slots.push_back(count - 1 - r);
    SampleRules& rule = rules[static_cast<std::size_t>(slots.back())];
    rule.seed = static_cast<std::uint64_t>(ask.params.seed);
    rule.position = ask.position;
    rule.temperature = ask.params.temperature;
    rule.top_k = ask.params.top_k;
    rule.top_p = ask.params.top_p;
    rule.min_p = ask.params.min_p;
    rule.repetition_penalty = ask.params.repetition_penalty;
    rule.presence_penalty = ask.params.presence_penalty;
    rule.frequency_penalty = ask.params.frequency_penalty;
    rule.top_logprobs = ask.top_logprobs;
    if (!ask.params.logit_bias.empty()) {
      std::vector<TokenBias> biases;
      for (const auto& [token, bias] : ask.params.logit_bias) biases.push_back({token, bias, 0.0f});
      rule.num_biases = static_cast<int>(biases.size());
      rule.biases = sim.put(biases, DType::f32, {3 * rule.num_biases}, "biases").as<TokenBias>();
    }
    if (!ask.banned.empty()) {
      rule.num_banned = static_cast<int>(ask.banned.size());
      rule.banned = sim.put(ask.banned, DType::i32, {rule.num_banned}, "banned").as<std::int32_t>();
      rule.banned_until = ask.banned_until;
    }
    if (has_penalties(ask.params)) {
      std::vector<TokenCount> counts;
      for (const auto& entry : ask.counts) counts.push_back({entry.token, static_cast<int>(entry.in_output), 0.0f});
      rule.num_counts = static_cast<int>(counts.size());
      rule.counts_capacity = rule.num_counts + ask.spare_counts;
      counts.resize(static_cast<std::size_t>(rule.counts_capacity), {-1, -1, 0.0f});
      rule.counts = sim.put(counts, DType::f32, {3 * rule.counts_capacity}, "counts").as<TokenCount>();
    }
  }
  SampleArgs args;
  args.logits = sim.put(logits, DType::f32, {count, vocab}, "logits");
  args.logits.row_stride = stride;
  args.slots = sim.put(slots, DType::i32, {count}, "slots");
  args.rules = sim.put(rules, DType::f32, {count}, "rules").as<SampleRules>();
  args.tokens = sim.output(DType::i32, {count}, "tokens");
  args.status = sim.output(DType::i32, {count}, "status");
  if (setting.logprobs) {
    args.logprobs = sim.output(DType::f32, {count}, "logprobs");
    args.top_tokens = sim.output(DType::i32, {count, kSampleTopLogprobs}, "top_tokens");
    args.top_logprobs = sim.output(DType::f32, {count, kSampleTopLogprobs}, "top_logprobs");
  }
  cuda::sample(sim, args);

  const auto tokens = sim.get<int>(args.tokens.data, rows.size()), status = sim.get<int>(args.status.data, rows.size());
  const auto after = sim.get<SampleRules>(args.rules, rows.size());
  std::vector<Got> all;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    Got got;
    got.token = tokens[r];
    got.status = static_cast<SampleStatus>(status[r]);
    got.rules = after[static_cast<std::size_t>(slots[r])];
    if (got.rules.num_counts > 0) {
      got.counts = sim.get<TokenCount>(got.rules.counts, static_cast<std::size_t>(got.rules.num_counts));
    }
    if (setting.logprobs && asks[r].top_logprobs >= 0) {
      got.logprob = sim.get<float>(args.logprobs.as<float>() + r, 1)[0];
      const auto ids = sim.get<int>(args.top_tokens.as<int>() + r * kSampleTopLogprobs, kSampleTopLogprobs);
      const auto values = sim.get<float>(args.top_logprobs.as<float>() + r * kSampleTopLogprobs, kSampleTopLogprobs);
      for (std::size_t i = 0; i < kSampleTopLogprobs && ids[i] != -1; ++i) got.top.push_back({ids[i], values[i]});
    }
    all.push_back(std::move(got));
  }
  return all;
}

/// A temperature at which integer logits have powers of two for weights, exactly.
inline constexpr float kBinary = 1.44269504088896341f;

/// The draw by its definition, in fp64. `gap`: how far, relative to the whole, the nearest border is.
/// `miss`: how much of the whole lies between the draw and `other`.
inline int reference_draw(const std::vector<float>& row, const SamplingParams& params, std::int64_t position, int other,
                          double* gap, double* miss) {
  std::vector<int> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)]; });
  const auto logit = [&](int id) { return double{row[static_cast<std::size_t>(id)]}; };
  const double max = logit(order[0]);
  *gap = 1.0, *miss = 1.0;
  if (!(params.temperature > 0.0f)) return order[0];
  const auto weight = [&](int id) {
    const double below = logit(id) - max;
    return params.temperature == kBinary ? std::exp2(below) : std::exp(below / params.temperature);
  };
  if (params.top_k > 0 && order.size() > static_cast<std::size_t>(params.top_k)) {
    order.resize(static_cast<std::size_t>(params.top_k));
  }
  double total = 0;
  for (const int id : order) total += weight(id);
  if (params.top_p < 1.0f) {
    const double wanted = std::max(double{params.top_p}, 0.0) * total;
    double mass = 0;
    std::size_t kept = 0;
    for (; kept < order.size() && (kept == 0 || mass < wanted); ++kept) {
      if (kept > 0) *gap = std::min(*gap, std::fabs(mass - wanted) / total);
      mass += weight(order[kept]);
    }
    *gap = std::min(*gap, std::fabs(mass - wanted) / total);
    order.resize(kept);
  }
  const double least = std::min(double{params.min_p}, 1.0);
  while (order.size() > 1 && weight(order.back()) < least) {
    *gap = std::min(*gap, std::fabs(weight(order.back()) - least));
    order.pop_back();
  }
  if (least > 0 && order.size() > 1) *gap = std::min(*gap, std::fabs(weight(order.back()) - least));
  std::sort(order.begin(), order.end());
  total = 0;
  for (const int id : order) total += weight(id);
  double left = uniform_draw(static_cast<std::uint64_t>(params.seed), static_cast<std::uint64_t>(position)) * total;
  double before = 0;
  for (const int id : order) before += id < other ? weight(id) : 0.0;
  *miss = std::max({0.0, before - left, left - before - weight(other)}) / total;
  for (const int id : order) {
    const double here = weight(id);
    if (left < here) {
      *gap = std::min({*gap, left / total, (here - left) / total});
      return id;
    }
    *gap = std::min(*gap, (left - here) / total);
    left -= here;
  }
  *gap = 0;
  return order.back();
}

inline std::vector<float> changed(std::vector<float> row, const Ask& ask) {
  const auto at = [&](TokenId token) -> float& { return row[static_cast<std::size_t>(token)]; };
  for (const auto& [token, bias] : ask.params.logit_bias) at(token) = bias <= -100.0f ? -kInfinity : at(token) + bias;
  if (ask.position < ask.banned_until) {
    for (const TokenId token : ask.banned) at(token) = -kInfinity;
  }
  if (!has_penalties(ask.params)) return row;
  for (const auto& entry : ask.counts) {
    float& logit = at(entry.token);
    if (logit == -kInfinity) continue;
    const float repetition = ask.params.repetition_penalty;
    if (repetition > 0.0f) logit = logit > 0.0f ? logit / repetition : logit * repetition;
    if (entry.in_output > 0) {
      logit -= ask.params.presence_penalty + ask.params.frequency_penalty * static_cast<float>(entry.in_output);
    }
  }
  return row;
}

struct Tally {
  int rows = 0, skipped = 0;
};

// Weights are off by 2^-22 and by 2^-22 of their exponent; 2^-42 of the best is cut off each.
inline constexpr double kRounding = 4e-6;

/// Checks one row's answer against fp64 and the host. Without rounding the kernel must be exact; the host's weights are
/// not always.
inline void check(const std::vector<float>& row, const Ask& ask, const Got& got, Tally* tally,
                  double rounding = kRounding) {
  CAPTURE(row.size(), ask.params.temperature, ask.params.top_k, ask.params.top_p, ask.params.min_p, ask.params.seed,
          ask.position, ask.top_logprobs);
  HOLDS(got.status == SampleStatus::token);
  HOLDS(got.rules.position == ask.position + 1);
  HOLDS((got.token >= 0 && got.token < static_cast<int>(row.size())));
  double gap = 0, miss = 0;
  const std::vector<float> ruled = changed(row, ask);
  const int expected = reference_draw(ruled, ask.params, ask.position, got.token, &gap, &miss);
  ++tally->rows;
  const bool exact = rounding == 0.0, decided = exact || gap > rounding;
  if (decided) {
    HOLDS(got.token == expected);
  } else {
    ++tally->skipped;
    HOLDS(ruled[static_cast<std::size_t>(got.token)] > -kInfinity);
    HOLDS(miss < 1e-3);  // a token more or less at a border moves the others that much at most
  }

  TokenCounts counts;
  for (const auto& entry : ask.counts) {
    counts.add_prompt(entry.token);
    for (int i = 0; i < entry.in_output; ++i) counts.add_output(entry.token);
  }
  Sampler host(static_cast<std::int64_t>(row.size()));
  std::copy(row.begin(), row.end(), host.row().begin());
  TokenEvent event;
  const bool bans = ask.position < ask.banned_until;
  const SampleInput input{.params = ask.params,
                          .counts = &counts,
                          .banned = bans ? std::span<const TokenId>(ask.banned) : std::span<const TokenId>(),
                          .position = ask.position,
                          .top_logprobs = ask.top_logprobs};
  HOLDS(host.sample(input, &event) == SampleResult::token);
  if (decided && !exact) HOLDS(got.token == event.token);
  if (ask.top_logprobs >= 0) {
    const double max = double{*std::max_element(row.begin(), row.end())};
    double sum = 0;
    for (const float logit : row) sum += std::exp(double{logit} - max);
    const auto is_logprob = [&](float found, TokenId token) {
      const double expected = double{row[static_cast<std::size_t>(token)]} - max - std::log(sum);
      return std::fabs(double{found} - expected) <= 2e-6 + 2e-7 * std::fabs(expected);
    };
    HOLDS(is_logprob(got.logprob, got.token));
    HOLDS(got.top.size() == event.top.size());
    for (std::size_t i = 0; i < got.top.size(); ++i) {
      HOLDS(got.top[i].token == event.top[i].token);
      HOLDS(is_logprob(got.top[i].logprob, got.top[i].token));
    }
  }
  if (!has_penalties(ask.params)) return;
  const auto& entries = ask.counts;
  const auto seen = std::find_if(entries.begin(), entries.end(), [&](const auto& e) { return e.token == got.token; });
  const bool is_new = seen == entries.end();
  HOLDS(got.counts.size() == entries.size() + (is_new && ask.spare_counts > 0 ? 1 : 0));
  for (std::size_t i = 0; i < got.counts.size(); ++i) {
    const bool old = i < entries.size();
    const TokenId token = old ? entries[i].token : got.token;
    HOLDS(got.counts[i].token == token);
    HOLDS(got.counts[i].in_output == (old ? entries[i].in_output : 0) + (token == got.token));
  }
}

inline void check_all(const Setting& setting, const std::vector<std::vector<float>>& rows, const std::vector<Ask>& asks,
                      Tally* tally, double rounding = kRounding) {
  const std::vector<Got> got = sample(setting, rows, asks);
  for (std::size_t r = 0; r < rows.size(); ++r) check(rows[r], asks[r], got[r], tally, rounding);
}

enum class Shape { spread, peaked, stepped, flat };

inline std::vector<float> logits_of(Shape shape, int vocab, std::uint32_t seed) {
  std::vector<float> row = normals(static_cast<std::size_t>(vocab), seed, shape == Shape::peaked ? 6.0f : 2.0f);
  for (float& logit : row) {
    if (shape == Shape::stepped) logit = std::round(logit);  // many ties, zeros of both signs
    if (shape == Shape::flat) logit = -3.25f;
  }
  return row;
}

inline Ask ask_for(float temperature, int top_k, float top_p, float min_p, std::int64_t seed) {
  Ask ask;
  ask.params.temperature = temperature;
  ask.params.top_k = top_k;
  ask.params.top_p = top_p;
  ask.params.min_p = min_p;
  ask.params.seed = seed * 0x123456789abcd;
  ask.position = seed % 7;
  ask.top_logprobs = static_cast<int>(seed % 3 == 0 ? 20 : seed % 7 == 0 ? 0 : seed % 5 == 2 ? 3 : -1);
  return ask;
}

/// A row for each way to draw; every row and request has a seed of its own, from *seed on.
inline void add_rows_of_each_rule(Shape shape, int vocab, std::uint32_t* seed, std::vector<std::vector<float>>* rows,
                                  std::vector<Ask>* asks) {
  const auto add = [&](float temperature, int top_k, float top_p, float min_p) {
    ++*seed;
    rows->push_back(logits_of(shape, vocab, *seed));
    asks->push_back(ask_for(temperature, top_k, top_p, min_p, *seed));
  };
  add(0.0f, 0, 1.0f, 0.0f);
  add(1.0f, 0, 1.0f, 0.0f);
  add(0.7f, 20, 1.0f, 0.0f);
  add(1.3f, 0, 0.9f, 0.0f);
  add(0.6f, 40, 0.8f, 0.02f);
  add(1.0f, 0, 1.0f, 0.1f);
  add(2.0f, 1100, 0.95f, 0.001f);
}

/// Rows with biases, bans and penalties; the last three leave one token, unknown and known to the counts.
inline void add_ruled_rows(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  for (int r = 0; r < 10; ++r) {
    Ask ask = ask_for(r % 3 == 0 ? 0.0f : 0.9f, r % 2 * 30, r % 4 == 1 ? 0.9f : 1.0f, 0.0f, 100 + r);
    ask.top_logprobs = r % 4 - 1;
    std::vector<float> row = logits_of(Shape::spread, 1500, 900 + static_cast<std::uint32_t>(r));
    std::vector<int> best(row.size());
    std::iota(best.begin(), best.end(), 0);
    std::sort(best.begin(), best.end(),
              [&](int a, int b) { return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)]; });
    if (r != 1) ask.params.logit_bias = {{best[0], -100.0f}, {best[1], -2.5f}, {best[900], 20.0f}, {best[2], 1.5f}};
    if (r % 2 == 0) ask.banned = {best[900], best[3]};
    if (r == 4) ask.banned_until = ask.position;  // no longer
    if (r >= 2) {
      ask.params.repetition_penalty = r == 7 ? 0.0f : r == 8 ? 1.0f : 1.3f;
      ask.params.presence_penalty = r == 5 ? 0.0f : 0.4f;
      ask.params.frequency_penalty = r == 6 ? -2.0f : 0.25f;
      for (int i = 0; i < 1100; ++i) ask.counts.push_back({best[static_cast<std::size_t>(i + r % 3)], i % 4});
      ask.spare_counts = r % 2;
    }
    rows->push_back(row);
    asks->push_back(ask);
  }
  // One token is left, known and unknown to the counts, with its raw log-probability.
  for (const int known : {0, 1, 2}) {
    Ask ask = ask_for(1.0f, 0, 1.0f, 0.0f, 5);
    for (int id = 0; id < 1499; ++id) ask.params.logit_bias.push_back({id, -100.0f});
    ask.params.logit_bias.push_back({1499, -60.0f});
    ask.params.presence_penalty = 1.0f;
    if (known == 1) ask.counts = {{3, 1}, {1499, 7}};
    if (known == 2) ask.counts = {{1499, 7}};
    rows->push_back(logits_of(Shape::spread, 1500, 77));
    asks->push_back(ask);
  }
}

/// A row of which many tokens have a bias, are banned and have been seen, each in another order, so that other threads
/// look at them.
inline void add_contested_row(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  constexpr int kVocab = 1500, kBiases = 1100, kBanned = 1050, kCounts = 1200;
  Ask ask = ask_for(0.9f, 0, 1.0f, 0.0f, 9);
  for (int i = 0; i < kBiases; ++i) ask.params.logit_bias.push_back({i * 7 % kVocab, 0.5f});
  for (int i = 0; i < kBanned; ++i) ask.banned.push_back((i * 11 + 700) % kVocab);
  ask.params.presence_penalty = 0.5f;
  for (int i = 0; i < kCounts; ++i) ask.counts.push_back({(i * 13 + 400) % kVocab, i % 3});
  rows->push_back(logits_of(Shape::spread, kVocab, 55));
  asks->push_back(ask);
  // The best token is so until its penalty, which another warp applies than that which looks at it.
  const auto is_banned = [&](TokenId id) {
    return std::find(ask.banned.begin(), ask.banned.end(), id) != ask.banned.end();
  };
  const auto best = std::find_if(ask.counts.begin() + 100, ask.counts.end(), [&](const auto& entry) {
    return entry.token < 900 && entry.in_output > 0 && !is_banned(entry.token);
  });
  std::vector<float> row(kVocab, 1.0f);
  row[static_cast<std::size_t>(best->token)] = 1.25f;
  rows->push_back(row);
  asks->push_back(ask);
  asks->back().params.temperature = 0.0f;
}

/// A request whose draw is between these two.
inline Ask ask_for_draw(float temperature, int top_k, float top_p, double low, double high) {
  Ask ask = ask_for(temperature, top_k, top_p, 0.0f, 0);
  ask.top_logprobs = 20;
  const auto drawn = [&] { return uniform_draw(static_cast<std::uint64_t>(ask.params.seed), 0); };
  while (drawn() < low || drawn() >= high) ++ask.params.seed;
  return ask;
}
/// A request whose draw is the last token that is left, if all weigh about the same.
inline Ask ask_for_last(float temperature, int top_k, float top_p) {
  return ask_for_draw(temperature, top_k, top_p, 0.9998, 1.0);
}

/// So many tokens after each other have this logit.
struct Level {
  int tokens;
  float logit;
};
inline std::vector<float> levels(int vocab, float behind, std::initializer_list<Level> all) {
  std::vector<float> row;
  for (const Level& level : all) row.insert(row.end(), static_cast<std::size_t>(level.tokens), level.logit);
  row.resize(static_cast<std::size_t>(vocab), behind);
  return row;
}

/// Rows whose sums of weights end exactly where top_p does, or nearly: in lists and in what is too long for one.
inline void add_exact_rows(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  const auto add = [&](float top_p, std::initializer_list<Level> all) {
    rows->push_back(levels(3001, -60.0f, all));
    asks->push_back(ask_for_last(kBinary, 0, top_p));
  };
  // A level weighs 1; the border is behind a level.
  add(0.5f, {{1, 0.0f}, {2, -1.0f}, {4, -2.0f}, {8, -3.0f}, {16, -4.0f}, {32, -5.0f}});
  add(0.75f, {{1, 0.0f}, {2, -1.0f}, {4, -2.0f}, {8, -3.0f}});
  // 1, 0.5 and 0.5, where a carry too many of each token would end in the second level.
  add(0.8125f, {{1, 0.0f}, {256, -9.0f}, {512, -10.0f}});
  // 2048 tokens of a bin weigh 2 beside 2 more: half of them are kept.
  add(0.75f, {{1, 0.0f}, {2, -1.0f}, {2048, -10.0f}});
  // Sums of masses with all their digits.
  add(1.0f, {{1, 0.0f}, {3000, -22.0f}});
  add((1.0f + 1500.5f * 0x1p-20f) / (1.0f + 3000 * 0x1p-20f), {{1, 0.0f}, {3000, -20.0f}});
  for (const int top_k : {0, 901}) {
    add((1.0f + 450.5f * 0x1p-20f) / (1.0f + 900 * 0x1p-20f), {{1, 0.0f}, {900, -20.0f}});
    asks->back().params.top_k = top_k;
  }
}

/// Rows in which a carry too many, of those tokens of the second level that one place of a loop looks at, would end the
/// third before its first token, which is drawn: apart in bins, and in one bin of more than a list's tokens.
inline void add_carried_rows(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  rows->push_back(levels(1024, -60.0f, {{1, 0.0f}, {255, -9.0f}, {512, -10.0f}}));
  rows->back().resize(1152, -9.0f);
  asks->push_back(ask_for_draw(kBinary, 0, (1.0f + 383.25f / 512) / (1.5f + 383.0f / 512), 0.8566, 0.8570));
  rows->push_back(levels(1024, -10.000001f, {{1, 0.0f}, {255, -10.0f}}));
  rows->back().resize(1152, -10.0f);
  asks->push_back(ask_for_draw(kBinary, 0, (1.0f + 383.5f / 1024) / (1.0f + 1151.0f / 1024), 0.9085, 0.9090));
}

/// Rows whose best tokens end with one at the place `i` of four neighbours, in the last but one, the last and the first
/// chunk of a segment, of which the last one has an odd number; more than a list's tokens share its bin. All places of
/// the loops over tokens have better tokens and worse ones. Without draws: rows of which the best tokens are asked.
inline void add_ended_rows(int i, bool draws, std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  struct Kind {
    float max, better, end, worse;
  };
  constexpr Kind kKinds[] = {{8.0f, 8.0f, -2.0f, -2.0000002f},         // apart in bins
                             {7.52f, 0.002f, 0.001f, 0.0f},            // in the order's middle bits
                             {7.52f, 0.001f, -0.001f, -0.002f},        // in the first
                             {8.0f, -2.0f, -2.0078125f, -2.0079f},     // in the middle
                             {8.0f, -2.0f, -2.0000002f, -2.0000005f},  // in the last
                             {8.0f, -2.0f, -2.0f, -2.2f}};  // a bin and the next, whose places are a thread's
  const int vocab = 2145 + i;
  for (const int start : {1028, 1924, 2052}) {
    for (const Kind& kind : kKinds) {
      if (start < 2052 && &kind != &kKinds[i]) continue;
      std::vector<float> row(static_cast<std::size_t>(vocab), kind.worse);
      row[16] = kind.max;
      int count = 1;
      for (const int place : {4, 132, 2048}) {
        for (int id = place; place < start && id < place + 4; ++id, ++count)
          row[static_cast<std::size_t>(id)] = kind.better;
      }
      const int last = start + i;
      for (int id = start; id <= last; ++id, ++count) row[static_cast<std::size_t>(id)] = kind.end;
      rows->push_back(row);
      asks->push_back(ask_for_last(1e3f, count, 1.0f));
      asks->back().top_logprobs = count;
      if (!draws) continue;
      rows->push_back(row);
      const float share = (static_cast<float>(count) - 0.5f) / static_cast<float>(vocab);
      asks->push_back(ask_for_last(1e3f, 0, share));
    }
    if (!draws) continue;
    // Too many for a list.
    std::vector<float> row(static_cast<std::size_t>(start), -2.0f);
    row[16] = 8.0f;
    row.resize(static_cast<std::size_t>(vocab), -2.0078125f);
    for (const float top_p : {1.0f, 0.9999f}) {
      rows->push_back(row);
      asks->push_back(ask_for_last(1e3f, start + i + 1, top_p));
    }
  }
}

/// Logits so far from the best one that they share the last bin, and a list that is one token too long, whose last is
/// the best.
inline void add_far_row(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  rows->push_back(levels(1025, -3e6f, {{1, 0.0f}, {1, -2e6f}, {1, -1e30f}, {1, -2.5e6f}}));
  asks->push_back(ask_for_last(1e7f, 4, 1.0f));
  asks->back().top_logprobs = 4;
}
/// Logits of 0 behind better ones, all in one list; the best token is a warp's last lane's.
inline void add_zero_rows(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  rows->push_back(levels(300, 0.0f, {{15, 1.0f}}));
  asks->push_back(ask_for_last(1e3f, 25, 1.0f));
  for (const bool biased : {false, true}) {
    rows->push_back(levels(300, 0.0f, {}));
    rows->back()[127] = 1.0f;
    asks->push_back(ask_for_last(0.0f, 0, 1.0f));
    if (biased) asks->back().params.logit_bias = {{3, -1.0f}};
  }
}
inline void add_overlong_row(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  rows->push_back(levels(1025, 1.0f, {}));
  rows->back().back() = 1.0001f;
  asks->push_back(ask_for_last(1.0f, 3, 1.0f));
  asks->back().top_logprobs = 3;
}

/// Rows of nearly equal weights of which top_k ends behind a level of a bin, behind the first of a segment's or a
/// warp's tokens, or with the last token of a list.
inline void add_counted_rows(std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  const auto add = [&](int top_k, std::initializer_list<Level> all) {
    rows->push_back(levels(3001, -1e6f, all));
    asks->push_back(ask_for_last(1e3f, top_k, 1.0f));
  };
  add(1301, {{1, 8.0f}, {1300, -2.0f}, {1200, -2.0078125f}});  // apart in the middle bits of their order
  add(1300, {{1, 8.0f}, {1300, -2.0f}, {1200, -2.0078125f}});
  add(1301, {{1, 8.0f}, {1300, -2.0f}, {1200, -2.0000002f}});  // in the last bit
  add(1301, {{1, 7.52f}, {1300, 0.001f}, {1200, -0.001f}});    // in the first
  // A third of each chunk's tokens are better than the others of their bin; one of the second segment is the last.
  add(453, {});
  for (std::size_t id = 0; id < rows->back().size(); ++id) rows->back()[id] = id % 128 < 44 ? -2.0f : -2.0078125f;
  rows->back()[3] = 8.0f;
  for (const int top_k : {1023, 1024, 1025, 1153}) {
    add(top_k, {{3001, 1.0f}});
    rows->push_back(normals(3001, 77));
    std::sort(rows->back().begin(), rows->back().end(), std::greater<>());
    asks->push_back(ask_for_last(1e3f, top_k, 1.0f));
  }
}

/// One token far above thousands that weigh less than 2^-16 of it each, in which top_p and top_k end; equal ones and
/// others. Draws from the end of what is kept.
inline void add_tailed_rows(int vocab, std::vector<std::vector<float>>* rows, std::vector<Ask>* asks) {
  std::int64_t seed = 1;
  for (const float spread : {0.0f, 0.003f}) {
    for (const int top_k : {0, vocab / 2}) {
      std::vector<float> row = normals(static_cast<std::size_t>(vocab), 31, spread);
      for (float& logit : row) logit -= 11.25f;
      row[static_cast<std::size_t>(vocab / 3)] = 0.0f;
      Ask ask = ask_for(1.0f, top_k, top_k > 0 ? 1.0f : 0.875f, 0.0f, 0);
      ask.top_logprobs = 3;
      while (uniform_draw(static_cast<std::uint64_t>(seed), 0) < 0.99) ++seed;
      ask.params.seed = seed++;
      rows->push_back(row);
      asks->push_back(ask);
    }
  }
}

/// Rows of 40000 tokens with one that is no number, which is not what its thread looks at last.
inline std::vector<std::vector<float>> rows_with_a_nan() {
  std::vector<std::vector<float>> rows(6, logits_of(Shape::spread, 40000, 9));
  const std::size_t places[] = {0, 1021, 7171, 7300, 32767, 39999};
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r][places[r]] = std::nanf("");
  return rows;
}

}  // namespace inferd::cuda::test
