// What `inferd bench` prints: a table for people, JSON for scripts.
#pragma once

#include <string>
#include <vector>

#include "server/commands/bench_runner.h"

namespace inferd {

/// What this machine was measured to do at most, 1e9 a second; 0: not measured.
struct BenchPeaks {
  double read_gb_per_s = 0;
  double int8_gop_per_s = 0;
  double f32_gflop_per_s = 0;
};

/// Everything around the results.
struct BenchSetting {
  std::string path;
  std::string backend;  // Backend::name()
  std::string kv_type;
  std::int64_t max_batch_tokens = 0;
  std::int64_t repetitions = 0;
  bool int8 = true;  // linear layers compute in int8: its peak is the yardstick
  BenchPeaks peaks;
};

std::string bench_table(const BenchSetting& setting, const ModelInfo& info, const std::vector<BenchResult>& results);
/// One line.
std::string bench_json(const BenchSetting& setting, const ModelInfo& info, const std::vector<BenchResult>& results);

}  // namespace inferd
