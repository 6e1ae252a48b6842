// Masks over real vocabularies: what they allow is what the automaton accepts, and every walk through them ends in a
// text that fits.
#include <map>
#include <random>

#include "engine/weights/checkpoint.h"
#include "tests/catch.h"
#include "tests/engine/grammar_harness.h"

using namespace inferd;

namespace {

struct Vocabulary {
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::shared_ptr<const TokenTrie> trie;
};

const Vocabulary& vocabulary(const std::string& folder) {
  static std::map<std::string, Vocabulary> known;
  Vocabulary& v = known[folder];
  if (v.trie == nullptr) {
    v.checkpoint = Checkpoint::open(std::string(INFERD_SOURCE_DIR) + "/tests/golden/models/" + folder);
    v.tokenizer = load_tokenizer(*v.checkpoint);
    v.trie = std::make_shared<const TokenTrie>(*v.tokenizer);
  }
  return v;
}

Json schema() {
  return Json::parse(
      R"({"$defs":{"tree":{"type":"object","properties":{"name":{"type":"string","maxLength":12},"kind":{"enum":["leaf","le","node"]},
    "tags":{"type":"array","items":{"type":"string","pattern":"^[a-z]{1,5}$"},"maxItems":3},"size":{"type":["number","null"]},
    "left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"}},"required":["name","kind"],"additionalProperties":{"type":"boolean"}}},
    "anyOf":[{"$ref":"#/$defs/tree"},{"type":"array","items":{"$ref":"#/$defs/tree"},"minItems":1}]})");
}

/// Every token, asked one by one.
bool fits(const GrammarState& state, TokenId token) {
  GrammarState copy = state;
  return copy.accept(token);
}

TokenId pick(const std::vector<TokenId>& from, std::mt19937_64& random) { return from[random() % from.size()]; }

std::vector<TokenId> tokens_of(std::span<const std::uint64_t> words) {
  std::vector<TokenId> out;
  for (std::size_t i = 0; i < words.size() * 64; ++i) {
    if (bit(words, static_cast<TokenId>(i))) out.push_back(static_cast<TokenId>(i));
  }
  return out;
}

/// Draws tokens until the text is complete and, once `patience` is used up, prefers those that close things.
std::string walk(const std::shared_ptr<const TokenGrammar>& grammar, const Tokenizer& tokenizer, std::uint64_t seed,
                 int patience) {
  std::mt19937_64 random(seed);
  GrammarState state(grammar);
  std::string text;
  for (int step = 0; step < 5000; ++step) {
    if (state.complete()) return text;
    const std::vector<TokenId> allowed = tokens_of(state.allowed({}));
    REQUIRE_FALSE(allowed.empty());
    TokenId token = pick(allowed, random);
    for (int tries = 0; step > patience && tries < 200; ++tries) {
      const TokenId other = pick(allowed, random);
      const std::string bytes = tokenizer.token_bytes(other);
      if (bytes.find_first_of("\"]}") != std::string::npos && bytes.find_first_of("[{:,") == std::string::npos) {
        token = other;
        break;
      }
    }
    REQUIRE(state.accept(token));
    text += tokenizer.token_bytes(token);
  }
  FAIL("no end: " << text.substr(0, 400));
  return {};
}

}  // namespace

TEST_CASE("the mask is the set of tokens that the automaton accepts") {
  for (const char* name : {"qwen2", "llama2"}) {
    const Vocabulary& v = vocabulary(name);
    const auto grammar = over(schema_grammar(schema()), v.trie);
    std::mt19937_64 random(7);
    for (int round = 0; round < 3; ++round) {
      GrammarState state(grammar);
      for (int step = 0; step < 30 && !state.complete(); ++step) {
        const auto words = state.allowed({});
        const std::vector<TokenId> allowed = tokens_of(words);
        std::size_t found = 0;
        for (TokenId token = 0; token < v.tokenizer->vocab_size(); ++token) {
          if (!fits(state, token)) continue;
          ++found;
          INFO(name << " token " << token << " '" << v.tokenizer->token_bytes(token) << "'");
          REQUIRE(bit(state.allowed({}), token));
          REQUIRE_FALSE(v.tokenizer->is_special(token));
        }
        REQUIRE(found == allowed.size());
        REQUIRE(state.accept(pick(allowed, random)));
      }
    }
  }
}

TEST_CASE("random walks end in JSON of the schema's shape") {
  for (const char* name : {"qwen2", "llama2"}) {
    const Vocabulary& v = vocabulary(name);
    const auto grammar = over(schema_grammar(schema()), v.trie);
    for (std::uint64_t seed = 0; seed < 25; ++seed) {
      const std::string text = walk(grammar, *v.tokenizer, seed, 40);
      INFO(text);
      const Json value = parse_json(text);
      const Json& tree = value.is_array() ? value.at(0) : value;
      REQUIRE(tree.at("name").is_string());
      REQUIRE((tree.at("kind") == "leaf" || tree.at("kind") == "le" || tree.at("kind") == "node"));
      REQUIRE(accepts(over(schema_grammar(schema())), text));
    }
  }
}

TEST_CASE("any JSON nests to a limit, and can always be closed") {
  GrammarState state(over(schema_grammar(Json::parse(R"({"type":"array"})"))));
  int depth = 0;
  while (state.accept_text("[")) ++depth;
  CHECK(depth >= 60);
  CHECK(depth < 1000);
  CHECK_FALSE(bit(state.allowed({}), '['));
  for (; depth > 0; --depth) {
    CHECK(bit(state.allowed({}), ']'));
    REQUIRE(state.accept_text("]"));
  }
  CHECK(state.complete());
}

TEST_CASE("near the limit of depth the mask still is what the automaton accepts") {
  const Vocabulary& v = vocabulary("qwen2");
  GrammarState state(over(schema_grammar(Json::parse(R"({"type":"array"})")), v.trie));
  while (state.accept_text("[")) {
    std::size_t found = 0;
    for (TokenId token = 0; token < v.tokenizer->vocab_size(); ++token) found += fits(state, token) ? 1 : 0;
    REQUIRE(found == tokens_of(state.allowed({})).size());
  }
}

TEST_CASE("ends are allowed exactly when the text is complete") {
  const TokenId ends[] = {257, 258};
  GrammarState state(over(schema_grammar(Json::parse(R"({"type":"integer","minimum":1,"maximum":99})"))));
  CHECK_FALSE(bit(state.allowed(ends), 257));
  REQUIRE(state.accept_text("4"));
  CHECK(bit(state.allowed(ends), 257));
  CHECK(bit(state.allowed(ends), '2'));
  REQUIRE(state.accept_text("2"));
  CHECK(tokens_of(state.allowed(ends)) == std::vector<TokenId>{257, 258});
  CHECK_FALSE(state.accept('0'));
  CHECK(state.complete());
}

TEST_CASE("symbols stand for whole tokens") {
  GrammarBuilder builder;
  const GrammarExpr call = builder.sequence({builder.bytes({{0xF8, 0xF8}}), builder.literal("x")});
  const auto grammar = std::make_shared<const TokenGrammar>(
      builder.build(builder.choice({call, builder.graph(text_without({"<call>"}))})), byte_vocabulary(),
      std::vector<SymbolToken>{{0xF8, 256}});
  GrammarState state(grammar);
  CHECK(bit(state.allowed({}), 256));
  REQUIRE(state.accept(256));
  CHECK(tokens_of(state.allowed({})) == std::vector<TokenId>{'x'});
  GrammarState text(grammar);
  REQUIRE(text.accept_text("a<call"));
  CHECK_FALSE(bit(text.allowed({}), 256));
  CHECK_FALSE(bit(text.allowed({}), '>'));
  CHECK(bit(text.allowed({}), '<'));
}
