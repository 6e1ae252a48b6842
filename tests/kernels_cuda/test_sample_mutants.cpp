// Faults put into the sampling kernels, one at a time, against rows that reach all of their code.
#include <cstring>

#include "tests/kernels_cuda/sample_case.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

/// One call, and its answers without a fault, which were checked.
struct Call {
  Setting setting;
  std::vector<std::vector<float>> rows;
  std::vector<Ask> asks;
  double rounding = kRounding;
  std::vector<Got> good = {};

  void add(Shape shape, int vocab, std::uint32_t seed, const Ask& ask) {
    rows.push_back(logits_of(shape, vocab, seed));
    asks.push_back(ask);
  }
};

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

bool same(const Got& a, const Got& b) {
  const auto same_top = [](const TokenLogprob& x, const TokenLogprob& y) {
    return x.token == y.token && same_bits(x.logprob, y.logprob);
  };
  const auto same_count = [](const TokenCount& x, const TokenCount& y) {
    return x.token == y.token && x.in_output == y.in_output;
  };
  return a.token == b.token && a.status == b.status && same_bits(a.logprob, b.logprob) &&
         a.rules.position == b.rules.position &&
         std::equal(a.top.begin(), a.top.end(), b.top.begin(), b.top.end(), same_top) &&
         std::equal(a.counts.begin(), a.counts.end(), b.counts.begin(), b.counts.end(), same_count);
}

/// Answers that are not those without a fault may still be right.
bool is_right(Call& call) {
  const std::vector<Got> got = sample(call.setting, call.rows, call.asks);
  Tally tally;
  for (std::size_t r = 0; r < got.size(); ++r) {
    if (!call.good.empty() && same(got[r], call.good[r])) continue;
    if (call.good.empty() || call.good[r].status == SampleStatus::token) {
      check(call.rows[r], call.asks[r], got[r], &tally, call.rounding);
    } else {
      return false;
    }
  }
  if (call.good.empty()) call.good = got;
  return true;
}

/// Loops over tokens have copies for rows that are aligned and others, and for all but the last 128 of a segment.
struct Row {
  Shape shape;
  int vocab, pad;
};
constexpr Row kRows[] = {{Shape::spread, 129, 0},   {Shape::stepped, 129, 3}, {Shape::spread, 2635, 0},
                         {Shape::stepped, 2635, 1}, {Shape::flat, 2635, 1},   {Shape::peaked, 2635, 1},
                         {Shape::flat, 1281, 3},    {Shape::spread, 1281, 0}};

double rounding_of(Shape shape) { return shape == Shape::flat ? 1e-12 : kRounding; }

/// Every way to draw.
std::vector<Call> draws() {
  std::vector<Call> all;
  const int arch = mutant_arch();
  std::uint32_t seed = 1;
  for (const Row& row : kRows) {
    Call call{{.arch = arch, .schedules = 1, .pad = row.pad, .logprobs = false}, {}, {}, rounding_of(row.shape)};
    add_rows_of_each_rule(row.shape, row.vocab, &seed, &call.rows, &call.asks);
    all.push_back(std::move(call));
  }
  Call tailed{{.arch = arch, .schedules = 1, .logprobs = false}, {}, {}, 1e-6};
  add_tailed_rows(20001, &tailed.rows, &tailed.asks);
  all.push_back(std::move(tailed));
  for (const Shape shape : {Shape::spread, Shape::flat}) {
    Call wide{{.arch = arch, .schedules = 1, .logprobs = false}, {}, {}, rounding_of(shape)};
    wide.add(shape, 40000, 12, ask_for(0.8f, 0, 0.9f, 0.0f, 10));
    wide.add(shape, 40000, 12, ask_for(1.0f, 50, 0.95f, 0.0f, 13));
    wide.add(shape, 40000, 12, ask_for(1.5f, 0, 0.999f, 0.0f, 18));
    all.push_back(std::move(wide));
  }
  for (Call& call : all) {
    for (Ask& ask : call.asks) ask.top_logprobs = -1;
  }
  Call ruled{{.arch = arch, .schedules = 1}, {}, {}};
  add_ruled_rows(&ruled.rows, &ruled.asks);
  all.push_back(std::move(ruled));
  return all;
}

/// Log-probabilities: of the best tokens of all shapes.
std::vector<Call> scores() {
  std::vector<Call> all;
  const auto add = [&](Shape shape, int vocab, int pad, std::initializer_list<int> wanted) {
    Call call{{.arch = mutant_arch(), .schedules = 1, .pad = pad}, {}, {}, rounding_of(shape)};
    for (const int top : wanted) {
      call.add(shape, vocab, 50 + static_cast<std::uint32_t>(top), ask_for(0.0f, 0, 1.0f, 0.0f, 1));
      call.asks.back().top_logprobs = top;
    }
    all.push_back(std::move(call));
  };
  for (const Row& row : kRows) add(row.shape, row.vocab, row.pad, {20, 3, 1, 0, -1});
  add(Shape::spread, 5, 0, {20, 5, 4});
  add(Shape::stepped, 40000, 1, {20});
  add(Shape::flat, 40000, 0, {20});
  Call tailed{{.arch = mutant_arch(), .schedules = 1}, {}, {}};
  add_tailed_rows(6001, &tailed.rows, &tailed.asks);
  for (Ask& ask : tailed.asks) {
    ask.params.temperature = 0.0f;
    ask.top_logprobs = 20;
  }
  all.insert(all.begin(), std::move(tailed));
  return all;
}

/// Rows without a draw, whose answers test_sample.cpp checks.
Call undrawable() {
  Call call{{.arch = mutant_arch(), .schedules = 1, .pad = 1}, {}, {}};
  for (int r = 0; r < 5; ++r) call.add(Shape::spread, 300, 3, ask_for(0.8f, 5, 0.9f, 0.0f, 20));
  call.rows[0][299] = std::nanf("");
  call.rows[1][0] = kInfinity;
  call.rows[2][150] = -kInfinity;
  call.rows[3].assign(300, -kInfinity);
  for (int id = 0; id < 300; ++id) call.asks[4].params.logit_bias.push_back({id, -100.0f});
  call.good = sample(call.setting, call.rows, call.asks);
  return call;
}

Call with_nans() {
  Call call{{.arch = mutant_arch(), .schedules = 1}, rows_with_a_nan(), {}};
  call.asks.assign(call.rows.size(), ask_for(0.8f, 5, 0.9f, 0.0f, 20));
  call.good = sample(call.setting, call.rows, call.asks);
  return call;
}

/// Equal logits: the lowest ids, zeros of both signs among them.
Call equals() {
  Call call{{.arch = mutant_arch(), .schedules = 1}, {}, {}};
  std::vector<float> row(2000, -1.0f);
  row[1999] = 0.0f, row[1200] = -0.0f, row[1700] = 0.0f;
  call.rows.assign(3, row);
  call.asks.assign(3, ask_for(0.0f, 0, 1.0f, 0.0f, 1));
  call.asks[1].params.temperature = 1e-40f;
  call.asks[2].params.temperature = 1.0f;
  call.asks[1].params.top_k = call.asks[2].params.top_k = 1;
  for (Ask& ask : call.asks) ask.top_logprobs = 4;
  return call;
}

}  // namespace

TEST_CASE("faults in sampling are noticed") {
  std::vector<Call> drawn = draws(), scored = scores();
  for (std::vector<Call>* calls : {&drawn, &scored}) {
    calls->push_back(undrawable());
    calls->push_back(with_nans());
    calls->push_back(equals());
  }
  const auto all_right = [](std::vector<Call>& calls) {
    return [&calls] { return std::all_of(calls.begin(), calls.end(), [](Call& call) { return is_right(call); }); };
  };
  CHECK(unlisted_mutants("sample", {{cuda::Kernel::sample_logprobs, all_right(scored)},
                                    {cuda::Kernel::sample_tokens, all_right(drawn)}}) == "");
}
