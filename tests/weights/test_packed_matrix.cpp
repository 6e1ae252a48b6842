// Packed codes of compressed-tensors: what a row means, and every way in which the parts can fail to fit.
#include <cmath>

#include "kernels/quant_formats.h"
#include "tests/weights/matrix_parts.h"

namespace inferd {
namespace {

using test::BuiltTensor;
using test::bytes_of;
using test::Parts;
using test::read_matrix;
using test::refusal;
using test::says;

constexpr std::int64_t kRows = 3, kColumns = 64;

constexpr char kConfig[] =
    R"({"quantization_config":{"quant_method":"compressed-tensors","format":"pack-quantized",)"
    R"("config_groups":{"group_0":{"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":32}}}}})";

int code_of(std::int64_t row, std::int64_t column) { return static_cast<int>((row * 5 + column * 3) % 16); }
float scale_of(std::int64_t row, std::int64_t group) { return 0.5f * static_cast<float>(1 + row * 2 + group); }
int zero_of(std::int64_t row, std::int64_t group) { return static_cast<int>(3 + row + 2 * group); }

/// 3 outputs, 64 inputs, groups of 32. Rows of the zero points are packed down the outputs, as compressed-tensors does.
Parts honest() {
  std::vector<std::uint32_t> words(kRows * kColumns / 8, 0), zeros(2, 0);
  std::vector<float> scales;
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t k = 0; k < kColumns; ++k) {
      words[static_cast<std::size_t>((row * kColumns + k) / 8)] |= static_cast<std::uint32_t>(code_of(row, k))
                                                                   << (4 * (k % 8));
    }
    for (std::int64_t g = 0; g < 2; ++g) {
      scales.push_back(scale_of(row, g));
      zeros[static_cast<std::size_t>(g)] |= static_cast<std::uint32_t>(zero_of(row, g)) << (4 * row);
    }
  }
  Parts parts;
  parts["packed"] = {"m.weight_packed", "I32", {kRows, kColumns / 8}, bytes_of(words)};
  parts["scale"] = {"m.weight_scale", "F32", {kRows, 2}, bytes_of(scales)};
  parts["zeros"] = {"m.weight_zero_point", "I32", {1, 2}, bytes_of(zeros)};
  parts["shape"] = {"m.weight_shape", "I64", {2}, bytes_of(std::vector<std::int64_t>{kRows, kColumns})};
  return parts;
}

std::optional<QuantizedMatrix> read(const Parts& parts, std::int64_t rows = kRows, std::int64_t columns = kColumns) {
  return read_matrix(kConfig, parts, rows, columns);
}

std::string message_of(const Parts& parts, std::int64_t rows = kRows, std::int64_t columns = kColumns) {
  return refusal([&] { read(parts, rows, columns); });
}

float value(const QuantizedMatrix& matrix, std::int64_t row, std::int64_t column) {
  std::vector<float> out(kColumns);
  const std::size_t bytes = row_bytes(matrix.dtype, matrix.columns);
  dequantize_row(matrix.dtype, matrix.data.data() + static_cast<std::size_t>(row) * bytes, out.data(), kColumns);
  return out[static_cast<std::size_t>(column)];
}

}  // namespace

TEST_CASE("a packed value is its scale times code less zero") {
  const auto with_zeros = read(honest());
  Parts symmetric = honest();
  symmetric.erase("zeros");
  const auto without = read(symmetric);
  REQUIRE((with_zeros && without));
  for (std::int64_t row = 0; row < kRows; ++row) {
    for (std::int64_t k = 0; k < kColumns; ++k) {
      const float scale = scale_of(row, k / 32);
      REQUIRE(value(*with_zeros, row, k) == scale * static_cast<float>(code_of(row, k) - zero_of(row, k / 32)));
      REQUIRE(value(*without, row, k) == scale * static_cast<float>(code_of(row, k) - 8));
    }
  }
}

TEST_CASE("packed parts that are missing or of another shape or type are refused by name") {
  CHECK(message_of(honest()).empty());
  Parts no_scale = honest();
  no_scale.erase("scale");
  CHECK(says(message_of(no_scale), {"m.weight_scale", "none"}));
  const std::map<std::string, std::vector<std::int64_t>> shapes = {
      {"packed", {24}},       {"packed ", {kColumns / 8, kRows}},
      {"packed  ", {1, 24}},  {"scale", {6}},
      {"scale ", {2, kRows}}, {"zeros", {2}},
      {"zeros ", {2, 1}}};
  for (const auto& [part, shape] : shapes) {
    Parts parts = honest();
    BuiltTensor& tensor = parts[part.substr(0, part.find(' '))];
    tensor.shape = shape;
    CHECK(says(message_of(parts), {tensor.name.c_str(), "expected", "found"}));
  }
  for (const auto& [part, type] :
       std::map<std::string, std::string>{{"packed", "F32"}, {"scale", "I32"}, {"zeros", "F32"}}) {
    Parts parts = honest();
    parts[part].dtype = type;
    CHECK(says(message_of(parts), {parts[part].name.c_str(), type.c_str()}));
  }
}

TEST_CASE("groups that cannot be are refused") {
  Parts narrow = honest();
  narrow["scale"] = {"m.weight_scale", "F32", {kRows, 4}, bytes_of(std::vector<float>(12, 1.0f))};
  CHECK(says(message_of(narrow), {"m.weight_scale", "multiple of 32", "4 for 64"}));
  Parts uneven = honest();
  uneven["scale"] = {"m.weight_scale", "F32", {kRows, 3}, bytes_of(std::vector<float>(9, 1.0f))};
  CHECK(says(message_of(uneven), {"m.weight_scale", "3 for 64"}));
  for (const std::int32_t group : {-1, 2, 0x7fffffff, -0x7fffffff - 1}) {
    std::vector<std::int32_t> groups(kColumns, 0);
    for (std::size_t k = 32; k < kColumns; ++k) groups[k] = 1;
    groups[40] = group;
    Parts parts = honest();
    parts["g_idx"] = {"m.weight_g_idx", "I32", {kColumns}, bytes_of(groups)};
    CHECK(says(message_of(parts), {"m.weight_g_idx[40]", "below 2"}));
  }
  Parts short_list = honest();
  short_list["g_idx"] = {"m.weight_g_idx", "I32", {32}, bytes_of(std::vector<std::int32_t>(32, 0))};
  CHECK(says(message_of(short_list), {"m.weight_g_idx", "[64]", "[32]"}));
}

TEST_CASE("a configuration that asks for other sizes than the files have is refused") {
  CHECK(says(message_of(honest(), kRows + 1, kColumns), {"m.weight_packed", "[4, ", "[3, 8]"}));
  CHECK(says(message_of(honest(), kRows, 65), {"m", "multiple of 32 inputs"}));
  CHECK(says(message_of(honest(), kRows, std::int64_t{1} << 40), {"m.weight_packed", "expected"}));
  CHECK(says(message_of(honest(), std::int64_t{1} << 40, kColumns), {"m.weight_packed", "expected"}));
}

TEST_CASE("codes of 3 bits that cross words are read to the last bit") {
  std::vector<std::uint32_t> words(kRows * kColumns * 3 / 32, 0);
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    const auto code = static_cast<std::uint64_t>(i * 5 % 8);
    const auto at = static_cast<std::size_t>(i * 3);
    const std::uint64_t shifted = code << (at % 32);
    words[at / 32] |= static_cast<std::uint32_t>(shifted);
    if (shifted >> 32 != 0) words[at / 32 + 1] |= static_cast<std::uint32_t>(shifted >> 32);
  }
  Parts parts = honest();
  parts.erase("zeros");
  parts["packed"] = {"m.weight_packed", "I32", {kRows, kColumns * 3 / 32}, bytes_of(words)};
  const auto matrix = read(parts);
  REQUIRE(matrix);
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    const std::int64_t row = i / kColumns, k = i % kColumns;
    REQUIRE(value(*matrix, row, k) == scale_of(row, k / 32) * static_cast<float>(i * 5 % 8 - 4));
  }
}

}  // namespace inferd
