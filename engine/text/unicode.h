// Character properties and normalisation forms, from libutf8proc.
#pragma once

#include <string>
#include <string_view>

namespace inferd {

bool is_white_space(char32_t c);       // Unicode White_Space
bool is_number(char32_t c);            // N*
bool is_punctuation(char32_t c);       // P* or ASCII punctuation, as BERT counts it
bool is_nonspacing_mark(char32_t c);   // Mn
bool is_mark(char32_t c);              // M*
bool is_control_category(char32_t c);  // Cc, Cf or Co; unassigned ones are kept, as the reference does
bool is_word_character(char32_t c);    // letters, marks, decimal digits, connectors
bool is_cjk_ideograph(char32_t c);     // the blocks BERT puts spaces around
int combining_class(char32_t c);
/// Full lower case of one character.
void append_lowercase(std::string* out, char32_t c);

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// Appends `text` (valid UTF-8) in a normalisation form. Costs O(n log n) on any input.
void append_normal_form(std::string* out, std::string_view text, NormalForm form);

}  // namespace inferd
