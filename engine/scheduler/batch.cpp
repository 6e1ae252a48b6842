// Batch: flat arrays with capacity for the largest step, and their copies on the device.
#include "engine/scheduler/batch.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "engine/options.h"

namespace inferd {

Batch::Batch(Backend& backend, const BatchLimits& limits) : backend_(backend), limits_(limits) {
  const auto make = [&](Array* host, std::int64_t count) {
    if (count == 0) return std::unique_ptr<DeviceBuffer>();
    host->reserve(static_cast<std::size_t>(count));
    return backend.allocate(static_cast<std::size_t>(count) * sizeof(std::int32_t));
  };
  device_tokens_ = make(&tokens_, limits.max_tokens);
  device_positions_ = make(&positions_, limits.max_tokens);
  device_query_starts_ = make(&query_starts_, limits.max_sequences + 1);
  context_lens_.reserve(static_cast<std::size_t>(limits.max_sequences));
  tables_.reserve(static_cast<std::size_t>(limits.max_sequences));
  if (limits.max_blocks > 0) {
    device_slots_ = make(&slots_, limits.max_tokens);
    device_adapters_ = make(&adapters_, limits.max_tokens);
    device_context_lens_ = make(&context_lens_, limits.max_sequences);
    device_block_tables_ = make(&block_tables_, limits.max_sequences * limits.max_blocks);
  } else {
    device_types_ = make(&types_, limits.max_tokens);
  }
  if (limits.places) {
    device_block_positions_ = make(&block_positions_, limits.max_tokens);
    device_rope_rows_ = make(&rope_rows_, limits.max_tokens);
    device_prefix_lens_ = make(&prefix_lens_, limits.max_sequences);
  }
  if (limits.follows) device_sources_ = make(&sources_, limits.max_tokens);
  device_logit_rows_ = make(&logit_rows_, limits.max_logit_rows);
  clear();
}

void Batch::clear() {
  for (Array* array : {&tokens_, &positions_, &slots_, &query_starts_, &context_lens_, &block_tables_, &logit_rows_,
                       &types_, &adapters_, &block_positions_, &rope_rows_, &prefix_lens_, &sources_}) {
    array->clear();
  }
  tables_.clear();
  adapted_ = takes_drawn_ = false;
  query_starts_.push_back(0);
  max_query_len_ = max_context_len_ = 0;
  least_width_ = 1;
}

void Batch::append(std::span<const TokenId> tokens, std::int64_t start, std::span<const std::int32_t> blocks,
                   std::span<const std::int32_t> types) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  INFERD_CHECK(num_tokens() + count <= limits_.max_tokens && num_sequences() < limits_.max_sequences);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t position = start + i;
    tokens_.push_back(tokens[static_cast<std::size_t>(i)]);
    positions_.push_back(static_cast<std::int32_t>(position));
    if (limits_.max_blocks > 0) {
      const std::int32_t block = blocks[static_cast<std::size_t>(position / kKvBlockTokens)];
      slots_.push_back(block * kKvBlockTokens + static_cast<std::int32_t>(position % kKvBlockTokens));
    }
  }
  if (limits_.max_blocks == 0) {
    INFERD_CHECK(types.empty() || types.size() == tokens.size());
    types_.resize(types_.size() + tokens.size(), 0);
    std::copy(types.begin(), types.end(), types_.end() - static_cast<std::ptrdiff_t>(types.size()));
  }
  if (limits_.follows) sources_.resize(tokens_.size(), -1);
  query_starts_.push_back(static_cast<std::int32_t>(num_tokens()));
  context_lens_.push_back(static_cast<std::int32_t>(start + count));
  max_query_len_ = std::max(max_query_len_, static_cast<std::int32_t>(count));
  max_context_len_ = std::max(max_context_len_, context_lens_.back());
  if (limits_.max_blocks > 0) {
    const std::int64_t used = (start + count + kKvBlockTokens - 1) / kKvBlockTokens;
    INFERD_CHECK(used <= limits_.max_blocks);
    tables_.push_back(blocks.first(static_cast<std::size_t>(used)));
    adapters_.resize(tokens_.size(), -1);
  }
}

void Batch::take_drawn(std::int32_t row) {
  INFERD_CHECK(limits_.follows && !sources_.empty() && row >= 0);
  sources_.back() = row;
  takes_drawn_ = true;
}

void Batch::keep_nothing() {
  INFERD_CHECK(num_sequences() > 0 && slots_.size() == tokens_.size());
  std::fill(slots_.begin() + query_starts_[query_starts_.size() - 2], slots_.end(), -1);
}

void Batch::use_adapter(std::int32_t slot) {
  INFERD_CHECK(num_sequences() > 0 && adapters_.size() == tokens_.size());
  std::fill(adapters_.begin() + query_starts_[query_starts_.size() - 2], adapters_.end(), slot);
  adapted_ = true;
}

void Batch::apply_places(const Model& model, const PromptTraits& traits) {
  const auto first = static_cast<std::size_t>(query_starts_[query_starts_.size() - 2]);
  for (std::size_t row = first; row < positions_.size(); ++row) {
    const TokenPlace place = model.place(traits, positions_[row]);
    positions_[row] = place.position;
    block_positions_.push_back(place.block_position);
    rope_rows_.push_back(place.rope_row);
  }
  prefix_lens_.push_back(traits.context);
}

std::int64_t Batch::round_shape() {
  std::size_t needed = 16;
  for (const auto& table : tables_) needed = std::max(needed, table.size());
  least_width_ = std::min(std::bit_ceil(needed), static_cast<std::size_t>(limits_.max_blocks));
  max_context_len_ = static_cast<std::int32_t>(least_width_) * kKvBlockTokens;
  return static_cast<std::int64_t>(least_width_);
}

void Batch::want_logits(std::int64_t count) {
  INFERD_CHECK(count <= num_tokens() && num_logit_rows() + count <= limits_.max_logit_rows);
  for (std::int64_t row = num_tokens() - count; row < num_tokens(); ++row) {
    logit_rows_.push_back(static_cast<std::int32_t>(row));
  }
}

Tensor Batch::send(const Array& host, const std::unique_ptr<DeviceBuffer>& device) {
  if (!device) return {};
  INFERD_CHECK(host.size() * sizeof(std::int32_t) <= device->bytes());
  if (!host.empty()) backend_.upload(device->data(), host.data(), host.size() * sizeof(std::int32_t));
  return Tensor(device->data(), DType::i32, {static_cast<std::int64_t>(host.size())});
}

BatchTensors Batch::upload() {
  BatchTensors out;
  out.tokens = send(tokens_, device_tokens_);
  out.positions = send(positions_, device_positions_);
  out.query_starts = send(query_starts_, device_query_starts_);
  if (limits_.max_blocks > 0) {
    std::size_t width = least_width_;
    for (const auto& table : tables_) width = std::max(width, table.size());
    block_tables_.assign(tables_.size() * width, 0);
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      std::copy(tables_[i].begin(), tables_[i].end(), block_tables_.begin() + static_cast<std::ptrdiff_t>(i * width));
    }
    send(block_tables_, device_block_tables_);
    out.block_tables = Tensor(device_block_tables_->data(), DType::i32,
                              {static_cast<std::int64_t>(tables_.size()), static_cast<std::int64_t>(width)});
    out.slots = send(slots_, device_slots_);
    if (adapted_) out.adapters = send(adapters_, device_adapters_);
    out.context_lens = send(context_lens_, device_context_lens_);
  }
  out.block_positions = send(block_positions_, device_block_positions_);
  out.rope_rows = send(rope_rows_, device_rope_rows_);
  const bool any_prefix = std::any_of(prefix_lens_.begin(), prefix_lens_.end(), [](std::int32_t n) { return n > 0; });
  if (any_prefix) out.prefix_lens = send(prefix_lens_, device_prefix_lens_);
  out.type_ids = send(types_, device_types_);
  send(logit_rows_, device_logit_rows_);
  send(sources_, device_sources_);
  out.num_tokens = static_cast<std::int32_t>(num_tokens());
  out.num_sequences = static_cast<std::int32_t>(num_sequences());
  out.max_query_len = max_query_len_;
  out.max_context_len = max_context_len_;
  host_ = out;
  using Field = Tensor BatchTensors::*;
  for (const auto& [field, array] :
       std::initializer_list<std::pair<Field, Array*>>{{&BatchTensors::tokens, &tokens_},
                                                       {&BatchTensors::positions, &positions_},
                                                       {&BatchTensors::slots, &slots_},
                                                       {&BatchTensors::query_starts, &query_starts_},
                                                       {&BatchTensors::context_lens, &context_lens_},
                                                       {&BatchTensors::block_tables, &block_tables_},
                                                       {&BatchTensors::block_positions, &block_positions_},
                                                       {&BatchTensors::rope_rows, &rope_rows_},
                                                       {&BatchTensors::prefix_lens, &prefix_lens_},
                                                       {&BatchTensors::type_ids, &types_},
                                                       {&BatchTensors::adapters, &adapters_}}) {
    if (host_.*field) (host_.*field).data = array->data();
  }
  out.host = &host_;
  return out;
}

Tensor Batch::sources() const { return Tensor(device_sources_->data(), DType::i32, {num_tokens()}); }

Tensor Batch::logit_rows() const { return Tensor(device_logit_rows_->data(), DType::i32, {num_logit_rows()}); }

}  // namespace inferd
