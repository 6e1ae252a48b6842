// Choosing what to quantise by name, shape and type.
#include "engine/quantize/quantize_plan.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/quantization_config.h"
#include "engine/weights/summary.h"
#include "engine/weights/tensor_roles.h"

namespace inferd {
namespace {

constexpr std::int64_t kBlock = 32;
constexpr std::size_t kAlignment = 64;

bool is_plain(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

/// The type a tensor becomes; its own if it stays.
DType target_type(const StoredTensor& tensor, LoadQuantization quantization) {
  const bool matrix = tensor.shape.size() == 2 || tensor.shape.size() == 3;  // 3: GGUF's experts, stacked
  const bool fits = matrix && tensor.shape.back() % kBlock == 0 && is_plain(tensor.dtype);
  if (!fits || !tensor.name.ends_with(".weight")) return tensor.dtype;
  if (is_token_embedding(tensor.name) || is_output_matrix(tensor.name)) return DType::q8_0;
  if (layer_of(tensor.name) < 0 || is_router(tensor.name)) return tensor.dtype;
  return quantization == LoadQuantization::int8 ? DType::q8_0 : DType::q4_1;
}

void refuse_quantized(const Checkpoint& checkpoint, LoadQuantization quantization) {
  bool quantized = read_quantization_config(checkpoint).method != QuantMethod::none;
  for (const StoredTensor& tensor : checkpoint.tensors()) quantized = quantized || dtype_info(tensor.dtype).quantized;
  if (!quantized) return;
  throw ConfigError("quantization: " + log_safe(checkpoint.path()) + " is quantised already (" +
                    log_safe(quantization_name(checkpoint)) + "); " +
                    std::string(load_quantization_name(quantization)) +
                    " needs F32, F16 or BF16 weights: set quantization: none for it, or serve its unquantised files");
}

}  // namespace

LoadQuantization parse_load_quantization(std::string_view text) {
  if (text == "int8") return LoadQuantization::int8;
  if (text == "int4") return LoadQuantization::int4;
  INFERD_CHECK(text == "none");
  return LoadQuantization::none;
}

std::string_view load_quantization_name(LoadQuantization quantization) {
  if (quantization == LoadQuantization::none) return "none";
  return quantization == LoadQuantization::int8 ? "int8" : "int4";
}

QuantizePlan plan_quantization(const Checkpoint& checkpoint, LoadQuantization quantization) {
  INFERD_CHECK(quantization != LoadQuantization::none);
  refuse_quantized(checkpoint, quantization);
  QuantizePlan plan;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    plan.bytes_before += tensor.bytes;
    const DType dtype = target_type(tensor, quantization);
    if (dtype == tensor.dtype) {
      plan.bytes_after += tensor.bytes;
      continue;
    }
    const std::int64_t columns = tensor.shape.back(), rows = tensor.elements() / columns;
    const std::size_t bytes = static_cast<std::size_t>(rows) * row_bytes(dtype, columns);
    plan.tensors.push_back({&tensor, dtype, rows, columns, plan.payload_bytes, bytes});
    plan.payload_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    plan.bytes_after += bytes;
  }
  return plan;
}

}  // namespace inferd
