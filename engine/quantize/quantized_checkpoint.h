// Quantising a checkpoint at load: a view of it in which large matrices are blocks, kept in a cache between starts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "engine/quantize/quantize_plan.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

/// Where quantised weights are kept between starts.
struct WeightCache {
  std::filesystem::path dir{};                 // empty: nowhere
  std::size_t limit = std::size_t{200} << 30;  // bytes of all files there
};

struct QuantizeOptions {
  LoadQuantization to = LoadQuantization::int8;
  WeightCache cache{};
  int threads = 0;                                                                  // 0: default_thread_count()
  std::string model{};                                                              // for the log
  std::function<void(std::size_t done_bytes, std::size_t total_bytes)> progress{};  // of the source's bytes; or empty
};

/// The parameters below which quantising is advised against.
inline constexpr std::int64_t kSmallModelParameters = 1'000'000'000;

/// Takes `source` and gives it back with the matrices of plan_quantization replaced. The blocks come from the cache if
/// a file there was made from the same bytes with the same plan and is whole; else they are computed, on all threads,
/// and written there (in memory, with a warning, where that fails). Logs what it does, and bytes before and after.
/// A file written anew replaces older ones of the same path and method, and the longest unused ones beyond the cache's
/// limit. Throws ConfigError if the source is quantised already, CheckpointError for weights that are not finite,
/// MemoryError.
std::unique_ptr<Checkpoint> quantize_checkpoint(std::unique_ptr<Checkpoint> source, const QuantizeOptions& options);

/// The same view before anything is computed, to measure it: types, shapes and bytes are those of the quantised
/// tensors, which have no data. Throws ConfigError if the source is quantised already.
std::unique_ptr<Checkpoint> planned_checkpoint(std::unique_ptr<Checkpoint> source, LoadQuantization to);

}  // namespace inferd
