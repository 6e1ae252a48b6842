// QuantizationConfig: how the matrices of a Hugging Face folder are quantised, as its configuration says.
#pragma once

#include <cstdint>
#include <string>

#include "engine/weights/checkpoint.h"

namespace inferd {

enum class QuantMethod { none, gptq, awq, compressed_tensors, bitsandbytes_int8, bitsandbytes_4bit, fp8 };

struct QuantizationConfig {
  QuantMethod method = QuantMethod::none;
  std::string file{};  // that says so, safe to print
  int bits = 0;        // of a code; 0: as each matrix's shape tells
  /// Inputs that share a scale; -1: all; 0: as each matrix's shape tells.
  std::int64_t group_size = 0;
  /// Outputs and inputs of FP8's rectangles of one scale; 0: as each matrix's shape tells.
  std::int64_t block_rows = 0, block_columns = 0;
  bool zeros_less_one = false;  // GPTQ's first layout stores zero - 1
  /// Every layer's inputs are to be rounded to int8 without a zero, by one scale a token, or one known beforehand.
  bool int8_activations = false;
  std::string label{};  // for people: "GPTQ 4 bit"
};

/// Reads `quantization_config` of config.json, else quantize_config.json (GPTQ) or quant_config.json (AWQ); GGUF files
/// and folders without either have the method `none`. Throws CheckpointError for what cannot be loaded, naming file,
/// field and what to get instead.
QuantizationConfig read_quantization_config(const Checkpoint& checkpoint);

}  // namespace inferd
