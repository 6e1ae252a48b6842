// QuantizedMatrix: a matrix that a folder keeps as several tensors (codes, scales, zeros), as rows of blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/weights/checkpoint.h"
#include "engine/weights/quantization_config.h"

namespace inferd {

/// Rows in one of the group types, or NF4 or FP4 (quant_formats.h): every code, scale and zero of the files; of the
/// group types bit for bit. F32 where no type has the files' blocks (bitsandbytes' 4 bits in rows that are no multiple
/// of 64, or in blocks of 32). F16 for FP8, whose codes times scales have a bit more than a half at most (of bf16
/// scales; f32 ones have more): values are within 2^-11 of themselves, or 2^-25.
struct QuantizedMatrix {
  DType dtype = DType::g4_128;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<std::byte> data;             // rows * row_bytes(dtype, columns)
  std::vector<std::int32_t> column_order;  // column i of data is input column_order[i]; empty: input i
  bool int8_activations = false;           // see WeightSource
  std::vector<const StoredTensor*> tensors;
};

/// The matrix of `module` ("model.layers.0.mlp.up_proj", as the files call it) if the files keep it quantised; nullopt
/// if they do not. Throws CheckpointError naming file and tensor if a part is missing, has another shape or type, or
/// holds numbers out of range.
std::optional<QuantizedMatrix> read_quantized_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                                     const std::string& module, std::int64_t rows,
                                                     std::int64_t columns);

/// Bytes that a tensor of the files takes as part of the rows above. Its own, but for matrices of FP8, twice that, and
/// of bitsandbytes' 4 bits: what their rows take is counted with `module`.weight, 0 with their other parts. Throws
/// CheckpointError if what the files say of such a matrix cannot be read.
std::size_t loaded_bytes(const Checkpoint& checkpoint, const StoredTensor& tensor);

/// Whether the files keep the matrix of `module` in parts instead of as one tensor `module`.weight.
bool has_quantized_parts(const Checkpoint& checkpoint, const std::string& module);

}  // namespace inferd
