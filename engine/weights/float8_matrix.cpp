// Matrices in FP8 (e4m3) with one scale for all, for each output, for groups of inputs or for rectangles of both.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/group_rows.h"
#include "engine/weights/stored_tensor.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

constexpr float kHalfOverflows = 65520.0f;  // rounds beyond the greatest half

/// Scales of rectangles of block_rows x block_columns values, `across` of them side by side.
struct BlockScales {
  const StoredTensor* tensor = nullptr;
  std::vector<float> values;
  std::int64_t block_rows = 1, block_columns = 1, across = 1;
};

std::int64_t blocks_in(std::int64_t size, std::int64_t block) { return size / block + (size % block != 0 ? 1 : 0); }

BlockScales read_scales(const Checkpoint& checkpoint, const QuantizationConfig& config, const std::string& module,
                        std::int64_t rows, std::int64_t columns) {
  const bool inverse = checkpoint.find(module + ".weight_scale_inv") != nullptr;  // so called, but it multiplies too
  const StoredTensor& tensor = require_any(checkpoint, module + (inverse ? ".weight_scale_inv" : ".weight_scale"));
  check_type(tensor, {DType::f16, DType::bf16, DType::f32});
  using Shape = std::vector<std::int64_t>;
  const Shape& shape = tensor.shape;
  BlockScales out;
  out.tensor = &tensor;
  const std::int64_t high = config.block_rows, wide = config.block_columns;
  if (high > 0 && shape == Shape{blocks_in(rows, high), blocks_in(columns, wide)}) {
    out.block_rows = high;
    out.block_columns = wide;
  } else if (high == 0 && tensor.elements() == 1) {
    out.block_rows = rows;
    out.block_columns = columns;
  } else if (high == 0 && shape == Shape{rows}) {
    out.block_columns = columns;
  } else if (high == 0 && shape.size() == 2 && shape[0] == rows && shape[1] > 0 && columns % shape[1] == 0) {
    out.block_columns = columns / shape[1];
  } else {
    const std::string row_count = std::to_string(rows);
    throw CheckpointError(tensor.file, log_safe(tensor.name),
                          high > 0 ? shape_text(std::array{blocks_in(rows, high), blocks_in(columns, wide)})
                                   : "1, [" + row_count + "] or [" + row_count + ", groups] scales",
                          shape_text(shape));
  }
  out.across = blocks_in(columns, out.block_columns);
  out.values = widened(tensor);
  return out;
}

/// The nearest half, ties to even, of a magnitude below kHalfOverflows.
std::uint16_t nearest_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x38800000u) {  // below the least normal half
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::lrintf(std::fabs(value) * 0x1p24f)));
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (magnitude - (112u << 23)) >> 13);
}

const std::array<float, 256>& code_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> out{};
    for (std::size_t code = 0; code < out.size(); ++code) out[code] = f8_e4m3_to_f32(static_cast<std::uint8_t>(code));
    return out;
  }();
  return values;
}

}  // namespace

QuantizedMatrix read_float8_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                   const std::string& module, std::int64_t rows, std::int64_t columns) {
  const StoredTensor& weight = require_part(checkpoint, module + ".weight", {rows, columns}, {DType::f8_e4m3});
  const BlockScales scales = read_scales(checkpoint, config, module, rows, columns);
  QuantizedMatrix matrix;
  matrix.dtype = DType::f16;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.tensors = {&weight, scales.tensor};
  // What the activations' scales would be is of no use: they are not rounded to FP8.
  if (const StoredTensor* input = checkpoint.find(module + ".input_scale")) matrix.tensors.push_back(input);
  matrix.data.resize(static_cast<std::size_t>(rows) * row_bytes(DType::f16, columns));
  const std::array<float, 256>& values = code_values();
  const std::byte* from = weight.data;
  std::byte* to = matrix.data.data();
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* row_scales = scales.values.data() + row / scales.block_rows * scales.across;
    for (std::int64_t k = 0; k < columns; ++k, ++from, to += sizeof(std::uint16_t)) {
      const float value = values[static_cast<std::size_t>(*from)] * row_scales[k / scales.block_columns];
      if (!(std::fabs(value) < kHalfOverflows)) {
        throw CheckpointError(weight.file, log_safe(weight.name), "values times scales that a half can hold",
                              std::to_string(value) + " in row " + std::to_string(row));
      }
      const std::uint16_t half = nearest_half(value);
      std::memcpy(to, &half, sizeof half);
    }
  }
  return matrix;
}

}  // namespace inferd
