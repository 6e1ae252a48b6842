// What stands outside of JSON in calls: names of functions, and bare objects of arguments.
#pragma once

#include "server/tool_formats/json_scanner.h"
#include "server/tool_formats/tool_format.h"

namespace inferd {

inline constexpr std::size_t kMaxNameBytes = 64;  // as the API allows

/// The bytes that the API allows in a function's name.
constexpr bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

constexpr bool is_call_name(std::string_view text) {
  bool fits = !text.empty() && text.size() <= kMaxNameBytes;
  for (const char c : text) fits = fits && is_name_byte(c);
  return fits;
}

/// Arguments that are one JSON object, after a call has begun.
class ArgumentObject {
 public:
  void begin() {
    scanner_ = JsonScanner();
    reading_ = true;
  }
  bool reading() const { return reading_; }
  /// Reads on in `text`, which at first begins with the object. True once it has ended or broken off.
  bool step(std::string_view& text, CallSink& out) {
    std::string piece;
    std::size_t read = 0;
    while (reading_ && read < text.size()) {
      if (scanner_.feed(text[read]) == JsonScanner::Event::bad) {
        reading_ = false;
        break;
      }
      scanner_.copy(piece);
      ++read;
      reading_ = !scanner_.done();
    }
    if (!piece.empty()) out.arguments(piece);
    text.remove_prefix(read);
    return !reading_;
  }

 private:
  JsonScanner scanner_;
  bool reading_ = false;
};

}  // namespace inferd
