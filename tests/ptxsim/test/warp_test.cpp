// Divergence, barriers, exchange between lanes, asynchronous copies.
#include "tests/catch.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;
using Kind = Violation::Kind;

namespace {
const std::string kStoreResult = "mad.wide.u32 %at, %tid, 4, %P0; st.global.u32 [%at], %d;";
const std::string kShared = ".shared .align 16 .b8 tile[1024];\n";

std::vector<LaunchOptions> schedules() {
  std::vector<LaunchOptions> all;
  for (int order = 0; order < 3; ++order) {
    for (const CopyTiming timing : {CopyTiming::early, CopyTiming::late}) {
      LaunchOptions options;
      options.warp_order = order;
      options.cp_async = timing;
      all.push_back(options);
    }
  }
  return all;
}
}  // namespace

TEST_CASE("guards, divergent branches and loops of different length") {
  const auto words = run_block(
      "mov.u32 %d, 0; mov.u32 %r0, 0;\nL0: setp.ge.u32 %p, %r0, %tid; @%p bra L1; add.u32 %d, %d, %r0; add.u32 %r0, "
      "%r0, 1; bra L0;\n"
      "L1: and.b32 %r1, %tid, 1; setp.eq.u32 %q, %r1, 0; @%q bra L2; add.u32 %d, %d, 1000; bra L3;\nL2: add.u32 %d, "
      "%d, 2000;\n"
      "L3: @!%q add.u32 %d, %d, 5; activemask.b32 %r2; setp.ne.u32 %p, %r2, 0xffffffff; @%p mov.u32 %d, 0;" +
          kStoreResult,
      32, 32);
  for (uint32_t t = 0; t < 32; ++t) REQUIRE(words[t] == t * (t - 1) / 2 + (t % 2 == 0 ? 2000 : 1005));
}

TEST_CASE("shuffles in all modes, with segments and clamps") {
  struct Mode {
    std::string name;
    int (*from)(int lane, int by, int segment, int clamp);
  };
  // The ISA's pseudo-code; -1: out of range.
  const Mode modes[] = {
      {"up", [](int l, int b, int s, int c) { return l - b >= ((l & s) | (c & ~s)) ? l - b : -1; }},
      {"down", [](int l, int b, int s, int c) { return l + b <= ((l & s) | (c & ~s)) ? l + b : -1; }},
      {"bfly", [](int l, int b, int s, int c) { return (l ^ b) <= ((l & s) | (c & ~s)) ? l ^ b : -1; }},
      {"idx",
       [](int l, int b, int s, int c) {
         const int j = (l & s) | (b & ~s);
         return j <= ((l & s) | (c & ~s)) ? j : -1;
       }},
  };
  for (const Mode& mode : modes) {
    for (const int width : {32, 16, 8}) {
      for (const int by : {0, 1, 3, 7, 15, 16}) {
        const int segment = 32 - width, clamp = mode.name == "up" ? 0 : 31;
        const int c = segment << 8 | clamp;
        const auto words =
            run_block("mul.lo.u32 %r0, %tid, 3; shfl.sync." + mode.name + ".b32 %d|%p, %r0, " + std::to_string(by) +
                          ", " + std::to_string(c) + ", -1; @%p add.u32 %d, %d, 1000;" + kStoreResult,
                      32, 32);
        for (int l = 0; l < 32; ++l) {
          const int from = mode.from(l, by, segment, clamp);
          INFO(mode.name << " width " << width << " by " << by << " lane " << l);
          REQUIRE(words[size_t(l)] == uint32_t(from >= 0 ? 3 * from + 1000 : 3 * l));
        }
      }
    }
  }
}

TEST_CASE("shuffle masks: halves of a warp apart, and lanes that are missing") {
  const auto words = run_block(
      "setp.lt.u32 %p, %tid, 16; @%p bra LOW; shfl.sync.bfly.b32 %d, %tid, 1, 31, 0xffff0000; bra END;\n"
      "LOW: shfl.sync.bfly.b32 %d, %tid, 2, 31, 0xffff;\nEND:" +
          kStoreResult,
      32, 32);
  REQUIRE(words[3] == 1);
  REQUIRE(words[20] == 21);
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 16; @%p bra END; shfl.sync.bfly.b32 %d, %tid, 1, 31, -1;\nEND: ret;",
                       32) == Kind::divergence);
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 16; @%p shfl.sync.bfly.b32 %d, %tid, 1, 31, -1;", 32) ==
          Kind::divergence);
  REQUIRE(violation_of("shfl.sync.bfly.b32 %d, %tid, 1, 31, 0xfffe;", 32) == Kind::divergence);
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 16; @!%p bra HIGH; shfl.sync.bfly.b32 %d, %tid, 16, 31, 0xffff; bra "
                       "END;\nHIGH: mov.u32 %d, 0;\nEND: ret;",
                       32) == Kind::divergence);
}

TEST_CASE("votes, matches and reductions") {
  const auto words = run_block(
      "setp.lt.u32 %p, %tid, 5; vote.sync.ballot.b32 %r0, %p, -1; vote.sync.any.pred %q, %p, -1; selp.u32 %r1, 1, 0, "
      "%q; vote.sync.all.pred %q, %p, -1; selp.u32 %r2, 1, 0, %q;\n"
      "vote.sync.ballot.b32 %r3, !%p, -1; shr.u32 %r4, %tid, 2; match.any.sync.b32 %r5, %r4, -1; redux.sync.add.s32 "
      "%r6, %tid, -1; match.all.sync.b32 %r7|%q, 9, -1;\n"
      "setp.ne.u32 %p, %tid, 9; @%p ret; st.global.v4.u32 [%P0], {%r0, %r1, %r2, %r3}; st.global.v4.u32 [%P0+16], "
      "{%r5, %r6, %r7, %r4};",
      32, 8);
  REQUIRE(words == std::vector<uint32_t>{31, 1, 0, ~31u, 0xf00, 496, ~0u, 2});
  REQUIRE(
      run_block("redux.sync.min.s32 %d, %tid, -1; sub.u32 %r0, %tid, 5; redux.sync.min.s32 %d, %r0, -1;" + kStoreResult,
                32, 32)[0] == uint32_t(-5));
  REQUIRE(run_block("redux.sync.xor.b32 %d, %tid, -1;" + kStoreResult, 32, 32)[0] == 0);
}

TEST_CASE("barriers: all threads, named, with counts, reductions") {
  for (const LaunchOptions& options : schedules()) {
    // Warps 0 and 1 produce, 2 and 3 consume through barrier 1 of 128 threads; the producers do not wait.
    const auto words = run_block(
        "shr.u32 %r0, %tid, 6; setp.ne.u32 %p, %r0, 0; shl.b32 %r1, %tid, 2; @%p bra CONSUME;\n"
        "st.shared.u32 [%r1], %tid; bar.arrive 1, 128; mov.u32 %d, 7; bra END;\n"
        "CONSUME: bar.sync 1, 128; sub.u32 %r1, %r1, 256; ld.shared.u32 %d, [%r1];\nEND: bar.sync 0;" +
            kStoreResult,
        128, 128, kShared, options);
    REQUIRE(words[0] == 7);
    REQUIRE(words[70] == 6);
    const auto counts = run_block(
        "setp.lt.u32 %p, %tid, 40; bar.red.popc.u32 %d, 0, %p; bar.red.and.pred %q, 0, %p; @%q add.u32 %d, %d, 100; "
        "bar.red.or.pred %q, 0, %p; @%q add.u32 %d, %d, 1000;" +
            kStoreResult,
        96, 96, "", options);
    REQUIRE(counts[50] == 1040);
  }
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 16; @%p bra END; bar.sync 0;\nEND: add.u32 %d, %tid, 1; bar.sync 0;",
                       32) == Kind::divergence);
  REQUIRE(violation_of("setp.lt.u32 %p, %tid, 32; @%p bar.sync 1, 64;", 64) == Kind::divergence);
  REQUIRE(violation_of("bar.sync 1, 128;", 64) == Kind::divergence);
  REQUIRE(run_block("setp.lt.u32 %p, %tid, 32; @%p ret; bar.sync 0; mov.u32 %d, 3;" + kStoreResult, 64, 64)[40] ==
          3);  // exited threads do not count
}

TEST_CASE("an endless loop ends") {
  LaunchOptions options;
  options.max_warp_instructions = 10000;
  REQUIRE(violation_of("L: bra L;", 32, "", options) == Kind::endless);
  REQUIRE(violation_of("trap;", 32) == Kind::trap);
}

TEST_CASE("cp.async: groups, zero fill, early and late") {
  const std::string in =
      "mad.wide.u32 %R0, %tid, 16, %P0; add.u32 %r1, %tid, 50; st.global.v4.u32 [%R0], {%r1, %tid, %r1, %tid}; shl.b32 "
      "%r0, %tid, 4;";
  const std::string first = "cp.async.cg.shared.global [%r0], [%R0], 16; cp.async.commit_group;";
  const std::string second = "cp.async.ca.shared.global [%r0+512], [%R0], 4, 0; cp.async.commit_group;";
  for (const LaunchOptions& options : schedules()) {
    const auto words = run_block(in + first + second +
                                     "cp.async.wait_group 1; ld.shared.u32 %d, [%r0]; cp.async.wait_group 0; "
                                     "ld.shared.u32 %r2, [%r0+512]; add.u32 %d, %d, %r2;\n"
                                     "bar.sync 0;" +
                                     kStoreResult,
                                 32, 128, kShared, options);
    REQUIRE(words[3] == 53);
    REQUIRE(violation_of(in + first + "ld.shared.u32 %d, [%r0];", 1, kShared, options) == Kind::copy_not_waited);
    REQUIRE(violation_of(in + first + second + "cp.async.wait_group 1; ld.shared.u32 %d, [%r0+512];", 1, kShared,
                         options) == Kind::copy_not_waited);
    REQUIRE(violation_of(in + first + "st.shared.u32 [%r0], %tid;", 1, kShared, options) == Kind::copy_not_waited);
    // Another thread's copy needs its wait and a barrier.
    REQUIRE(violation_of(in + first + "cp.async.wait_all; xor.b32 %r2, %r0, 16; ld.shared.u32 %d, [%r2];", 2, kShared,
                         options) == Kind::race);
  }
  REQUIRE(violation_of("mov.u32 %r0, 0; cp.async.cg.shared.global [%r0], [%P0+1024], 16;", 1, kShared) == Kind::bounds);
  REQUIRE(violation_of("mov.u32 %r0, 4; cp.async.cg.shared.global [%r0], [%P0], 16;", 1, kShared) == Kind::alignment);
}

TEST_CASE("special registers") {
  const auto words = run_block(
      "mov.u32 %r0, %laneid; mov.u32 %r1, %warpid; mov.u32 %r2, %lanemask_lt; mov.u32 %r3, %ntid.x; mov.u32 %r4, "
      "%lanemask_ge; setp.ne.u32 %p, %tid, 37; @%p ret;\n"
      "st.global.v4.u32 [%P0], {%r0, %r1, %r2, %r3}; st.global.u32 [%P0+16], %r4;",
      64, 8);
  REQUIRE(words[0] == 5);
  REQUIRE(words[1] == 1);
  REQUIRE(words[2] == 31);
  REQUIRE(words[3] == 64);
  REQUIRE(words[4] == ~31u);
}
