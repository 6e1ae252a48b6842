// StopMatcher: cuts streamed text at the first stop string, holding back what might still become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// One per answer; not thread-safe.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);
  /// Text that may be emitted now. After a match: the text before it, then matched() is true and nothing more comes.
  std::string push(std::string_view text);
  /// What was held back, at the end of an answer without a match.
  std::string finish();
  bool matched() const { return matched_; }
  /// Which stop string matched; empty if none.
  const std::string& match() const { return match_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  std::string match_;
  bool matched_ = false;
};

}  // namespace inferd
