// Options of the engine; config/ fills them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/dtype.h"

namespace inferd {

/// Whether sequences guess their next tokens and check the guesses in one step. It never changes an answer.
enum class SpeculationMode {
  off,
  automatic,  // where a draft token is worth its time; never where tokens are drawn on the device, a step ahead
  ngram,      // whenever the sequence repeats itself
  draft,      // by the draft model alone, in every step; off where there is none
};

struct SpeculationOptions {
  SpeculationMode mode = SpeculationMode::off;
  std::int64_t max_tokens = 8;  // of one draft
  double row_cost = 0.15;       // automatic: what one more row adds to the time of a step of one row (measured on CPUs)
};

/// Limits and sizes of one decoder's core.
struct EngineOptions {
  std::int64_t context_length = 0;      // 0: auto: the model's maximum or what the KV pool holds, whichever is less
  std::int64_t max_batch_tokens = 512;  // rows of one step
  std::int64_t max_concurrent_requests = 16;  // sequences in one step
  std::int64_t max_queued_requests = 256;     // waiting beyond those
  std::size_t kv_cache_bytes = 0;             // 0: auto: min(25% of available RAM, 8 requests of full context)
  DType kv_dtype = DType::f16;                // f16 | f32 | q8_0 | fp8
  double queue_wait_s = 600.0;                // longest wait before the first step
  bool prefix_cache = true;
  std::int64_t max_logit_rows = 64;  // as given to the model (ModelOptions); also bounds sequences in one step
  int max_adapters = 0;              // as given to the model (ModelOptions)
  double kv_memory_fraction = 0.25;  // auto: share of the backend's available memory the pool may take
  SpeculationOptions speculation;
  // Steps decided before the last one's tokens are known, 0 or 1, where the device draws them.
  int steps_ahead = 1;
  std::int64_t kv_full_contexts = 8;  // auto: requests of full context the pool need not exceed; 0: no such bound
};

constexpr int kKvBlockTokens = 16;

/// Share of free RAM that keys and values may take for layers beside those on a GPU.
constexpr double kHostKvFraction = 0.5;

}  // namespace inferd
