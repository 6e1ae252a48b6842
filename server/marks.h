// Marks: the tags and control tokens that part reasoning and tool calls from an answer's text, each read as one byte.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// A mark stands in an answer's text as a byte that no UTF-8 text holds: kFirstMark + its number.
inline constexpr unsigned char kFirstMark = 0xF8;
inline constexpr std::size_t kMaxMarks = 8;
inline constexpr std::size_t kReasoningMarks = 2;  // marks 0 and 1 open and close the reasoning
inline constexpr std::size_t kMaxToolMarks = kMaxMarks - kReasoningMarks;

constexpr char mark_byte(std::size_t number) { return static_cast<char>(kFirstMark + number); }
constexpr char tool_mark(std::size_t number) { return mark_byte(kReasoningMarks + number); }
constexpr bool is_mark(char c) { return static_cast<unsigned char>(c) >= kFirstMark; }

/// One mark of an answer.
struct Mark {
  std::string text;      // empty: this number is not used
  bool control = false;  // one token of its own in this vocabulary: it comes as its byte, its letters are text
  bool hidden = false;   // never shown to the client
};

/// Finds marks in text as it streams. One per answer; not thread-safe.
class MarkReader {
 public:
  /// At most kMaxMarks; the place in the list is the number.
  explicit MarkReader(std::vector<Mark> marks);
  /// `text` with marks as bytes; what may become a mark is held back. Bytes of control marks pass.
  std::string push(std::string_view text);
  /// What was held back, at the end of the answer.
  std::string finish();
  std::size_t held() const { return held_.size(); }
  /// `text` with marks as the model wrote them, without hidden ones.
  std::string shown(std::string_view text) const;
  /// Bytes that `text` had before its marks were found.
  std::size_t written_size(std::string_view text) const;

 private:
  const Mark* of(char c) const;
  std::vector<Mark> marks_;
  std::string held_;
};

}  // namespace inferd
