// The scheduler alone: budgets, order, chunks, preemption, prefix sharing, and that its integrity check sees damage.
#include <algorithm>
#include <map>
#include <set>

#include "engine/scheduler/scheduler.h"
#include "tests/catch.h"

namespace inferd {
namespace {

/// A scheduler whose "model" appends the token `number of tokens so far` to every sequence that finished its prompt.
struct Bench {
  Bench(std::int64_t num_blocks, const SchedulerLimits& limits)
      : blocks(num_blocks), scheduler(blocks, HashKey{1, 2}, limits), context(num_blocks * kKvBlockTokens) {}

  Sequence* add(std::vector<TokenId> prompt, std::int64_t max_outputs, int priority = 0, int prompt_logprobs = -1) {
    Request request;
    request.prompt = std::move(prompt);
    request.max_output_tokens = max_outputs;
    request.priority = priority;
    request.prompt_logprobs = prompt_logprobs;
    auto sequence = std::make_unique<Sequence>(std::move(request), nullptr, TimePoint{}, context);
    Sequence* pointer = sequence.get();
    scheduler.add(std::move(sequence));
    return pointer;
  }
  Sequence* add(std::int64_t prompt, std::int64_t max_outputs, int priority = 0) {
    return add(std::vector<TokenId>(static_cast<std::size_t>(prompt), ++salt), max_outputs, priority);
  }

  const StepPlan& step() {
    scheduler.plan(&plan);
    scheduler.check_integrity();
    scheduler.complete(plan);
    for (const Chunk& chunk : plan.chunks) {
      Sequence& sequence = *chunk.sequence;
      if (sequence.wants_prompt_logprobs()) {
        sequence.prompt_rows_done = std::min(chunk.start + chunk.count, sequence.prompt_tokens - 1);
      }
      if (sequence.remaining() == 0 && sequence.wants_output()) {
        sequence.tokens.push_back(static_cast<TokenId>(sequence.num_tokens()));
      }
    }
    for (auto& done : scheduler.take_if([](const Sequence& s) { return s.started && !s.wants_output(); })) {
      finished.push_back(std::move(done));
    }
    scheduler.check_integrity();
    return plan;
  }
  std::int64_t tokens_of(const Sequence* sequence) const {
    for (const Chunk& chunk : plan.chunks) {
      if (chunk.sequence == sequence) return chunk.count;
    }
    return 0;
  }
  bool is_running(const Sequence* sequence) const {
    return std::any_of(scheduler.running_sequences().begin(), scheduler.running_sequences().end(),
                       [&](const auto& s) { return s.get() == sequence; });
  }

  BlockManager blocks;
  Scheduler scheduler;
  StepPlan plan;
  std::int64_t context;
  std::vector<std::unique_ptr<Sequence>> finished;
  TokenId salt = 1000;
};

SchedulerLimits limits(std::int64_t batch_tokens, std::int64_t running, std::int64_t rows = 64) {
  SchedulerLimits out;
  out.max_batch_tokens = batch_tokens;
  out.max_running = running;
  out.max_logit_rows = rows;
  return out;
}

TEST_CASE("a long prompt is prefilled in chunks while the others decode every step") {
  Bench bench(64, limits(20, 4));
  Sequence* a = bench.add(5, 100);
  Sequence* b = bench.add(6, 100);
  bench.step();
  Sequence* big = bench.add(200, 10);
  int steps = 0;
  while (big->num_computed < 200) {
    const StepPlan& plan = bench.step();
    CHECK(plan.num_tokens <= 20);
    CHECK(bench.tokens_of(a) == 1);
    CHECK(bench.tokens_of(b) == 1);
    CHECK(plan.chunks[0].sequence == a);  // decoding first
    CHECK(bench.tokens_of(big) == std::min<std::int64_t>(18, 200 - 18 * steps));
    CHECK(plan.num_logit_rows == (big->num_computed == 200 ? 3 : 2));
    ++steps;
  }
  CHECK(steps == 12);
}

TEST_CASE("the budget's rest goes to the oldest prompt, then to the next") {
  Bench bench(64, limits(32, 4));
  Sequence* a = bench.add(40, 2);
  Sequence* b = bench.add(40, 2);
  bench.step();
  CHECK(bench.tokens_of(a) == 32);
  CHECK_FALSE(bench.is_running(b));  // no tokens left for it: it keeps no blocks yet
  bench.step();
  CHECK(bench.tokens_of(a) == 8);
  CHECK(bench.tokens_of(b) == 24);
  bench.step();
  CHECK(bench.tokens_of(a) == 1);
  CHECK(bench.tokens_of(b) == 16);
}

TEST_CASE("admission follows (priority, arrival) and nobody overtakes a head that must wait for blocks") {
  Bench bench(8, limits(64, 8));
  Sequence* holder = bench.add(5 * 16, 17);
  bench.step();
  bench.step();
  Sequence* big = bench.add(5 * 16, 2);
  Sequence* tiny = bench.add(3, 2);
  for (int i = 0; i < 5; ++i) {
    bench.step();
    CHECK(bench.is_running(holder));
    CHECK_FALSE(bench.is_running(big));
    CHECK_FALSE(bench.is_running(tiny));
  }
  Sequence* urgent = bench.add(3, 2, /*priority=*/-1);
  bench.step();
  CHECK((bench.is_running(urgent) || !bench.finished.empty()));
  CHECK_FALSE(bench.is_running(tiny));
  while (bench.scheduler.running() + bench.scheduler.waiting() > 0) bench.step();
  std::vector<std::uint64_t> order;
  for (const auto& sequence : bench.finished) order.push_back(sequence->number);
  CHECK(order == std::vector<std::uint64_t>{3, 0, 1, 2});
}

TEST_CASE("a full pool preempts the youngest; everyone ends with the same tokens") {
  Bench bench(6, limits(64, 4));
  Sequence* a = bench.add(16, 60);
  Sequence* b = bench.add(16, 60);
  std::vector<std::uint64_t> victims;
  for (int i = 0; bench.scheduler.running() + bench.scheduler.waiting() > 0; ++i) {
    REQUIRE(i < 1000);
    const std::int64_t before = a->num_tokens();
    bench.step();
    if (i > 0 && bench.finished.empty()) CHECK(a->num_tokens() == before + 1);  // the oldest never stalls
  }
  CHECK(bench.scheduler.preemptions() > 0);
  CHECK(a->preemptions == 0);
  CHECK(b->preemptions > 0);
  CHECK(b->preemptions <= 3);  // no thrashing
  for (const auto& sequence : bench.finished) {
    REQUIRE(sequence->num_outputs() == 60);
    for (std::int64_t i = 0; i < 60; ++i) CHECK(sequence->tokens[static_cast<std::size_t>(16 + i)] == 16 + i);
  }
  CHECK(bench.blocks.used_blocks() == 0);
}

TEST_CASE("lower priority is preempted before younger") {
  Bench bench(6, limits(64, 4));
  Sequence* low = bench.add(16, 60, /*priority=*/5);
  Sequence* high = bench.add(16, 60, /*priority=*/0);
  while (bench.scheduler.preemptions() == 0) bench.step();
  CHECK(low->preemptions == 1);
  CHECK(high->preemptions == 0);
}

TEST_CASE("equal prompts share full blocks, but the last token is always computed") {
  Bench bench(32, limits(256, 8));
  std::vector<TokenId> prompt(48);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<TokenId>(i);
  Sequence* a = bench.add(prompt, 3);
  bench.step();
  CHECK(bench.blocks.used_blocks() == 3);
  Sequence* b = bench.add(prompt, 3);
  bench.step();
  CHECK(b->cached_tokens == 32);  // not 48: the third block holds the last token
  CHECK(bench.tokens_of(b) == 16);
  CHECK(b->blocks[0] == a->blocks[0]);
  CHECK(b->blocks[1] == a->blocks[1]);
  CHECK(b->blocks[2] != a->blocks[2]);
  prompt.push_back(99);
  Sequence* c = bench.add(prompt, 3);
  prompt[20] = 77;
  Sequence* d = bench.add(prompt, 3);
  bench.step();
  CHECK(c->cached_tokens == 48);
  CHECK(d->cached_tokens == 16);
  while (bench.scheduler.running() > 0) bench.step();
  CHECK(bench.blocks.used_blocks() == 0);
  CHECK(bench.blocks.cached_blocks() > 0);
}

TEST_CASE("another salt, prompt_logprobs or prefix_cache: false share nothing") {
  std::vector<TokenId> prompt(40, 7);
  Bench bench(32, limits(256, 8));
  bench.add(prompt, 1);
  bench.step();
  Request request;
  request.prompt = prompt;
  request.max_output_tokens = 4;
  request.cache_salt = "mine";
  auto salted = std::make_unique<Sequence>(request, nullptr, TimePoint{}, bench.context);
  const Sequence* salted_pointer = salted.get();
  bench.scheduler.add(std::move(salted));
  const Sequence* scored = bench.add(prompt, 4, 0, /*prompt_logprobs=*/0);
  const Sequence* same = bench.add(prompt, 4);
  bench.step();
  CHECK(salted_pointer->cached_tokens == 0);
  CHECK(scored->cached_tokens == 0);
  CHECK(same->cached_tokens == 32);

  SchedulerLimits off = limits(256, 8);
  off.prefix_cache = false;
  Bench without(32, off);
  without.add(prompt, 1);
  without.step();
  const Sequence* again = without.add(prompt, 2);
  without.step();
  CHECK(again->cached_tokens == 0);
  CHECK(without.blocks.cached_blocks() == 0);
}

TEST_CASE("prompt_logprobs asks for every row once, in steps of no more than the logit rows") {
  Bench bench(32, limits(64, 2, /*rows=*/10));
  Sequence* other = bench.add(4, 50);
  bench.step();
  Sequence* scored = bench.add(std::vector<TokenId>(50, 3), 5, 0, 1);
  std::vector<std::int64_t> rows;
  while (scored->num_outputs() == 0) {
    const StepPlan& plan = bench.step();
    CHECK(plan.num_logit_rows <= 10);
    CHECK(bench.tokens_of(other) == 1);
    for (const Chunk& chunk : plan.chunks) {
      if (chunk.sequence != scored) continue;
      for (std::int64_t at = chunk.first_logit_position; at < chunk.start + chunk.count; ++at) rows.push_back(at);
    }
  }
  REQUIRE(rows.size() == 50);
  for (std::size_t i = 0; i < rows.size(); ++i) CHECK(rows[i] == static_cast<std::int64_t>(i));
}

TEST_CASE("take_if releases blocks wherever a sequence is") {
  Bench bench(8, limits(16, 2));
  bench.add(40, 5);
  bench.add(20, 5);
  bench.add(20, 5);
  bench.step();
  CHECK(bench.scheduler.running() >= 1);
  CHECK(bench.scheduler.waiting() >= 1);
  CHECK(bench.scheduler.take_if([](const Sequence&) { return true; }).size() == 3);
  CHECK(bench.blocks.used_blocks() == 0);
  bench.scheduler.check_integrity();
  bench.scheduler.plan(&bench.plan);
  CHECK(bench.plan.chunks.empty());
}

TEST_CASE("as many sequences as rows: all decode in each step") {
  Bench bench(64, limits(8, 8, 8));
  std::vector<Sequence*> all;
  for (int i = 0; i < 8; ++i) all.push_back(bench.add(3, 40));
  for (int i = 0; i < 12; ++i) bench.step();
  bench.step();
  for (const Sequence* sequence : all) CHECK(bench.tokens_of(sequence) == 1);
}

TEST_CASE("planted damage is seen by check_integrity") {
  Bench bench(32, limits(256, 4));
  std::vector<TokenId> prompt(40);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<TokenId>(i);
  Sequence* a = bench.add(prompt, 20);
  bench.step();
  Sequence* b = bench.add(prompt, 20);
  bench.step();
  REQUIRE(b->blocks[0] == a->blocks[0]);
  REQUIRE_NOTHROW(bench.scheduler.check_integrity());
  SECTION("a table points to a neighbour's block") {
    std::swap(a->blocks[2], b->blocks[2]), b->blocks[2] = a->blocks[2];
  }
  SECTION("a table lost a block") { a->blocks.pop_back(); }
  SECTION("a table names a block that does not exist") { a->blocks[1] = 32; }
  SECTION("a table's blocks are swapped") { std::swap(a->blocks[0], a->blocks[1]); }
  SECTION("a block was released too often") { bench.blocks.release(a->blocks[2]); }
  SECTION("a block was shared once too often") { bench.blocks.share(a->blocks[0]); }
  SECTION("a block nobody holds leaked") { bench.blocks.allocate(); }
  SECTION("tokens changed under a shared block") { a->tokens[3] = 1234; }
  SECTION("more computed than known") { a->num_computed = a->num_tokens() + 1; }
  SECTION("more computed than in the table") { a->num_computed = 0, a->tokens.resize(90), a->num_computed = 80; }
  SECTION("a block that will be written is shared") {
    bench.blocks.release(b->blocks[2]);
    b->blocks[2] = a->blocks[2];
    bench.blocks.share(a->blocks[2]);
  }
  SECTION("the queue is out of order") { std::swap(a->number, b->number); }
  CHECK_THROWS_AS(bench.scheduler.check_integrity(), std::logic_error);
}

}  // namespace
}  // namespace inferd
