// Finding out in which layout a module's matrix is, if it is quantised at all.
#include "engine/weights/quantized_matrix.h"

#include "base/errors.h"
#include "engine/weights/group_rows.h"

namespace inferd {

std::optional<QuantizedMatrix> read_quantized_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                                     const std::string& module, std::int64_t rows,
                                                     std::int64_t columns) {
  const StoredTensor* weight = checkpoint.find(module + ".weight");
  const bool words = weight == nullptr && checkpoint.find(module + ".qweight") != nullptr;
  switch (config.method) {
    case QuantMethod::none:
      return std::nullopt;
    case QuantMethod::gptq:
      if (!words) return std::nullopt;
      return read_gptq_matrix(checkpoint, config, module, rows, columns);
    case QuantMethod::awq:
      if (!words) return std::nullopt;
      return read_awq_matrix(checkpoint, config, module, rows, columns);
    case QuantMethod::bitsandbytes_4bit:
      if (weight == nullptr || (weight->dtype != DType::u8 && checkpoint.find(module + ".weight.absmax") == nullptr)) {
        return std::nullopt;
      }
      return read_table_matrix(checkpoint, module, rows, columns);
    case QuantMethod::fp8:
      if (weight == nullptr || weight->dtype != DType::f8_e4m3) return std::nullopt;
      return read_float8_matrix(checkpoint, config, module, rows, columns);
    case QuantMethod::compressed_tensors:
      if (weight != nullptr && weight->dtype == DType::f8_e4m3) {
        return read_float8_matrix(checkpoint, config, module, rows, columns);
      }
      if (weight == nullptr && checkpoint.find(module + ".weight_packed") != nullptr) {
        return read_packed_matrix(checkpoint, module, rows, columns);
      }
      [[fallthrough]];
    case QuantMethod::bitsandbytes_int8:
      if (weight == nullptr || weight->dtype != DType::i8) return std::nullopt;
      return read_int8_matrix(checkpoint, config, module, rows, columns);
  }
  return std::nullopt;
}

bool has_quantized_parts(const Checkpoint& checkpoint, const std::string& module) {
  return checkpoint.find(module + ".qweight") != nullptr || checkpoint.find(module + ".weight_packed") != nullptr;
}

}  // namespace inferd
