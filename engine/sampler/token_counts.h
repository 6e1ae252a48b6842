// TokenCounts: which tokens a request has seen and produced, for the penalties.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace inferd {

/// Kept only for requests with a penalty. Engine thread only. Owned by its Sequence.
class TokenCounts {
 public:
  struct Entry {
    TokenId token = 0;
    std::int64_t in_output = 0;  // 0: only in the prompt
  };
  void add_prompt(TokenId token) { find(token); }
  void add_output(TokenId token) { ++find(token).in_output; }
  std::span<const Entry> entries() const { return entries_; }

 private:
  Entry& find(TokenId token) {
    const auto [at, fresh] = index_.try_emplace(token, entries_.size());
    if (fresh) entries_.push_back({token, 0});
    return entries_[at->second];
  }
  std::vector<Entry> entries_;
  std::unordered_map<TokenId, std::size_t> index_;
};

}  // namespace inferd
