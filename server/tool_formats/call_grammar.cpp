// CallGrammar: marks, and calls that are JSON objects.
#include "server/tool_formats/call_grammar.h"

#include <utility>

namespace inferd {

GrammarExpr GrammarMarks::mark(std::string_view text) {
  const auto known = known_.find(text);
  if (known != known_.end()) return known->second;
  GrammarExpr made = builder_.literal(text);
  if (const auto id = tokenizer_.special_id(text)) {
    constexpr std::size_t kMostSymbols = 256 - kFirstSymbol;
    if (symbols_.size() == kMostSymbols) throw GrammarError("it has too many marks");
    const auto symbol = static_cast<std::uint8_t>(kFirstSymbol + symbols_.size());
    symbols_.push_back({symbol, *id});
    const GrammarExpr token = builder_.bytes({{symbol, symbol}});
    made = tokenizer_.is_special(*id) ? token : builder_.choice({token, made});
  }
  known_.emplace(text, made);
  return made;
}

GrammarExpr CallGrammar::call_objects(std::string_view arguments) const {
  const auto key = [&](std::string_view name) { return text("\"" + std::string(name) + "\""); };
  std::vector<GrammarExpr> calls;
  for (const CallableFunction& function : functions) {
    calls.push_back(builder.sequence({json.member(key("name"), key(function.name)), json.comma(),
                                      json.member(key(arguments), function.schema->value())}));
  }
  return builder.rule(
      builder.sequence({text("{"), json.space(), builder.choice(std::move(calls)), json.space(), text("}")}));
}

GrammarExpr CallGrammar::one_or_more(GrammarExpr call, GrammarExpr between) const {
  if (!several) return call;
  const GrammarExpr one = builder.rule(call);
  return builder.sequence({one, builder.star(builder.sequence({between, one}))});
}

}  // namespace inferd
