// ByteTokenizer: one token a byte, for the sim model.
#pragma once

#include <memory>

#include "engine/text/tokenizer.h"

namespace inferd {

/// Ids 0-255 are bytes; 256 <|im_start|>, 257 <|im_end|> (the eos), 258 <|endoftext|>. No prefix, no suffix.
class ByteTokenizer final : public Tokenizer {
 public:
  ByteTokenizer();
  std::vector<TokenId> encode(const MarkedText& text, bool add_special) const override;
  std::string token_bytes(TokenId id) const override;
  std::string first_token_bytes(TokenId id) const override { return token_bytes(id); }
  /// The two texts with <|endoftext|> between them.
  PairEncoding encode_pair(const MarkedText& first, const MarkedText& second) const override;
  std::string decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  bool is_special(TokenId id) const override;
  bool strips_leading_space() const override { return false; }
  std::optional<TokenId> special_id(std::string_view text) const override;
  std::int64_t vocab_size() const override;
  const SpecialTokens& special() const override { return special_; }

 private:
  SpecialTokens special_;
};

}  // namespace inferd
