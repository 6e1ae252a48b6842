// BpeModel: byte pair encoding by merge rank, over bytes or over characters.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "engine/text/string_table.h"
#include "engine/text/token_model.h"
#include "engine/text/vocabulary.h"

namespace inferd {

struct BpeOptions {
  bool byte_level = false;     // symbols start as bytes; else as UTF-8 characters
  bool ignore_merges = false;  // a word that is a piece is taken whole, whatever the merges say
  bool byte_fallback = false;  // characters without a piece become <0xXX> pieces
  bool fuse_unk = false;       // neighbouring unknown characters become one unknown token
  TokenId unk = -1;            // -1: unknown characters are dropped
};

/// One merge; lower ranks come first. Several pairs may share a rank (a tiktoken file ranks results, not pairs).
struct BpeMerge {
  TokenId left, right, result;
  std::uint32_t rank;
};

/// A word of n symbols costs O(n log n) at worst. Immutable and thread-safe.
class BpeModel final : public TokenModel {
 public:
  BpeModel(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges, const BpeOptions& options);
  void encode(std::string_view word, std::vector<TokenId>* out) const override;

 private:
  void first_symbols(std::string_view word, std::vector<TokenId>* symbols) const;
  void append_unknown(std::string_view character, bool* after_unknown, std::vector<TokenId>* symbols) const;
  void merge_short(TokenId* symbols, std::size_t* count) const;
  void merge_long(std::vector<TokenId>* symbols) const;
  /// Rank and result of merging two symbols as rank << 32 | result; ~0 if they do not merge.
  std::uint64_t merge_of(TokenId left, TokenId right) const {
    const std::uint64_t* found =
        merges_.find((std::uint64_t{static_cast<std::uint32_t>(left)} << 32) | static_cast<std::uint32_t>(right));
    return found == nullptr ? ~std::uint64_t{0} : *found;
  }

  BpeOptions options_;
  StringTable lookup_;
  FlatMap merges_;
  std::vector<bool> whole_;                  // by id: merging this piece's own text gives just this piece
  std::array<TokenId, 256> byte_symbols_;    // byte-level: the piece of each byte
  std::array<TokenId, 256> fallback_bytes_;  // <0xXX> pieces
  bool has_fallback_ = false;
};

}  // namespace inferd
