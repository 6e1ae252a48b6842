// Matrices as bitsandbytes stores them in 4 bits: packed codes, a table, one magnitude a block, perhaps quantised
// itself.
#include <array>
#include <cmath>
#include <cstring>

#include "base/errors.h"
#include "base/json.h"
#include "base/log.h"
#include "engine/weights/group_rows.h"
#include "engine/weights/json_fields.h"
#include "engine/weights/stored_tensor.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

constexpr int kColumns = 64;  // of a block of NF4 and FP4
constexpr std::int64_t kLeastBlock = 32;
constexpr std::int64_t kMostBlock = 4096;
constexpr std::size_t kMostStateBytes = 64u << 10;

/// What quant_state says, checked against the matrix that is asked for.
struct QuantState {
  DType dtype = DType::nf4;
  std::int64_t block = 0;         // values, row after row, that share a magnitude
  std::int64_t nested_block = 0;  // magnitudes that share one of theirs
  float nested_offset = 0;
};

std::int64_t read_block(const JsonFields& fields, const std::string& file, const std::string& field) {
  const std::int64_t block = fields.require_integer({field}, 1, kMostBlock);
  if (block < kLeastBlock || (block & (block - 1)) != 0) {
    throw CheckpointError(file, field, "32, 64, 128 … 4096", std::to_string(block));
  }
  return block;
}

Json read_object(const StoredTensor& tensor) {
  check_type(tensor, {DType::u8});
  try {
    const std::string_view text(reinterpret_cast<const char*>(tensor.data), tensor.bytes);
    Json json = parse_json(text, {.max_bytes = kMostStateBytes, .max_depth = 4, .max_nodes = 1000});
    if (json.is_object()) return json;
    throw CheckpointError(tensor.file, log_safe(tensor.name), "a JSON object", json.type_name());
  } catch (const JsonError& error) {
    throw CheckpointError(tensor.file, log_safe(tensor.name), "a JSON object", error.what());
  }
}

QuantState read_state(const StoredTensor& tensor, DType dtype, std::int64_t rows, std::int64_t columns, bool nested) {
  const std::string where = tensor.file + ": " + log_safe(tensor.name);
  const Json json = read_object(tensor);
  const JsonFields fields(json, where);
  QuantState state{.dtype = dtype, .block = read_block(fields, where, "blocksize")};
  const std::string expected = dtype == DType::nf4 ? "nf4" : "fp4";
  const std::string type = fields.string({"quant_type"}).value_or(expected);
  if (type != expected) throw CheckpointError(where, "quant_type", expected, log_safe(type));
  const std::vector<std::int64_t> shape = fields.integers({"shape"}, 1, std::int64_t{1} << 40);
  if (shape != std::vector<std::int64_t>{rows, columns}) {
    throw CheckpointError(where, "shape", shape_text(std::array{rows, columns}), shape_text(shape));
  }
  if (nested) {
    state.nested_block = fields.require_integer({"nested_blocksize"}, 1, std::int64_t{1} << 20);
    state.nested_offset = static_cast<float>(fields.require_number({"nested_offset"}, -3e38, 3e38));
  }
  return state;
}

/// The table in the file must be the one whose codes NF4 and FP4 hold.
void check_table(const StoredTensor& tensor, DType dtype) {
  const WideTable& table = wide_table(dtype);
  const std::vector<float> found = widened(tensor);
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double expected = table.values[i] / table.one;
    if (std::abs(double{found[i]} - expected) <= 2e-4) continue;  // not so for a NaN
    throw CheckpointError(tensor.file, log_safe(tensor.name) + "[" + std::to_string(i) + "]", std::to_string(expected),
                          std::to_string(found[i]));
  }
}

/// The magnitudes of all blocks, in f32.
std::vector<float> read_magnitudes(const Checkpoint& checkpoint, const std::string& weight, const QuantState& state,
                                   std::int64_t blocks, std::vector<const StoredTensor*>& tensors) {
  const auto part = [&](const char* suffix, std::int64_t size, DType type) -> const StoredTensor& {
    return *tensors.emplace_back(&require_part(checkpoint, weight + suffix, {size}, {type}));
  };
  if (state.nested_block == 0) return widened(part(".absmax", blocks, DType::f32));
  const StoredTensor& codes = part(".absmax", blocks, DType::u8);
  const std::vector<float> map = widened(part(".nested_quant_map", 256, DType::f32));
  const std::int64_t groups = (blocks + state.nested_block - 1) / state.nested_block;
  const std::vector<float> largest = widened(part(".nested_absmax", groups, DType::f32));
  std::vector<float> magnitudes(static_cast<std::size_t>(blocks));
  for (std::size_t i = 0; i < magnitudes.size(); ++i) {
    const float scaled =
        map[static_cast<std::size_t>(codes.data[i])] * largest[i / static_cast<std::size_t>(state.nested_block)];
    magnitudes[i] = scaled + state.nested_offset;
  }
  return magnitudes;
}

/// What the files say of the matrix `weight`; null: it is not one of 4 bits.
const StoredTensor* find_state(const Checkpoint& checkpoint, const std::string& weight, DType* dtype) {
  for (const auto& [type, name] : {std::pair{DType::fp4, "fp4"}, {DType::nf4, "nf4"}}) {
    *dtype = type;
    if (const auto* found = checkpoint.find(weight + ".quant_state.bitsandbytes__" + name)) return found;
  }
  return nullptr;
}

/// The type its rows have: f32 where a block of ours would need two of the file's magnitudes.
DType loaded_type(DType dtype, std::int64_t block, std::int64_t columns) {
  return columns % kColumns == 0 && block % kColumns == 0 ? dtype : DType::f32;
}

/// Half of values are in the upper bits of their bytes: those with an even index.
int code_at(const StoredTensor& packed, std::int64_t index) {
  const auto both = static_cast<std::uint8_t>(packed.data[index / 2]);
  return index % 2 == 0 ? both >> 4 : both & 15;
}

/// The values themselves, where rows do not end with the file's blocks, which go on from row to row, or these are
/// short.
void write_values(QuantizedMatrix& matrix, const StoredTensor& packed, const QuantState& state,
                  const std::vector<float>& table, const std::vector<float>& magnitudes) {
  std::byte* out = matrix.data.data();
  for (std::int64_t at = 0; at < matrix.rows * matrix.columns; ++at, out += sizeof(float)) {
    const float value =
        table[static_cast<std::size_t>(code_at(packed, at))] * magnitudes[static_cast<std::size_t>(at / state.block)];
    std::memcpy(out, &value, sizeof value);
  }
}

void write_blocks(QuantizedMatrix& matrix, const StoredTensor& packed, const QuantState& state,
                  const std::vector<float>& magnitudes) {
  const double one = wide_table(state.dtype).one;
  const auto block_bytes = static_cast<std::size_t>(dtype_info(state.dtype).block_bytes);
  std::byte* out = matrix.data.data();
  const std::byte* from = packed.data;
  for (std::int64_t at = 0; at < matrix.rows * matrix.columns; at += kColumns, out += block_bytes) {
    const auto scale = static_cast<float>(double{magnitudes[static_cast<std::size_t>(at / state.block)]} / one);
    std::memcpy(out, &scale, sizeof scale);
    for (int i = 0; i < kColumns / 2; ++i, ++from) out[kWideCodesAt + i] = *from << 4 | *from >> 4;
  }
}

}  // namespace

QuantizedMatrix read_table_matrix(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows,
                                  std::int64_t columns) {
  const std::string weight = module + ".weight";
  const StoredTensor& packed = require_any(checkpoint, weight);
  std::int64_t values = 0;
  if (__builtin_mul_overflow(rows, columns, &values) || packed.bytes != (static_cast<std::size_t>(values) + 1) / 2) {
    throw CheckpointError(packed.file, log_safe(weight),
                          "two codes a byte for " + shape_text(std::array{rows, columns}),
                          std::to_string(packed.bytes) + " bytes");
  }
  DType dtype = DType::nf4;
  if (find_state(checkpoint, weight, &dtype) == nullptr) dtype = DType::nf4;
  const StoredTensor& stored_state =
      require_any(checkpoint, weight + ".quant_state.bitsandbytes__" + (dtype == DType::fp4 ? "fp4" : "nf4"));
  const bool nested = checkpoint.find(weight + ".nested_absmax") != nullptr;
  const QuantState state = read_state(stored_state, dtype, rows, columns, nested);
  QuantizedMatrix matrix;
  matrix.dtype = loaded_type(dtype, state.block, columns);
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.tensors = {&packed, &stored_state};
  const StoredTensor& table = require_part(checkpoint, weight + ".quant_map", {16}, {DType::f32});
  matrix.tensors.push_back(&table);
  check_table(table, dtype);
  const std::int64_t blocks = (values + state.block - 1) / state.block;
  const std::vector<float> magnitudes = read_magnitudes(checkpoint, weight, state, blocks, matrix.tensors);
  matrix.data.resize(static_cast<std::size_t>(rows) * row_bytes(matrix.dtype, columns));
  if (matrix.dtype == dtype) {
    write_blocks(matrix, packed, state, magnitudes);
  } else {
    write_values(matrix, packed, state, widened(table), magnitudes);
  }
  return matrix;
}

std::size_t loaded_bytes(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  constexpr std::string_view kEnd = ".weight";
  if (tensor.dtype == DType::f8_e4m3) return tensor.bytes * 2;
  const std::size_t end = tensor.name.rfind(kEnd);
  if (end == std::string::npos) return tensor.bytes;
  const std::string weight = tensor.name.substr(0, end + kEnd.size());
  DType dtype = DType::nf4;
  const StoredTensor* state = find_state(checkpoint, weight, &dtype);
  if (state == nullptr) return tensor.bytes;
  if (tensor.name != weight) return 0;
  const std::string where = state->file + ": " + log_safe(state->name);
  const Json json = read_object(*state);
  const JsonFields fields(json, where);
  const std::int64_t block = read_block(fields, where, "blocksize");
  const std::vector<std::int64_t> shape = fields.integers({"shape"}, 1, std::int64_t{1} << 40);
  std::int64_t values = 0;
  if (shape.size() != 2 || __builtin_mul_overflow(shape[0], shape[1], &values) ||
      tensor.bytes != (static_cast<std::size_t>(values) + 1) / 2) {
    throw CheckpointError(where, "shape", "rows and columns of " + std::to_string(tensor.bytes) + " bytes",
                          shape_text(shape));
  }
  return static_cast<std::size_t>(shape[0]) * row_bytes(loaded_type(dtype, block, shape[1]), shape[1]);
}

}  // namespace inferd
