// Matrices in several tensors: published packings bit for bit, and what is refused.
#include <cmath>
#include <map>

#include "engine/weights/quantized_matrix.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"
#include "tests/weights/folder_builder.h"

namespace inferd {
namespace {

using test::BuiltTensor;
using test::bytes_of;
using test::golden;
using test::read_golden_json;
using test::refusal;
using test::ScratchFolder;

/// Row `row` in its natural order of columns.
std::vector<float> natural_row(const QuantizedMatrix& matrix, std::int64_t row) {
  std::vector<float> stored(static_cast<std::size_t>(matrix.columns)), out(stored.size());
  const std::size_t bytes = row_bytes(matrix.dtype, matrix.columns);
  dequantize_row(matrix.dtype, matrix.data.data() + static_cast<std::size_t>(row) * bytes, stored.data(),
                 matrix.columns);
  for (std::size_t k = 0; k < out.size(); ++k) {
    out[matrix.column_order.empty() ? k : static_cast<std::size_t>(matrix.column_order[k])] = stored[k];
  }
  return out;
}

QuantizedMatrix read(const std::filesystem::path& folder, std::int64_t rows, std::int64_t columns,
                     const std::string& module = "m") {
  const auto checkpoint = Checkpoint::open(folder);
  auto matrix = read_quantized_matrix(*checkpoint, read_quantization_config(*checkpoint), module, rows, columns);
  REQUIRE(matrix.has_value());
  return std::move(*matrix);
}

std::vector<float> row_of(const StoredTensor& tensor, std::int64_t row) {
  std::vector<float> all(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor, all);
  const auto columns = static_cast<std::ptrdiff_t>(tensor.shape.back());
  return {all.begin() + row * columns, all.begin() + (row + 1) * columns};
}

std::string gptq_config(int bits, int group) {
  return R"({"quantization_config":{"quant_method":"gptq","bits":)" + std::to_string(bits) + R"(,"group_size":)" +
         std::to_string(group) + "}}";
}

/// 64 inputs, 32 outputs, 4 bits, groups of 32, every code 7, every zero 8, scale 1.
std::map<std::string, BuiltTensor> honest_gptq() {
  std::vector<std::int32_t> groups(64);
  for (int k = 0; k < 64; ++k) groups[static_cast<std::size_t>(k)] = (k + 1) % 2;
  std::map<std::string, BuiltTensor> tensors;
  tensors["qweight"] = {"m.qweight", "I32", {8, 32}, bytes_of(std::vector<std::int32_t>(256, 0x77777777))};
  tensors["qzeros"] = {"m.qzeros", "I32", {2, 4}, bytes_of(std::vector<std::int32_t>(8, 0x77777777))};
  tensors["scales"] = {"m.scales", "F16", {2, 32}, bytes_of(std::vector<std::uint16_t>(64, 0x3c00))};
  tensors["g_idx"] = {"m.g_idx", "I32", {64}, bytes_of(groups)};
  return tensors;
}

std::string refused(const std::string& config, const std::map<std::string, BuiltTensor>& tensors,
                    std::int64_t rows = 32, std::int64_t columns = 64) {
  const ScratchFolder folder;
  std::vector<BuiltTensor> list;
  for (const auto& [name, tensor] : tensors) list.push_back(tensor);
  write_folder(folder, config, list);
  return refusal([&] { read(folder.path(), rows, columns); });
}

bool names(const std::string& message, std::initializer_list<const char*> parts) {
  CAPTURE(message);
  for (const char* part : parts) {
    INFO(part);
    CHECK(message.find(part) != std::string::npos);
  }
  return !message.empty();
}

}  // namespace

TEST_CASE("published GPTQ and AWQ packings give the reference's values, bit for bit") {
  const Json index = read_golden_json("unit/packing/index.json");
  int cases = 0;
  for (const auto& [name, settings] : index["cases"].items()) {
    CAPTURE(name);
    const ScratchFolder folder;
    std::filesystem::create_symlink(golden("unit/packing/packing.safetensors"), folder.path() / "model.safetensors");
    Json config = {
        {"quant_method", settings["method"]}, {"bits", settings["bits"]}, {"group_size", settings["group_size"]}};
    if (settings["method"] == "gptq") config["checkpoint_format"] = settings["checkpoint_format"];
    folder.write("config.json", dump_json(Json{{"quantization_config", config}}));
    const QuantizedMatrix matrix = read(folder.path(), 32, 64, name);
    CHECK(matrix.tensors.size() >= 3);
    CHECK(matrix.column_order.empty() == (settings["desc_act"] != true));
    const auto checkpoint = Checkpoint::open(folder.path());
    const StoredTensor* expected = checkpoint->find(name + ".dequantized");
    REQUIRE(expected != nullptr);
    for (std::int64_t row = 0; row < expected->shape[0]; ++row) {
      const std::vector<float> found = natural_row(matrix, row);
      REQUIRE(found == row_of(*expected, row));
    }
    ++cases;
  }
  CHECK(cases == 12);
}

TEST_CASE("an honest act-order matrix is brought into the order of its groups") {
  const ScratchFolder folder;
  std::vector<BuiltTensor> list;
  for (const auto& [name, tensor] : honest_gptq()) list.push_back(tensor);
  write_folder(folder, gptq_config(4, 32), list);
  const QuantizedMatrix matrix = read(folder.path(), 32, 64);
  REQUIRE(matrix.column_order.size() == 64);
  CHECK(matrix.column_order[0] == 1);
  CHECK(matrix.column_order[63] == 62);
  for (float value : natural_row(matrix, 31)) REQUIRE(value == -1.0f);
}

TEST_CASE("GPTQ parts that do not fit are refused by name") {
  const std::string config = gptq_config(4, 32);
  CHECK(refused(config, honest_gptq()).empty());
  for (const char* part : {"qzeros", "scales"}) {
    auto tensors = honest_gptq();
    tensors.erase(part);
    CHECK(names(refused(config, tensors), {"m.", part, "none"}));
  }
  for (const auto& [part, shape] : std::map<std::string, std::vector<std::int64_t>>{
           {"qweight", {4, 64}}, {"qzeros", {4, 2}}, {"scales", {1, 64}}, {"g_idx", {8, 8}}}) {
    auto tensors = honest_gptq();
    tensors[part].shape = shape;
    CHECK(names(refused(config, tensors), {"m.", part.c_str(), "expected", "found"}));
  }
  auto floats = honest_gptq();
  floats["qweight"].dtype = "F32";
  CHECK(names(refused(config, floats), {"m.qweight", "I32", "F32"}));
  for (std::int32_t group : {-1, 2, 0x7fffffff}) {
    auto tensors = honest_gptq();
    std::memcpy(tensors["g_idx"].bytes.data() + 4 * 9, &group, 4);
    CHECK(names(refused(config, tensors), {"m.g_idx[9]", "below 2", std::to_string(group).c_str()}));
  }
  auto uneven = honest_gptq();
  const std::int32_t other = 0;
  std::memcpy(uneven["g_idx"].bytes.data(), &other, 4);
  CHECK(names(refused(config, uneven), {"m.g_idx", "multiple of 32"}));
  CHECK(names(refused(config, honest_gptq(), 32, 96), {"m.qweight", "expected", "found"}));
  CHECK(names(refused(config, honest_gptq(), 40, 64), {"m", "multiple of 32 outputs"}));
  CHECK(names(refused(config, honest_gptq(), 32, 65), {"m", "multiple of 32 inputs"}));
}

TEST_CASE("int8 rows: scales a row, a matrix or a group, and zeros") {
  std::vector<std::int8_t> codes(2 * 64);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::int8_t>(static_cast<int>(i) * 2 - 128);
  const std::string config =
      R"({"quantization_config":{"quant_method":"compressed-tensors","format":"int-quantized",)"
      R"("config_groups":{"group_0":{"weights":{"num_bits":8,"type":"int","strategy":"channel"},)"
      R"("input_activations":{"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":true}}}}})";
  const auto check = [&](const std::vector<std::int64_t>& shape, const std::vector<float>& scales,
                         const std::vector<std::int8_t>& zeros, bool int8_activations) {
    const ScratchFolder folder;
    std::vector<BuiltTensor> list = {{"m.weight", "I8", {2, 64}, bytes_of(codes)},
                                     {"m.weight_scale", "F32", shape, bytes_of(scales)}};
    if (!zeros.empty()) list.push_back({"m.weight_zero_point", "I8", shape, bytes_of(zeros)});
    write_folder(folder, config, list);
    const QuantizedMatrix matrix = read(folder.path(), 2, 64);
    CHECK(matrix.int8_activations == int8_activations);
    const std::size_t groups = scales.size() == 4 ? 2 : 1;
    for (std::size_t row = 0; row < 2; ++row) {
      const std::vector<float> found = natural_row(matrix, static_cast<std::int64_t>(row));
      for (std::size_t k = 0; k < 64; ++k) {
        const std::size_t at = scales.size() == 1 ? 0 : row * groups + k * groups / 64;
        const int zero = zeros.empty() ? 0 : zeros[at];
        REQUIRE(found[k] == scales[at] * static_cast<float>(codes[row * 64 + k] - zero));
      }
    }
  };
  check({2, 1}, {0.1f, 3.7e-5f}, {}, true);
  check({2}, {0.1f, 3.7e-5f}, {0, 0}, true);
  check({2}, {0.1f, 3.7e-5f}, {0, 127}, false);
  check({2}, {0.1f, 3.7e-5f}, {-128, 127}, false);
  check({1}, {0.3f}, {}, true);
  check({2, 2}, {0.1f, 0.2f, 0.3f, 0.4f}, {}, false);
  check({2, 2}, {0.1f, 0.2f, 0.3f, 0.4f}, {1, -2, 3, -4}, false);
  const auto message = [&](std::vector<BuiltTensor> list) {
    const ScratchFolder folder;
    write_folder(folder, config, list);
    return refusal([&] { read(folder.path(), 2, 64); });
  };
  const BuiltTensor weight{"m.weight", "I8", {2, 64}, bytes_of(codes)};
  CHECK(names(message({weight}), {"m.weight_scale", "none"}));
  CHECK(names(message({weight, {"m.weight_scale", "F32", {3}, bytes_of(std::vector<float>(3))}}),
              {"m.weight_scale", "[2]", "[3]"}));
  CHECK(names(message({weight, {"m.weight_scale", "F32", {2, 4}, bytes_of(std::vector<float>(8))}}),
              {"m.weight_scale", "multiple of 32", "4 for 64"}));
  CHECK(names(message({weight, {"m.weight_scale", "I32", {2}, bytes_of(std::vector<float>(2))}}),
              {"m.weight_scale", "F32", "I32"}));
}

/// What a code of e4m3 stands for, by its definition.
double e4m3(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code & 0x80 ? -magnitude : magnitude;
}

TEST_CASE("FP8: one scale, one a row, some a row, or one a rectangle, to within half a step of F16") {
  std::vector<std::uint8_t> codes;
  for (int i = 0; i < 256; ++i) codes.push_back(static_cast<std::uint8_t>((i & 0x7f) == 0x7f ? 0 : i));  // no NaN
  const auto config = [](const std::string& block) {
    return R"({"quantization_config":{"quant_method":"fp8","weight_block_size":)" + block + "}}";
  };
  const auto list = [&](const std::string& scale, const std::vector<std::int64_t>& shape,
                        const std::vector<float>& scales) {
    return std::vector<BuiltTensor>{{"m.weight", "F8_E4M3", {4, 64}, bytes_of(codes)},
                                    {"m." + scale, "F32", shape, bytes_of(scales)}};
  };
  const auto check = [&](const std::string& block, const std::vector<BuiltTensor>& tensors, auto scale_of) {
    const ScratchFolder folder;
    write_folder(folder, config(block), tensors);
    const QuantizedMatrix matrix = read(folder.path(), 4, 64);
    CHECK(matrix.dtype == DType::f16);
    for (int row = 0; row < 4; ++row) {
      const std::vector<float> found = natural_row(matrix, row);
      for (int k = 0; k < 64; ++k) {
        const double expected = e4m3(codes[static_cast<std::size_t>(row * 64 + k)]) * scale_of(row, k);
        const double half_step = std::max(std::ldexp(std::fabs(expected), -11), std::ldexp(1.0, -25));
        REQUIRE(std::fabs(found[static_cast<std::size_t>(k)] - expected) <= half_step * 1.000001);
      }
    }
  };
  const std::vector<float> scales = {0.5f, 3.7e-5f, 1.25e-3f, 0.01f, 7e-4f, 2.0f};
  check("null", list("weight_scale", {}, {0.0123f}), [](int, int) { return double{0.0123f}; });
  check("null", list("weight_scale", {1}, {0.0123f}), [](int, int) { return double{0.0123f}; });
  const std::vector<float> four(scales.begin(), scales.begin() + 4);
  const auto by_row = [&](int row, int) { return double{four[static_cast<std::size_t>(row)]}; };
  check("null", list("weight_scale", {4}, four), by_row);
  check("null", list("weight_scale", {4, 1}, four), by_row);
  check("[3,24]", list("weight_scale_inv", {2, 3}, scales),
        [&](int row, int k) { return double{scales[static_cast<std::size_t>(row / 3 * 3 + k / 24)]}; });

  const auto message = [&](const std::string& block, const std::vector<BuiltTensor>& tensors) {
    const ScratchFolder folder;
    write_folder(folder, config(block), tensors);
    return refusal([&] { read(folder.path(), 4, 64); });
  };
  CHECK(names(message("[3,24]", list("weight_scale_inv", {3, 2}, scales)), {"m.weight_scale_inv", "[2, 3]", "[3, 2]"}));
  CHECK(names(message("null", list("weight_scale_inv", {3, 2}, scales)), {"m.weight_scale_inv", "[4]", "[3, 2]"}));
  CHECK(names(message("null", {list("weight_scale", {1}, {1.0f})[0]}), {"m.weight_scale", "none"}));
  CHECK(names(message("null", list("weight_scale", {1}, {150.0f})), {"m.weight", "a half can hold"}));
  codes[130] = 0xff;
  CHECK(names(message("null", list("weight_scale", {1}, {1.0f})), {"m.weight", "nan in row 2"}));
}

}  // namespace inferd
