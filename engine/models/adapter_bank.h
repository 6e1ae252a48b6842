// AdapterBank: the low-rank updates of a decoder's linear layers, by layer and by the adapter's slot.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/adapters/lora_adapter.h"
#include "engine/models/weight_loader.h"

namespace inferd {

/// A layer that adapters may update, and where it is.
struct AdapterLayer {
  Linear* linear = nullptr;
  Backend* backend = nullptr;
};

/// Loaded adapters of one model. A slot's updates are read by forwards from set() to drop(). Engine thread only.
class AdapterBank {
 public:
  /// Numbers the layers (Linear::adapter_index); only those with slices can be updated. `slots` may be 0: no adapters.
  AdapterBank(const std::vector<AdapterLayer>& layers, int slots);

  int slots() const { return slots_; }
  /// Widest product and largest rank of an update, for the workspace; 0 without slots.
  std::int64_t max_rows() const;
  std::int64_t max_rank() const { return slots_ > 0 ? kMaxUpdateRank : 0; }

  /// Fits `adapter` to the model and takes it up under `slot`. Throws CheckpointError naming the layer that the model
  /// does not have or whose shape differs, MemoryError; the slot stays empty then.
  void set(int slot, const LoraAdapter& adapter);
  void drop(int slot);
  /// Updates of a layer by slot, null where an adapter leaves it alone; null if all do.
  const LowRank* const* updates(const Linear& linear) const;

 private:
  static constexpr std::int64_t kMaxUpdateRank = 3 * kMaxAdapterRank;  // q, k and v together
  struct Layer {
    const Linear* linear = nullptr;
    Backend* backend = nullptr;
    std::vector<const LowRank*> by_slot;  // [slots]
    int used = 0;
  };
  const int slots_;
  std::vector<Layer> layers_;                                 // by Linear::adapter_index
  std::vector<std::vector<std::unique_ptr<LowRank>>> owned_;  // by slot
};

}  // namespace inferd
