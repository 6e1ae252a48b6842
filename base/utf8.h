// UTF-8: validation, decoding, and how much of a buffer ends in whole characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace inferd {

/// True if `text` is well-formed UTF-8 (no overlong forms, surrogates, or values above U+10FFFF).
bool is_valid_utf8(std::string_view text);

/// Decodes the character at `text[*offset]` and advances *offset; an invalid byte yields U+FFFD
/// and advances by one.
char32_t decode_utf8(std::string_view text, std::size_t* offset);

/// Appends `code_point` as UTF-8.
void append_utf8(std::string* out, char32_t code_point);

/// Length of the longest prefix of `text` that does not end inside a still completable character.
/// Invalid bytes count as complete; so the held tail is at most 3 bytes.
std::size_t complete_utf8_prefix(std::string_view text);

/// `text` with every maximal ill-formed subsequence replaced by U+FFFD (Unicode's and Python's way).
std::string replace_invalid_utf8(std::string_view text);

}  // namespace inferd
