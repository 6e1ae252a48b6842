// Grammars of JSON schemas: against jsonschema's verdicts, and what is refused.
#include <algorithm>
#include <fstream>

#include "tests/catch.h"
#include "tests/engine/grammar_harness.h"

using namespace inferd;

namespace {

Json read_cases() {
  std::ifstream in(std::string(INFERD_SOURCE_DIR) + "/tests/golden/grammar/schemas.json");
  return Json::parse(in).at("cases");
}

bool matches(const std::string& pattern, const std::string& text) {
  return accepts(over(schema_grammar(Json{{"type", "string"}, {"pattern", pattern}})), dump_json(Json(text)));
}

/// The pointer of the refusal; "-" if there is none.
std::string refusal(const std::string& schema, bool strict = false) {
  try {
    schema_grammar(Json::parse(schema), strict);
  } catch (const SchemaError& error) {
    return error.pointer.empty() ? "root" : error.pointer;
  } catch (const GrammarError& error) {
    return error.what();
  }
  return "-";
}

}  // namespace

TEST_CASE("texts that fit a schema are accepted, others refused, as jsonschema says") {
  const Json cases = read_cases();
  REQUIRE(cases.size() >= 60);
  for (const Json& one : cases) {
    const auto grammar = over(schema_grammar(one.at("schema")));
    for (const Json& text : one.at("texts")) {
      INFO(one.at("name").get<std::string>() << ": " << text.at("text").get<std::string>());
      const bool expected = text.at("valid") == true && !text.contains("narrow");
      CHECK(accepts(grammar, text.at("text").get<std::string>()) == expected);
    }
  }
}

TEST_CASE("white space is bounded") {
  const auto grammar = over(schema_grammar(Json::parse(R"({"type":"object"})")));
  CHECK(accepts(grammar, "{\n    \"a\": 1\n}"));
  CHECK_FALSE(accepts(grammar, "{  \"a\": 1}"));
  CHECK_FALSE(accepts(grammar, "{\n\n\"a\": 1}"));
  CHECK_FALSE(accepts(grammar, "{\n" + std::string(41, ' ') + "\"a\": 1}"));
  CHECK_FALSE(accepts(grammar, "{} "));
}

TEST_CASE("patterns match as regular expressions do") {
  CHECK(matches("a|bc", "xbcx"));
  CHECK_FALSE(matches("^(a|bc)$", "abc"));
  CHECK(matches("^a{2,}$", "aaaaa"));
  CHECK_FALSE(matches("^a{2,}$", "a"));
  CHECK(matches("^(?<year>\\d{4})-\\d\\d$", "2024-01"));
  CHECK(matches("^[\\]\\-a]+$", "a]-"));
  CHECK(matches("^[a-]+$", "a-"));
  CHECK(matches("^x{2$", "x{2"));
  CHECK(matches("^(a*)*b$", "aaab"));
  CHECK(matches("^(a{0,3}){0,3}b$", "aaaaaaaaab"));
  CHECK_FALSE(matches("^(a{0,3}){0,3}b$", "aaaaaaaaaab"));
  CHECK(matches("", "anything"));
  CHECK(matches("^é[à-ü]$", "éè"));
  CHECK_FALSE(matches("^é[à-ü]$", "éz"));
}

TEST_CASE("patterns that are not supported are refused, and say where") {
  for (const char* pattern :
       {"(",      ")",   "[a",    "a**", "*a",  "a{3,2}", "(?=a)", "(?!a)", "(?<=a)",  "\\1",         "\\bword",
        "\\p{L}", "a++", "(?i)a", "a^b", "a$b", "\\",     "[z-a]", "\\u12", "a{1001}", "(a{40}){40}", "(^a)"}) {
    INFO(pattern);
    CHECK(refusal(dump_json(Json{{"properties", Json{{"p", Json{{"pattern", pattern}}}}}})) == "/properties/p/pattern");
  }
}

TEST_CASE("keywords that cannot be enforced are refused when strict, else told") {
  const char* const schema =
      R"({"type":"object","properties":{"a/b":{"type":"number","multipleOf":0.1},"c":{"type":"array","uniqueItems":true,"contains":{}},
          "d":{"type":"string","format":"uri"},"e":{"type":"string","pattern":"^a","minLength":3},"f":{"type":"number","minimum":0.5},
          "g":{"enum":[1,2],"minimum":2}},"patternProperties":{"^x":{}},"minProperties":1})";
  std::vector<std::string> ignored;
  schema_grammar(Json::parse(schema), false, &ignored);
  std::sort(ignored.begin(), ignored.end());
  CHECK(ignored == std::vector<std::string>{"/minProperties", "/patternProperties", "/properties/a~1b/multipleOf",
                                            "/properties/c/contains", "/properties/c/uniqueItems",
                                            "/properties/d/format", "/properties/e/minLength", "/properties/f/minimum",
                                            "/properties/g/minimum"});
  for (const char* const one : {R"({"not":{}})", R"({"type":"array","uniqueItems":true})", R"({"if":{},"then":{}})",
                                R"({"type":"string","format":"uri"})", R"({"type":"number","multipleOf":2})"}) {
    INFO(one);
    CHECK(refusal(one, false) == "-");
    CHECK(refusal(one, true) != "-");
  }
  CHECK(refusal(R"({"type":"array","uniqueItems":false})", true) == "-");
}

TEST_CASE("schemas that make no sense are refused, and say where") {
  CHECK(refusal("3") == "root");
  CHECK(refusal(R"({"type":"text"})") == "/type");
  CHECK(refusal(R"({"properties":[]})") == "/properties");
  CHECK(refusal(R"({"required":"a"})") == "/required");
  CHECK(refusal(R"({"properties":{"x":{"minLength":-1}}})") == "/properties/x/minLength");
  CHECK(refusal(R"({"anyOf":[]})") == "/anyOf");
  CHECK(refusal(R"({"enum":3})") == "/enum");
  CHECK(refusal(R"({"$ref":"#/nowhere"})") == "/$ref");
  CHECK(refusal(R"({"$ref":"http://example.org/x"})") == "/$ref");
  CHECK(refusal(R"({"$ref":3})") == "/$ref");
  CHECK(refusal(R"({"allOf":3})") == "/allOf");
  CHECK(refusal(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})") == "/allOf/1");
  CHECK(refusal(R"({"items":{"items":{"items":4}}})") == "/items/items/items");
  CHECK(refusal(R"({"minimum":"1"})") == "/minimum");
}

TEST_CASE("schemas that no text fits are refused") {
  for (const char* schema :
       {"false", R"({"enum":[]})", R"({"$ref":"#"})", R"({"type":"integer","minimum":3,"maximum":2})",
        R"({"type":"array","minItems":2,"maxItems":1})", R"({"anyOf":[{"$ref":"#"}]})",
        R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", R"({"type":[]})",
        R"({"type":"object","properties":{"a":false},"required":["a"]})", R"({"enum":["a"],"type":"integer"})"}) {
    INFO(schema);
    CHECK(refusal(schema) == "no text fits it");
  }
  CHECK(refusal(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})") == "-");
}

TEST_CASE("hostile schemas are compiled or refused") {
  std::string deep, many = R"({"anyOf":[)", values = R"({"enum":[)", wide = R"({"properties":{)",
                    chain = R"({"$defs":{)";
  for (int i = 0; i < 500; ++i) deep += R"({"items":)";
  deep += "{}" + std::string(500, '}');
  for (int i = 0; i < 10'000; ++i) many += std::string(i > 0 ? "," : "") + R"({"const":)" + std::to_string(i) + "}";
  for (int i = 0; i < 100'000; ++i) values += std::string(i > 0 ? "," : "") + std::to_string(i);
  for (int i = 0; i < 4000; ++i)
    wide += std::string(i > 0 ? "," : "") + "\"property_" + std::to_string(i) + R"(":{"type":"string"})";
  for (int i = 0; i < 40; ++i) {
    const std::string next = "{\"$ref\":\"#/$defs/d" + std::to_string(i + 1) + "\"}";
    chain += "\"d" + std::to_string(i) + R"(":{"allOf":[)" + next + "," + next + "]},";
  }
  const std::string schemas[] = {deep,
                                 many + "]}",
                                 values + "]}",
                                 wide + "}}",
                                 chain + R"("d40":{}},"$ref":"#/$defs/d0"})",
                                 R"({"pattern":"(a+)+$"})",
                                 R"({"pattern":"a{1,10000}{1,10000}"})",
                                 R"({"pattern":")" + std::string(2000, '(') + "\"}",
                                 R"({"type":"string","minLength":1000000,"maxLength":100000000})",
                                 R"({"type":"array","minItems":100000000})",
                                 R"({"anyOf":[{"$ref":"#"},{"$ref":"#"}]})",
                                 R"({"allOf":[{"$ref":"#"}]})"};
  for (const std::string& schema : schemas) {
    INFO(schema.substr(0, 60));
    if (refusal(schema) != "-") continue;
    GrammarState state(over(schema_grammar(Json::parse(schema))));
    CHECK_FALSE(state.allowed({}).empty());
  }
}
