// Fuzzes config.json and generation_config.json: any text gives a usable configuration or a CheckpointError.
#include <cmath>
#include <cstdlib>
#include <string>

#include "base/errors.h"
#include "engine/weights/model_config.h"
#include "tests/weights/memory_checkpoint.h"

namespace {

/// What every reader of a configuration relies on.
void check(const inferd::ModelConfig& config) {
  const bool sane = config.vocab_size > 0 && config.hidden_size > 0 && config.intermediate_size > 0 &&
                    config.num_layers > 0 && config.num_heads > 0 && config.num_kv_heads > 0 && config.head_dim > 0 &&
                    config.num_heads % config.num_kv_heads == 0 && config.max_position_embeddings > 0 &&
                    config.norm_eps >= 0.0 && config.rope.rotary_dim >= 0 && config.rope.rotary_dim % 2 == 0 &&
                    config.rope.rotary_dim <= config.head_dim && config.sliding_window >= 0;
  if (!sane) std::abort();
  const auto frequencies = inferd::rope_frequencies(config.rope, config.max_position_embeddings);
  if (frequencies.inv_freq.size() != static_cast<std::size_t>(config.rope.rotary_dim / 2)) std::abort();
  for (float frequency : frequencies.inv_freq) {
    if (!std::isfinite(frequency)) std::abort();
  }
  if (!std::isfinite(frequencies.attention_scaling)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const inferd::test::MemoryCheckpoint checkpoint({{"config.json", text}, {"generation_config.json", text}});
  try {
    check(inferd::read_model_config(checkpoint));
  } catch (const inferd::CheckpointError&) {
  }
  try {
    inferd::read_generation_defaults(checkpoint);
  } catch (const inferd::CheckpointError&) {
  }
  return 0;
}
