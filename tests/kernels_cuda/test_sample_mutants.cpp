// Faults put into the sampling kernels, one at a time, against rows that reach all of their code.
#include <cstring>
#include <functional>

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

double rounding_of(Shape shape) { return shape == Shape::flat ? 1e-12 : kRounding; }

/// Loops over tokens have copies for rows that are aligned and others, for a segment's first chunk, if their number is
/// odd, and for pairs of them, and for each of four neighbours. Calls `use` for rows that end in each, whose memory
/// ends there too.
void for_each_end(const std::function<void(int vocab, int pad)>& use) {
  for (int vocab = 1; vocab <= 4; ++vocab) {
    for (const int turns : {1024, 1152}) {
      const int to_aligned = 4 - vocab % 4;
      use(turns + vocab, to_aligned);
      use(turns + vocab, to_aligned == 1 ? 2 : 1);
    }
  }
}

class Calls {
 public:
  explicit Calls(bool logprobs) : logprobs_(logprobs) {}

  void add(std::vector<std::vector<float>> rows, std::vector<Ask> asks, double rounding = kRounding, int pad = 0,
           int schedules = 1) {
    const Setting setting{.arch = mutant_arch(), .schedules = schedules, .pad = pad, .logprobs = logprobs_};
    for (Ask& ask : asks) {
      if (!logprobs_) ask.top_logprobs = -1;
    }
    all.push_back({setting, std::move(rows), std::move(asks), rounding});
  }
  void add(Shape shape, int vocab, const Ask& ask, int pad = 0) {
    add({logits_of(shape, vocab, 12)}, {ask}, rounding_of(shape), pad);
  }
  /// What adds rows and requests.
  template <typename Add>
  void add_all(const Add& adds, double rounding = kRounding, int schedules = 1) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    adds(&rows, &asks);
    add(std::move(rows), std::move(asks), rounding, 0, schedules);
  }

  void add_ended() {
    for (int i = 0; i < 4; ++i) {
      add_all([&](auto* rows, auto* asks) { add_ended_rows(i, !logprobs_, rows, asks); });
    }
  }

  std::vector<Call> all;

 private:
  bool logprobs_;
};

/// Every way to draw, the cheapest calls first.
std::vector<Call> draws() {
  Calls calls(false);
  for_each_end([&](int vocab, int pad) {
    calls.add(Shape::spread, vocab, ask_for_last(1.0f, 20, 1.0f), pad);
    calls.add(Shape::spread, vocab, ask_for_last(1.3f, 0, 0.9f), pad);
    Ask ask = ask_for_last(1.0f, 0, 1.0f);
    ask.params.logit_bias = {{vocab - 1, 1.0f}};
    const std::vector<float> row = logits_of(Shape::spread, vocab, 12);
    calls.add({row, row}, {ask, ask}, kRounding, pad);  // of which the second may not be aligned
    calls.add(Shape::spread, vocab, ask_for_last(2.0f, 1100, 0.95f), pad);
    calls.add(Shape::flat, vocab, ask_for_last(1.0f, 0, 0.97f), pad);
  });
  for (const int vocab : {1024, 2048}) {
    for (const Shape shape : {Shape::flat, Shape::stepped}) {
      calls.add(shape, vocab, ask_for_last(1.0f, 0, 1.0f));
      calls.add(shape, vocab, ask_for_last(1.0f, 1024, 0.5f));
    }
  }
  calls.add_all(add_exact_rows, 0.0);
  calls.add_all(add_carried_rows);
  calls.add_ended();
  calls.add_all(add_far_row, kRounding, 3);
  calls.add_all(add_overlong_row);
  calls.add_all(add_zero_rows);
  calls.add_all(add_counted_rows);
  calls.add_all(add_contested_row, kRounding, 6);
  std::uint32_t seed = 1;
  for (const Shape shape : {Shape::peaked, Shape::stepped, Shape::flat}) {
    calls.add_all([&](auto* rows, auto* asks) { add_rows_of_each_rule(shape, 2635, &seed, rows, asks); },
                  rounding_of(shape));
  }
  calls.add_all([](auto* rows, auto* asks) { add_tailed_rows(20001, rows, asks); }, 1e-6);
  // Of 33 segments and more: from the first of the second warp's, and from a later one.
  for (const double draw : {0.82, 0.93}) {
    calls.add(Shape::flat, 40000, ask_for_draw(1.0f, 0, 1.0f, draw, draw + 0.02));
  }
  for (const Shape shape : {Shape::spread, Shape::flat}) {
    for (const Ask& ask :
         {ask_for(0.8f, 0, 0.9f, 0.0f, 10), ask_for(1.0f, 50, 0.95f, 0.0f, 13), ask_for(1.5f, 0, 0.999f, 0.0f, 18)}) {
      calls.add(shape, 40000, ask);
    }
  }
  return std::move(calls.all);
}

Ask ask_for_best(int count) {
  Ask ask = ask_for(0.0f, 0, 1.0f, 0.0f, 1);
  ask.top_logprobs = count;
  return ask;
}

/// Log-probabilities: of the best tokens of all shapes.
std::vector<Call> scores() {
  Calls calls(true);
  for_each_end([&](int vocab, int pad) {
    calls.add(Shape::spread, vocab, ask_for_best(20), pad);
    calls.add(Shape::flat, vocab, ask_for_best(20), pad);
  });
  for (const int count : {-1, 0, 1, 4, 5, 20}) calls.add(Shape::spread, 5, ask_for_best(count));
  calls.add(Shape::flat, 1024, ask_for_best(20));
  calls.add_ended();
  calls.add_all(add_far_row, kRounding, 3);
  calls.add_all(add_overlong_row);
  calls.add_all(add_zero_rows);
  calls.add_all(add_counted_rows);
  for (const Shape shape : {Shape::peaked, Shape::stepped}) calls.add(shape, 2635, ask_for_best(20));
  calls.add_all([](auto* rows, auto* asks) {
    add_tailed_rows(6001, rows, asks);
    for (Ask& ask : *asks) {
      ask.params.temperature = 0.0f;
      ask.top_logprobs = 20;
    }
  });
  calls.add(Shape::stepped, 40000, ask_for_best(20));
  calls.add(Shape::flat, 40000, ask_for_best(20));
  return std::move(calls.all);
}

/// What rules change, and what a token's log-probability and count become.
Call ruled() {
  Calls calls(true);
  calls.add_all(add_ruled_rows);
  return calls.all[0];
}

/// Rows without a draw, whose answers test_sample.cpp checks.
Call undrawable() {
  Call call{{.arch = mutant_arch(), .schedules = 1, .pad = 1}, {}, {}};
  call.rows.assign(5, logits_of(Shape::spread, 300, 3));
  call.asks.assign(5, ask_for(0.8f, 5, 0.9f, 0.0f, 18));
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
  call.asks.assign(call.rows.size(), ask_for(0.8f, 5, 0.9f, 0.0f, 18));
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
  drawn.push_back(ruled());
  const auto all_right = [](std::vector<Call>& calls) {
    std::vector<Suspect::Check> checks;
    for (Call& call : calls) checks.push_back([&call] { return is_right(call); });
    return checks;
  };
  CHECK(unlisted_mutants("sample", {{cuda::Kernel::sample_logprobs, all_right(scored)},
                                    {cuda::Kernel::sample_tokens, all_right(drawn)}}) == "");
}
