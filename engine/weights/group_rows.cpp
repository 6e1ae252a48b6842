// Rows of group blocks: choosing the type, ordering columns, writing blocks.
#include "engine/weights/group_rows.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/stored_tensor.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

constexpr std::int64_t kBlock = 32;  // the fewest columns of a scale

/// Whether `wide` columns at a time always share a group.
bool cuts_into(const ColumnGroups& groups, std::int64_t wide) {
  const auto step = static_cast<std::size_t>(wide / kBlock);
  if (groups.blocks.size() % step != 0) return false;
  for (std::size_t b = 0; b < groups.blocks.size(); ++b) {
    if (groups.blocks[b] != groups.blocks[b / step * step]) return false;
  }
  return true;
}

DType choose_type(int bits, const ColumnGroups& groups) {
  DType best = DType::f32;
  int columns = 0;
  for (int i = 0; i < kDTypeCount; ++i) {
    const GroupFormat format = group_format(static_cast<DType>(i));
    if (format.bits != bits || format.columns <= columns || !cuts_into(groups, format.columns)) continue;
    best = static_cast<DType>(i);
    columns = format.columns;
  }
  INFERD_CHECK(columns > 0);
  return best;
}

}  // namespace

ColumnGroups even_groups(std::int64_t columns, std::int64_t group_size) {
  INFERD_CHECK(columns % kBlock == 0 && group_size % kBlock == 0 && group_size > 0);
  ColumnGroups groups;
  for (std::int64_t k = 0; k < columns; k += kBlock) groups.blocks.push_back(static_cast<std::int32_t>(k / group_size));
  return groups;
}

ColumnGroups listed_groups(const StoredTensor& tensor, std::int64_t columns, std::int64_t groups) {
  std::vector<std::int32_t> listed(static_cast<std::size_t>(columns));
  std::memcpy(listed.data(), tensor.data, listed.size() * sizeof(std::int32_t));
  for (std::size_t k = 0; k < listed.size(); ++k) {
    if (listed[k] < 0 || listed[k] >= groups) {
      throw CheckpointError(tensor.file, log_safe(tensor.name) + "[" + std::to_string(k) + "]",
                            "a group below " + std::to_string(groups), std::to_string(listed[k]));
    }
  }
  ColumnGroups out;
  if (!std::is_sorted(listed.begin(), listed.end())) {
    out.order.resize(listed.size());
    std::iota(out.order.begin(), out.order.end(), 0);
    std::stable_sort(out.order.begin(), out.order.end(), [&](std::int32_t a, std::int32_t b) {
      return listed[static_cast<std::size_t>(a)] < listed[static_cast<std::size_t>(b)];
    });
    std::sort(listed.begin(), listed.end());
  }
  for (std::size_t k = 0; k < listed.size(); k += kBlock) {
    if (listed[k] != listed[k + kBlock - 1]) {
      throw CheckpointError(tensor.file, log_safe(tensor.name), "groups of a multiple of 32 inputs",
                            "group " + std::to_string(listed[k]) + " with another number");
    }
    out.blocks.push_back(listed[k]);
  }
  return out;
}

QuantizedMatrix make_group_rows(int bits, std::int64_t rows, const ColumnGroups& groups) {
  QuantizedMatrix matrix;
  matrix.dtype = choose_type(bits, groups);
  matrix.rows = rows;
  matrix.columns = static_cast<std::int64_t>(groups.blocks.size()) * kBlock;
  matrix.column_order = groups.order;
  matrix.data.resize(static_cast<std::size_t>(rows) * row_bytes(matrix.dtype, matrix.columns));
  return matrix;
}

void write_group_row(QuantizedMatrix& matrix, const ColumnGroups& groups, std::int64_t row, const std::uint8_t* codes,
                     const float* scales, const std::uint8_t* zeros) {
  const GroupFormat format = group_format(matrix.dtype);
  const DTypeInfo& info = dtype_info(matrix.dtype);
  auto* block = reinterpret_cast<std::uint8_t*>(matrix.data.data()) +
                static_cast<std::size_t>(row) * row_bytes(matrix.dtype, matrix.columns);
  const bool ordered = !matrix.column_order.empty();
  std::vector<std::uint8_t> in_order(static_cast<std::size_t>(format.columns));
  for (std::int64_t k = 0; k < matrix.columns; k += format.columns, block += info.block_bytes) {
    const auto group = static_cast<std::size_t>(groups.blocks[static_cast<std::size_t>(k / kBlock)]);
    std::memcpy(block, scales + group, sizeof(float));
    block[kGroupZeroAt] = zeros[group];
    const std::uint8_t* from = codes + k;
    if (ordered) {
      for (int i = 0; i < format.columns; ++i) {
        in_order[static_cast<std::size_t>(i)] = codes[matrix.column_order[static_cast<std::size_t>(k + i)]];
      }
      from = in_order.data();
    }
    std::uint8_t* to = block + kGroupCodesAt;
    if (format.bits == 4) {
      for (int i = 0; i < format.columns; i += 2) *to++ = static_cast<std::uint8_t>(from[i] | (from[i + 1] << 4));
    } else {
      for (int i = 0; i < format.columns; ++i) write_code(to, format.bits, i, from[i]);
    }
  }
}

const StoredTensor& require_any(const Checkpoint& checkpoint, const std::string& name) {
  const StoredTensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) throw CheckpointError(log_safe(checkpoint.path()), log_safe(name), "this tensor", "none");
  return *tensor;
}

const StoredTensor& require_part(const Checkpoint& checkpoint, const std::string& name,
                                 std::initializer_list<std::int64_t> shape, std::initializer_list<DType> types) {
  return check_type(checkpoint.require(name, shape), types);
}

const StoredTensor& check_type(const StoredTensor& tensor, std::initializer_list<DType> types) {
  if (std::find(types.begin(), types.end(), tensor.dtype) != types.end()) return tensor;
  std::string expected;
  for (DType type : types) expected += (expected.empty() ? "" : " or ") + std::string(dtype_info(type).name);
  throw CheckpointError(tensor.file, log_safe(tensor.name), expected, std::string(dtype_info(tensor.dtype).name));
}

void check_columns(const Checkpoint& checkpoint, const std::string& module, std::int64_t columns) {
  if (columns % kBlock == 0) return;
  throw CheckpointError(log_safe(checkpoint.path()), log_safe(module), "a multiple of 32 inputs",
                        std::to_string(columns));
}

std::vector<float> widened(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor, values);
  return values;
}

}  // namespace inferd
