// Matrices as compressed-tensors and bitsandbytes store them: rows of int8, or rows of codes packed in 32-bit words.
#include <cstring>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/group_rows.h"
#include "engine/weights/stored_tensor.h"

namespace inferd {
namespace {

constexpr std::initializer_list<DType> kScaleTypes = {DType::f16, DType::bf16, DType::f32};

/// Scales of a matrix: one, one a row, or some a row; seen as [rows][groups].
struct Scales {
  const StoredTensor* tensor = nullptr;
  std::vector<float> values;
  std::int64_t groups = 1;
  std::int64_t row_stride = 0;  // 0: one for all rows

  const float* row(std::int64_t index) const { return values.data() + index * row_stride; }
};

Scales read_scales(const Checkpoint& checkpoint, const std::string& name, std::int64_t rows, std::int64_t columns) {
  Scales scales;
  const StoredTensor& tensor = require_any(checkpoint, name);
  const std::vector<std::int64_t>& shape = tensor.shape;
  const bool single = tensor.elements() == 1;
  const bool by_row = shape == std::vector<std::int64_t>{rows};
  const bool by_group = shape.size() == 2 && shape[0] == rows;
  if (!single && !by_row && !by_group) {
    throw CheckpointError(tensor.file, log_safe(name),
                          "1, [" + std::to_string(rows) + "] or [" + std::to_string(rows) + ", groups] scales",
                          shape_text(shape));
  }
  check_type(tensor, kScaleTypes);
  scales.groups = single || by_row ? 1 : shape[1];
  scales.row_stride = single ? 0 : scales.groups;
  if (columns % scales.groups != 0 || columns / scales.groups % 32 != 0) {
    throw CheckpointError(tensor.file, log_safe(name), "scales of a multiple of 32 inputs each",
                          std::to_string(scales.groups) + " for " + std::to_string(columns) + " inputs");
  }
  scales.tensor = &tensor;
  scales.values = widened(tensor);
  return scales;
}

std::uint32_t word_at(const StoredTensor& tensor, std::int64_t index) {
  std::uint32_t word;
  std::memcpy(&word, tensor.data + index * 4, sizeof word);
  return word;
}

/// Value `index` of words `first`, `first + stride`, … of a tensor.
int packed_value(const StoredTensor& tensor, std::int64_t first, std::int64_t stride, int bits, std::int64_t index) {
  const std::int64_t at = index * bits;
  const int shift = static_cast<int>(at % 32);
  std::uint32_t value = word_at(tensor, first + at / 32 * stride) >> shift;
  if (shift + bits > 32) value |= word_at(tensor, first + (at / 32 + 1) * stride) << (32 - shift);
  return static_cast<int>(value & ((1u << bits) - 1));
}

int packed_bits(const StoredTensor& packed, std::int64_t rows, std::int64_t columns) {
  for (int bits : {2, 3, 4, 8}) {
    if (packed.shape == std::vector<std::int64_t>{rows, columns / 32 * bits}) return bits;
  }
  throw CheckpointError(
      packed.file, log_safe(packed.name),
      "[" + std::to_string(rows) + ", words of " + std::to_string(columns) + " codes of 2, 3, 4 or 8 bits]",
      shape_text(packed.shape));
}

}  // namespace

QuantizedMatrix read_packed_matrix(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows,
                                   std::int64_t columns) {
  check_columns(checkpoint, module, columns);
  const StoredTensor& packed = require_any(checkpoint, module + ".weight_packed");
  const int bits = packed_bits(packed, rows, columns);
  check_type(packed, {DType::i32});
  const Scales scales = read_scales(checkpoint, module + ".weight_scale", rows, columns);
  const auto groups = static_cast<std::size_t>(scales.groups);
  const StoredTensor* zeros = checkpoint.find(module + ".weight_zero_point");
  if (zeros != nullptr) {
    require_part(checkpoint, module + ".weight_zero_point", {(rows * bits + 31) / 32, scales.groups}, {DType::i32});
  }
  const StoredTensor* listed = checkpoint.find(module + ".weight_g_idx");
  const ColumnGroups column_groups =
      listed != nullptr ? listed_groups(require_part(checkpoint, module + ".weight_g_idx", {columns}, {DType::i32}),
                                        columns, scales.groups)
                        : even_groups(columns, columns / scales.groups);
  QuantizedMatrix matrix = make_group_rows(bits, rows, column_groups);
  matrix.tensors = {&packed, scales.tensor};
  for (const StoredTensor* extra : {zeros, listed, checkpoint.find(module + ".weight_shape")}) {
    if (extra != nullptr) matrix.tensors.push_back(extra);
  }
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
  std::vector<std::uint8_t> row_zeros(groups, static_cast<std::uint8_t>(1 << (bits - 1)));
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t first = row * (columns / 32 * bits);
    for (std::int64_t k = 0; k < columns; ++k) {
      codes[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(packed_value(packed, first, 1, bits, k));
    }
    for (std::size_t g = 0; zeros != nullptr && g < groups; ++g) {
      row_zeros[g] =
          static_cast<std::uint8_t>(packed_value(*zeros, static_cast<std::int64_t>(g), scales.groups, bits, row));
    }
    write_group_row(matrix, column_groups, row, codes.data(), scales.row(row), row_zeros.data());
  }
  return matrix;
}

QuantizedMatrix read_int8_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                 const std::string& module, std::int64_t rows, std::int64_t columns) {
  constexpr float kOneOf127 = 1.0f / 127.0f;
  const bool bitsandbytes = config.method == QuantMethod::bitsandbytes_int8;
  check_columns(checkpoint, module, columns);
  const StoredTensor& weight = require_part(checkpoint, module + ".weight", {rows, columns}, {DType::i8});
  Scales scales = read_scales(checkpoint, module + (bitsandbytes ? ".SCB" : ".weight_scale"), rows, columns);
  if (bitsandbytes) {
    for (float& scale : scales.values) scale *= kOneOf127;
  }
  const StoredTensor* zeros = bitsandbytes ? nullptr : checkpoint.find(module + ".weight_zero_point");
  if (zeros != nullptr && (zeros->dtype != DType::i8 || zeros->shape != scales.tensor->shape)) {
    throw CheckpointError(zeros->file, log_safe(zeros->name), "I8 of shape " + shape_text(scales.tensor->shape),
                          std::string(dtype_info(zeros->dtype).name) + " of shape " + shape_text(zeros->shape));
  }
  const ColumnGroups groups = even_groups(columns, columns / scales.groups);
  QuantizedMatrix matrix = make_group_rows(8, rows, groups);
  matrix.tensors = {&weight, scales.tensor};
  matrix.int8_activations = config.int8_activations && scales.groups == 1;
  // What the activations' scales would be is of no use: they are quantised by what they hold.
  for (const char* extra : {".weight_zero_point", ".weight_format", ".input_scale", ".input_zero_point"}) {
    if (const StoredTensor* tensor = checkpoint.find(module + extra)) matrix.tensors.push_back(tensor);
  }
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(columns));
  std::vector<std::uint8_t> row_zeros(static_cast<std::size_t>(scales.groups), 128);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::byte* from = weight.data + row * columns;
    for (std::int64_t k = 0; k < columns; ++k) {
      codes[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(from[k]) ^ 0x80u;
    }
    for (std::size_t g = 0; zeros != nullptr && g < row_zeros.size(); ++g) {
      const auto at = static_cast<std::size_t>(row * scales.row_stride) + g;
      row_zeros[g] = static_cast<std::uint8_t>(zeros->data[at]) ^ 0x80u;
      if (row_zeros[g] != 128) matrix.int8_activations = false;
    }
    write_group_row(matrix, groups, row, codes.data(), scales.row(row), row_zeros.data());
  }
  return matrix;
}

}  // namespace inferd
