// Fuzzes the safetensors reader and the shard index: the first byte chooses, 'i' is an index.
#include <string>
#include <string_view>
#include <vector>

#include "base/errors.h"
#include "base/json.h"
#include "engine/weights/safetensors_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    if (data[0] == 'i') {
      inferd::read_safetensors_index(inferd::parse_json(rest), "fuzz.index.json");
      return 0;
    }
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(rest.data()), rest.size());
    for (const inferd::StoredTensor& tensor : inferd::read_safetensors(bytes, "fuzz.safetensors")) {
      std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
      inferd::dequantize(tensor, values);
    }
  } catch (const inferd::CheckpointError&) {
  } catch (const inferd::JsonError&) {
  }
  return 0;
}
