// GrammarState: where one sequence's answer is in its grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/grammar/token_grammar.h"

namespace inferd {

/// One per sequence; not thread-safe. Depends on the tokens accepted alone.
class GrammarState {
 public:
  explicit GrammarState(std::shared_ptr<const TokenGrammar> grammar);

  /// Goes on by a token; false, and nothing happened, if it does not fit.
  bool accept(TokenId token);
  /// Likewise by text.
  bool accept_text(std::string_view text);
  /// How many of `tokens`, from the first on, fit here one after the other.
  std::size_t fitting(std::span<const TokenId> tokens) const;
  /// The text may end here.
  bool complete() const { return at_.finished; }
  /// The tokens that may come next, one bit each. `ends` are allowed if complete(). Valid until the next call.
  std::span<const std::uint64_t> allowed(std::span<const TokenId> ends);

 private:
  void compact();

  std::shared_ptr<const TokenGrammar> grammar_;
  StackMachine machine_;
  Configuration at_;
  std::vector<std::uint64_t> words_;
};

}  // namespace inferd
