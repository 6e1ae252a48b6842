// Bounded JSON: limits at their exact values, positions, duplicates, order, hostile text.
#include "base/json.h"

#include <chrono>

#include "tests/catch.h"

namespace inferd {
namespace {

std::string nested(int depth, char open, char close) {
  std::string text;
  for (int i = 0; i < depth; ++i) {
    text += open;
    if (open == '{') text += i + 1 < depth ? "\"k\":" : "";
  }
  text.append(static_cast<std::size_t>(depth), close);
  return text;
}

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    parse_json(text, limits);
  } catch (const JsonError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("depth 64 parses, 65 and a million are refused with the byte") {
  for (const auto& [open, close] : {std::pair{'[', ']'}, std::pair{'{', '}'}}) {
    const Json value = parse_json(nested(64, open, close));
    const Json copy = value;
    REQUIRE(dump_json(copy) == nested(64, open, close));
    REQUIRE(error_of(nested(65, open, close)).find("nested deeper than 64") != std::string::npos);
  }
  REQUIRE(error_of(std::string(1'000'000, '[')) == "JSON nested deeper than 64 at byte 64");
  REQUIRE(error_of("[\"" + std::string(1000, '[') + "\"]").empty());  // brackets in a string are text
  REQUIRE(error_of("[\"\\\"[[\"]", {.max_depth = 1}).empty());
}

TEST_CASE("size and node limits hold before anything is built") {
  REQUIRE(error_of("[1,2,3]", {.max_bytes = 6}) == "JSON text of 7 bytes, limit 6");
  REQUIRE(error_of("[1,2,3]", {.max_nodes = 4}).empty());
  REQUIRE(error_of("[1,2,3]", {.max_nodes = 3}) == "JSON with more than 3 values at byte 4");
  REQUIRE_FALSE(error_of("[" + std::string(1'000'000, ',')).empty());
}

TEST_CASE("what is no JSON is refused with a position and without echo") {
  const std::pair<std::string, std::size_t> cases[] = {
      {"", 0},      {"{", 1},        {"[1,]", 3}, {"{\"a\" 1}", 5}, {"nul", 3},
      {"[1] x", 4}, {"\"\x01\"", 1}, {"01", 1},   {"[1}", 2},
  };
  for (const auto& [text, byte] : cases) {
    CAPTURE(text);
    try {
      parse_json(text);
      FAIL("accepted");
    } catch (const JsonError& error) {
      REQUIRE(error.byte <= text.size());
      REQUIRE(error.byte + 1 >= byte);
      REQUIRE(std::string(error.what()).find("at byte") != std::string::npos);
    }
  }
  REQUIRE(error_of("{\"secret\": sesame}").find("sesame") == std::string::npos);
  REQUIRE(error_of("\xef\xbb\xbf{}") == "JSON with a byte order mark at byte 0");
  REQUIRE(error_of(std::string("{}\0{", 4)) == "JSON with a NUL byte at byte 2");
  REQUIRE(error_of(std::string("[\"a\0b\"]", 7)) == "JSON with a NUL byte at byte 3");
  REQUIRE(error_of("[\"\xff\"]").rfind("JSON with invalid UTF-8", 0) == 0);
  REQUIRE(error_of("[\"\xc0\xaf\"]").rfind("JSON with invalid UTF-8", 0) == 0);
  REQUIRE(error_of("[\"\\ud800\"]").rfind("JSON with a lone surrogate", 0) == 0);
  REQUIRE(error_of("[1e400]").rfind("JSON number out of range", 0) == 0);
}

TEST_CASE("keys keep their order and of equal keys the last value stays") {
  REQUIRE(dump_json(parse_json("{\"z\":1,\"a\":{\"y\":[],\"b\":null},\"m\":2.5}")) ==
          "{\"z\":1,\"a\":{\"y\":[],\"b\":null},\"m\":2.5}");
  REQUIRE(dump_json(parse_json("{\"a\":1,\"b\":2,\"a\":3,\"c\":4,\"b\":5,\"a\":6}")) == "{\"a\":6,\"b\":5,\"c\":4}");
  REQUIRE(parse_json("\"a\\u0000b\"").get<std::string>() == std::string("a\0b", 3));
  REQUIRE(parse_json("9223372036854775808").get<std::uint64_t>() == 9223372036854775808u);
  REQUIRE(parse_json("-1").get<std::int64_t>() == -1);
}

TEST_CASE("where keys must be unique, an object with a key twice is refused at its end") {
  const JsonLimits unique{.unique_keys = true};
  REQUIRE(error_of("{\"a\":1,\"b\":{\"c\":1,\"d\":2,\"c\":3}}", unique) ==
          "JSON object with a key twice, ending at byte 29");
  REQUIRE(error_of("{\"a\":1,\"\\u0061\":1}", unique) == "JSON object with a key twice, ending at byte 17");
  REQUIRE(dump_json(parse_json("[{\"a\":1},{\"a\":{\"a\":1}}]", unique)) == "[{\"a\":1},{\"a\":{\"a\":1}}]");
}

TEST_CASE("an object of 150,000 keys parses in linear time") {
  std::string text = "{";
  for (int i = 0; i < 150'000; ++i)
    text += (i > 0 ? ",\"token" : "\"token") + std::to_string(i) + "\":" + std::to_string(i);
  text += "}";
  const auto start = std::chrono::steady_clock::now();
  const Json value = parse_json(text);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  REQUIRE(value.size() == 150'000);
  REQUIRE(value.back() == 149'999);
  REQUIRE(seconds < 10.0);  // a quadratic builder needs minutes
}

TEST_CASE("dumping never throws") { REQUIRE(dump_json(Json("a\xff\xe2\x82")) == "\"a\xef\xbf\xbd\xef\xbf\xbd\""); }

}  // namespace inferd
