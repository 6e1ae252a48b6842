// Greedy longest match from the front; one failure makes the whole word unknown.
#include "engine/text/wordpiece_model.h"

#include "base/utf8.h"

namespace inferd {

WordPieceModel::WordPieceModel(const Vocabulary& vocabulary, const WordPieceOptions& options)
    : options_(options), lookup_(make_lookup(vocabulary)) {}

void WordPieceModel::encode(std::string_view word, std::vector<TokenId>* out) const {
  if (word.empty()) return;
  std::vector<std::size_t> starts;  // of each character, and the end
  for (std::size_t at = 0; at < word.size();) {
    starts.push_back(at);
    if (starts.size() > options_.max_characters) {
      if (options_.unk >= 0) out->push_back(options_.unk);
      return;
    }
    decode_utf8(word, &at);
  }
  starts.push_back(word.size());
  const std::size_t before = out->size();
  std::string key;
  for (std::size_t first = 0; first + 1 < starts.size();) {
    key.assign(first == 0 ? std::string_view() : std::string_view(options_.continuing_prefix));
    const std::size_t prefix = key.size();
    key.append(word.substr(starts[first]));
    std::size_t last = starts.size() - 1;
    std::int32_t id = -1;
    for (; last > first; --last) {
      id = lookup_.find(std::string_view(key).substr(0, prefix + starts[last] - starts[first]));
      if (id >= 0) break;
    }
    if (id < 0) {
      out->resize(before);
      if (options_.unk >= 0) out->push_back(options_.unk);
      return;
    }
    out->push_back(id);
    first = last;
  }
}

}  // namespace inferd
