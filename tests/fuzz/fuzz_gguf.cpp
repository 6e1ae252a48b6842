// Fuzzes the GGUF reader: any bytes give a checked file or a CheckpointError.
#include <algorithm>
#include <string>
#include <vector>

#include "base/errors.h"
#include "engine/weights/model_config.h"
#include "engine/weights/summary.h"
#include "tests/weights/memory_checkpoint.h"

namespace {

/// Touches every byte of every tensor, and decodes the small ones.
void use_tensors(const inferd::Checkpoint& checkpoint) {
  volatile unsigned char sink = 0;
  for (const inferd::StoredTensor& tensor : checkpoint.tensors()) {
    for (std::size_t i = 0; i < tensor.bytes; ++i)
      sink = static_cast<unsigned char>(sink + static_cast<unsigned char>(tensor.data[i]));
    if (tensor.elements() > 4096) continue;
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    inferd::dequantize(tensor, values);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const inferd::test::MemoryCheckpoint checkpoint(
        std::span<const std::byte>(reinterpret_cast<const std::byte*>(data), size));
    use_tensors(checkpoint);
    inferd::quantization_name(checkpoint);
    inferd::parameter_count(checkpoint);
    const inferd::ModelConfig config = inferd::read_model_config(checkpoint);
    inferd::rope_frequencies(config.rope, config.max_position_embeddings);
    inferd::read_generation_defaults(checkpoint);
  } catch (const inferd::CheckpointError&) {
  }
  return 0;
}
