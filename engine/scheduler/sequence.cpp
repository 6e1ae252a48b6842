// Sequence: set-up from a request and the few questions that depend on it alone.
#include "engine/scheduler/sequence.h"

#include <algorithm>
#include <utility>

#include "engine/sampler/sampler.h"

namespace inferd {

Sequence::Sequence(Request asked, std::shared_ptr<TokenStream> to, TimePoint arrived, std::int64_t context_length)
    : request(std::move(asked)), stream(std::move(to)), tokens(std::move(request.prompt)), arrival(arrived) {
  prompt_tokens = num_tokens();
  max_outputs =
      std::clamp<std::int64_t>(request.max_output_tokens, 0, std::max<std::int64_t>(context_length - prompt_tokens, 0));
  if (has_penalties(request.sampling)) {
    for (const TokenId token : tokens) counts.add_prompt(token);
  }
  if (request.grammar != nullptr) grammar.emplace(request.grammar);
  if (request.prompt_logprobs >= 0) {
    prompt_events.resize(1);
    prompt_events[0].token = tokens.front();
  }
}

void Sequence::reserve_memory() {
  const std::int64_t most = prompt_tokens + max_outputs;
  tokens.reserve(static_cast<std::size_t>(most));
  blocks.reserve(static_cast<std::size_t>(blocks_for_tokens(most)));
  hashes.reserve(static_cast<std::size_t>(blocks_for_tokens(most)));
}

std::int64_t Sequence::first_logit_position(std::int64_t start, std::int64_t end) const {
  if (wants_prompt_logprobs() && end > prompt_rows_done) {
    // The prompt's last position only matters when a token is sampled there.
    const std::int64_t last = will_want_output() ? end : std::min(end, prompt_tokens - 1);
    return start < last ? std::max(start, prompt_rows_done) : end;
  }
  return end == num_ahead() && will_want_output() ? end - 1 : end;
}

std::span<const TokenId> Sequence::banned_tokens() const {
  return num_outputs() < request.min_output_tokens ? std::span<const TokenId>(request.stop_token_ids)
                                                   : std::span<const TokenId>();
}

std::optional<std::span<const std::uint64_t>> Sequence::allowed_tokens() {
  if (!grammar) return std::nullopt;
  return grammar->allowed(request.stop_token_ids);
}

}  // namespace inferd
