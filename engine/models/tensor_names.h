// TensorNames: what a tensor is called in the files at hand, given its Hugging Face name.
#pragma once

#include <string>
#include <string_view>

#include "engine/weights/checkpoint.h"

namespace inferd {

/// Models ask for tensors by their Hugging Face names ("model.layers.3.self_attn.q_proj.weight"); GGUF files call them
/// otherwise ("blk.3.attn_q.weight"), and some folders leave out or add a prefix ("model.", "bert."). Immutable.
class TensorNames {
 public:
  explicit TensorNames(const Checkpoint& checkpoint);
  /// The name in the files. Throws CheckpointError if a GGUF file has no counterpart for it.
  std::string stored(std::string_view hugging_face_name) const;

 private:
  const Checkpoint& checkpoint_;
  std::string added_prefix_;    // "bert." where the files have it
  std::string removed_prefix_;  // "model." where the files lack it
};

}  // namespace inferd
