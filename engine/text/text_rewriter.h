// TextRewriter: builds the next version of a normalised text and carries the marks of trust along.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/utf8.h"
#include "engine/text/normalizer.h"

namespace inferd {

/// Reads the text it was given and writes a new one; commit() swaps it in. Ranges are given in order, none twice.
class TextRewriter {
 public:
  explicit TextRewriter(NormalizedText* text) : text_(text) { out_.text.reserve(text->text.size() + 16); }
  std::string_view source() const { return text_->text; }

  /// Copies the source bytes [begin, end).
  void keep(std::size_t begin, std::size_t end) {
    out_.text.append(text_->text, begin, end - begin);
    if (text_->tracks_trust()) out_.trusted.append(text_->trusted, begin, end - begin);
  }
  /// Writes `with` in place of the source bytes [begin, end); it is trusted if all of them were.
  void replace(std::size_t begin, std::size_t end, std::string_view with) {
    out_.text.append(with);
    if (!text_->tracks_trust()) return;
    bool trusted = true;
    for (std::size_t i = begin; i < end; ++i) trusted = trusted && text_->trusted[i] != 0;
    out_.trusted.append(with.size(), trusted ? '\1' : '\0');
  }
  /// Calls visit(code point, begin, end) for every character of the source.
  template <typename Visit>
  void each_character(Visit&& visit) {
    for (std::size_t at = 0; at < text_->text.size();) {
      const std::size_t begin = at;
      const char32_t c = decode_utf8(text_->text, &at);
      visit(c, begin, at);
    }
  }
  void commit() { std::swap(*text_, out_); }

 private:
  NormalizedText* text_;
  NormalizedText out_;
};

}  // namespace inferd
