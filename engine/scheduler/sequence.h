// Sequence: the mutable progress of one request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/grammar/grammar_state.h"
#include "engine/kv_cache/block_hash.h"
#include "engine/models/model.h"
#include "engine/options.h"
#include "engine/request.h"
#include "engine/sampler/token_counts.h"
#include "engine/speculation/draft_policy.h"
#include "engine/token_stream.h"

namespace inferd {

inline std::int64_t blocks_for_tokens(std::int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

/// Engine thread only. Owned by the Scheduler from add to take.
struct Sequence {
  Sequence(Request asked, std::shared_ptr<TokenStream> to, TimePoint arrived, std::int64_t context_length);

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t num_outputs() const { return num_tokens() - prompt_tokens; }
  bool wants_output() const { return num_outputs() < max_outputs; }
  /// Likewise, once the tokens on their way are there.
  bool will_want_output() const { return num_outputs() + pending < max_outputs; }
  /// Tokens a next step may build on, those on their way included. The last one of all is not: nothing follows it.
  std::int64_t num_ahead() const { return num_tokens() + (pending > 0 && !will_want_output() ? pending - 1 : pending); }
  /// Of those, the ones whose keys and values are not yet in the cache; 1 while decoding.
  std::int64_t remaining() const { return num_ahead() - num_computed; }
  bool wants_prompt_logprobs() const { return request.prompt_logprobs >= 0 && prompt_rows_done < prompt_tokens - 1; }
  /// Tokens that the next step must compute together, if it computes any.
  std::int64_t unbreakable() const { return num_computed < traits.context ? traits.context - num_computed : 0; }
  /// The first position of [start, end) whose logits this request needs; end if none. All after it are needed too.
  std::int64_t first_logit_position(std::int64_t start, std::int64_t end) const;
  /// Stop ids while fewer than min_output_tokens came out, else none.
  std::span<const TokenId> banned_tokens() const;
  /// With a grammar: the tokens that may come next, a bit each. Valid until the next call.
  std::optional<std::span<const std::uint64_t>> allowed_tokens();
  /// Takes the memory for all tokens it may come to have, so that no step does.
  void reserve_memory();
  /// Orders the queue and the running: (priority, arrival).
  bool before(const Sequence& other) const {
    return request.priority != other.request.priority ? request.priority < other.request.priority
                                                      : number < other.number;
  }

  Request request;  // its prompt has moved into tokens
  std::shared_ptr<TokenStream> stream;
  std::vector<TokenId> tokens;  // prompt, then output
  std::int64_t prompt_tokens = 0;
  PromptTraits traits;           // of the prompt, set by the core
  std::int64_t max_outputs = 0;  // max_output_tokens, clamped to the context
  std::uint64_t number = 0;      // order of arrival, set by the scheduler

  std::int64_t num_computed = 0;     // tokens whose keys and values are in `blocks`
  std::vector<std::int32_t> blocks;  // block table
  std::int64_t published = 0;        // of `blocks`, from the first on, those that others may share
  std::vector<BlockHash> hashes;     // chain over the full blocks of `tokens`, as far as was needed
  BlockHash root;                    // what the chain starts from
  bool rooted = false;

  // Of steps launched and not yet collected, on a device that draws tokens.
  std::int64_t pending = 0;      // tokens on their way, which follow `tokens`
  std::int32_t drawn_row = -1;   // row of the newest of those steps that the last of them is drawn from
  bool device_rules = false;     // its rules have a form there
  std::int32_t rules_slot = -1;  // which holds them, while it runs

  std::vector<TokenId> draft;   // guesses of what follows `tokens`, in the step being computed only
  std::int64_t draft_wish = 0;  // so many the draft model is to make
  bool by_model = false;        // it made them
  std::vector<TokenId> passed;  // then: what a repetition would have guessed, to learn how it fares
  DraftRecord ngram_record;     // how guesses of either kind fared
  DraftRecord model_record;
  std::int64_t draft_computed = 0;  // tokens whose keys and values of the draft model are in `blocks`
  std::int64_t draft_ahead = 0;     // likewise of `draft`

  TokenCounts counts;                     // only with penalties
  std::optional<GrammarState> grammar;    // only with one; where the output is in it
  std::int64_t prompt_rows_done = 0;      // prompt tokens whose successor has been scored
  std::vector<TokenEvent> prompt_events;  // [0] has no logprob

  bool started = false;            // has been admitted once
  std::int64_t cached_tokens = 0;  // of the prompt, at the first admission
  std::int64_t preemptions = 0;
  TimePoint arrival;
  std::optional<TimePoint> admitted;  // of the first admission
  TimePoint first_token;
  TimePoint last_token;
};

}  // namespace inferd
