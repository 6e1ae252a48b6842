// Matrices as GPTQ and AWQ tools store them: codes packed in 32-bit words, columns of the words being outputs.
#include <array>
#include <cstring>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/group_rows.h"
#include "engine/weights/stored_tensor.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

constexpr std::int64_t kPanel = 16;  // outputs brought to rows together: a cache line of words

std::uint32_t word_at(const StoredTensor& tensor, std::int64_t index) {
  std::uint32_t word;
  std::memcpy(&word, tensor.data + index * 4, sizeof word);
  return word;
}

/// Value `index` of a stream of `bits`-bit values in 32-bit words, the first in the lowest bits. word(i): its words.
template <typename Word>
int packed_value(Word word, int bits, std::int64_t index) {
  const std::int64_t at = index * bits;
  const int shift = static_cast<int>(at % 32);
  std::uint32_t value = word(at / 32) >> shift;
  if (shift + bits > 32) value |= word(at / 32 + 1) << (32 - shift);
  return static_cast<int>(value & ((1u << bits) - 1));
}

struct Parts {
  const StoredTensor* codes;
  const StoredTensor* zeros;
  const StoredTensor* scales;
  std::int64_t groups;
};

std::int64_t dimension(const Checkpoint& checkpoint, const std::string& name, std::size_t axis) {
  const StoredTensor* tensor = checkpoint.find(name);
  if (tensor == nullptr) throw CheckpointError(log_safe(checkpoint.path()), log_safe(name), "this tensor", "none");
  if (tensor->shape.size() != 2) {
    throw CheckpointError(tensor->file, log_safe(name), "two dimensions", shape_text(tensor->shape));
  }
  return tensor->shape[axis];
}

/// The number of groups: as configured, or as the scales' shape tells.
std::int64_t group_count(const Checkpoint& checkpoint, const QuantizationConfig& config, const std::string& module,
                         std::int64_t columns) {
  if (config.group_size < 0) return 1;
  if (config.group_size > 0) return (columns + config.group_size - 1) / config.group_size;
  return dimension(checkpoint, module + ".scales", 0);
}

/// The bits of a code: as configured, or as the shape of the codes tells.
int code_bits(const Checkpoint& checkpoint, const QuantizationConfig& config, const std::string& module,
              std::int64_t columns) {
  if (config.bits > 0) return config.bits;
  const std::int64_t words = dimension(checkpoint, module + ".qweight", 0);
  for (int bits : {2, 3, 4, 8}) {
    if (words == columns / 32 * bits) return bits;
  }
  throw CheckpointError(log_safe(checkpoint.path()), log_safe(module) + ".qweight",
                        "words of 2, 3, 4 or 8 bits a code for " + std::to_string(columns) + " inputs",
                        std::to_string(words) + " rows");
}

const StoredTensor& scales_of(const Checkpoint& checkpoint, const std::string& module, std::int64_t groups,
                              std::int64_t rows) {
  return require_part(checkpoint, module + ".scales", {groups, rows}, {DType::f16, DType::bf16, DType::f32});
}

void check_rows(const Checkpoint& checkpoint, const std::string& module, std::int64_t rows, std::int64_t multiple) {
  if (rows % multiple == 0) return;
  throw CheckpointError(log_safe(checkpoint.path()), log_safe(module),
                        "a multiple of " + std::to_string(multiple) + " outputs", std::to_string(rows));
}

ColumnGroups groups_of(const Checkpoint& checkpoint, const QuantizationConfig& config, const std::string& module,
                       std::int64_t columns, std::int64_t groups) {
  const std::string name = module + ".g_idx";
  if (checkpoint.find(name) != nullptr) {
    return listed_groups(require_part(checkpoint, name, {columns}, {DType::i32}), columns, groups);
  }
  std::int64_t size = config.group_size;
  if (size < 0) size = columns;
  if (size == 0) size = (columns / 32 + groups - 1) / groups * 32;
  return even_groups(columns, size);
}

/// Zeros and scales of one output for all groups.
struct RowFactors {
  explicit RowFactors(std::int64_t groups)
      : scales(static_cast<std::size_t>(groups)), zeros(static_cast<std::size_t>(groups)) {}
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
};

}  // namespace

QuantizedMatrix read_gptq_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                 const std::string& module, std::int64_t rows, std::int64_t columns) {
  check_columns(checkpoint, module, columns);
  check_rows(checkpoint, module, rows, 32);
  const int bits = code_bits(checkpoint, config, module, columns);
  const std::int64_t groups = group_count(checkpoint, config, module, columns);
  const std::int64_t zero_words = rows / 32 * bits;
  const StoredTensor& codes = require_part(checkpoint, module + ".qweight", {columns / 32 * bits, rows}, {DType::i32});
  const StoredTensor& zeros = require_part(checkpoint, module + ".qzeros", {groups, zero_words}, {DType::i32});
  const StoredTensor& scales = scales_of(checkpoint, module, groups, rows);
  const ColumnGroups column_groups = groups_of(checkpoint, config, module, columns, groups);
  QuantizedMatrix matrix = make_group_rows(bits, rows, column_groups);
  matrix.tensors = {&codes, &zeros, &scales};
  if (const StoredTensor* listed = checkpoint.find(module + ".g_idx")) matrix.tensors.push_back(listed);
  const std::vector<float> all_scales = widened(scales);
  const std::int64_t words = columns / 32 * bits;
  std::vector<std::uint32_t> panel(static_cast<std::size_t>(words * kPanel));
  std::vector<std::uint8_t> row_codes(static_cast<std::size_t>(columns));
  RowFactors factors(groups);
  for (std::int64_t first = 0; first < rows; first += kPanel) {
    for (std::int64_t w = 0; w < words; ++w) {
      for (std::int64_t i = 0; i < kPanel; ++i) {
        panel[static_cast<std::size_t>(i * words + w)] = word_at(codes, w * rows + first + i);
      }
    }
    for (std::int64_t i = 0; i < kPanel; ++i) {
      const std::int64_t row = first + i;
      const std::uint32_t* own = panel.data() + i * words;
      for (std::int64_t k = 0; k < columns; ++k) {
        row_codes[static_cast<std::size_t>(k)] =
            static_cast<std::uint8_t>(packed_value([&](std::int64_t w) { return own[w]; }, bits, k));
      }
      for (std::int64_t g = 0; g < groups; ++g) {
        const auto at = static_cast<std::size_t>(g);
        const int stored = packed_value([&](std::int64_t w) { return word_at(zeros, g * zero_words + w); }, bits, row);
        factors.zeros[at] = static_cast<std::uint8_t>((stored + (config.zeros_less_one ? 1 : 0)) & ((1 << bits) - 1));
        factors.scales[at] = all_scales[static_cast<std::size_t>(g * rows + row)];
      }
      write_group_row(matrix, column_groups, row, row_codes.data(), factors.scales.data(), factors.zeros.data());
    }
  }
  return matrix;
}

QuantizedMatrix read_awq_matrix(const Checkpoint& checkpoint, const QuantizationConfig& config,
                                const std::string& module, std::int64_t rows, std::int64_t columns) {
  constexpr std::array<int, 8> kNibble = {0, 4, 1, 5, 2, 6, 3, 7};  // of output 8c + j in word c
  constexpr std::int64_t kWords = 16;                               // read together
  check_columns(checkpoint, module, columns);
  check_rows(checkpoint, module, rows, 8);
  const std::int64_t groups = group_count(checkpoint, config, module, columns);
  const std::int64_t words = rows / 8;
  const StoredTensor& codes = require_part(checkpoint, module + ".qweight", {columns, words}, {DType::i32});
  const StoredTensor& zeros = require_part(checkpoint, module + ".qzeros", {groups, words}, {DType::i32});
  const StoredTensor& scales = scales_of(checkpoint, module, groups, rows);
  const ColumnGroups column_groups = even_groups(columns, config.group_size < 0 ? columns : config.group_size);
  QuantizedMatrix matrix = make_group_rows(4, rows, column_groups);
  matrix.tensors = {&codes, &zeros, &scales};
  const std::vector<float> all_scales = widened(scales);
  std::vector<std::uint8_t> panel(static_cast<std::size_t>(8 * kWords * columns));
  RowFactors factors(groups);
  for (std::int64_t first = 0; first < words; first += kWords) {
    const std::int64_t count = std::min(kWords, words - first);
    for (std::int64_t k = 0; k < columns; ++k) {
      for (std::int64_t w = 0; w < count; ++w) {
        const std::uint32_t word = word_at(codes, k * words + first + w);
        for (std::int64_t j = 0; j < 8; ++j) {
          panel[static_cast<std::size_t>((8 * w + j) * columns + k)] =
              static_cast<std::uint8_t>((word >> (4 * kNibble[static_cast<std::size_t>(j)])) & 15);
        }
      }
    }
    for (std::int64_t i = 0; i < 8 * count; ++i) {
      const std::int64_t row = 8 * first + i;
      for (std::int64_t g = 0; g < groups; ++g) {
        const std::uint32_t word = word_at(zeros, g * words + row / 8);
        factors.zeros[static_cast<std::size_t>(g)] =
            static_cast<std::uint8_t>((word >> (4 * kNibble[static_cast<std::size_t>(row % 8)])) & 15);
        factors.scales[static_cast<std::size_t>(g)] = all_scales[static_cast<std::size_t>(g * rows + row)];
      }
      write_group_row(matrix, column_groups, row, panel.data() + i * columns, factors.scales.data(),
                      factors.zeros.data());
    }
  }
  return matrix;
}

}  // namespace inferd
