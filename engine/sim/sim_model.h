// The sim models: a decoder and an encoder without weights, whose answers depend on what the engine stored where.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/models/model.h"
#include "engine/request.h"
#include "engine/sim/virtual_clock.h"

namespace inferd {

/// Read from "sim:seed=1,vocab=512,context=4096,step_ms=0.5"; the keys are in brackets.
struct SimOptions {
  std::uint64_t seed = 1;               // [seed]
  std::int64_t vocab_size = 512;        // [vocab]
  std::int64_t max_context = 4096;      // [context]
  double step_s = 0.0;                  // [step_ms] a forward takes this long,
  double token_s = 0.0;                 // [token_us] and this much longer for each row
  int layers = 1;                       // [layers] boundaries at which the hook is called
  double eos_probability = 0.01;        // [eos] at temperature 1; 0: never
  TokenId eos_token = 257;              // [eos_id] default: the tokenizer's <|im_end|>
  bool printable = true;                // [printable] only printable ASCII (and eos) is likely
  TokenId poison_token = -1;            // [poison] a history that holds this token yields NaN logits
  bool echo = false;                    // [echo] the answer is the last user message of a ChatML prompt, then eos
  std::int64_t max_logit_rows = 64;     // [logit_rows]
  std::int64_t max_batch_tokens = 512;  // [batch_tokens] of the encoder
  std::int64_t embedding_dim = 64;      // [dim] of the encoder
};

/// Parses a spec, with or without the leading "sim:". Throws ConfigError naming the key.
SimOptions parse_sim_options(std::string_view spec);

/// The history of one sequence as the model sees it, without any cache: what a request computed alone depends on.
class SimHistory {
 public:
  explicit SimHistory(const SimOptions& options) : options_(options), link_(options.seed), fold_(options.seed) {}
  void push(TokenId token);
  /// Logits after the pushed tokens, [vocab_size].
  void logits(std::span<float> out) const;

 private:
  SimOptions options_;
  std::uint64_t link_;
  std::uint64_t fold_;
  std::int64_t position_ = 0;
  bool poisoned_ = false;
};

/// The token with which an echo goes on after `history`: an answer repeats what the last message before its own says.
/// What the template wrote of the answer itself counts as said.
TokenId echo_token(const SimOptions& options, std::span<const TokenId> history);

/// A decoder that writes (token, position, hash of all before) into each KV slot it is told to, then derives the logits
/// of a row from every slot of its sequence, found through the block table. A wrong table, a wrongly shared or a stale
/// block therefore changes the tokens. A forward advances `clock`, or really sleeps when clock is null.
std::unique_ptr<Model> make_sim_model(const SimOptions& options, VirtualClock* clock = nullptr);
std::unique_ptr<Model> make_sim_model(std::string_view spec, VirtualClock* clock = nullptr);

/// An encoder whose vector is a unit vector derived from the input's tokens.
std::unique_ptr<EncoderModel> make_sim_encoder(const SimOptions& options, VirtualClock* clock = nullptr);
std::unique_ptr<EncoderModel> make_sim_encoder(std::string_view spec, VirtualClock* clock = nullptr);
/// The vector that encoder must give for `tokens`.
std::vector<float> sim_embedding(const SimOptions& options, std::span<const TokenId> tokens);

}  // namespace inferd
