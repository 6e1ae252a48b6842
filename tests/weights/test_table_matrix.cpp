// Matrices in the 4-bit layout of bitsandbytes: its own values, and every way in which the parts can fail to fit.
#include <cmath>

#include "kernels/quant_formats.h"
#include "tests/weights/matrix_parts.h"

namespace inferd {
namespace {

using test::BuiltTensor;
using test::bytes_of;
using test::golden;
using test::Parts;
using test::read_golden_json;
using test::read_matrix;
using test::refusal;
using test::says;
using test::ScratchFolder;

constexpr std::int64_t kRows = 3, kColumns = 128;
constexpr char kConfig[] =
    R"({"quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"nf4"}})";
constexpr char kWeight[] = "m.weight";

std::vector<float> nf4_map() {
  std::vector<float> map;
  for (const std::int16_t value : kNf4Table.values) map.push_back(static_cast<float>(value / kNf4Table.one));
  return map;
}

BuiltTensor state_of(const std::string& json, const std::string& type = "nf4") {
  return {std::string(kWeight) + ".quant_state.bitsandbytes__" + type,
          "U8",
          {static_cast<std::int64_t>(json.size())},
          json};
}

/// 3 outputs, 128 inputs, blocks of 64; magnitudes are codes of a map of 256, two of which share one of their own.
Parts honest() {
  std::vector<std::uint8_t> codes(kRows * kColumns / 2, 0x5f), magnitudes{0, 1, 2, 3, 254, 255};
  std::vector<float> map;
  for (int i = 0; i < 256; ++i) map.push_back(static_cast<float>(i - 128) / 128.0f);
  Parts parts;
  parts["weight"] = {kWeight, "U8", {kRows * kColumns / 2, 1}, bytes_of(codes)};
  parts["absmax"] = {std::string(kWeight) + ".absmax", "U8", {6}, bytes_of(magnitudes)};
  parts["quant_map"] = {std::string(kWeight) + ".quant_map", "F32", {16}, bytes_of(nf4_map())};
  parts["nested_absmax"] = {std::string(kWeight) + ".nested_absmax", "F32", {3}, bytes_of(std::vector<float>{1, 2, 3})};
  parts["nested_quant_map"] = {std::string(kWeight) + ".nested_quant_map", "F32", {256}, bytes_of(map)};
  parts["state"] = state_of(R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [3, 128],)"
                            R"( "nested_blocksize": 2, "nested_dtype": "float32", "nested_offset": 0.25})");
  return parts;
}

std::optional<QuantizedMatrix> read(const Parts& parts, std::int64_t rows = kRows, std::int64_t columns = kColumns) {
  return read_matrix(kConfig, parts, rows, columns);
}

std::string message_of(const Parts& parts, std::int64_t rows = kRows, std::int64_t columns = kColumns) {
  return refusal([&] { read(parts, rows, columns); });
}

std::vector<float> row_of(const QuantizedMatrix& matrix, std::int64_t row) {
  std::vector<float> out(static_cast<std::size_t>(matrix.columns));
  const std::size_t bytes = row_bytes(matrix.dtype, matrix.columns);
  dequantize_row(matrix.dtype, matrix.data.data() + static_cast<std::size_t>(row) * bytes, out.data(), matrix.columns);
  return out;
}

}  // namespace

TEST_CASE("entries of the tables round bitsandbytes' own by less than a half's last bit") {
  // Published with bitsandbytes: quantiles of the normal distribution; a 4-bit float whose largest value is 12.
  const double nf4[] = {-1.0,
                        -0.6961928009986877,
                        -0.5250730514526367,
                        -0.39491748809814453,
                        -0.28444138169288635,
                        -0.18477343022823334,
                        -0.09105003625154495,
                        0.0,
                        0.07958029955625534,
                        0.16093020141124725,
                        0.24611230194568634,
                        0.33791524171829224,
                        0.44070982933044434,
                        0.5626170039176941,
                        0.7229568362236023,
                        1.0};
  const double fp4[] = {0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3};
  for (int i = 0; i < 16; ++i) {
    CHECK(std::abs(kNf4Table.values[i] / kNf4Table.one - nf4[i]) <= 1.63e-4 * std::abs(nf4[i]));
    CHECK(kFp4Table.values[i] / kFp4Table.one == Approx(fp4[i] / 12).margin(1e-15));
  }
}

TEST_CASE("matrices written by bitsandbytes have its values") {
  const auto folder_of = [](const ScratchFolder& folder, const std::string& type) {
    std::filesystem::create_symlink(golden("unit/bitsandbytes4/matrices.safetensors"),
                                    folder.path() / "model.safetensors");
    folder.write(
        "config.json",
        dump_json(Json{{"quantization_config",
                        {{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", type}}}}));
  };
  const Json index = read_golden_json("unit/bitsandbytes4/index.json");
  CHECK(index.size() == 24);
  for (const auto& [name, shape] : index.items()) {
    CAPTURE(name);
    const ScratchFolder folder;
    folder_of(folder, shape["type"]);
    const auto checkpoint = Checkpoint::open(folder.path());
    const auto rows = shape["rows"].get<std::int64_t>(), columns = shape["columns"].get<std::int64_t>();
    const auto matrix = read_quantized_matrix(*checkpoint, read_quantization_config(*checkpoint), name, rows, columns);
    REQUIRE(matrix);
    CHECK(matrix->tensors.size() == (name.ends_with("double") ? 6 : 4));
    const bool widened = columns % 64 != 0 || name.find("_32_") != std::string::npos;
    CHECK((matrix->dtype == DType::f32) == widened);
    const float tolerance = widened ? 0.0f : 1.64e-4f;  // how far our tables round bitsandbytes' own
    const StoredTensor& expected = checkpoint->require(name + ".dequantized", {rows, columns});
    std::vector<float> all(static_cast<std::size_t>(rows * columns));
    dequantize(expected, all);
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::vector<float> found = row_of(*matrix, row);
      for (std::int64_t k = 0; k < columns; ++k) {
        const float wanted = all[static_cast<std::size_t>(row * columns + k)];
        REQUIRE(std::abs(found[static_cast<std::size_t>(k)] - wanted) <= tolerance * std::abs(wanted));
      }
    }
  }
}

TEST_CASE("magnitudes that are quantised themselves, and the upper bits first") {
  const auto matrix = read(honest());
  REQUIRE(matrix);
  const float magnitudes[] = {-1.0f + 0.25f,        -127.0f / 128 + 0.25f,    -126.0f / 64 + 0.25f,
                              -125.0f / 64 + 0.25f, 3 * 126.0f / 128 + 0.25f, 3 * 127.0f / 128 + 0.25f};
  for (std::int64_t row = 0; row < kRows; ++row) {
    const std::vector<float> values = row_of(*matrix, row);
    for (std::size_t k = 0; k < values.size(); ++k) {
      const float magnitude = magnitudes[static_cast<std::size_t>(row) * 2 + k / 64];
      REQUIRE(values[k] == Approx(magnitude * (k % 2 == 0 ? -0.18477343f : 1.0f)).epsilon(2e-4));
    }
  }
}

TEST_CASE("4-bit parts that are missing or of another shape or type are refused by name") {
  CHECK(message_of(honest()).empty());
  for (const char* part : {"absmax", "quant_map", "nested_quant_map", "state"}) {
    Parts parts = honest();
    const std::string name = parts[part].name;
    parts.erase(part);
    CHECK(says(message_of(parts), {name.c_str(), "expected", "none"}));
  }
  for (const char* part : {"weight", "absmax", "quant_map", "nested_absmax", "nested_quant_map"}) {
    Parts parts = honest();
    BuiltTensor& tensor = parts[part];
    const std::size_t width = tensor.dtype == "F32" ? 4 : 1;
    tensor.bytes.resize(tensor.bytes.size() - width);
    tensor.shape = {static_cast<std::int64_t>(tensor.bytes.size() / width)};
    CHECK(says(message_of(parts), {tensor.name.c_str(), "expected", "found"}));
  }
  for (const char* part : {"absmax", "quant_map", "nested_absmax", "nested_quant_map", "state"}) {
    Parts parts = honest();
    parts[part].dtype = parts[part].dtype == "F32" ? "I32" : "I8";
    CHECK(says(message_of(parts), {parts[part].name.c_str(), parts[part].dtype.c_str()}));
  }
}

TEST_CASE("a state, a table or sizes that cannot be are refused by name") {
  const std::vector<std::pair<std::string, const char*>> states = {
      {" ", "JSON object"},
      {"[1]", "JSON object"},
      {R"({"blocksize": 64)", "JSON object"},
      {R"({"quant_type": "nf4", "shape": [3, 128], "nested_blocksize": 2, "nested_offset": 0})", "blocksize"},
      {R"({"blocksize": 48, "shape": [3, 128], "nested_blocksize": 2, "nested_offset": 0})", "blocksize"},
      {R"({"blocksize": 16, "shape": [3, 128], "nested_blocksize": 2, "nested_offset": 0})", "blocksize"},
      {R"({"blocksize": 8192, "shape": [3, 128], "nested_blocksize": 2, "nested_offset": 0})", "blocksize"},
      {R"({"blocksize": 64, "shape": [128, 3], "nested_blocksize": 2, "nested_offset": 0})", "shape"},
      {R"({"blocksize": 64, "shape": [3, 128], "nested_offset": 0})", "nested_blocksize"},
      {R"({"blocksize": 64, "shape": [3, 128], "nested_blocksize": 0, "nested_offset": 0})", "nested_blocksize"},
      {R"({"blocksize": 64, "shape": [3, 128], "nested_blocksize": 2})", "nested_offset"},
      {R"({"quant_type": "fp4", "blocksize": 64, "shape": [3, 128], "nested_blocksize": 2, "nested_offset": 0})",
       "quant_type"}};
  for (const auto& [json, field] : states) {
    CAPTURE(json);
    Parts parts = honest();
    parts["state"] = state_of(json);
    CHECK(says(message_of(parts), {"quant_state.bitsandbytes__nf4", field, "expected"}));
  }
  Parts other = honest();
  std::vector<float> map = nf4_map();
  map[9] = -0.5f;
  other["quant_map"].bytes = bytes_of(map);
  CHECK(says(message_of(other), {"m.weight.quant_map[9]", "0.16", "-0.5"}));
  map[9] = std::nanf("");
  other["quant_map"].bytes = bytes_of(map);
  CHECK(says(message_of(other), {"m.weight.quant_map[9]", "nan"}));
  CHECK(says(message_of(honest(), kRows + 1, kColumns), {"m.weight", "[4, 128]", "192 bytes"}));
  CHECK(says(message_of(honest(), kRows * 2, kColumns / 2), {"shape", "[6, 64]", "[3, 128]"}));
  CHECK(says(message_of(honest(), 4, 96), {"shape", "[4, 96]", "[3, 128]"}));
  CHECK(says(message_of(honest(), std::int64_t{1} << 40, std::int64_t{1} << 40), {"m.weight", "expected"}));
}

}  // namespace inferd
