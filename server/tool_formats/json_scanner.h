// JsonScanner: checks a JSON object or list byte by byte, and copies it in compact form.
#pragma once

#include <string>

namespace inferd {

/// Reads one value as it streams. Forgiving inside strings, where models err: raw control characters and unknown
/// escapes are let through, and come out repaired.
class JsonScanner {
 public:
  enum class Event {
    none,
    bad,        // this byte cannot follow; the scanner is of no use any more
    open,       // { or [
    close,      // } or ]
    key_end,    // the quote that ends a key
    string_end  // the quote that ends a string that is no key
  };
  Event feed(char c);
  /// Adds what the byte fed last means in compact JSON.
  void copy(std::string& out) const;
  /// Objects and lists that are open.
  int depth() const { return static_cast<int>(open_.size()); }
  bool done() const { return state_ == State::end; }
  bool in_string() const { return state_ == State::string || state_ == State::escape || state_ == State::unicode; }
  /// The next byte that is no white space begins a value.
  bool wants_value() const { return state_ == State::value || state_ == State::first_item; }

 private:
  enum class State { value, first_item, first_key, key, colon, after, string, escape, unicode, literal, end };
  Event feed_string(char c);
  Event feed_escape(char c);
  Event begin_value(char c);
  Event feed_after(char c);
  Event close(char c);
  bool literal_ends();
  void begin_string(bool key);

  State state_ = State::value;
  std::string open_;     // { and [ from the outside in
  std::string literal_;  // number, true, false or null being read
  bool key_ = false;     // the string being read is a key
  int hex_left_ = 0;     // of \uXXXX
  char last_ = 0;
  enum class Copy { nothing, plain, escape, bad_escape } copy_ = Copy::nothing;
};

}  // namespace inferd
