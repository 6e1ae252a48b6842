// The table and the JSON of `inferd bench`.
#include "server/commands/bench_report.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "base/json.h"

namespace inferd {
namespace {

[[gnu::format(printf, 2, 3)]] void add_line(std::string& out, const char* format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  out += line;
  out += '\n';
}

double compute_peak(const BenchSetting& setting) {
  return setting.int8 ? setting.peaks.int8_gop_per_s : setting.peaks.f32_gflop_per_s;
}

/// "84%", or "-" without a peak.
std::string percent(double value, double peak) {
  if (peak <= 0) return "-";
  char text[16];
  std::snprintf(text, sizeof text, "%.0f%%", 100.0 * value / peak);
  return text;
}

Json peak_share(double value, double peak) { return peak > 0 ? Json(value / peak) : Json(nullptr); }

}  // namespace

std::string bench_table(const BenchSetting& setting, const ModelInfo& info, const std::vector<BenchResult>& results) {
  std::string out;
  add_line(out, "%.100s: %.40s %.20s, %.1f M parameters, %.0f MB", info.name.c_str(), info.family.c_str(),
           info.quantization.c_str(), static_cast<double>(info.parameters) / 1e6,
           static_cast<double>(info.weight_bytes) / 1e6);
  add_line(out, "%.80s, KV cache %s, steps of %lld tokens, median of %lld", setting.backend.c_str(),
           setting.kv_type.c_str(), static_cast<long long>(setting.max_batch_tokens),
           static_cast<long long>(setting.repetitions));
  if (setting.peaks.read_gb_per_s > 0) {
    add_line(out, "measured peaks: reading %.1f GB/s, int8 %.0f Gop/s, f32 %.0f GFLOP/s", setting.peaks.read_gb_per_s,
             setting.peaks.int8_gop_per_s, setting.peaks.f32_gflop_per_s);
  }
  add_line(out, "%-20s %10s %10s %10s %8s %6s %9s %6s", "test", "tok/s", "least", "most", "GB/s", "peak", "GFLOP/s",
           "peak");
  for (const BenchResult& result : results) {
    const auto [least, most] = std::minmax_element(result.seconds.begin(), result.seconds.end());
    const auto tokens = static_cast<double>(result.tokens);
    add_line(out, "%-20s %10.1f %10.1f %10.1f %8.2f %6s %9.1f %6s", result.what.name().c_str(), result.tokens_per_s,
             tokens / *most, tokens / *least, result.gb_per_s,
             percent(result.gb_per_s, setting.peaks.read_gb_per_s).c_str(), result.gflop_per_s,
             percent(result.gflop_per_s, compute_peak(setting)).c_str());
  }
  return out;
}

std::string bench_json(const BenchSetting& setting, const ModelInfo& info, const std::vector<BenchResult>& results) {
  Json tests = Json::array();
  for (const BenchResult& result : results) {
    tests.push_back({{"test", result.what.name()},
                     {"kind", result.what.kind == BenchCase::Kind::prefill ? "prefill" : "decode"},
                     {"tokens_per_stream", result.what.tokens},
                     {"batch", result.what.batch},
                     {"depth", result.what.depth},
                     {"tokens", result.tokens},
                     {"seconds", result.seconds},
                     {"median_s", result.median_s},
                     {"tok_per_s", result.tokens_per_s},
                     {"gb_per_s", result.gb_per_s},
                     {"share_of_read_peak", peak_share(result.gb_per_s, setting.peaks.read_gb_per_s)},
                     {"gflop_per_s", result.gflop_per_s},
                     {"share_of_compute_peak", peak_share(result.gflop_per_s, compute_peak(setting))}});
  }
  const Json report = {{"model",
                        {{"path", setting.path},
                         {"name", info.name},
                         {"family", info.family},
                         {"quantization", info.quantization},
                         {"parameters", info.parameters},
                         {"weight_bytes", info.weight_bytes},
                         {"resident_bytes", info.resident_bytes}}},
                       {"backend", setting.backend},
                       {"kv_cache_type", setting.kv_type},
                       {"max_batch_tokens", setting.max_batch_tokens},
                       {"repetitions", setting.repetitions},
                       {"peaks",
                        {{"read_gb_per_s", setting.peaks.read_gb_per_s},
                         {"int8_gop_per_s", setting.peaks.int8_gop_per_s},
                         {"f32_gflop_per_s", setting.peaks.f32_gflop_per_s}}},
                       {"tests", std::move(tests)}};
  return dump_json(report) + "\n";
}

}  // namespace inferd
