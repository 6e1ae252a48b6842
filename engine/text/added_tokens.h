// AddedTokens: control tokens and others that are cut out of a text before anything else happens to it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "engine/text/string_table.h"
#include "engine/text/tokenizer.h"
#include "engine/text/unicode.h"

namespace inferd {

struct AddedToken {
  TokenId id = -1;
  std::string content;
  bool special = false;                 // hidden in answers
  bool single_word = false;             // only between characters that are not of a word
  bool lstrip = false, rstrip = false;  // takes the white space before or after with it
  bool normalized = false;              // matched after normalisation
  bool anywhere = false;                // blank tokens: ordinary text, so matched in untrusted runs too
};

/// A set of added tokens and the search for them. Built once, then immutable and thread-safe.
class AddedTokens {
 public:
  struct Match {
    std::size_t begin, end;
    TokenId id;
  };

  /// `pattern` is what to look for: the content, normalised if the token is.
  void add(const AddedToken& token, std::string_view pattern) {
    if (pattern.empty()) return;
    trie_.add(pattern, static_cast<std::int32_t>(tokens_.size()));
    tokens_.push_back(token);
  }
  bool empty() const { return tokens_.empty(); }

  /// All matches in `text`, leftmost then longest. `is_trusted(begin, end)` says whether control tokens may be read
  /// there; it is called with ascending `begin`.
  template <typename IsTrusted>
  std::vector<Match> find(std::string_view text, IsTrusted&& is_trusted) const {
    std::vector<Match> matches;
    std::size_t done = 0;  // end of the last match
    for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
      if (!trie_.may_start(static_cast<unsigned char>(text[at]))) {
        ++at;
        continue;
      }
      std::size_t length = 0;
      const AddedToken* token = nullptr;
      trie_.each_prefix(text.substr(at), [&](std::size_t n, std::int32_t index) {
        const AddedToken& candidate = tokens_[static_cast<std::size_t>(index)];
        if (!candidate.anywhere && !is_trusted(at, at + n)) return;
        token = &candidate;
        length = n;
      });
      if (token == nullptr) {
        ++at;
        continue;
      }
      std::size_t begin = at;
      std::size_t end = at + length;
      at = end;
      if (token->single_word && (ends_in_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
      if (token->lstrip) begin = skip_space_back(text, begin, done);
      if (token->rstrip) end = skip_space(text, end);
      matches.push_back({begin, end, token->id});
      at = done = end;
    }
    return matches;
  }

 private:
  static bool ends_in_word(std::string_view text);
  static bool starts_with_word(std::string_view text);
  static std::size_t skip_space_back(std::string_view text, std::size_t from, std::size_t limit);
  static std::size_t skip_space(std::string_view text, std::size_t from);

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;
};

}  // namespace inferd
