// TokenModel: the last step of encoding, one word of normalised text into ids.
#pragma once

#include <string_view>
#include <vector>

#include "engine/text/tokenizer.h"

namespace inferd {

/// Immutable and thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of `word`, valid UTF-8 (any bytes for byte-level BPE). Never yields a control token but the
  /// unknown one.
  virtual void encode(std::string_view word, std::vector<TokenId>* out) const = 0;
};

}  // namespace inferd
