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

struct QuantizeOptions {
  LoadQuantization to = LoadQuantization::int8;
  std::filesystem::path cache_dir{};                                                // empty: keep nothing
  int threads = 0;                                                                  // 0: default_thread_count()
  std::string model{};                                                              // for the log
  std::function<void(std::size_t done_bytes, std::size_t total_bytes)> progress{};  // of the source's bytes; or empty
};

/// The parameters below which quantising is advised against.
inline constexpr std::int64_t kSmallModelParameters = 1'000'000'000;

/// Takes `source` and gives it back with the matrices of plan_quantization replaced. The blocks come from the cache if
/// a file there was made from the same bytes with the same plan and is whole; else they are computed, on all threads,
/// and written there (in memory, with a warning, where that fails). Logs what it does, and bytes before and after.
/// Throws ConfigError if the source is quantised already, CheckpointError for weights that are not finite, MemoryError.
std::unique_ptr<Checkpoint> quantize_checkpoint(std::unique_ptr<Checkpoint> source, const QuantizeOptions& options);

}  // namespace inferd
