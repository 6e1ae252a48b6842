// TokenGrammar: a grammar over a model's vocabulary: which tokens may come next.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/grammar/stacks.h"
#include "engine/grammar/token_trie.h"

namespace inferd {

/// A token that a grammar names as a whole, by a byte from kFirstSymbol up.
struct SymbolToken {
  std::uint8_t symbol = 0;
  TokenId token = -1;
};

/// Immutable but for what it remembers of earlier questions, which changes no answer. Thread-safe; shared by the
/// sequences that it constrains.
///
/// What a match node allows, as long as a token does not complete its rule, depends on that node alone; of tokens that
/// do, the rest is for the frame below to judge. So answers are kept by (beginnings of tokens, node), and a stack is
/// answered from its frames, however deep it is.
class TokenGrammar {
 public:
  TokenGrammar(Grammar grammar, std::shared_ptr<const TokenTrie> vocabulary, std::vector<SymbolToken> symbols);
  ~TokenGrammar();
  TokenGrammar(const TokenGrammar&) = delete;

  const Grammar& grammar() const { return grammar_; }
  const TokenTrie& vocabulary() const { return *vocabulary_; }
  std::span<const SymbolToken> symbols() const { return symbols_; }
  /// Finds the answers of the match nodes in advance, for at most about 50 ms, so that the first sequence need not
  /// wait.
  void prepare() const;
  /// The deepest stack of a text.
  std::uint32_t max_depth() const;
  /// Sets the bits of the tokens that may follow; the rest of `words`, one bit a token, is left as it is.
  void allow(const StackMachine& machine, const Configuration& at, std::span<std::uint64_t> words) const;

 private:
  struct Memory;
  void allow_stack(const StackMachine& machine, StackId stack, std::span<std::uint64_t> words) const;
  void allow_deep(const StackMachine& machine, StackId stack, std::span<std::uint64_t> words) const;

  const Grammar grammar_;
  const std::shared_ptr<const TokenTrie> vocabulary_;
  const std::vector<SymbolToken> symbols_;
  mutable std::mutex mutex_;
  const std::unique_ptr<Memory> memory_;
};

}  // namespace inferd
