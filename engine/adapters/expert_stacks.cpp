// Naming stacks of factors, and dividing them.
#include "engine/adapters/expert_stacks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxNames = 4096;
constexpr std::int64_t kMaxExperts = 1024;
constexpr std::string_view kWrapped = ".base_layer";
constexpr std::array<std::string_view, 2> kExpertParameters = {"gate_up_proj", "down_proj"};  // as the module has them

/// B of one expert: every `experts`-th column from `expert` on.
StoredTensor columns_of(const StoredTensor& all, std::int64_t expert, std::int64_t experts, LoraAdapter& adapter) {
  const std::int64_t rows = all.shape[0], rank = all.shape[1] / experts;
  const auto size = all.bytes / static_cast<std::size_t>(all.elements());
  const auto bytes = std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(rows * rank) * size);
  std::byte* to = bytes->data();
  const std::byte* from = all.data + static_cast<std::size_t>(expert) * size;
  for (std::int64_t i = 0; i < rows * rank; ++i, to += size, from += static_cast<std::size_t>(experts) * size) {
    std::memcpy(to, from, size);
  }
  StoredTensor out = all;
  out.shape = {rows, rank};
  out.data = bytes->data();
  out.bytes = bytes->size();
  adapter.reordered.push_back(bytes);
  return out;
}

/// A of one expert.
StoredTensor rows_of(const StoredTensor& all, std::int64_t expert, std::int64_t rank) {
  StoredTensor out = all;
  out.bytes = all.bytes / static_cast<std::size_t>(all.shape[0] / rank);
  out.data = all.data + static_cast<std::size_t>(expert) * out.bytes;
  out.shape[0] = rank;
  return out;
}

}  // namespace

TargetParameters::TargetParameters(const Json& config, const std::string& file) : file_(file) {
  const auto found = config.find("target_parameters");
  if (found == config.end() || found->is_null()) return;
  const auto string = [](const Json& name) { return name.is_string(); };
  if (!found->is_array() || found->size() > kMaxNames || !std::all_of(found->begin(), found->end(), string)) {
    throw CheckpointError(file, "target_parameters", "a list of at most " + std::to_string(kMaxNames) + " names",
                          found->is_array() ? "another list" : found->type_name());
  }
  names_ = found->get<std::vector<std::string>>();
}

bool TargetParameters::names(const std::string& parameter) const {
  return std::any_of(names_.begin(), names_.end(),
                     [&](const std::string& name) { return parameter == name || parameter.ends_with("." + name); });
}

AdaptedLayer TargetParameters::find(const std::string& stored) const {
  AdaptedLayer layer{stored, {}, {}};
  std::size_t depth = 0;
  for (; layer.module.ends_with(kWrapped); ++depth) layer.module.resize(layer.module.size() - kWrapped.size());
  if (!layer.module.ends_with(".experts")) {
    if (depth > 0) layer.module = stored;  // no layer's name
    layer.patterned = names(layer.module + ".weight") ? layer.module + ".weight" : layer.module;
    return layer;
  }
  std::vector<std::string_view> wrapped;  // the outermost last
  for (const std::string_view parameter : kExpertParameters) {
    if (names(layer.module + "." + std::string(parameter))) wrapped.push_back(parameter);
  }
  if (depth >= wrapped.size()) {
    throw CheckpointError(file_, "target_parameters",
                          "gate_up_proj or down_proj of " + log_safe(layer.module) + ", whose factors are " +
                              std::to_string(depth + 1) + " or more",
                          std::to_string(wrapped.size()) + " of them");
  }
  layer.parameter = wrapped[wrapped.size() - 1 - depth];
  layer.patterned = layer.module + "." + layer.parameter;
  return layer;
}

std::vector<LoraPair> divide_by_expert(const LoraPair& all, const AdaptedLayer& layer, std::int64_t rank,
                                       LoraAdapter& adapter) {
  const std::int64_t rows = all.a.shape[0], experts = rows / rank;
  if (rows % rank != 0 || experts < 1 || experts > kMaxExperts) {
    throw CheckpointError(all.a.file, log_safe(all.a.name),
                          "rank " + std::to_string(rank) + ", as adapter_config.json says, of each of 1 to " +
                              std::to_string(kMaxExperts) + " experts",
                          std::to_string(rows) + " rows");
  }
  if (all.b.shape[1] != rows) {
    throw CheckpointError(all.b.file, log_safe(all.b.name), std::to_string(rows) + " columns, the ranks of all experts",
                          std::to_string(all.b.shape[1]));
  }
  std::vector<LoraPair> pairs;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    LoraPair& pair = pairs.emplace_back();
    pair.module = layer.module + "." + std::to_string(expert) + "." + layer.parameter;
    pair.after_last = layer.module + "." + std::to_string(experts) + "." + layer.parameter;
    pair.a = rows_of(all.a, expert, rank);
    pair.b = columns_of(all.b, expert, experts, adapter);
  }
  return pairs;
}

}  // namespace inferd
