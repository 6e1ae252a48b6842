// Detokenizer: streams token ids into text, holding back incomplete UTF-8.
#pragma once

#include <string>

#include "engine/text/tokenizer.h"

namespace inferd {

/// One per answer; not thread-safe. Concatenating all returned strings gives Tokenizer::decode of all tokens.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special);
  /// Text that became certain with this token: whole characters only, possibly empty.
  std::string push(TokenId id);
  /// The rest at the end of the answer: an incomplete character becomes one U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool at_start_ = true;
  std::string pending_;
};

}  // namespace inferd
