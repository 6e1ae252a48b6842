// CallGrammar: what the forms of tool calls are put together from when a grammar has to make a model call.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/grammar/schema_grammar.h"
#include "engine/grammar/token_grammar.h"
#include "engine/text/tokenizer.h"

namespace inferd {

/// Marks as expressions: the token of that name, its letters where the vocabulary reads them as the same, or both.
class GrammarMarks {
 public:
  GrammarMarks(GrammarBuilder& builder, const Tokenizer& tokenizer) : builder_(builder), tokenizer_(tokenizer) {}
  GrammarExpr mark(std::string_view text);
  /// The vocabulary has the mark as one token.
  bool is_token(std::string_view text) const { return tokenizer_.special_id(text).has_value(); }
  const std::vector<SymbolToken>& symbols() const { return symbols_; }

 private:
  GrammarBuilder& builder_;
  const Tokenizer& tokenizer_;
  std::map<std::string, GrammarExpr, std::less<>> known_;
  std::vector<SymbolToken> symbols_;
};

/// A function that may be called.
struct CallableFunction {
  std::string name;
  SchemaGrammar* schema = nullptr;  // of its parameters
};

/// What a form's grammar is made with. References outlive it.
struct CallGrammar {
  GrammarBuilder& builder;
  JsonText& json;
  GrammarMarks& marks;
  const std::vector<CallableFunction>& functions;
  bool several = false;  // more than one call may be made

  GrammarExpr text(std::string_view literal) const { return builder.literal(literal); }
  /// {"name": …, "`arguments`": {…}} of any of the functions.
  GrammarExpr call_objects(std::string_view arguments) const;
  /// `call`, and if there may be several, more of them behind `between`.
  GrammarExpr one_or_more(GrammarExpr call, GrammarExpr between) const;
};

}  // namespace inferd
