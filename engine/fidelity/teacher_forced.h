// TeacherForced: a decoder's logits for every token of given texts, for measuring how faithful it is.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/kv_cache/kv_cache.h"
#include "engine/scheduler/batch.h"

namespace inferd {

/// Longest text TeacherForced takes, tokens.
inline constexpr std::int64_t kMaxTeacherTokens = 512;
/// Rows of one of its forwards: what ModelOptions::max_batch_tokens and max_logit_rows must allow.
inline constexpr std::int64_t kTeacherChunk = 64;

/// Runs one text at a time, chunk by chunk as a prefill is, from an empty context. One thread; model and backend
/// outlive it. Not for models whose contexts are computed in one piece (Model::longest_context).
class TeacherForced {
 public:
  /// Logits [vocab_size] for what follows tokens[position].
  using Visit = std::function<void(std::size_t position, std::span<const float> logits)>;

  /// Throws MemoryError.
  TeacherForced(Model& model, Backend& backend, DType kv_dtype = DType::f16);
  /// Calls visit for every token, at most kMaxTeacherTokens.
  void run(std::span<const TokenId> tokens, const Visit& visit);

 private:
  Model& model_;
  Backend& backend_;
  KvCache cache_;
  Batch batch_;
  std::vector<std::int32_t> blocks_;
  std::vector<float> row_;
};

}  // namespace inferd
