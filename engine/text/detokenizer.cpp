// Detokenizer: the same text as Tokenizer::decode, a token at a time.
#include "engine/text/detokenizer.h"

#include "base/utf8.h"

namespace inferd {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string Detokenizer::push(TokenId id) {
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  if (at_start_) {
    // A token without text leaves the next one first.
    if (tokenizer_.token_bytes(id).empty()) return {};
    at_start_ = false;
    pending_ += tokenizer_.first_token_bytes(id);
  } else {
    pending_ += tokenizer_.token_bytes(id);
  }
  const std::size_t ready = complete_utf8_prefix(pending_);
  if (ready == 0) return {};
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, ready));
  pending_.erase(0, ready);
  return text;
}

std::string Detokenizer::finish() {
  std::string text = replace_invalid_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace inferd
