// Unicode properties of characters, as Python's str methods use them.
#pragma once

#include <cstdint>

namespace inferd::jinja {

bool is_space(char32_t c);
bool is_alphabetic(char32_t c);
bool is_decimal_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(char32_t c);
bool is_lower(char32_t c);
bool is_printable(char32_t c);
/// Simple mappings: one character to one character.
char32_t to_upper(char32_t c);
char32_t to_lower(char32_t c);

}  // namespace inferd::jinja
