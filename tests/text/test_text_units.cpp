// The small parts of engine/text: patterns, base64, tables, normal forms.
#include <utf8proc.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <stdexcept>

#include "base/utf8.h"
#include "engine/text/base64.h"
#include "engine/text/regex.h"
#include "engine/text/split_patterns.h"
#include "engine/text/string_table.h"
#include "engine/text/unicode.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::pair<std::size_t, std::size_t>> spans;
  Regex(pattern).find_all(text, &spans);
  std::vector<std::string> found;
  for (const auto& [begin, end] : spans) found.push_back(text.substr(begin, end - begin));
  return found;
}

}  // namespace

TEST_CASE("patterns mean what they mean in Oniguruma") {
  CHECK(matches(R"([a[bc]])", "abcd") == std::vector<std::string>{"a", "b", "c"});
  CHECK(matches(R"([^a[bc]])", "abcd") == std::vector<std::string>{"d"});
  CHECK(matches(R"([]a])", "a]b") == std::vector<std::string>{"a", "]"});
  CHECK(matches(R"([[:digit:]x]+)", "12x-") == std::vector<std::string>{"12x"});
  CHECK(matches(R"(\[a\])", "[a]") == std::vector<std::string>{"[a]"});
  CHECK(matches(R"(\s)", "a\u180eb\u0085c\u3000d\u200be") == std::vector<std::string>{"\u0085", "\u3000"});
  CHECK(matches(R"([^\s]+)", "a\u180e b") == std::vector<std::string>{"a\u180e", "b"});
  CHECK(matches(R"(\h+)", "xyzAf09g") == std::vector<std::string>{"Af09"});
  CHECK(matches(R"(\w+)", "e\u0301a_1 ²") == std::vector<std::string>{"e\u0301a_1"});
  CHECK(matches(R"(x*)", "aéb").empty());
  for (const char* bad : {"[a", "(", "[a&&b]", "[a[^b]]", "a\\", "\\C", "(?<n", "[[:x"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(Regex(bad), std::invalid_argument);
  }
}

TEST_CASE("published patterns cut as published") {
  CHECK(matches(std::string(kGpt2Pattern), "I'm  at 12 o'clock!") ==
        std::vector<std::string>{"I", "'m", " ", " at", " 12", " o", "'", "clock", "!"});
  CHECK(matches(std::string(kLlama3Pattern), "12345 (x)\n\n y") ==
        std::vector<std::string>{"123", "45", " (", "x", ")\n\n", " y"});
  CHECK(matches(std::string(kQwenPattern), "123") == std::vector<std::string>{"1", "2", "3"});
  const SplitRecipe& tekken =
      *find_split_recipe("tekken");  // as the tokenizers library cuts with Mistral's own pattern
  REQUIRE(tekken.patterns.size() == 1);
  CHECK(matches(std::string(tekken.patterns[0]), "Don't STOPnow HTTPServer 2024 你好 a.//\n  b") ==
        std::vector<std::string>{"Don", "'t", " STOPnow", " HTTPServer", " ", "2", "0", "2", "4", " 你好", " a",
                                 ".//\n", " ", " b"});
  CHECK(find_split_recipe("qwen2")->nfc);
  CHECK(find_split_recipe("no-such") == nullptr);
}

TEST_CASE("GPT-2's alphabet is a bijection of bytes") {
  std::set<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    const std::string piece = gpt2_piece_of_bytes(bytes);
    pieces.insert(piece);
    CHECK(bytes_of_gpt2_piece(piece) == bytes);
  }
  CHECK(pieces.size() == 256);
  CHECK(gpt2_piece_of_bytes(" \n") == "ĠĊ");
  CHECK_FALSE(bytes_of_gpt2_piece("a b"));
  CHECK_FALSE(bytes_of_gpt2_piece("你"));
}

TEST_CASE("base64") {
  CHECK(decode_base64("aGVsbG8=") == "hello");
  CHECK(decode_base64("aGVsbG8") == "hello");
  CHECK(decode_base64("") == "");
  for (const char* bad : {"a", "aGVsbG8==", "aG Vs", "====", "a===", "-_-_"}) CHECK_FALSE(decode_base64(bad));
}

TEST_CASE("tables find what was put in, and only that") {
  std::mt19937 rng(1);
  StringTable table;
  FlatMap map;
  ByteTrie trie;
  std::map<std::string, std::uint32_t> first;
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    for (unsigned n = rng() % 6; n > 0; --n) text += static_cast<char>(rng() % 4 * 80);
    const std::uint32_t index = table.add(text);
    if (i % 2 == 0) {
      table.index(index);
      if (!text.empty()) trie.add(text, static_cast<std::int32_t>(index));
      first.emplace(text, index);
    }
    CHECK(table.at(index) == text);
    CHECK(map.insert(std::uint64_t{index} << 32 | 7, index) == true);
    CHECK(map.insert(std::uint64_t{index} << 32 | 7, 0) == false);
  }
  for (std::uint32_t i = 0; i < 5000; ++i) {
    const std::string text(table.at(i));
    const auto found = first.find(text);
    CHECK(table.find(text) == (found == first.end() ? -1 : static_cast<std::int32_t>(found->second)));
    CHECK(*map.find(std::uint64_t{i} << 32 | 7) == i);
    std::vector<std::int32_t> prefixes, wanted;
    trie.each_prefix(text, [&](std::size_t, std::int32_t value) { prefixes.push_back(value); });
    for (std::size_t n = 1; n <= text.size(); ++n) {
      if (const auto prefix = first.find(text.substr(0, n)); prefix != first.end())
        wanted.push_back(static_cast<std::int32_t>(prefix->second));
    }
    CHECK(prefixes == wanted);
  }
  CHECK(map.find(12345) == nullptr);
}

TEST_CASE("normal forms are those of the Unicode library, at a cost that does not explode") {
  std::mt19937 rng(2);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (unsigned n = rng() % 12; n > 0; --n) {
      static constexpr char32_t kBase[] = {0x41,   0x300,  0xAC00,  0x1100, 0x1160, 0x11A0,
                                           0xF900, 0xFB00, 0x1D15E, 0x900,  0x3300, 0x320};
      append_utf8(&text, kBase[rng() % std::size(kBase)] + rng() % 64);
    }
    for (const auto& [form, options] :
         {std::pair{NormalForm::nfc, UTF8PROC_COMPOSE}, std::pair{NormalForm::nfd, UTF8PROC_DECOMPOSE}}) {
      for (const bool compatible : {false, true}) {
        utf8proc_uint8_t* wanted = nullptr;
        const auto size = utf8proc_map(
            reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &wanted,
            static_cast<utf8proc_option_t>(UTF8PROC_STABLE | options | (compatible ? UTF8PROC_COMPAT : 0)));
        REQUIRE(size >= 0);
        std::string normal;
        const bool nfc = form == NormalForm::nfc;
        append_normal_form(&normal, text, compatible ? (nfc ? NormalForm::nfkc : NormalForm::nfkd) : form);
        CHECK(normal == std::string(reinterpret_cast<char*>(wanted), static_cast<std::size_t>(size)));
        std::free(wanted);
      }
    }
  }
}
