// Stop strings: the same answer for every way of cutting the text.
#include <random>

#include "engine/text/stop_matcher.h"
#include "tests/catch.h"

using inferd::StopMatcher;

namespace {

struct Outcome {
  std::string text, match;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(stops);
  Outcome outcome;
  for (const std::string& piece : pieces) outcome.text += matcher.push(piece);
  outcome.text += matcher.finish();
  outcome.match = matcher.match();
  CHECK(matcher.matched() == !outcome.match.empty());
  return outcome;
}

/// By the definition: the match that ends first; of two that end together the longer.
Outcome expected(const std::vector<std::string>& stops, const std::string& text) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::string best;
    for (const std::string& stop : stops) {
      if (stop.empty() || stop.size() > end || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (stop.size() > best.size()) best = stop;
    }
    if (!best.empty()) return {text.substr(0, end - best.size()), best};
  }
  return {text, ""};
}

}  // namespace

TEST_CASE("every split of a text gives the same outcome") {
  const std::vector<std::vector<std::string>> stop_sets = {{},
                                                           {""},
                                                           {"c"},
                                                           {"ab"},
                                                           {"aba"},
                                                           {"abab"},
                                                           {"b", "ab"},
                                                           {"abc", "bcd"},
                                                           {"aaab", "aab"},
                                                           {"\n\n", "\n\nUser:"},
                                                           {"cab", "abcabc"}};
  for (const auto& stops : stop_sets) {
    for (const std::string text : {"", "a", "abcab", "aabab", "abababc", "aaaaab", "x\n\nUser", "xabcabx", "bcdabc"}) {
      const Outcome want = expected(stops, text);
      const std::size_t cuts = text.empty() ? 0 : text.size() - 1;
      for (unsigned mask = 0; mask < (1u << cuts); ++mask) {
        std::vector<std::string> pieces(1);
        for (std::size_t i = 0; i < text.size(); ++i) {
          pieces.back() += text[i];
          if (i < cuts && (mask >> i) & 1u) pieces.emplace_back();
        }
        CAPTURE(text, mask);
        CHECK(run(stops, pieces) == want);
      }
    }
  }
}

TEST_CASE("random stops, texts and cuts") {
  std::mt19937 rng(3);
  const auto word = [&](std::size_t most) {
    std::string text;
    for (std::size_t n = rng() % (most + 1); n > 0; --n) text += "abc"[rng() % 3];
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(rng() % 4);
    for (std::string& stop : stops) stop = word(5);
    std::vector<std::string> pieces(rng() % 12);
    std::string text;
    for (std::string& piece : pieces) text += piece = word(4);
    CHECK(run(stops, pieces) == expected(stops, text));
  }
}

TEST_CASE("only what may still become a stop is held back") {
  StopMatcher matcher({"STOP", "\n\n"});
  CHECK(matcher.push("Hello") == "Hello");
  CHECK(matcher.push(" SST") == " S");
  CHECK(matcher.push("O") == "");
  CHECK(matcher.push("x\n") == "STOx");
  CHECK(matcher.push("y") == "\ny");
  CHECK(matcher.push("S") == "");
  CHECK(matcher.finish() == "S");
  CHECK_FALSE(matcher.matched());
  StopMatcher unicode({"。好"});
  CHECK(unicode.push("你好。") == "你好");
  CHECK(unicode.push("好嗎") == "");
  CHECK(unicode.matched());
  CHECK(unicode.push("more") == "");
  CHECK(unicode.finish() == "");
}
