// Facts computed from tensors and metadata.
#include "engine/weights/summary.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <map>
#include <string_view>

#include "engine/weights/quantization_config.h"

namespace inferd {
namespace {

/// Names of general.file_type; empty where the number was retired or the type cannot be loaded.
constexpr std::array<std::string_view, 33> kFileTypes{
    "F32",    "F16",     "Q4_0",   "Q4_1",   "",       "",       "",       "Q8_0",  "Q5_0",    "Q5_1",   "Q2_K",
    "Q3_K_S", "Q3_K_M",  "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K",  "IQ2_XXS", "IQ2_XS", "Q2_K_S",
    "IQ3_XS", "IQ3_XXS", "IQ1_S",  "IQ4_NL", "IQ3_S",  "IQ3_M",  "IQ2_S",  "IQ2_M", "IQ4_XS",  "IQ1_M",  "BF16"};

/// The type that most bytes have.
DType dominant_type(const Checkpoint& checkpoint) {
  std::map<DType, std::size_t> bytes;
  for (const StoredTensor& tensor : checkpoint.tensors()) bytes[tensor.dtype] += tensor.bytes;
  DType dominant = DType::f32;
  std::size_t most = 0;
  for (const auto& [dtype, size] : bytes) {
    if (size > most) {
      most = size;
      dominant = dtype;
    }
  }
  return dominant;
}

/// Weights that a tensor of a quantised folder stands for: those packed into words count as they are, what belongs to
/// their quantisation does not.
std::int64_t parameters_in(const StoredTensor& tensor, const QuantizationConfig& config) {
  constexpr int kUsualBits = 4;
  const std::string_view name = tensor.name;
  const auto ends_with_any = [name](std::initializer_list<std::string_view> ends) {
    return std::any_of(ends.begin(), ends.end(), [name](std::string_view end) { return name.ends_with(end); });
  };
  if (name.find(".weight.") != std::string_view::npos ||  // bitsandbytes' magnitudes and tables
      ends_with_any({".qzeros", ".scales", ".g_idx", "_scale", "_scale_inv", "_zero_point", "_shape", "_g_idx",
                     "_format", ".SCB"})) {
    return 0;
  }
  if (ends_with_any({".qweight", ".weight_packed"})) {
    return tensor.elements() * 32 / (config.bits > 0 ? config.bits : kUsualBits);
  }
  return tensor.elements() * (config.method == QuantMethod::bitsandbytes_4bit && tensor.dtype == DType::u8 ? 2 : 1);
}

}  // namespace

std::string quantization_name(const Checkpoint& checkpoint) {
  if (!checkpoint.quantized_at_load().empty()) return std::string(checkpoint.quantized_at_load());
  if (const QuantizationConfig config = read_quantization_config(checkpoint); config.method != QuantMethod::none) {
    return config.label;
  }
  if (const GgufMetadata* metadata = checkpoint.metadata()) {
    const std::int64_t type = metadata->integer("general.file_type").value_or(-1);
    if (type >= 0 && static_cast<std::size_t>(type) < kFileTypes.size()) {
      const std::string_view name = kFileTypes[static_cast<std::size_t>(type)];
      if (!name.empty()) return std::string(name);
    }
  }
  return std::string(dtype_info(dominant_type(checkpoint)).name);
}

std::int64_t parameter_count(const Checkpoint& checkpoint) {
  const QuantizationConfig config = read_quantization_config(checkpoint);
  std::int64_t total = 0;  // bounded by the bytes of the mapped files
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    total += config.method == QuantMethod::none ? tensor.elements() : parameters_in(tensor, config);
  }
  return total;
}

}  // namespace inferd
