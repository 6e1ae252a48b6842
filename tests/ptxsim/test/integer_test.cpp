// Integer instructions against the definitions of the PTX ISA, computed in 128 bits.
#include <algorithm>
#include <bit>

#include "tests/catch.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::test;

namespace {

const std::vector<uint64_t> kEdges = {0,
                                      1,
                                      2,
                                      5,
                                      31,
                                      32,
                                      0x7f,
                                      0x80,
                                      0xff,
                                      0x7fff,
                                      0x8000,
                                      0xffff,
                                      0x800000,
                                      0xffffff,
                                      0x7fffffff,
                                      0x80000000,
                                      0xfffffffe,
                                      0xffffffff,
                                      0x12345678,
                                      0xdeadbeef,
                                      0x7fffffffffffffff,
                                      0x8000000000000000,
                                      0xffffffffffffffff,
                                      0x123456789abcdef0};

std::vector<Row> pairs() {
  std::vector<Row> rows;
  for (const uint64_t a : kEdges) {
    for (const uint64_t b : kEdges) rows.push_back({a, b, kEdges[(a + 3 * b) % kEdges.size()]});
  }
  return rows;
}

using Wide = __int128;
Wide as(uint64_t v, int bits, bool is_signed) {
  const int up = 64 - bits;
  return is_signed ? Wide{int64_t(v << up) >> up} : Wide{v << up >> up};
}

// Runs `body` with TYPE replaced by each integer type of 16 (if asked), 32 and 64 bits and compares with `expected`.
template <class F>
void check(const std::string& body, F&& expected, std::vector<int> widths = {32, 64}) {
  for (const int bits : widths) {
    for (const bool is_signed : {false, true}) {
      std::string text = body;
      const std::string type = (is_signed ? "s" : "u") + std::to_string(bits);
      for (size_t at; (at = text.find("TYPE")) != std::string::npos;) text.replace(at, 4, type);
      if (bits == 64) {
        for (const char* name : {"%d", "%a", "%b", "%c"}) {
          for (size_t at = 0; (at = text.find(name, at)) != std::string::npos; ++at)
            text[at + 1] = char(text[at + 1] - 32);
        }
      }
      const std::vector<Row> rows = pairs();
      const auto results = evaluate_all(text, rows, bits == 64);
      for (size_t i = 0; i < rows.size(); ++i) {
        const Wide want = expected(as(rows[i].a, bits, is_signed), as(rows[i].b, bits, is_signed),
                                   as(rows[i].c, bits, is_signed), bits, is_signed);
        INFO(text << " row " << std::hex << rows[i].a << " " << rows[i].b << " " << rows[i].c);
        const uint64_t got = results[i] & (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1);
        REQUIRE(got == uint64_t(as(uint64_t(want), bits, false)));
      }
    }
  }
}

}  // namespace

TEST_CASE("integer arithmetic wraps as the ISA says") {
  check("add.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return a + b; });
  check("sub.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return a - b; });
  check("mul.lo.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) {
    return Wide(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b));
  });
  check("mul.hi.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int bits, bool is_signed) {
    // schoolbook: exact for unsigned, then corrected for the signs
    const unsigned __int128 mask = bits == 64 ? ~uint64_t{0} : 0xffffffffu;
    const unsigned __int128 ua = static_cast<unsigned __int128>(a) & mask,
                            ub = static_cast<unsigned __int128>(b) & mask;
    unsigned __int128 high = (ua * ub) >> bits;
    if (is_signed && a < 0) high -= ub;
    if (is_signed && b < 0) high -= ua;
    return Wide(high);
  });
  check("mad.lo.TYPE %d, %a, %b, %c;", [](Wide a, Wide b, Wide c, int, bool) {
    return Wide(static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) +
                static_cast<unsigned __int128>(c));
  });
  check("min.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return std::min(a, b); });
  check("max.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return std::max(a, b); });
  check("div.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return b == 0 ? Wide{-1} : a / b; });
  check("rem.TYPE %d, %a, %b;", [](Wide a, Wide b, Wide, int, bool) { return b == 0 ? a : a % b; });
  check("sad.TYPE %d, %a, %b, %c;", [](Wide a, Wide b, Wide c, int, bool) { return c + (a < b ? b - a : a - b); },
        {32});
}

TEST_CASE("wide and 24-bit products") {
  for (const Row& row : pairs()) {
    const int64_t sa = int32_t(row.a), sb = int32_t(row.b), sc = int64_t(row.c);
    REQUIRE(evaluate("mul.wide.s32 %D, %a, %b;", row, true) == uint64_t(sa * sb));
    if (row.b % 3 != 0) continue;  // a sample is enough for the rest
    REQUIRE(evaluate("mad.wide.u32 %D, %a, %b, %C;", row, true) == uint64_t(uint32_t(row.a)) * uint32_t(row.b) + row.c);
    REQUIRE(evaluate("mad.wide.s32 %D, %a, %b, %C;", row, true) == uint64_t(sa * sb) + uint64_t(sc));
    const uint64_t u24 = (row.a & 0xffffff) * (row.b & 0xffffff);
    REQUIRE(evaluate("mul24.lo.u32 %d, %a, %b;", row) == uint32_t(u24));
    REQUIRE(evaluate("mul24.hi.u32 %d, %a, %b;", row) == uint32_t(u24 >> 16));
  }
}

TEST_CASE("carry chains add and subtract 128 bits") {
  const std::string add = "add.cc.u32 %r0, %a, %b; addc.cc.u32 %r1, %r2, %r3; addc.u32 %d, 0, 0;";
  const std::string load = "mov.b64 {%a, %r2}, %A; mov.b64 {%b, %r3}, %B;";
  for (const Row& row : pairs()) {
    const unsigned __int128 sum = static_cast<unsigned __int128>(row.a) + row.b;
    REQUIRE(evaluate(load + add + "mov.b64 %D, {%r0, %r1};", row, true) == uint64_t(sum));
    if (row.a % 5 != 0) continue;
    REQUIRE(evaluate(load + add, row) == uint64_t(sum >> 64));
    const std::string sub = "sub.cc.u32 %r0, %a, %b; subc.u32 %r1, %r2, %r3; mov.b64 %D, {%r0, %r1};";
    REQUIRE(evaluate(load + sub, row, true) == row.a - row.b);
    const std::string mad = "mad.lo.cc.u32 %r0, %a, %b, %c; madc.hi.u32 %r1, %a, %b, 0; mov.b64 %D, {%r0, %r1};";
    REQUIRE(evaluate(mad, row, true) == uint64_t(uint32_t(row.a)) * uint32_t(row.b) + uint32_t(row.c));
  }
}

TEST_CASE("saturation, absolute values, dot products") {
  REQUIRE(evaluate("add.sat.s32 %d, %a, %b;", {0x7fffffff, 1}) == 0x7fffffff);
  REQUIRE(evaluate("sub.sat.s32 %d, %a, %b;", {0x80000000, 1}) == 0x80000000);
  REQUIRE(evaluate("abs.s32 %d, %a;", {0xfffffffb}) == 5);
  REQUIRE(evaluate("neg.s32 %d, %a;", {5}) == 0xfffffffb);
  REQUIRE(evaluate("mov.b32 {%h0, %h1}, %a; add.s16 %h2, %h0, %h1; cvt.u32.u16 %d, %h2;", {0x00018000}) == 0x8001);
  REQUIRE(evaluate("dp4a.s32.s32 %d, %a, %b, %c;", {0xff02037f, 0x01fefd80, 10}) ==
          uint32_t(-1 * 1 + 2 * -2 + 3 * -3 + 127 * -128 + 10));
  REQUIRE(evaluate("dp4a.u32.u32 %d, %a, %b, %c;", {0xff02037f, 0x01fefd80, 10}) ==
          255u * 1 + 2u * 254 + 3u * 253 + 127u * 128 + 10);
  REQUIRE(evaluate("dp4a.u32.s32 %d, %a, %b, %c;", {0xff02037f, 0x01fefd80, 10}) ==
          uint32_t(255 * 1 + 2 * -2 + 3 * -3 + 127 * -128 + 10));
  REQUIRE(evaluate("dp2a.lo.s32.s32 %d, %a, %b, %c;", {0xffff0003, 0x01fe8002, 1}) == uint32_t(3 * 2 + -1 * -128 + 1));
  REQUIRE(evaluate("dp2a.hi.s32.s32 %d, %a, %b, %c;", {0xffff0003, 0x01fe8002, 1}) == uint32_t(3 * -2 + -1 * 1 + 1));
}

TEST_CASE("shifts clamp their count; funnel shifts") {
  for (const uint32_t n : {0u, 1u, 15u, 31u, 32u, 33u, 63u, 64u, 200u}) {
    const Row row{0x89abcdef01234567, n, 0};
    const uint32_t a = uint32_t(row.a);
    REQUIRE(evaluate("shl.b32 %d, %a, %b;", row) == (n > 31 ? 0 : a << n));
    REQUIRE(evaluate("shr.u32 %d, %a, %b;", row) == (n > 31 ? 0 : a >> n));
    REQUIRE(evaluate("shr.s32 %d, %c, %b;", {0, n, 0x80000000}) == uint32_t(int32_t(0x80000000) >> std::min(n, 31u)));
    REQUIRE(evaluate("shl.b64 %D, %A, %b;", row, true) == (n > 63 ? 0 : row.a << n));
    REQUIRE(evaluate("shr.u64 %D, %A, %b;", row, true) == (n > 63 ? 0 : row.a >> n));
    REQUIRE(evaluate("shr.s64 %D, %A, %b;", row, true) == uint64_t(int64_t(row.a) >> std::min(n, 63u)));
    const uint32_t low = 0x89abcdef, high = 0x01234567, wrapped = n & 31, clamped = std::min(n, 32u);
    const auto left = [&](uint32_t s) { return s == 0 ? high : s == 32 ? low : high << s | low >> (32 - s); };
    const auto right = [&](uint32_t s) { return s == 0 ? low : s == 32 ? high : high << (32 - s) | low >> s; };
    REQUIRE(evaluate("shf.l.wrap.b32 %d, %a, %b, %c;", {low, high, n}) == left(wrapped));
    REQUIRE(evaluate("shf.l.clamp.b32 %d, %a, %b, %c;", {low, high, n}) == left(clamped));
    REQUIRE(evaluate("shf.r.wrap.b32 %d, %a, %b, %c;", {low, high, n}) == right(wrapped));
    REQUIRE(evaluate("shf.r.clamp.b32 %d, %a, %b, %c;", {low, high, n}) == right(clamped));
  }
}

TEST_CASE("lop3 follows its table for all 256 of them") {
  const Row row{0xf0f0a5c3, 0xccccffff, 0xaaaa1234};
  for (int table = 0; table < 256; ++table) {
    uint32_t want = 0;
    for (int bit = 0; bit < 32; ++bit) {
      const int index = int(row.a >> bit & 1) * 4 + int(row.b >> bit & 1) * 2 + int(row.c >> bit & 1);
      want |= uint32_t(table >> index & 1) << bit;
    }
    REQUIRE(evaluate("lop3.b32 %d, %a, %b, %c, " + std::to_string(table) + ";", row) == want);
  }
}

TEST_CASE("prmt in its general form and its modes") {
  // {b, a} = bytes 7..0; the ISA's tables, with byte i holding the value 0x80 * (i odd) + i.
  const uint32_t a = 0x83028100, b = 0x87068504;
  const auto prmt = [&](const std::string& mode, uint32_t c) {
    return evaluate("prmt.b32" + mode + " %d, %a, %b, %c;", {a, b, c});
  };
  REQUIRE(prmt("", 0x3210) == a);
  REQUIRE(prmt("", 0x7654) == b);
  REQUIRE(prmt("", 0x0624) == 0x00060204);
  REQUIRE(prmt("", 0x9abc) == 0xff00ff00);  // sign replication of bytes 1, 2, 3, 4
  const uint32_t f4e[] = {0x83028100, 0x04830281, 0x85048302, 0x06850483};
  const uint32_t b4e[] = {0x85068700, 0x06870081, 0x87008102, 0x00810283};
  const uint32_t rc8[] = {0x00000000, 0x81818181, 0x02020202, 0x83838383};
  const uint32_t ecl[] = {0x83028100, 0x83028181, 0x83020202, 0x83838383};
  const uint32_t ecr[] = {0x00000000, 0x81818100, 0x02028100, 0x83028100};
  const uint32_t rc16[] = {0x81008100, 0x83028302, 0x81008100, 0x83028302};
  for (uint32_t c = 0; c < 4; ++c) {
    REQUIRE(prmt(".f4e", c) == f4e[c]);
    REQUIRE(prmt(".b4e", c) == b4e[c]);
    REQUIRE(prmt(".rc8", c) == rc8[c]);
    REQUIRE(prmt(".ecl", c) == ecl[c]);
    REQUIRE(prmt(".ecr", c) == ecr[c]);
    REQUIRE(prmt(".rc16", c) == rc16[c]);
  }
}

TEST_CASE("bit fields and counts") {
  for (const uint32_t start : {0u, 1u, 4u, 31u, 32u, 40u}) {
    for (const uint32_t length : {0u, 1u, 5u, 8u, 31u, 32u, 33u}) {
      const uint32_t a = 0xb6d3c5a7;
      // the pseudo-code of the ISA, bit by bit
      uint32_t unsigned_field = 0, signed_field = 0, inserted = 0x13579bdf;
      const uint32_t sign_at = std::min(start + length - 1, 31u);
      const uint32_t sign = length == 0 ? 0 : a >> sign_at & 1;
      for (uint32_t i = 0; i < 32; ++i) {
        const bool inside = i < length && start + i <= 31;
        unsigned_field |= (inside ? a >> (start + i) & 1 : 0) << i;
        signed_field |= (inside ? a >> (start + i) & 1 : sign) << i;
        if (i < length && start + i <= 31) inserted = (inserted & ~(1u << (start + i))) | (a >> i & 1) << (start + i);
      }
      const Row row{a, start, length};
      REQUIRE(evaluate("bfe.u32 %d, %a, %b, %c;", row) == unsigned_field);
      REQUIRE(evaluate("bfe.s32 %d, %a, %b, %c;", row) == signed_field);
      REQUIRE(evaluate("mov.u32 %r0, 0x13579bdf; bfi.b32 %d, %a, %r0, %b, %c;", row) == inserted);
    }
  }
  REQUIRE(evaluate("popc.b32 %d, %a;", {0xf0f00001}) == 9);
  REQUIRE(evaluate("popc.b64 %d, %A;", {0xf0f0000100000003}) == 11);
  REQUIRE(evaluate("clz.b32 %d, %a;", {0}) == 32);
  REQUIRE(evaluate("clz.b64 %d, %A;", {0x0000800000000000}) == 16);
  REQUIRE(evaluate("brev.b32 %d, %a;", {0x80000001 << 1 | 1}) == 0xc0000000);
  REQUIRE(evaluate("bfind.u32 %d, %a;", {0x00010000}) == 16);
  REQUIRE(evaluate("bfind.s32 %d, %a;", {0xfffeffff}) == 16);
  REQUIRE(evaluate("bfind.shiftamt.u32 %d, %a;", {0x00010000}) == 15);
  REQUIRE(evaluate("bfind.u32 %d, %a;", {0}) == 0xffffffff);
}
