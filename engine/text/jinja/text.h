// Text: a string in which every byte knows whether it came from the template (trusted) or from a client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace inferd::jinja {

/// A value type; not synchronised. Grows to kMaxTextBytes at most (TemplateError).
class Text {
 public:
  Text() = default;
  Text(std::string_view bytes, bool trusted) { append(bytes, trusted); }

  void append(std::string_view bytes, bool trusted);
  void append(const Text& other);
  /// Appends other's bytes [begin, end), which must lie in it.
  void append(const Text& other, std::size_t begin, std::size_t end);
  Text slice(std::size_t begin, std::size_t end) const;

  const std::string& bytes() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  /// Origin of the byte at `offset` (< size()).
  bool trusted_at(std::size_t offset) const;
  bool all_trusted() const { return marks_.empty() || (marks_.size() == 1 && marks_[0].trusted); }
  /// Memory this holds, roughly.
  std::size_t footprint() const { return bytes_.capacity() + marks_.capacity() * sizeof(Mark); }

  /// visit(std::string_view bytes, bool trusted) for each run of one origin, in order.
  template <class Visit>
  void for_each_run(Visit visit) const {
    std::size_t begin = 0;
    for (const Mark& mark : marks_) {
      visit(std::string_view(bytes_).substr(begin, mark.end - begin), mark.trusted);
      begin = mark.end;
    }
  }

 private:
  struct Mark {
    std::uint32_t end;  // of the run; it starts where the one before ends
    bool trusted;
  };
  std::size_t mark_index(std::size_t offset) const;

  std::string bytes_;
  std::vector<Mark> marks_;  // neighbours differ in origin
};

}  // namespace inferd::jinja
