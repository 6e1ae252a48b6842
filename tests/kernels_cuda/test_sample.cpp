// sample on the PTX interpreter: against fp64 and against the host's sampler.
#include "tests/kernels_cuda/sample_case.h"

using namespace inferd;
using namespace inferd::cuda::test;

TEST_CASE("sample agrees with fp64 and the host for every rule, shape and width") {
  Tally tally;
  for (const int arch : built_archs()) {
    std::uint32_t seed = 1;
    for (const int vocab : {1, 2, 31, 129, 1023, 1024, 1025, 2635}) {
      for (const Shape shape : {Shape::spread, Shape::peaked, Shape::stepped, Shape::flat}) {
        std::vector<std::vector<float>> rows;
        std::vector<Ask> asks;
        add_rows_of_each_rule(shape, vocab, &seed, &rows, &asks);
        // Weights of flat rows are exactly 1.
        for (const int pad : {0, 4 - vocab % 4}) {  // most often not aligned, aligned
          if (pad > 0 && vocab < 1025) continue;
          check_all({.arch = arch, .schedules = vocab == 1025 && pad == 0 ? 6 : 1, .pad = pad}, rows, asks, &tally,
                    shape == Shape::flat ? 1e-12 : kRounding);
        }
      }
    }
  }
  CAPTURE(tally.rows);
  CHECK(tally.skipped * 100 <= tally.rows);
}

TEST_CASE("sample applies biases, bans and penalties as the host does, and counts what it drew") {
  Tally tally;
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    add_ruled_rows(&rows, &asks);
    check_all({.arch = arch, .schedules = 2}, rows, asks, &tally);
  }
  CHECK(tally.skipped == 0);
}

TEST_CASE("sample lets rules change a row one after another, whoever looks at a token") {
  Tally tally;
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    add_contested_row(&rows, &asks);
    check_all({.arch = arch}, rows, asks, &tally);
  }
  CHECK(tally.skipped == 0);
}

TEST_CASE("sample keeps what top_p and top_k keep, to a token") {
  Tally tally;
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    add_exact_rows(&rows, &asks);
    check_all({.arch = arch, .schedules = 1}, rows, asks, &tally, 0.0);
    rows.clear(), asks.clear();
    add_counted_rows(&rows, &asks);
    check_all({.arch = arch, .schedules = 1}, rows, asks, &tally);
  }
  CHECK(tally.skipped == 0);
}

TEST_CASE("sample says which rows cannot be drawn from, and leaves padding and others alone") {
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows(6, logits_of(Shape::spread, 300, 3));
    rows[0][299] = std::nanf("");
    rows[1][0] = kInfinity;
    rows[2][150] = -kInfinity;
    rows[3].assign(300, -kInfinity);
    std::vector<Ask> asks(6, ask_for(0.8f, 5, 0.9f, 0.0f, 20));
    for (int id = 0; id < 300; ++id) asks[4].params.logit_bias.push_back({id, -100.0f});
    asks[0].params.logit_bias = {{299, -100.0f}};  // a ban does not hide it
    const auto got = sample({.arch = arch, .pad = 1}, rows, asks);
    for (std::size_t r = 0; r < 4; ++r) REQUIRE(got[r].status == SampleStatus::not_finite);
    REQUIRE(got[4].status == SampleStatus::all_banned);
    for (std::size_t r = 0; r < 5; ++r) {
      REQUIRE(got[r].token == 0);
      REQUIRE(got[r].rules.position == asks[r].position);
    }
    Tally tally;
    check(rows[5], asks[5], got[5], &tally);

    SimLauncher sim(arch, cuda::sample_workspace_bytes(1));
    SampleArgs args;
    args.logits = sim.output(DType::f32, {1, 64}, "logits");
    args.slots = sim.put(std::vector<int>{-1}, DType::i32, {1}, "slots");
    args.tokens = sim.put(std::vector<int>{7}, DType::i32, {1}, "tokens");
    args.status = sim.put(std::vector<int>{7}, DType::i32, {1}, "status");
    args.logprobs = sim.output(DType::f32, {1}, "logprobs");
    cuda::sample(sim, args);
    REQUIRE(sim.get<int>(args.tokens.data, 1)[0] == 7);
    REQUIRE(sim.get<int>(args.status.data, 1)[0] == 7);
  }
}

TEST_CASE("sample sees one NaN among many tokens, wherever it is") {
  for (const int arch : built_archs()) {
    const auto rows = rows_with_a_nan();
    const std::vector<Ask> asks(rows.size(), ask_for(0.8f, 5, 0.9f, 0.0f, 20));
    for (const Got& got : sample({.arch = arch, .schedules = 1}, rows, asks)) {
      REQUIRE(got.status == SampleStatus::not_finite);
      REQUIRE(got.token == 0);
    }
  }
}

TEST_CASE("sample takes the lowest id of equal logits, zeros of both signs among them") {
  for (const int arch : built_archs()) {
    std::vector<float> row(2000, -1.0f);
    row[1999] = 0.0f, row[1200] = -0.0f, row[1700] = 0.0f;
    std::vector<Ask> asks(4, ask_for(0.0f, 0, 1.0f, 0.0f, 1));
    asks[1] = ask_for(1e-40f, 0, 1.0f, 0.0f, 2);  // a temperature that only zero withstands
    asks[1].params.top_k = asks[2].params.top_k = 1;
    asks[2].params.temperature = 1.0f;
    asks[3] = ask_for(1.0f, 0, 0.0f, 0.0f, 3);
    for (Ask& ask : asks) ask.top_logprobs = 4;
    const auto got = sample({.arch = arch}, std::vector<std::vector<float>>(4, row), asks);
    for (const Got& each : got) {
      REQUIRE(each.token == 1200);
      REQUIRE(each.top.size() == 4);
      REQUIRE(each.top[0].token == 1200);
      REQUIRE(each.top[1].token == 1700);
      REQUIRE(each.top[2].token == 1999);
      REQUIRE(each.top[3].token == 0);
    }
  }
}

TEST_CASE("a row's draw depends on nothing but the row and its rules") {
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    for (int r = 0; r < 4; ++r) {
      rows.push_back(logits_of(Shape::spread, 1300, 40 + static_cast<std::uint32_t>(r)));
      asks.push_back(ask_for(1.0f, r % 2 * 50, 0.95f, 0.0f, 40 + r));
      asks.back().top_logprobs = 20;
    }
    const auto together = sample({.arch = arch, .schedules = 1}, rows, asks);
    for (std::size_t r = 0; r < 4; ++r) {
      const auto alone = sample({.arch = arch, .schedules = 1, .pad = 5}, {rows[r]}, {asks[r]});  // not aligned either
      const auto silent = sample({.arch = arch, .schedules = 1, .logprobs = false}, {rows[r]}, {asks[r]});
      REQUIRE(alone[0].token == together[r].token);
      REQUIRE(silent[0].token == together[r].token);
      REQUIRE(std::memcmp(&alone[0].logprob, &together[r].logprob, sizeof(float)) == 0);
      for (std::size_t i = 0; i < 20; ++i) {
        REQUIRE(alone[0].top[i].token == together[r].top[i].token);
        REQUIRE(std::memcmp(&alone[0].top[i].logprob, &together[r].top[i].logprob, sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("sample draws from vocabularies of 160000") {
  Tally tally;
  for (const int arch : built_archs()) {
    for (const Shape shape : {Shape::spread, Shape::flat}) {
      const std::vector<float> row = logits_of(shape, 160000, 12);
      std::vector<Ask> asks = {ask_for(0.8f, 0, 0.9f, 0.0f, 10), ask_for(1.0f, 50, 0.95f, 0.0f, 13),
                               ask_for(1.5f, 0, 0.999f, 0.0f, 18)};
      check_all({.arch = arch, .schedules = 1}, std::vector<std::vector<float>>(asks.size(), row), asks, &tally,
                shape == Shape::flat ? 1e-12 : kRounding);
    }
  }
  CHECK(tally.skipped * 2 <= tally.rows);  // a token in so many weighs little more than the rounding
}

TEST_CASE("sample draws from a flat tail of which top_p or top_k keeps a part") {
  Tally tally;
  for (const int arch : built_archs()) {
    std::vector<std::vector<float>> rows;
    std::vector<Ask> asks;
    add_tailed_rows(20001, &rows, &asks);
    // A fifth of the whole is off by 2^-20.
    check_all({.arch = arch, .schedules = 1}, rows, asks, &tally, 1e-6);
  }
  CHECK(tally.skipped * 2 <= tally.rows);
}

TEST_CASE("sample was run whole") {
  CHECK(uncovered(cuda::Kernel::sample_tokens) == "");
  CHECK(uncovered(cuda::Kernel::sample_logprobs) == "");
}
