// Text: runs of one origin, kept through concatenation and slicing.
#include "engine/text/jinja/text.h"

#include <algorithm>

#include "engine/text/jinja/limits.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {

void Text::append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  if (bytes.size() > kMaxTextBytes || bytes_.size() > kMaxTextBytes - bytes.size()) {
    throw TemplateError("the template makes a string of more than 16 MiB");
  }
  bytes_.append(bytes);
  const auto end = static_cast<std::uint32_t>(bytes_.size());
  if (!marks_.empty() && marks_.back().trusted == trusted) {
    marks_.back().end = end;
  } else {
    marks_.push_back({end, trusted});
  }
}

void Text::append(const Text& other) { append(other, 0, other.size()); }

void Text::append(const Text& other, std::size_t begin, std::size_t end) {
  if (begin >= end) return;
  if (&other == this) return append(Text(other), begin, end);
  for (std::size_t i = other.mark_index(begin); begin < end; ++i) {
    const std::size_t stop = std::min<std::size_t>(other.marks_[i].end, end);
    append(std::string_view(other.bytes_).substr(begin, stop - begin), other.marks_[i].trusted);
    begin = stop;
  }
}

Text Text::slice(std::size_t begin, std::size_t end) const {
  Text part;
  part.append(*this, begin, end);
  return part;
}

bool Text::trusted_at(std::size_t offset) const { return marks_[mark_index(offset)].trusted; }

std::size_t Text::mark_index(std::size_t offset) const {
  const auto after = [](std::size_t value, const Mark& mark) { return value < mark.end; };
  return static_cast<std::size_t>(std::upper_bound(marks_.begin(), marks_.end(), offset, after) - marks_.begin());
}

}  // namespace inferd::jinja
