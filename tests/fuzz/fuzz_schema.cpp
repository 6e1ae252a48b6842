// Fuzzes JSON schemas and their patterns: any text compiles or is refused, soon; what compiles can be walked to an end.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "engine/grammar/grammar_state.h"
#include "engine/grammar/schema_grammar.h"
#include "engine/text/tokenizer.h"

namespace {

using namespace inferd;

/// Every byte is a token.
class Bytes final : public Tokenizer {
 public:
  std::vector<TokenId> encode(const MarkedText&, bool) const override { return {}; }
  std::string token_bytes(TokenId id) const override { return std::string(1, static_cast<char>(id)); }
  std::string first_token_bytes(TokenId id) const override { return token_bytes(id); }
  PairEncoding encode_pair(const MarkedText&, const MarkedText&) const override { return {}; }
  std::string decode(const std::vector<TokenId>&, bool) const override { return {}; }
  bool is_special(TokenId) const override { return false; }
  bool strips_leading_space() const override { return false; }
  std::optional<TokenId> special_id(std::string_view) const override { return std::nullopt; }
  std::int64_t vocab_size() const override { return 256; }
  const SpecialTokens& special() const override { return special_; }

 private:
  SpecialTokens special_;
};

/// Takes allowed bytes; what is allowed must be accepted, and there must always be some until the text is complete.
void walk(Grammar grammar, std::uint64_t random) {
  static const auto vocabulary = std::make_shared<const TokenTrie>(Bytes());
  GrammarState state(std::make_shared<const TokenGrammar>(std::move(grammar), vocabulary, std::vector<SymbolToken>()));
  for (int step = 0; step < 40 && !state.complete(); ++step) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto words = state.allowed({});
    TokenId token = -1;
    for (std::uint64_t i = 0; i < 256 && token < 0; ++i) {
      const std::uint64_t at = (i + (random >> 56)) % 256;
      if ((words[at / 64] >> (at % 64) & 1) != 0) token = static_cast<TokenId>(at);
    }
    if (token < 0 || !state.accept(token)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const bool strict : {false, true}) {
    try {
      const bool pattern = !text.starts_with('{');
      const Json schema = pattern ? Json{{"pattern", text}} : parse_json(text);
      GrammarBuilder builder;
      JsonText json(builder, strict);
      SchemaGrammar compiled(builder, json, schema, strict);
      walk(builder.build(compiled.value()), size);
    } catch (const JsonError&) {
    } catch (const SchemaError&) {
    } catch (const GrammarError&) {
    }
  }
  return 0;
}
