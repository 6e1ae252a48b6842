// Batch: one step as flat arrays, on the host and on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/models/model.h"
#include "engine/request.h"
#include "kernels/backend.h"

namespace inferd {

struct BatchLimits {
  std::int64_t max_tokens = 0;
  std::int64_t max_sequences = 0;
  std::int64_t max_blocks = 0;      // of one sequence; 0: an encoder's batch, without cache
  std::int64_t max_logit_rows = 0;  // 0 likewise
  bool places = false;              // Model::has_places
  bool follows = false;             // tokens may be taken from what the step before drew
};

/// Assembles BatchTensors in buffers made once. Engine thread only. Owned by a core; outlived by its backend.
class Batch {
 public:
  /// Throws MemoryError.
  Batch(Backend& backend, const BatchLimits& limits);

  void clear();
  /// Appends the tokens of one sequence from position `start` on. `blocks` is its whole table (empty for encoders).
  /// `types`: of an encoder's tokens, or empty: all 0.
  void append(std::span<const TokenId> tokens, std::int64_t start, std::span<const std::int32_t> blocks,
              std::span<const std::int32_t> types = {});
  /// The last token appended is what the step before drew from its logits `row`, and not what was appended.
  void take_drawn(std::int32_t row);
  bool takes_drawn() const { return takes_drawn_; }  // any token
  /// The rows of the sequence appended last keep no keys and values; they are others' over again.
  void keep_nothing();
  /// Sends the rows of the sequence appended last through the adapter in `slot`.
  void use_adapter(std::int32_t slot);
  /// Gives the tokens of the last sequence appended the places that `model` tells.
  void apply_places(const Model& model, const PromptTraits& traits);
  /// Rounds what operations take from the host up, so that few shapes occur: the width of the block tables to a power
  /// of two, the longest context to as many tokens. Returns that width.
  std::int64_t round_shape();
  /// Asks for the logits of the last `count` rows appended.
  void want_logits(std::int64_t count);
  std::int64_t num_tokens() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::int64_t num_sequences() const { return static_cast<std::int64_t>(context_lens_.size()); }
  std::int64_t num_logit_rows() const { return static_cast<std::int64_t>(logit_rows_.size()); }

  /// Copies everything to the device. The views are valid until the next call.
  BatchTensors upload();
  /// [num_logit_rows()] i32 on the device; its data is never null. After upload().
  Tensor logit_rows() const;
  /// [num_tokens()] i32 on the device, TakeTokensArgs::sources. After upload(), where tokens may be taken.
  Tensor sources() const;

 private:
  using Array = std::vector<std::int32_t>;
  Tensor send(const Array& host, const std::unique_ptr<DeviceBuffer>& device);

  Backend& backend_;
  BatchLimits limits_;
  BatchTensors host_;  // views of the arrays below, after upload()
  Array tokens_, positions_, slots_, query_starts_, context_lens_, block_tables_, logit_rows_;
  Array block_positions_, rope_rows_, prefix_lens_;  // with places
  Array types_;                                      // [tokens], encoders only
  Array adapters_;                                   // [tokens], decoders only
  Array sources_;                                    // [tokens], with follows
  bool adapted_ = false;
  bool takes_drawn_ = false;
  std::vector<std::span<const std::int32_t>> tables_;  // of the callers, until upload
  std::size_t least_width_ = 1;                        // of the block tables
  std::int32_t max_query_len_ = 0;
  std::int32_t max_context_len_ = 0;
  std::unique_ptr<DeviceBuffer> device_tokens_, device_positions_, device_slots_, device_query_starts_,
      device_context_lens_, device_block_tables_, device_logit_rows_, device_types_, device_block_positions_,
      device_rope_rows_, device_prefix_lens_, device_adapters_, device_sources_;
};

}  // namespace inferd
