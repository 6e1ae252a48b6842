// UTF-8: validation against a second, table-free definition; prefixes at every cut; replacement like Python's.
#include "base/utf8.h"

#include <random>
#include <vector>

#include "tests/catch.h"

namespace inferd {
namespace {

std::string encoded(char32_t c) {
  std::string out;
  append_utf8(&out, c);
  return out;
}

/// Encodes without any rule, so that overlong forms, surrogates and too large values can be made.
std::string raw_encoding(char32_t c, int length) {
  static constexpr int kLeadBits[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
  std::string out(static_cast<std::size_t>(length), '\0');
  for (int i = length - 1; i > 0; --i) {
    out[static_cast<std::size_t>(i)] = static_cast<char>(0x80 | (c & 0x3f));
    c >>= 6;
  }
  out[0] = static_cast<char>(static_cast<unsigned>(kLeadBits[length]) | c);
  return out;
}

}  // namespace

TEST_CASE("every code point survives a round trip, every other encoding of it is refused") {
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    const std::string text = encoded(c);
    std::size_t offset = 0;
    if (!is_valid_utf8(text) || decode_utf8(text, &offset) != c || offset != text.size())
      FAIL("U+" << std::hex << static_cast<unsigned>(c));
    for (int length = static_cast<int>(text.size()) + 1; length <= 4; ++length) {
      if (is_valid_utf8(raw_encoding(c, length)))
        FAIL("overlong U+" << std::hex << static_cast<unsigned>(c) << " in " << length);
    }
  }
  for (char32_t c = 0xd800; c <= 0xdfff; ++c) REQUIRE_FALSE(is_valid_utf8(raw_encoding(c, 3)));
  for (char32_t c = 0x110000; c < 0x1fffff; c += 0xfff) REQUIRE_FALSE(is_valid_utf8(raw_encoding(c, 4)));
  REQUIRE(encoded(0xd800) == "\xef\xbf\xbd");
  REQUIRE(encoded(0x110000) == "\xef\xbf\xbd");
}

TEST_CASE("an invalid byte decodes to one replacement and one byte") {
  std::size_t offset = 0;
  const std::string text = "\xe2\x82x";
  REQUIRE(static_cast<unsigned>(decode_utf8(text, &offset)) == 0xfffd);
  REQUIRE(offset == 1);
  REQUIRE(static_cast<unsigned>(decode_utf8(text, &offset)) == 0xfffd);
  REQUIRE(static_cast<unsigned>(decode_utf8(text, &offset)) == 'x');
  REQUIRE(offset == 3);
}

TEST_CASE("the complete prefix holds back exactly the bytes of an unfinished character") {
  const std::vector<std::string> characters = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
  for (const std::string& before : characters) {
    for (const std::string& last : characters) {
      for (std::size_t kept = 1; kept <= last.size(); ++kept) {
        const std::string text = before + last.substr(0, kept);
        REQUIRE(complete_utf8_prefix(text) == (kept == last.size() ? text.size() : before.size()));
      }
    }
  }
  REQUIRE(complete_utf8_prefix("") == 0);
  REQUIRE(complete_utf8_prefix("\xff") == 1);
  REQUIRE(complete_utf8_prefix("\x80\x80\x80\x80") == 4);
  REQUIRE(complete_utf8_prefix("\xe0\x80") == 2);   // E0 80 cannot become a character any more
  REQUIRE(complete_utf8_prefix("a\xed\xa0") == 3);  // a surrogate's beginning
  REQUIRE(complete_utf8_prefix("a\xf4\x90") == 3);  // beyond U+10FFFF
}

TEST_CASE("ill-formed text is replaced by maximal subparts, as Python does") {
  // Expected values: bytes.decode('utf-8', 'replace') of CPython 3.11.
  const std::string r = "\xef\xbf\xbd";
  REQUIRE(replace_invalid_utf8("\x41\xc0\xaf\x41\xf4\x80\x80\x41") == "A" + r + r + "A" + r + "A");
  REQUIRE(replace_invalid_utf8("\xf0\x80\x80\x41") == r + r + r + "A");
  REQUIRE(replace_invalid_utf8("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41") == r + r + r + r + "A");
  REQUIRE(replace_invalid_utf8("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41") == r + r + r + r + r + r + r + r + "A");
  REQUIRE(replace_invalid_utf8("caf\xc3\xa9") == "caf\xc3\xa9");
}

TEST_CASE("replacement of random bytes is valid, and the identity on valid text") {
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text(random() % 12, '\0');
    for (char& c : text) c = static_cast<char>(random() % 3 == 0 ? random() % 128 : 128 + random() % 128);
    const std::string replaced = replace_invalid_utf8(text);
    REQUIRE(is_valid_utf8(replaced));
    if (is_valid_utf8(text)) REQUIRE(replaced == text);
    REQUIRE(text.size() - complete_utf8_prefix(text) <= 3);
  }
}

}  // namespace inferd
