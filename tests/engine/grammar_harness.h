// What tests of grammars share: a grammar of a schema over the vocabulary of bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/grammar/grammar_state.h"
#include "engine/grammar/schema_grammar.h"
#include "engine/sim/sim_tokenizer.h"

namespace inferd {

inline std::shared_ptr<const TokenTrie> byte_vocabulary() {
  static const auto vocabulary = std::make_shared<const TokenTrie>(ByteTokenizer());
  return vocabulary;
}

inline std::shared_ptr<const TokenGrammar> over(Grammar grammar, std::shared_ptr<const TokenTrie> vocabulary = {}) {
  if (vocabulary == nullptr) vocabulary = byte_vocabulary();
  return std::make_shared<const TokenGrammar>(std::move(grammar), std::move(vocabulary), std::vector<SymbolToken>());
}

inline Grammar schema_grammar(const Json& schema, bool strict = false, std::vector<std::string>* ignored = nullptr) {
  GrammarBuilder builder;
  JsonText json(builder);
  SchemaGrammar compiled(builder, json, schema, strict);
  const GrammarExpr root = compiled.value();
  if (ignored != nullptr) *ignored = compiled.ignored();
  return builder.build(root);
}

inline bool accepts(const std::shared_ptr<const TokenGrammar>& grammar, std::string_view text) {
  GrammarState state(grammar);
  return state.accept_text(text) && state.complete();
}

inline bool bit(std::span<const std::uint64_t> words, TokenId token) {
  const auto at = static_cast<std::size_t>(token);
  return at / 64 < words.size() && (words[at / 64] >> (at % 64) & 1) != 0;
}

}  // namespace inferd
