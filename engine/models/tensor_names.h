// TensorNames: what a tensor is called in the files at hand, given its Hugging Face name.
#pragma once

#include <string>
#include <string_view>

#include "engine/weights/checkpoint.h"

namespace inferd {

struct TensorDialect;

/// Models ask for tensors by their Hugging Face names ("model.layers.3.self_attn.q_proj.weight"); GGUF files call them
/// otherwise ("blk.3.attn_q.weight"), so do families that came with code of their own
/// ("transformer.h.3.mlp.w2.weight"), and some folders leave out or add a prefix ("model.", "bert."). Immutable.
class TensorNames {
 public:
  explicit TensorNames(const Checkpoint& checkpoint);
  /// The name in the files. Throws CheckpointError if their dialect has no counterpart for it.
  std::string stored(std::string_view hugging_face_name) const;

 private:
  const Checkpoint& checkpoint_;
  const TensorDialect* dialect_ = nullptr;  // or null: Hugging Face's own names
  std::string added_prefix_;                // "bert.", "roberta." … where the files have it
  std::string removed_prefix_;              // "model." where the files lack it
};

/// Hugging Face's own name of a module that another dialect named: "transformer.h.3.mlp.w2" is
/// "model.layers.3.mlp.gate_proj". Names of no known dialect are returned as they are.
std::string canonical_module(std::string_view module);

}  // namespace inferd
