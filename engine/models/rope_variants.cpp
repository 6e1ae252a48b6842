// Rows of rotary frequencies by length.
#include "engine/models/rope_variants.h"

#include <algorithm>
#include <cmath>

namespace inferd {
namespace {

void add_row(const RopeFrequencies& row, RopeVariants* out) {
  out->inv_freq.insert(out->inv_freq.end(), row.inv_freq.begin(), row.inv_freq.end());
  out->attention_scaling = row.attention_scaling;
}

}  // namespace

std::int32_t RopeVariants::row(std::int64_t prompt_length, std::int64_t position) const {
  if (!row_of_length) return 0;
  return row_of_length(follows_output ? std::max(prompt_length, position + 1) : prompt_length);
}

RopeVariants rope_variants(const ModelConfig& config) {
  RopeVariants out;
  const RopeConfig& rope = config.rope;
  const std::int64_t original = rope.original_max_position_embeddings, most = config.max_position_embeddings;
  if (rope.scaling == "dynamic") {
    out.rows = static_cast<std::int32_t>(std::max<std::int64_t>(most - original, 0) + 1);
    for (std::int32_t row = 0; row < out.rows; ++row) add_row(rope_frequencies(rope, most, original + row), &out);
    out.row_of_length = [original, last = out.rows - 1](std::int64_t length) {
      return static_cast<std::int32_t>(std::clamp<std::int64_t>(length - original, 0, last));
    };
  } else if (rope.scaling == "longrope" && most > original) {
    out.rows = 2;
    for (const std::int64_t length : {original, most}) add_row(rope_frequencies(rope, most, length), &out);
    out.row_of_length = [original](std::int64_t length) { return length > original ? 1 : 0; };
  } else {
    add_row(rope_frequencies(rope, most), &out);
  }
  out.follows_output = out.rows > 1;
  return out;
}

RopeVariants qwen_rope_variants(const ModelConfig& config, std::int64_t trained_length) {
  RopeVariants out;
  out.rows = 0;
  out.row_of_length = [trained_length](std::int64_t length) {
    std::int32_t row = 0;
    while ((trained_length << row) < length) ++row;
    return row;
  };
  const double dims = config.rope.rotary_dim;
  for (const std::int32_t last = out.row_of_length(config.max_position_embeddings); out.rows <= last; ++out.rows) {
    RopeConfig rope = config.rope;
    const double alpha = out.rows == 0 ? 1.0 : std::exp2(out.rows + 1) - 1.0;
    if (dims > 2.0) rope.theta *= std::pow(alpha, dims / (dims - 2.0));
    add_row(rope_frequencies(rope, config.max_position_embeddings), &out);
  }
  return out;
}

}  // namespace inferd
