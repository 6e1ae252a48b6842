// What surrounds an added token: word characters and white space.
#include "engine/text/added_tokens.h"

namespace inferd {
namespace {

/// Start of the character that ends before `end` (> 0) in valid UTF-8.
std::size_t previous_character(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

bool AddedTokens::ends_in_word(std::string_view text) {
  if (text.empty()) return false;
  std::size_t at = previous_character(text, text.size());
  return is_word_character(decode_utf8(text, &at));
}

bool AddedTokens::starts_with_word(std::string_view text) {
  std::size_t at = 0;
  return !text.empty() && is_word_character(decode_utf8(text, &at));
}

std::size_t AddedTokens::skip_space_back(std::string_view text, std::size_t from, std::size_t limit) {
  while (from > limit) {
    const std::size_t begin = previous_character(text, from);
    std::size_t at = begin;
    if (begin < limit || !is_white_space(decode_utf8(text, &at))) break;
    from = begin;
  }
  return from;
}

std::size_t AddedTokens::skip_space(std::string_view text, std::size_t from) {
  while (from < text.size()) {
    std::size_t at = from;
    if (!is_white_space(decode_utf8(text, &at))) break;
    from = at;
  }
  return from;
}

}  // namespace inferd
