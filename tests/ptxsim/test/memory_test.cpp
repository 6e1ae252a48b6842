// Memory spaces, vector accesses, atomics, and the checks of every access.
#include "tests/catch.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;
using Kind = Violation::Kind;

namespace {
const std::string kShared = ".shared .align 16 .b8 tile[256];\n";
const std::string kStoreResult = "mad.wide.u32 %at, %tid, 4, %P0; st.global.u32 [%at], %d;";
}  // namespace

TEST_CASE("loads extend, stores drop, vectors keep their order") {
  const auto words = run_block(
      "mov.u32 %r0, 0xf1e2d3c4; st.global.u32 [%P0], %r0; ld.global.s8 %r1, [%P0]; ld.global.u8 %r2, [%P0+3];\n"
      "ld.global.s16 %r3, [%P0+2]; ld.global.s16 %R0, [%P0+2];\n"
      "st.global.v4.u32 [%P0+16], {%r1, %r2, %r3, %r0}; st.global.u64 [%P0+32], %R0; st.global.u8 [%P0+44], %r0;\n"
      "ld.global.v2.u32 {%r4, %r5}, [%P0+16]; st.global.v2.u32 [%P0+48], {%r5, %r4};",
      1, 16);
  REQUIRE(words[4] == 0xffffffc4);
  REQUIRE(words[5] == 0xf1);
  REQUIRE(words[6] == 0xfffff1e2);
  REQUIRE(words[8] == 0xfffff1e2);
  REQUIRE(words[9] == 0xffffffff);
  REQUIRE(words[11] == 0xffffffc4);
  REQUIRE(words[12] == 0xf1);
  REQUIRE(words[13] == 0xffffffc4);
}

TEST_CASE("generic addresses reach shared, local and parameter memory") {
  const auto words = run_block(
      ".local .align 8 .b8 mine[16]; .shared .align 8 .b8 ours[128];\n"
      "mov.u64 %R0, mine; cvta.local.u64 %R0, %R0; add.u32 %r0, %tid, 100; st.u32 [%R0+4], %r0;\n"
      "mov.u64 %R1, ours; cvta.shared.u64 %R1, %R1; mad.wide.u32 %R1, %tid, 4, %R1; st.u32 [%R1], %tid;\n"
      "ld.u32 %r1, [%R0+4]; ld.u32 %r2, [%R1]; add.u32 %d, %r1, %r2;\n"
      "isspacep.shared %p, %R1; @!%p mov.u32 %d, 0; isspacep.local %p, %R1; @%p mov.u32 %d, 0;" +
          kStoreResult,
      32, 32);
  for (uint32_t t = 0; t < 32; ++t) REQUIRE(words[t] == 2 * t + 100);
}

TEST_CASE("module variables keep what is written") {
  const auto words = run_block(
      "ld.global.u32 %r0, [table+8]; ld.const.u16 %r1, [fixed+2]; add.u32 %d, %r0, %r1; st.global.u32 [table], %d;\n"
      "mov.u64 %R0, table; ld.global.u32 %d, [%R0];" +
          kStoreResult,
      1, 1, ".global .align 4 .u32 table[3] = {1, 2, 30};\n.const .align 2 .b16 fixed[2] = {5, 7};\n");
  REQUIRE(words[0] == 37);
  REQUIRE(violation_of("mov.u64 %R0, fixed; st.global.u16 [%R0], %h0;", 1, ".const .align 2 .b16 fixed[2];\n") ==
          Kind::bounds);
}

TEST_CASE("atomics serve all lanes, in every form") {
  const auto words = run_block(
      "atom.global.add.u32 %d, [%P0], 1; add.u64 %R0, %P0, 64; red.global.max.s32 [%R0], %tid; atom.global.inc.u32 "
      "%r0, [%P0+68], 4;\n"
      "atom.global.cas.b32 %r1, [%P0+72], 0xffffffff, %tid; cvt.rn.f32.u32 %r2, 1; atom.global.exch.b32 %r3, [%P0+76], "
      "%tid;\n"
      "red.global.and.b32 [%P0+80], 0xf0; red.global.xor.b32 [%P0+84], %tid; atom.global.add.u64 %R1, [%P0+88], 2;",
      32, 32);
  REQUIRE(words[0] == 31);       // 0xffffffff + 32
  REQUIRE(words[16] == 31);      // max of -1 and 0..31
  REQUIRE(words[17] == 31 % 5);  // 0xffffffff >= 4 wraps to 0, then 31 steps
  REQUIRE(words[18] == 0);       // the first lane won
  REQUIRE(words[19] == 31);
  REQUIRE(words[20] == 0xf0);
  REQUIRE(words[21] == 0xffffffff);
  REQUIRE(words[22] == 63);
  REQUIRE(words[23] == 0);
  const auto floats = run_block(
      "mov.u32 %r0, 0; st.global.u32 [%P0], %r0; mov.f32 %r1, 0f3F800000; red.global.add.f32 [%P0], %r1;"
      "st.global.u32 [%P0+4], %r0; mov.u32 %r1, 0x3c003c00; red.global.add.noftz.f16x2 [%P0+4], %r1;",
      1, 2);
  REQUIRE(floats[0] == bits(1.0f));
  REQUIRE(floats[1] == 0x3c003c00);
  // Atomics on one shared word are no race; a plain read beside them is.
  const std::string add =
      "mov.u32 %r0, 0; setp.eq.u32 %p, %tid, 0; @%p st.shared.u32 [tile], %r0; bar.sync 0; red.shared.add.u32 [tile], "
      "1;";
  const auto sum = run_block(add + "bar.sync 0; ld.shared.u32 %d, [tile]; " + kStoreResult, 64, 64, kShared);
  REQUIRE(sum[63] == 64);
  REQUIRE(violation_of(add + "ld.shared.u32 %d, [tile];", 64, kShared) == Kind::race);
}

TEST_CASE("accesses outside of memory or misaligned stop the launch") {
  REQUIRE(violation_of("ld.global.u32 %r0, [%P0+256];", 1) == Kind::bounds);
  REQUIRE(violation_of("st.global.v2.u32 [%P0+252], {%r0, %r1};", 1) == Kind::alignment);
  REQUIRE(violation_of("add.u64 %R0, %P0, 252; st.global.v4.u32 [%R0+4], {%r0, %r1, %r2, %r3};", 1) == Kind::bounds);
  REQUIRE(violation_of("ld.global.u32 %r0, [%P0+-4];", 1) == Kind::bounds);
  REQUIRE(violation_of("ld.global.u16 %h0, [%P0+1];", 1) == Kind::alignment);
  REQUIRE(violation_of("mov.u64 %R0, 0; ld.global.u32 %r0, [%R0];", 1) == Kind::bounds);
  REQUIRE(violation_of("st.shared.u32 [tile+8192], %tid;", 1, kShared) == Kind::bounds);
  REQUIRE(violation_of(".local .align 4 .b8 mine[8]; st.local.u32 [mine+8], %tid;", 1) == Kind::bounds);
}

TEST_CASE("messages name the kernel, the instruction and the thread") {
  try {
    run_block("add.u32 %r0, %tid, 1;\nld.global.u32 %r0, [%P0+400];", 1, 64);
    FAIL("no violation");
  } catch (const Violation& violation) {
    const std::string message = violation.what();
    INFO(message);
    REQUIRE(message.find("k ") == 0);
    REQUIRE(message.find("`ld.global.u32 %r0, [%P0 + 400]`") != std::string::npos);
    REQUIRE(message.find("144 bytes past the end of 'out'") != std::string::npos);
  }
}

TEST_CASE("shared memory that nobody wrote, and races") {
  REQUIRE(violation_of("ld.shared.u32 %r0, [tile];", 1, kShared) == Kind::uninitialised);
  REQUIRE(violation_of("st.shared.u8 [tile], %tid; ld.shared.u16 %h0, [tile];", 1, kShared) == Kind::uninitialised);
  REQUIRE(violation_of("st.shared.u32 [tile], %tid;", 2, kShared) == Kind::race);
  const std::string own =
      "mad.lo.u32 %r0, %tid, 4, 0; st.shared.u32 [%r0], %tid; xor.b32 %r1, %tid, 32; shl.b32 %r1, %r1, 2;";
  const std::string read = "ld.shared.u32 %d, [%r1];" + kStoreResult;
  for (int order = 0; order < 3; ++order) {
    LaunchOptions options;
    options.warp_order = order;
    REQUIRE(run_block(own + "bar.sync 0;" + read, 64, 64, kShared, options)[1] == 33);
    REQUIRE(violation_of(own + read, 64, kShared, options) !=
            Kind::bounds);  // race or uninitialised, whichever warp is first
  }
  // Lanes of a warp are unordered until bar.warp.sync.
  const std::string next = "shl.b32 %r0, %tid, 2; st.shared.u32 [%r0], %tid; xor.b32 %r1, %r0, 4;";
  REQUIRE(violation_of(next + "ld.shared.u32 %d, [%r1];", 32, kShared) == Kind::race);
  REQUIRE(run_block(next + "bar.warp.sync -1; ld.shared.u32 %d, [%r1];" + kStoreResult, 32, 32, kShared)[4] == 5);
  // A write after other threads' reads needs a barrier too.
  const std::string reuse = own + "bar.sync 0; ld.shared.u32 %d, [%r1];";
  REQUIRE(violation_of(reuse + "st.shared.u32 [%r0], %d;", 64, kShared) == Kind::race);
}

TEST_CASE("global memory can be tracked for initialisation") {
  Module module = Module::parse(kernel_text("ld.global.u32 %r0, [%P0+4];"));
  Memory memory;
  const uint64_t out = memory.allocate(16, "tracked", true);
  const auto parameters = pack_parameters(out, out, out, out);
  REQUIRE_THROWS_AS(launch(module, "k", {}, {1, 1, 1}, 0, parameters, memory), Violation);
  const uint64_t value = 7;
  memory.write(out, &value, 8);
  launch(module, "k", {}, {1, 1, 1}, 0, parameters, memory);
  memory.free(out);
  REQUIRE_THROWS_AS(launch(module, "k", {}, {1, 1, 1}, 0, parameters, memory), Violation);  // use after free
}

TEST_CASE("launches that cannot be are refused") {
  Module module = Module::parse(kernel_text(""));
  Memory memory;
  const auto parameters = pack_parameters(uint64_t{0}, uint64_t{0}, uint64_t{0}, uint64_t{0});
  const auto kind = [&](Dim3 grid, Dim3 block, size_t shared, std::span<const uint8_t> p) {
    try {
      launch(module, "k", grid, block, shared, p, memory);
    } catch (const Violation& violation) {
      return violation.kind();
    }
    throw std::runtime_error("launched");
  };
  REQUIRE(kind({}, {1025, 1, 1}, 0, parameters) == Kind::bad_launch);
  REQUIRE(kind({0, 1, 1}, {1, 1, 1}, 0, parameters) == Kind::bad_launch);
  REQUIRE(kind({}, {1, 1, 1}, 300 * 1024, parameters) == Kind::bad_launch);
  REQUIRE(kind({}, {1, 1, 1}, 0, std::span(parameters).subspan(8)) == Kind::bad_launch);
  REQUIRE_THROWS_AS(launch(module, "none", {}, {1, 1, 1}, 0, parameters, memory), ParseError);
}

TEST_CASE("unknown PTX stops with its line") {
  const auto message = [](const std::string& body) {
    try {
      Module::parse(kernel_text(body)).kernel("k");
    } catch (const ParseError& error) {
      return std::string(error.what());
    }
    return std::string("parsed");
  };
  const std::string text = message("\n\nfrobnicate.u32 %d, %a;");
  REQUIRE(text.find("frobnicate.u32 %d, %a") != std::string::npos);
  REQUIRE(text.find("ptx line ") != std::string::npos);
  for (const char* body :
       {"add.u32 %d, %a, %nothing;", "bra nowhere;", "add.f99 %d, %a, %b;", "ld.global.v4.u32 {%a, %b}, [%P0];",
        "add.u32 %d;",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%a,%b,%c,%d}, {%a,%b}, {%a,%b}, {%a,%b,%c,%d};",
        "cvt.rn.f32 %d;", "mov.u32 %d, %unknown.x;", "ld.global.u32 %d, [%P0", "call foo;"}) {
    INFO(body);
    REQUIRE(message(body) != "parsed");
  }
}

TEST_CASE("hostile PTX text ends in a ParseError") {
  const std::string text =
      kernel_text("@%p bra L; add.s32 %d, %a, 0x10; L: st.global.v2.u32 [%P0+8], {%a, %b}; bar.sync 0;",
                  ".shared .align 4 .b8 t[64];\n");
  for (size_t cut = 0; cut < text.size(); cut += 3) {
    try {
      Module::parse(text.substr(0, cut)).kernel("k");
    } catch (const ParseError&) {
    }
  }
  REQUIRE_NOTHROW(Module::parse(text).kernel("k"));
}
