// Choosing what to quantise by name, shape and type.
#include "engine/quantize/quantize_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/quantization_config.h"
#include "engine/weights/summary.h"

namespace inferd {
namespace {

constexpr std::int64_t kBlock = 32;
constexpr std::size_t kAlignment = 64;

bool is_plain(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

/// Token embeddings and output matrices, as Hugging Face and GGUF call them.
bool is_vocabulary_matrix(std::string_view name) {
  constexpr std::string_view kEnds[] = {"embed_tokens.weight", "wte.weight",          "word_embeddings.weight",
                                        "lm_head.weight",      "output_layer.weight", "token_embd.weight"};
  return name == "output.weight" ||
         std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

/// Small matrices that decide which expert computes: rounding them changes the way, not only the result.
bool is_router(std::string_view name) {
  constexpr std::string_view kEnds[] = {"mlp.gate.weight", "shared_expert_gate.weight", "ffn_gate_inp.weight",
                                        "ffn_gate_inp_shexp.weight"};
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

/// Part of a numbered layer: "model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight".
bool is_in_layer(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos) return true;
    begin = end + 1;
  }
  return false;
}

/// The type a tensor becomes; its own if it stays.
DType target_type(const StoredTensor& tensor, LoadQuantization quantization) {
  const bool matrix = tensor.shape.size() == 2 || tensor.shape.size() == 3;  // 3: GGUF's experts, stacked
  const bool fits = matrix && tensor.shape.back() % kBlock == 0 && is_plain(tensor.dtype);
  if (!fits || !tensor.name.ends_with(".weight")) return tensor.dtype;
  if (is_vocabulary_matrix(tensor.name)) return DType::q8_0;
  if (!is_in_layer(tensor.name) || is_router(tensor.name)) return tensor.dtype;
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
