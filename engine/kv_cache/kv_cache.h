// KvCache: the key/value memory of all layers, and how large it should be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/models/model.h"
#include "engine/options.h"

namespace inferd {

/// What the options come to on this backend with this model.
struct KvPlan {
  std::int64_t num_blocks = 0;
  std::int64_t context_length = 0;  // tokens one request may have
  std::size_t block_bytes = 0;      // of one block over all layers, a draft model's included
  std::size_t bytes() const { return static_cast<std::size_t>(num_blocks) * block_bytes; }
};

/// Throws ConfigError if a cache cannot have this type, or not for this model's heads.
void check_kv_dtype(DType dtype, const std::string& model, int head_dim);

/// Throws ConfigError: a cache of fp8 and layers of `model` on `where`, which is no GPU.
[[noreturn]] void refuse_kv_on_cpu(const std::string& model, const std::string& where);

/// Throws that if `backend`, or `host` (null if the model has nothing there), does not keep keys and values so.
void check_kv_backends(DType dtype, const std::string& model, const Backend& backend, const Backend* host);

/// The type a layer has in a cache of `dtype`.
DType kv_layer_dtype(const KvSpec& spec, DType dtype, int layer);

/// Bytes of keys and values of one block over all layers.
std::size_t kv_block_bytes(const KvSpec& spec, DType dtype);

/// Sizes the pool: kv_cache_bytes, or the automatic amount (options.h); of a model on two backends so that the share of
/// either fits there. `available_bytes`: on the model's own backend, `host_bytes`: where spec.host_layers are.
/// `draft`: of a draft model on the model's backend, whose blocks count as parts of the model's.
/// Throws MemoryError (with the bytes needed and there) when not even one block or
/// the explicit context_length fits, ConfigError when context_length exceeds the model's own, and as check_kv_dtype.
KvPlan plan_kv_cache(const ModelInfo& info, const KvSpec& spec, const EngineOptions& options,
                     std::size_t available_bytes, std::size_t host_bytes = 0, const KvSpec* draft = nullptr);

/// Allocates once, through the backends. Engine thread only. Owned by EngineCore.
class KvCache {
 public:
  /// Throws MemoryError.
  KvCache(Backend& backend, const KvSpec& spec, DType dtype, const KvPlan& plan, Backend* host = nullptr);
  const std::vector<KvLayer>& layers() const { return layers_; }

 private:
  void add_layers(Backend& backend, int count, const KvSpec& spec, DType dtype, const KvPlan& plan);

  std::vector<std::unique_ptr<DeviceBuffer>> memory_;  // one a backend
  std::vector<KvLayer> layers_;
};

}  // namespace inferd
