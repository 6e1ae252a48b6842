// Writing rows of group blocks from codes, scales and zeros in whatever layout a tool chose.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/weights/quantized_matrix.h"

namespace inferd {

/// Which scale each column takes, and the order that brings columns of a scale together.
struct ColumnGroups {
  std::vector<std::int32_t> order;   // see QuantizedMatrix::column_order
  std::vector<std::int32_t> blocks;  // [columns / 32] group of each 32 columns, in that order
};

/// Groups of `group_size` columns, one after another.
ColumnGroups even_groups(std::int64_t columns, std::int64_t group_size);
/// The group of each column is given. Throws if one is not below `groups`, or if a group cannot be cut into 32s.
ColumnGroups listed_groups(const StoredTensor& tensor, std::int64_t columns, std::int64_t groups);

/// A matrix of zeros of the type with the longest blocks that `groups` allows.
QuantizedMatrix make_group_rows(int bits, std::int64_t rows, const ColumnGroups& groups);

/// Writes row `row`: codes [columns] in stored order; scales and zeros of group g at index g.
void write_group_row(QuantizedMatrix& matrix, const ColumnGroups& groups, std::int64_t row, const std::uint8_t* codes,
                     const float* scales, const std::uint8_t* zeros);

/// Throws unless the tensor has one of these types.
const StoredTensor& check_type(const StoredTensor& tensor, std::initializer_list<DType> types);
/// The tensor, of any shape and type; throws if there is none.
const StoredTensor& require_any(const Checkpoint& checkpoint, const std::string& name);
/// The tensor if it has this shape and one of these types; throws otherwise.
const StoredTensor& require_part(const Checkpoint& checkpoint, const std::string& name,
                                 std::initializer_list<std::int64_t> shape, std::initializer_list<DType> types);
/// Throws unless columns are a multiple of 32.
void check_columns(const Checkpoint& checkpoint, const std::string& module, std::int64_t columns);
/// All values, widened.
std::vector<float> widened(const StoredTensor& tensor);

// The layouts. Each: the module's matrix, whose first part is known to be there.
QuantizedMatrix read_gptq_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                 const std::string& module, std::int64_t rows, std::int64_t columns);
QuantizedMatrix read_awq_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                const std::string& module, std::int64_t rows, std::int64_t columns);
QuantizedMatrix read_packed_matrix(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows,
                                   std::int64_t columns);
QuantizedMatrix read_table_matrix(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows,
                                  std::int64_t columns);
QuantizedMatrix read_int8_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                 const std::string& module, std::int64_t rows, std::int64_t columns);
/// In F16: code times scale, rounded to the nearest.
QuantizedMatrix read_float8_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                   const std::string& module, std::int64_t rows, std::int64_t columns);

}  // namespace inferd
