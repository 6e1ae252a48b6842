// Fitting adapters to a model's layers.
#include "engine/models/adapter_bank.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/errors.h"
#include "base/log.h"
#include "engine/models/tensor_names.h"

namespace inferd {
namespace {

/// Factors of one layer, widened; what LowRankSource points to.
struct Factors {
  std::vector<float> a, b;
  LowRankSource source;
};

std::vector<float> widen(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor, values);
  return values;
}

/// B's row for row `row` of the slice: the same, unless the files or the loader have heads in another order.
std::int64_t source_row(const LinearSlice& slice, std::int64_t row) {
  if (slice.by_head_dim > 0) {
    const std::int64_t dim = slice.by_head_dim, third = slice.rows / 3, part = row / third, head = row % third / dim;
    return (3 * head + part) * dim + row % dim;
  }
  if (slice.interleaved_head_dim == 0) return row;
  const std::int64_t dim = slice.interleaved_head_dim, head = row / dim, at = row % dim;
  return head * dim + at / 2 + (at % 2) * (dim / 2);
}

Factors make_factors(const LoraPair& pair, const LinearSlice& slice) {
  Factors factors;
  factors.a = widen(pair.a);
  const std::vector<float> stored = widen(pair.b);
  const std::int64_t rank = pair.rank();
  factors.b.resize(stored.size());
  for (std::int64_t row = 0; row < slice.rows; ++row) {
    const float* from = stored.data() + source_row(slice, row) * rank;
    float* to = factors.b.data() + row * rank;
    for (std::int64_t r = 0; r < rank; ++r) to[r] = static_cast<float>(static_cast<double>(from[r]) * pair.scale);
  }
  factors.source = {factors.a.data(), factors.b.data(), rank, slice.first_row, slice.rows};
  return factors;
}

void check_fit(const LoraPair& pair, const Linear& linear, const LinearSlice& slice) {
  const auto refuse = [&](const StoredTensor& tensor, const std::string& what, std::int64_t expected,
                          std::int64_t found) {
    throw CheckpointError(tensor.file, log_safe(tensor.name), std::to_string(expected) + " " + what + ", as the model",
                          std::to_string(found));
  };
  if (pair.a.shape[1] != linear.weight->columns()) {
    refuse(pair.a, "columns", linear.weight->columns(), pair.a.shape[1]);
  }
  if (pair.b.shape[0] != slice.rows) refuse(pair.b, "rows", slice.rows, pair.b.shape[0]);
}

}  // namespace

AdapterBank::AdapterBank(const std::vector<AdapterLayer>& layers, int slots)
    : slots_(slots), owned_(static_cast<std::size_t>(slots)) {
  if (slots == 0) return;
  for (const auto& [linear, backend] : layers) {
    if (linear->slices.empty()) continue;
    linear->adapter_index = static_cast<int>(layers_.size());
    layers_.push_back({linear, backend, std::vector<const LowRank*>(static_cast<std::size_t>(slots)), 0});
  }
}

UpdateMemory AdapterBank::lay_out(ArenaLayout& arena, std::int64_t tokens) const {
  return {arena.matrix(tokens, slots_ > 0 ? kMaxUpdateRank : 0), arena.matrix(tokens, max_rows())};
}

std::int64_t AdapterBank::max_rows() const {
  std::int64_t most = 0;
  for (const Layer& layer : layers_) most = std::max(most, layer.linear->weight->rows());
  return most;
}

void AdapterBank::set(int slot, const LoraAdapter& adapter) {
  INFERD_CHECK(slot >= 0 && slot < slots_ && owned_[static_cast<std::size_t>(slot)].empty());
  std::map<std::string, std::pair<std::size_t, const LinearSlice*>> slices;  // by module
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    for (const LinearSlice& slice : layers_[i].linear->slices) slices[slice.module] = {i, &slice};
  }
  std::map<std::size_t, std::vector<std::pair<const LoraPair*, const LinearSlice*>>> wanted;  // by layer
  std::map<std::string, const LoraPair*> seen;
  std::map<Backend*, std::size_t> bytes;
  for (const LoraPair& pair : adapter.pairs) {
    const std::string module = canonical_module(pair.module);
    const auto found = slices.find(module);
    if (found == slices.end()) {
      throw CheckpointError(pair.a.file, log_safe(pair.module), "a linear layer of this model", "none of that name");
    }
    if (!pair.after_last.empty() && slices.count(canonical_module(pair.after_last)) > 0) {
      throw CheckpointError(pair.a.file, log_safe(pair.a.name), "factors of every expert of the layer",
                            "none of " + log_safe(pair.after_last));
    }
    if (!seen.emplace(module, &pair).second) {
      throw CheckpointError(pair.a.file, log_safe(pair.module), "each layer once", "another name of the same layer");
    }
    const auto& [layer, slice] = found->second;
    check_fit(pair, *layers_[layer].linear, *slice);
    wanted[layer].emplace_back(&pair, slice);
    bytes[layers_[layer].backend] += static_cast<std::size_t>(pair.a.elements() + pair.b.elements()) * sizeof(float);
  }
  for (const auto& [backend, needed] : bytes) {
    if (needed <= backend->available_bytes()) continue;
    throw MemoryError(log_safe(adapter.path) + ": needs " + std::to_string(needed) + " bytes on " + backend->name() +
                      ", " + std::to_string(backend->available_bytes()) + " are available");
  }
  std::vector<std::pair<std::size_t, std::unique_ptr<LowRank>>> loaded;
  for (const auto& [layer, pairs] : wanted) {
    std::vector<Factors> factors;
    std::vector<LowRankSource> sources;
    std::int64_t rank = 0;
    for (const auto& [pair, slice] : pairs) {
      factors.push_back(make_factors(*pair, *slice));
      sources.push_back(factors.back().source);
      rank += pair->rank();
    }
    if (rank > kMaxUpdateRank) {
      throw CheckpointError(pairs.front().first->a.file, log_safe(pairs.front().first->module),
                            "ranks of at most " + std::to_string(kMaxUpdateRank) + " in all on one fused layer",
                            std::to_string(rank));
    }
    const Weight& weight = *layers_[layer].linear->weight;
    loaded.emplace_back(layer, layers_[layer].backend->load_low_rank(sources, weight.rows(), weight.columns()));
  }
  for (auto& [layer, update] : loaded) {
    layers_[layer].by_slot[static_cast<std::size_t>(slot)] = update.get();
    ++layers_[layer].used;
    owned_[static_cast<std::size_t>(slot)].push_back(std::move(update));
  }
}

void AdapterBank::drop(int slot) {
  for (Layer& layer : layers_) {
    const LowRank*& update = layer.by_slot[static_cast<std::size_t>(slot)];
    if (update != nullptr) --layer.used;
    update = nullptr;
  }
  owned_[static_cast<std::size_t>(slot)].clear();
}

Tensor AdapterBank::addend(Backend& backend, const Linear& linear, const Activation& x, std::int64_t tokens,
                           const Tensor& adapters, const UpdateMemory& memory) const {
  if (!adapters || linear.adapter_index < 0) return {};
  const Layer& layer = layers_[static_cast<std::size_t>(linear.adapter_index)];
  if (layer.used == 0) return {};
  Tensor out = memory.addend.first_rows(tokens);
  out.shape[1] = linear.weight->rows();
  backend.lora({.x = x,
                .num_tokens = tokens,
                .adapters = adapters,
                .updates = layer.by_slot.data(),
                .num_updates = slots_,
                .shrunk = memory.shrunk.first_rows(tokens),
                .out = out});
  return out;
}

}  // namespace inferd
