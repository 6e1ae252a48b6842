// GrammarCache: a short list, searched from the front.
#include "server/grammar_cache.h"

#include <algorithm>

namespace inferd {

std::shared_ptr<const TokenTrie> GrammarCache::vocabulary() {
  std::call_once(vocabulary_made_, [this] { vocabulary_ = std::make_shared<const TokenTrie>(tokenizer_); });
  return vocabulary_;
}

AnswerGrammar GrammarCache::get(const std::string& key, const std::function<AnswerGrammar()>& make) {
  const auto find = [&] {
    return std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  };
  {
    const std::lock_guard lock(mutex_);
    const auto known = find();
    if (known != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, known);
      return known->grammar;
    }
  }
  AnswerGrammar made = make();
  const std::lock_guard lock(mutex_);
  if (find() == entries_.end()) entries_.push_front({key, made});
  if (entries_.size() > kMost) entries_.pop_back();
  return made;
}

}  // namespace inferd
