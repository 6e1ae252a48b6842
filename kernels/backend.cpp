// What all backends check, and what one answers that has no adapters, captures nothing, and draws no tokens.
#include "kernels/backend.h"

#include <string>
#include <vector>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {

void check_weight_source(const WeightSource& source, std::int64_t columns) {
  const DTypeInfo& info = dtype_info(source.dtype);
  const std::string name(info.name);
  if (source.rows <= 0 || source.columns <= 0 || source.columns != columns) {
    throw CheckpointError("a " + name + " matrix of " + std::to_string(source.rows) + " x " +
                          std::to_string(source.columns) + ": expected rows of " + std::to_string(columns) +
                          " columns");
  }
  if (source.columns % info.block_elements != 0) {
    throw CheckpointError("a " + name + " matrix of " + std::to_string(source.columns) +
                          " columns: expected a multiple of " + std::to_string(info.block_elements));
  }
  INFERD_CHECK(source.data != nullptr);
  if (source.column_order == nullptr) return;
  std::vector<bool> seen(static_cast<std::size_t>(columns));
  for (std::int64_t i = 0; i < columns; ++i) {
    const std::int32_t column = source.column_order[i];
    if (column < 0 || column >= columns || seen[static_cast<std::size_t>(column)]) {
      throw CheckpointError("the order of a matrix's columns is no permutation");
    }
    seen[static_cast<std::size_t>(column)] = true;
  }
}

std::size_t Backend::extra_workspace_bytes(std::int64_t, std::int64_t) const { return 0; }

std::unique_ptr<LowRank> Backend::load_low_rank(std::span<const LowRankSource>, std::int64_t, std::int64_t) {
  throw ConfigError("adapters: not supported on " + name());
}

void Backend::captured(std::uint64_t, const std::function<void()>& work) { work(); }

void Backend::lora(const LoraArgs&) { check_failed("no update was loaded here", __FILE__, __LINE__); }

std::unique_ptr<ExpertGroup> Backend::group_experts(std::span<const Weight* const>) { return nullptr; }

void Backend::route(const RouteArgs&) { check_failed("no mixture runs here", __FILE__, __LINE__); }

void Backend::gather_activation(const GatherActivationArgs&) {
  check_failed("no mixture runs here", __FILE__, __LINE__);
}

void Backend::expert_linear(const ExpertLinearArgs&) { check_failed("no mixture runs here", __FILE__, __LINE__); }

void Backend::combine_experts(const CombineExpertsArgs&) { check_failed("no mixture runs here", __FILE__, __LINE__); }

bool Backend::samples(std::int64_t) const { return false; }

std::unique_ptr<HostCopy> Backend::host_copy(std::size_t) {
  check_failed("tokens are not drawn here", __FILE__, __LINE__);
}

void Backend::sample(const SampleArgs&) { check_failed("tokens are not drawn here", __FILE__, __LINE__); }

void Backend::take_tokens(const TakeTokensArgs&) { check_failed("tokens are not drawn here", __FILE__, __LINE__); }

}  // namespace inferd
