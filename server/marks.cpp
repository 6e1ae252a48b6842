// Marks: finding them in a stream, and giving them back.
#include "server/marks.h"

#include "base/check.h"

namespace inferd {

MarkReader::MarkReader(std::vector<Mark> marks) : marks_(std::move(marks)) { INFERD_CHECK(marks_.size() <= kMaxMarks); }

std::string MarkReader::push(std::string_view text) {
  held_.append(text);
  std::string out;
  std::size_t at = 0;
  while (at < held_.size()) {
    const std::string_view rest = std::string_view(held_).substr(at);
    std::size_t whole = 0;
    bool partial = false;
    for (std::size_t i = 0; i < marks_.size() && whole == 0; ++i) {
      const std::string& mark = marks_[i].text;
      if (mark.empty() || marks_[i].control || mark[0] != rest[0]) continue;
      partial = partial || (rest.size() < mark.size() && mark.starts_with(rest));
      if (!rest.starts_with(mark)) continue;
      whole = mark.size();
      out += mark_byte(i);
    }
    if (whole == 0 && partial) break;
    if (whole == 0) out += rest[0];
    at += whole > 0 ? whole : 1;
  }
  held_.erase(0, at);
  return out;
}

std::string MarkReader::finish() {
  std::string rest = std::move(held_);
  held_.clear();
  return rest;
}

const Mark* MarkReader::of(char c) const {
  const std::size_t number = static_cast<unsigned char>(c) - std::size_t{kFirstMark};
  return is_mark(c) && number < marks_.size() ? &marks_[number] : nullptr;
}

std::string MarkReader::shown(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const Mark* mark = of(c);
    if (mark == nullptr) {
      out += c;
    } else if (!mark->hidden) {
      out += mark->text;
    }
  }
  return out;
}

std::size_t MarkReader::written_size(std::string_view text) const {
  std::size_t bytes = 0;
  for (const char c : text) {
    const Mark* mark = of(c);
    bytes += mark == nullptr ? 1 : mark->text.size();
  }
  return bytes;
}

}  // namespace inferd
