// MarkedText: text whose every byte is known to come from a template (trusted) or from a client (not).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// Text in runs of one origin. Control tokens are only ever parsed in trusted runs, so a client's "<|im_end|>" stays
/// text.
class MarkedText {
 public:
  struct Run {
    std::string text;
    bool trusted = false;
  };

  MarkedText() = default;
  static MarkedText trusted(std::string_view text) { return MarkedText(text, true); }
  static MarkedText untrusted(std::string_view text) { return MarkedText(text, false); }

  /// Appends; neighbouring runs of one origin join.
  void append(std::string_view text, bool trusted_origin) {
    if (text.empty()) return;
    if (!runs_.empty() && runs_.back().trusted == trusted_origin) {
      runs_.back().text.append(text);
    } else {
      runs_.push_back({std::string(text), trusted_origin});
    }
  }
  void append(const MarkedText& other) {
    for (const Run& run : other.runs_) append(run.text, run.trusted);
  }

  const std::vector<Run>& runs() const { return runs_; }
  bool empty() const { return runs_.empty(); }
  std::string text() const {
    std::string joined;
    for (const Run& run : runs_) joined += run.text;
    return joined;
  }

 private:
  MarkedText(std::string_view text, bool trusted_origin) { append(text, trusted_origin); }
  std::vector<Run> runs_;
};

}  // namespace inferd
