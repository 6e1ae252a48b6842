// Prompt-lookup drafts: what followed the last few tokens when they stood in the sequence before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"

namespace inferd {

constexpr std::int64_t kLeastNgram = 2;  // tokens that must agree before a draft is made
constexpr std::int64_t kMostNgram = 8;   // agreement beyond this counts no more

/// Finds the earlier place whose preceding tokens agree with the end of `tokens` over the most tokens (of equal ones
/// the latest), and copies up to `limit` tokens that followed it into *draft; where these reach the end of `tokens`,
/// the draft goes on as if it had been accepted. Returns the tokens that agree; 0 and an empty draft if there are fewer
/// than kLeastNgram. One pass over `tokens`; allocates only when draft's capacity is below `limit`.
std::int64_t ngram_draft(std::span<const TokenId> tokens, std::int64_t limit, std::vector<TokenId>* draft);

}  // namespace inferd
