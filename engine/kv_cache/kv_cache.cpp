// KvCache: sizing in whole blocks, one allocation, one pair of tensors per layer.
#include "engine/kv_cache/kv_cache.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <string>

#include "base/check.h"
#include "base/errors.h"

namespace inferd {
namespace {

constexpr std::size_t kTensorAlignment = 256;
// Slots are 32-bit: block * kKvBlockTokens + offset.
constexpr std::int64_t kMaxBlocks = std::numeric_limits<std::int32_t>::max() / kKvBlockTokens;

std::int64_t blocks_for(std::int64_t tokens) { return (tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

/// Bytes of keys (or of values) of one block in one layer.
std::size_t half_block_bytes(const KvSpec& spec, DType dtype) {
  std::size_t elements = 0;
  INFERD_CHECK(spec.num_layers > 0 && spec.num_kv_heads > 0 && spec.head_dim > 0);
  INFERD_CHECK(!__builtin_mul_overflow(static_cast<std::size_t>(spec.num_kv_heads) * kKvBlockTokens,
                                       static_cast<std::size_t>(spec.head_dim), &elements));
  return kv_bytes(dtype, std::int64_t{spec.num_kv_heads} * kKvBlockTokens, spec.head_dim);
}

std::string text(std::int64_t number) { return std::to_string(number); }

/// Bytes the pool may take of `available` bytes when nobody said how many.
std::size_t share_of(std::size_t available, double fraction) {
  return static_cast<std::size_t>(static_cast<double>(available) * fraction);
}

/// Blocks that a budget holds of whose layers it has `bytes` a block.
std::int64_t blocks_in(std::size_t budget, std::size_t bytes) {
  if (bytes == 0) return kMaxBlocks;
  return std::min(static_cast<std::int64_t>(budget / bytes), kMaxBlocks);
}

/// Bytes of one block in layers [first, end).
std::size_t layers_block_bytes(const KvSpec& spec, DType dtype, int first, int end) {
  std::size_t bytes = 0;
  for (int layer = first; layer < end; ++layer) bytes += 2 * half_block_bytes(spec, kv_layer_dtype(spec, dtype, layer));
  return bytes;
}

}  // namespace

DType kv_layer_dtype(const KvSpec& spec, DType dtype, int layer) {
  const bool fine = std::binary_search(spec.fine_layers.begin(), spec.fine_layers.end(), layer);
  return fine && (dtype == DType::q8_0 || dtype == DType::fp8) ? DType::f16 : dtype;
}

std::size_t kv_block_bytes(const KvSpec& spec, DType dtype) {
  return layers_block_bytes(spec, dtype, 0, spec.num_layers);
}

void check_kv_dtype(DType dtype, const std::string& model, int head_dim) {
  constexpr DType kTypes[] = {DType::f16, DType::f32, DType::bf16, DType::q8_0, DType::fp8};
  if (std::find(std::begin(kTypes), std::end(kTypes), dtype) == std::end(kTypes)) {
    throw ConfigError("kv_cache_type: expected f16, bf16, f32, q8_0 or fp8, found " +
                      std::string(dtype_info(dtype).name));
  }
  if (head_dim % dtype_info(dtype).block_elements != 0) {
    throw ConfigError("kv_cache_type: q8_0 needs heads of a multiple of 32 elements, but those of " + model + " have " +
                      text(head_dim));
  }
}

void refuse_kv_on_cpu(const std::string& model, const std::string& where) {
  throw ConfigError("kv_cache_type: fp8 is kept on NVIDIA GPUs only, but " + model + " has layers on " + where +
                    "; q8_0 takes hardly more and is kept there too");
}

void check_kv_backends(DType dtype, const std::string& model, const Backend& backend, const Backend* host) {
  for (const Backend* each : {&backend, host}) {
    if (each != nullptr && !each->keeps_kv(dtype)) refuse_kv_on_cpu(model, each->name());
  }
}

KvPlan plan_kv_cache(const ModelInfo& info, const KvSpec& spec, const EngineOptions& options,
                     std::size_t available_bytes, std::size_t host_bytes, const KvSpec* draft) {
  check_kv_dtype(options.kv_dtype, info.name, spec.head_dim);
  if (options.context_length < 0 || options.context_length > info.max_context) {
    throw ConfigError("context_length: expected 1 to " + text(info.max_context) + " (the most " + info.name +
                      " was made for), found " + text(options.context_length));
  }
  const std::int64_t wanted = options.context_length > 0 ? options.context_length : info.max_context;
  KvPlan plan;
  const std::size_t draft_bytes = draft != nullptr ? kv_block_bytes(*draft, options.kv_dtype) : 0;
  plan.block_bytes = kv_block_bytes(spec, options.kv_dtype) + draft_bytes;
  std::size_t pool_bytes = options.kv_cache_bytes;
  if (pool_bytes == 0) {
    const std::int64_t fitting =
        std::min(blocks_in(share_of(available_bytes, options.kv_memory_fraction),
                           layers_block_bytes(spec, options.kv_dtype, spec.host_layers, spec.num_layers) + draft_bytes),
                 blocks_in(share_of(host_bytes, kHostKvFraction),
                           layers_block_bytes(spec, options.kv_dtype, 0, spec.host_layers)));
    pool_bytes = static_cast<std::size_t>(fitting) * plan.block_bytes;
    std::size_t useful = 0;
    const bool overflow = __builtin_mul_overflow(
        static_cast<std::size_t>(blocks_for(wanted) * std::max<std::int64_t>(options.kv_full_contexts, 0)),
        plan.block_bytes, &useful);
    if (options.kv_full_contexts > 0 && !overflow) pool_bytes = std::min(pool_bytes, useful);
  }
  plan.num_blocks = std::min(static_cast<std::int64_t>(pool_bytes / plan.block_bytes), kMaxBlocks);
  const int own_layers = spec.num_layers - spec.host_layers;
  for (const auto& [layers, available] : {std::pair(own_layers, available_bytes), {spec.host_layers, host_bytes}}) {
    const std::size_t asked =
        options.kv_cache_bytes / static_cast<std::size_t>(spec.num_layers) * static_cast<std::size_t>(layers);
    if (options.kv_cache_bytes == 0 || asked <= available) continue;
    throw MemoryError("kv_cache_memory: " + std::to_string(asked) + " bytes were asked for, but only " +
                      std::to_string(available) + " bytes are available");
  }
  const std::int64_t needed_blocks = options.context_length > 0 ? blocks_for(options.context_length) : 1;
  if (plan.num_blocks < needed_blocks) {
    throw MemoryError(
        "KV cache of " + info.name + ": " + text(std::min(wanted, needed_blocks * kKvBlockTokens)) +
        " tokens of context need " + std::to_string(static_cast<std::size_t>(needed_blocks) * plan.block_bytes) +
        " bytes, but " + std::to_string(pool_bytes) + " bytes are available for it (" +
        text(plan.num_blocks * kKvBlockTokens) + " tokens); lower context_length or raise kv_cache_memory");
  }
  plan.context_length = std::min(wanted, plan.num_blocks * kKvBlockTokens);
  return plan;
}

KvCache::KvCache(Backend& backend, const KvSpec& spec, DType dtype, const KvPlan& plan, Backend* host) {
  INFERD_CHECK(spec.host_layers == 0 || host != nullptr);
  if (spec.host_layers > 0) add_layers(*host, spec.host_layers, spec, dtype, plan);
  if (spec.host_layers < spec.num_layers) add_layers(backend, spec.num_layers - spec.host_layers, spec, dtype, plan);
}

void KvCache::add_layers(Backend& backend, int count, const KvSpec& spec, DType dtype, const KvPlan& plan) {
  const auto blocks = static_cast<std::size_t>(plan.num_blocks);
  const int first = static_cast<int>(layers_.size()), end = first + count;
  const auto half = [&](int layer) {  // bytes of a layer's keys, or of its values
    const std::size_t bytes = half_block_bytes(spec, kv_layer_dtype(spec, dtype, layer)) * blocks;
    return (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
  };
  std::size_t total = 0;
  if (__builtin_mul_overflow(
          layers_block_bytes(spec, dtype, first, end) + 2 * kTensorAlignment * static_cast<std::size_t>(count), blocks,
          &total)) {
    throw MemoryError("KV cache: " + text(plan.num_blocks) + " blocks exceed the address space");
  }
  total = 0;
  for (int layer = first; layer < end; ++layer) total += 2 * half(layer);
  memory_.push_back(backend.allocate(total));
  auto* at = static_cast<std::byte*>(memory_.back()->data());
  const auto next_tensor = [&](int layer) {
    Tensor tensor(at, kv_layer_dtype(spec, dtype, layer),
                  {plan.num_blocks, spec.num_kv_heads, kKvBlockTokens, spec.head_dim});
    at += half(layer);
    return tensor;
  };
  for (int layer = first; layer < end; ++layer) {
    KvLayer entry;
    entry.keys = next_tensor(layer);
    entry.values = next_tensor(layer);
    entry.block_size = kKvBlockTokens;
    layers_.push_back(entry);
  }
}

}  // namespace inferd
