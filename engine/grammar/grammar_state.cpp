// GrammarState: steps of the automaton, a token at a time.
#include "engine/grammar/grammar_state.h"

#include <algorithm>
#include <utility>

namespace inferd {

GrammarState::GrammarState(std::shared_ptr<const TokenGrammar> grammar)
    : grammar_(std::move(grammar)), machine_(grammar_->grammar(), grammar_->max_depth(), true) {
  at_ = machine_.enter(grammar_->grammar().start, 0, 0);
}

bool GrammarState::accept(TokenId token) {
  for (const SymbolToken& symbol : grammar_->symbols()) {
    if (symbol.token == token) {
      const char byte = static_cast<char>(symbol.symbol);
      return accept_text({&byte, 1});
    }
  }
  const std::string_view text = grammar_->vocabulary().text(token);
  return !text.empty() && accept_text(text);
}

bool GrammarState::accept_text(std::string_view text) {
  Configuration at = at_;
  for (const char c : text) {
    at = machine_.step(at, static_cast<std::uint8_t>(c));
    if (at.dead()) return false;
  }
  at_ = std::move(at);
  compact();
  return true;
}

std::size_t GrammarState::fitting(std::span<const TokenId> tokens) const {
  if (tokens.empty()) return 0;  // most steps have no draft, and the copy is not small
  GrammarState ahead = *this;
  std::size_t count = 0;
  while (count < tokens.size() && ahead.accept(tokens[count])) ++count;
  return count;
}

/// Drops the frames of the past once they are many.
void GrammarState::compact() {
  constexpr std::size_t kMany = 4096;
  if (machine_.size() < kMany + 64 * at_.stacks.size()) return;
  StackMachine fresh(grammar_->grammar(), grammar_->max_depth(), true);
  std::vector<StackFrame> frames;
  for (StackId& stack : at_.stacks) {
    frames.clear();
    for (StackId id = stack; id != 0; id = machine_.frame(id).below) frames.push_back(machine_.frame(id));
    StackId below = 0;
    for (std::size_t i = frames.size(); i-- > 0;) below = fresh.push(frames[i].node, frames[i].count, below);
    stack = below;
  }
  std::sort(at_.stacks.begin(), at_.stacks.end());
  machine_ = std::move(fresh);
}

std::span<const std::uint64_t> GrammarState::allowed(std::span<const TokenId> ends) {
  const std::int64_t size = grammar_->vocabulary().vocab_size();
  TokenId most = static_cast<TokenId>(size) - 1;
  for (const TokenId end : ends) most = std::max(most, end);
  words_.assign(static_cast<std::size_t>(most) / 64 + 1, 0);
  grammar_->allow(machine_, at_, words_);
  if (!complete()) return words_;
  for (const TokenId end : ends) {
    if (end >= 0)
      words_[static_cast<std::size_t>(end) / 64] |= std::uint64_t{1} << (static_cast<std::size_t>(end) % 64);
  }
  return words_;
}

}  // namespace inferd
