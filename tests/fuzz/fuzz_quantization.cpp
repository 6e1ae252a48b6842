// Fuzzes folders that keep matrices in parts: config.json up to the first zero byte, then a safetensors file. Any bytes
// give a matrix of the size asked for, no matrix, or a CheckpointError.
#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/errors.h"
#include "engine/weights/quantized_matrix.h"
#include "engine/weights/safetensors_file.h"
#include "tests/weights/memory_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::int64_t kSizes[][2] = {{32, 64}, {64, 64}, {1, 32}, {128, 64}, {64, 128}};
  const std::uint8_t* end = std::find(data, data + size, std::uint8_t{0});
  const std::string config(reinterpret_cast<const char*>(data), static_cast<std::size_t>(end - data));
  const std::span<const std::uint8_t> rest(end == data + size ? end : end + 1, data + size);
  try {
    inferd::test::MemoryCheckpoint checkpoint({{"config.json", config}});
    const auto settings = inferd::read_quantization_config(checkpoint);
    checkpoint.add(inferd::read_safetensors(std::as_bytes(rest), "memory.safetensors"));
    for (const auto& [rows, columns] : kSizes) {
      try {
        const auto matrix = inferd::read_quantized_matrix(checkpoint, settings, "m", rows, columns);
        if (!matrix) continue;
        const bool fits =
            matrix->rows == rows && matrix->columns == columns &&
            matrix->data.size() == static_cast<std::size_t>(rows) * inferd::row_bytes(matrix->dtype, columns) &&
            (matrix->column_order.empty() || matrix->column_order.size() == static_cast<std::size_t>(columns));
        if (!fits) std::abort();
      } catch (const inferd::CheckpointError&) {
      }
    }
  } catch (const inferd::CheckpointError&) {
  }
  return 0;
}
