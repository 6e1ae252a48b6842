// TokenTrie: built once per vocabulary, by sorting.
#include "engine/grammar/token_trie.h"

#include <algorithm>

namespace inferd {
namespace {

/// The text of a token that may stand in a grammar's text; else empty.
std::string plain_text(const Tokenizer& tokenizer, TokenId id) {
  if (tokenizer.is_special(id)) return {};
  std::string text = tokenizer.token_bytes(id);
  if (text.size() > TokenTrie::kMostBytes || tokenizer.special_id(text) == id) return {};
  return text;
}

std::size_t shared_beginning(std::string_view a, std::string_view b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer) {
  const std::int64_t size = tokenizer.vocab_size();
  offsets_.push_back(0);
  for (TokenId id = 0; id < size; ++id) {
    const std::string text = plain_text(tokenizer, id);
    if (!text.empty()) tokens_.push_back(id);
    longest_ = std::max(longest_, static_cast<std::uint32_t>(text.size()));
    texts_ += text;
    offsets_.push_back(static_cast<std::uint32_t>(texts_.size()));
  }
  std::stable_sort(tokens_.begin(), tokens_.end(), [this](TokenId a, TokenId b) { return text(a) < text(b); });
  nodes_.push_back({});
  std::vector<std::uint32_t> path{0};
  std::string_view before;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view now = text(tokens_[i]);
    const std::size_t shared = shared_beginning(before, now);
    while (path.size() > shared + 1) {
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (std::size_t at = shared; at < now.size(); ++at) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back(
          {static_cast<std::uint8_t>(now[at]), static_cast<std::uint8_t>(at + 1), 0, static_cast<std::uint32_t>(i)});
    }
    before = now;
  }
  for (const std::uint32_t node : path) nodes_[node].end = static_cast<std::uint32_t>(nodes_.size());
}

std::string_view TokenTrie::text(TokenId token) const {
  if (token < 0 || token >= vocab_size()) return {};
  const std::size_t begin = offsets_[static_cast<std::size_t>(token)];
  return std::string_view(texts_).substr(begin, offsets_[static_cast<std::size_t>(token) + 1] - begin);
}

}  // namespace inferd
