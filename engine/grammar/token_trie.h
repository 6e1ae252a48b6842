// TokenTrie: the texts of a vocabulary's tokens by their shared beginnings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace inferd {

/// Immutable, shared between threads. Only tokens that are plain text are in it: no control tokens, none that were
/// added to the vocabulary by name, none without text.
class TokenTrie {
 public:
  /// One beginning that tokens share. Nodes stand in depth-first order; node 0 is the empty beginning.
  struct Node {
    std::uint8_t byte = 0;          // its last byte
    std::uint8_t depth = 0;         // its bytes
    std::uint32_t end = 0;          // its descendants are the nodes up to here
    std::uint32_t first_token = 0;  // tokens_[first_token, next node's) have exactly this text
  };
  /// Tokens longer than this are left out.
  static constexpr std::size_t kMostBytes = 200;

  explicit TokenTrie(const Tokenizer& tokenizer);

  const std::vector<Node>& nodes() const { return nodes_; }
  /// Ids of the tokens whose text is node `i`'s.
  const TokenId* tokens_begin(std::size_t i) const { return tokens_.data() + nodes_[i].first_token; }
  const TokenId* tokens_end(std::size_t i) const {
    return tokens_.data() + (i + 1 < nodes_.size() ? nodes_[i + 1].first_token : tokens_.size());
  }
  /// The text of a token in the trie; empty for others.
  std::string_view text(TokenId token) const;
  std::int64_t vocab_size() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  /// Bytes of the longest token.
  std::uint32_t longest() const { return longest_; }

 private:
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::string texts_;
  std::vector<std::uint32_t> offsets_;  // of each id's text in texts_, and its end
  std::uint32_t longest_ = 0;
};

}  // namespace inferd
