// Prompt-lookup drafts: one pass backwards over the tokens.
#include "engine/speculation/ngram_draft.h"

namespace inferd {

std::int64_t ngram_draft(std::span<const TokenId> tokens, std::int64_t limit, std::vector<TokenId>* draft) {
  draft->clear();
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (limit <= 0 || count <= kLeastNgram) return 0;
  const TokenId last = tokens.back();
  std::int64_t agreed = 0, from = 0;
  for (std::int64_t end = count - 1; end > agreed; --end) {  // a draft would start at tokens[end]
    if (tokens[static_cast<std::size_t>(end - 1)] != last) continue;
    std::int64_t length = 1;
    while (length < kMostNgram && length < end &&
           tokens[static_cast<std::size_t>(end - 1 - length)] == tokens[static_cast<std::size_t>(count - 1 - length)]) {
      ++length;
    }
    if (length <= agreed) continue;
    agreed = length;
    from = end;
    if (agreed == kMostNgram) break;
  }
  if (agreed < kLeastNgram) return 0;
  const std::int64_t known = count - from;
  for (std::int64_t i = 0; i < limit; ++i) {
    draft->push_back(i < known ? tokens[static_cast<std::size_t>(from + i)]
                               : (*draft)[static_cast<std::size_t>(i - known)]);
  }
  return agreed;
}

}  // namespace inferd
