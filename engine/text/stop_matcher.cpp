// StopMatcher: finds the stop string that completes first, however the text was cut into pieces.
#include "engine/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace inferd {

StopMatcher::StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopMatcher::push(std::string_view text) {
  if (matched_ || text.empty()) return {};
  held_.append(text);
  // The match that ends first wins, so the result does not depend on where pieces end; of two with one end the longer.
  std::size_t best_end = std::string::npos;
  const std::string* best = nullptr;
  for (const std::string& stop : stops_) {
    const std::size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const std::size_t end = begin + stop.size();
    if (best == nullptr || end < best_end || (end == best_end && stop.size() > best->size())) {
      best_end = end;
      best = &stop;
    }
  }
  if (best != nullptr) {
    matched_ = true;
    match_ = *best;
    std::string before = held_.substr(0, best_end - best->size());
    held_.clear();
    return before;
  }
  std::size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
        keep = n;
        break;
      }
    }
  }
  std::string ready = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return ready;
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace inferd
