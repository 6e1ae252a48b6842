// GrammarCache: the grammars that a model's answers were last held to.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/grammar/token_grammar.h"
#include "engine/text/tokenizer.h"

namespace inferd {

/// A grammar for a request, and the parts of its schemas that are not enforced, as the client will be told.
struct AnswerGrammar {
  std::shared_ptr<const TokenGrammar> grammar;  // null: any answer will do
  std::vector<std::string> ignored;
};

/// Grammars by what they were made from, the least recently used ones forgotten. Thread-safe. The tokenizer outlives
/// it.
class GrammarCache {
 public:
  explicit GrammarCache(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// `make` is called, without a lock, if `key` is not known; what it throws comes through.
  AnswerGrammar get(const std::string& key, const std::function<AnswerGrammar()>& make);
  /// Made when it is first asked for.
  std::shared_ptr<const TokenTrie> vocabulary();

 private:
  static constexpr std::size_t kMost = 32;
  struct Entry {
    std::string key;
    AnswerGrammar grammar;
  };
  const Tokenizer& tokenizer_;
  std::once_flag vocabulary_made_;
  std::shared_ptr<const TokenTrie> vocabulary_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // the most recently used first
};

}  // namespace inferd
