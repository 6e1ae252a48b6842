// AdapterBank: the low-rank updates of a decoder's linear layers, by layer and by the adapter's slot.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/adapters/lora_adapter.h"
#include "engine/models/arena_layout.h"
#include "engine/models/weight_loader.h"

namespace inferd {

/// A layer that adapters may update, and where it is.
struct AdapterLayer {
  Linear* linear = nullptr;
  Backend* backend = nullptr;
};

/// Scratch of the updates of a step. T: its most tokens.
struct UpdateMemory {
  Tensor shrunk;  // [T, largest rank of an update] f32
  Tensor addend;  // [T, rows of the widest product] f32
};

/// Loaded adapters of one model. A slot's updates are read by forwards from set() to drop(). Engine thread only.
class AdapterBank {
 public:
  /// Numbers the layers (Linear::adapter_index); only those with slices can be updated. `slots` may be 0: no adapters.
  AdapterBank(const std::vector<AdapterLayer>& layers, int slots);

  int slots() const { return slots_; }
  /// Memory for steps of `tokens` tokens; nothing without slots.
  UpdateMemory lay_out(ArenaLayout& arena, std::int64_t tokens) const;

  /// Fits `adapter` to the model and takes it up under `slot`. Throws CheckpointError naming the layer that the model
  /// does not have or whose shape differs, MemoryError; the slot stays empty then.
  void set(int slot, const LoraAdapter& adapter);
  void drop(int slot);
  /// What the adapters of a step's rows add to the product of `linear` with the first `tokens` rows of x, in
  /// memory.addend; absent if none does. adapters: [tokens] i32 on the backend (BatchTensors::adapters), or absent.
  Tensor addend(Backend& backend, const Linear& linear, const Activation& x, std::int64_t tokens,
                const Tensor& adapters, const UpdateMemory& memory) const;

 private:
  static constexpr std::int64_t kMaxUpdateRank = 3 * kMaxAdapterRank;  // q, k and v together
  std::int64_t max_rows() const;
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
