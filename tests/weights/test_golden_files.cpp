// Golden files: raw bytes by SHA-256, dequantised values by sums, every block type against its reference values.
#include <cmath>
#include <cstring>

#include <openssl/evp.h>

#include "engine/weights/checkpoint.h"
#include "engine/weights/summary.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::golden;
using test::read_golden_json;
using test::read_text;

std::string sha256(const std::byte* data, std::size_t size) {
  unsigned char digest[32];
  unsigned int length = 0;
  REQUIRE(EVP_Digest(data, size, digest, &length, EVP_sha256(), nullptr) == 1);
  std::string hex;
  for (unsigned char byte : digest) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", byte);
    hex += text;
  }
  return hex;
}

void compare_tensor(const StoredTensor& tensor, const Json& expected) {
  CAPTURE(tensor.name);
  REQUIRE(dtype_info(tensor.dtype).name == expected["type"].get<std::string>());
  std::vector<std::int64_t> shape = expected["ne"].get<std::vector<std::int64_t>>();
  std::reverse(shape.begin(), shape.end());
  REQUIRE(tensor.shape == shape);
  if (!expected.contains("raw_sha256")) return;
  REQUIRE(sha256(tensor.data, tensor.bytes) == expected["raw_sha256"].get<std::string>());
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor, values);
  double sum = 0.0, abs_sum = 0.0, squares = 0.0;
  for (float value : values) {
    sum += value;
    abs_sum += std::abs(value);
    squares += static_cast<double>(value) * value;
  }
  REQUIRE(sum == Approx(expected["sum"].get<double>()).epsilon(1e-6).margin(1e-3));
  REQUIRE(abs_sum == Approx(expected["abs_sum"].get<double>()).epsilon(1e-7));
  REQUIRE(std::sqrt(squares) == Approx(expected["l2"].get<double>()).epsilon(1e-7));
  const auto& first = expected["first8"];
  for (std::size_t i = 0; i < first.size(); ++i) REQUIRE(values[i] == Approx(first[i].get<double>()).epsilon(1e-6));
}

}  // namespace

TEST_CASE("every golden GGUF file holds the tensors it should, byte for byte and value for value") {
  int files = 0, hashed = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden("gguf"))) {
    if (entry.path().extension() != ".gguf") continue;
    CAPTURE(entry.path().string());
    const Json expected = read_golden_json("gguf/" + entry.path().stem().string() + ".expected.json");
    const auto checkpoint = Checkpoint::open(entry.path());
    REQUIRE(checkpoint->format() == CheckpointFormat::gguf);
    REQUIRE(checkpoint->tensors().size() == expected["tensors"].size());
    for (const auto& [name, facts] : expected["tensors"].items()) {
      const StoredTensor* tensor = checkpoint->find(name);
      REQUIRE(tensor != nullptr);
      compare_tensor(*tensor, facts);
      hashed += facts.contains("raw_sha256") ? 1 : 0;
      checkpoint->release(*tensor);
    }
    ++files;
  }
  REQUIRE(files >= 23);
  REQUIRE(hashed >= 400);
}

TEST_CASE("every block type decodes to the reference's values, bit for bit") {
  int types = 0;
  for (int i = 0; i < kDTypeCount; ++i) {
    const DTypeInfo& info = dtype_info(static_cast<DType>(i));
    if (!info.quantized || info.ggml_type < 0) continue;
    CAPTURE(info.name);
    const std::string blocks = read_text(golden("unit/ggml_blocks/" + std::string(info.name) + ".bin"));
    const std::string values = read_text(golden("unit/ggml_blocks/" + std::string(info.name) + ".f32"));
    const std::size_t count = blocks.size() / static_cast<std::size_t>(info.block_bytes);
    REQUIRE(count >= 2);
    REQUIRE(values.size() == count * static_cast<std::size_t>(info.block_elements) * sizeof(float));
    std::vector<float> expected(values.size() / sizeof(float)), found(expected.size());
    std::memcpy(expected.data(), values.data(), values.size());
    // From an odd address too: files promise no alignment.
    const std::string shifted = "x" + blocks;
    for (const char* source : {blocks.data(), shifted.data() + 1}) {
      dequantize_row(info.dtype, reinterpret_cast<const std::byte*>(source), found.data(),
                     static_cast<std::int64_t>(found.size()));
      for (std::size_t j = 0; j < expected.size(); ++j) {
        if (std::isnan(expected[j]) && std::isnan(found[j])) continue;
        if (found[j] != expected[j]) FAIL("element " << j << ": " << found[j] << " instead of " << expected[j]);
      }
    }
    ++types;
  }
  REQUIRE(types == 22);
}

TEST_CASE("plain types widen exactly") {
  const auto widen = [](DType dtype, const void* data, std::int64_t count) {
    std::vector<float> out(static_cast<std::size_t>(count));
    dequantize_row(dtype, static_cast<const std::byte*>(data), out.data(), count);
    return out;
  };
  const std::uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00};
  REQUIRE(widen(DType::f16, halves, 10) == std::vector<float>{0.0f, -0.0f, 0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f, 1.0f,
                                                              -2.0f, 65504.0f, INFINITY, -INFINITY});
  REQUIRE(std::isnan(f16_to_f32(0x7e01)));
  const std::uint16_t brains[] = {0x3f80, 0xc049, 0x0001, 0xff80};
  REQUIRE(widen(DType::bf16, brains, 4) == std::vector<float>{1.0f, -3.140625f, 0x1p-133f, -INFINITY});
  const double doubles[] = {0.1, -1e300};
  REQUIRE(widen(DType::f64, doubles, 2) == std::vector<float>{0.1f, -INFINITY});
  const std::int8_t bytes[] = {-128, 127};
  REQUIRE(widen(DType::i8, bytes, 2) == std::vector<float>{-128.0f, 127.0f});
  const std::int64_t longs[] = {-5, 1 << 20};
  REQUIRE(widen(DType::i64, longs, 2) == std::vector<float>{-5.0f, 1048576.0f});
  const std::uint8_t flags[] = {0, 1, 255};
  REQUIRE(widen(DType::boolean, flags, 3) == std::vector<float>{0.0f, 1.0f, 1.0f});
  REQUIRE(widen(DType::u8, flags, 3) == std::vector<float>{0.0f, 1.0f, 255.0f});
}

TEST_CASE("all 65,536 halves agree with a definition by powers") {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = static_cast<int>((bits >> 10) & 31);
    const double fraction = (bits & 1023) / 1024.0;
    const double sign = (bits & 0x8000) ? -1.0 : 1.0;
    const float found = f16_to_f32(static_cast<std::uint16_t>(bits));
    if (exponent == 31) {
      REQUIRE((fraction == 0.0 ? std::isinf(found) : std::isnan(found)));
      continue;
    }
    const double expected =
        exponent == 0 ? sign * std::ldexp(fraction, -14) : sign * std::ldexp(1.0 + fraction, exponent - 15);
    if (found != static_cast<float>(expected) || std::signbit(found) != std::signbit(expected)) FAIL(bits);
  }
}

TEST_CASE("the table of types is consistent") {
  for (int i = 0; i < kDTypeCount; ++i) {
    const DTypeInfo& info = dtype_info(static_cast<DType>(i));
    REQUIRE(static_cast<int>(info.dtype) == i);
    if (info.ggml_type >= 0) {
      REQUIRE(dtype_from_ggml(static_cast<std::uint32_t>(info.ggml_type)) == info.dtype);
      REQUIRE(ggml_type_name(static_cast<std::uint32_t>(info.ggml_type)) == info.name);
    }
    REQUIRE(row_bytes(info.dtype, 512) == static_cast<std::size_t>(512 / info.block_elements * info.block_bytes));
  }
  REQUIRE_FALSE(dtype_from_ggml(40));
  REQUIRE(ggml_type_name(16) == "IQ2_XXS");
  REQUIRE(ggml_type_name(29) == "IQ1_M");
  REQUIRE(ggml_type_name(34) == "TQ1_0");
  REQUIRE(ggml_type_name(39) == "MXFP4");
  REQUIRE(ggml_type_name(42) == "unknown type");
}

TEST_CASE("golden safetensors folders agree with the GGUF files made from the same weights") {
  const auto folder = Checkpoint::open(golden("models/qwen2"));  // two shards
  const auto gguf = Checkpoint::open(golden("gguf/qwen2.F16.gguf"));
  REQUIRE(folder->format() == CheckpointFormat::hugging_face);
  const std::pair<const char*, const char*> pairs[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight"},
      {"model.layers.1.self_attn.k_proj.bias", "blk.1.attn_k.bias"},
      {"model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"}};
  for (const auto& [name, gguf_name] : pairs) {
    CAPTURE(name);
    const StoredTensor* a = folder->find(name);
    const StoredTensor* b = gguf->find(gguf_name);
    REQUIRE(a != nullptr);
    REQUIRE(b != nullptr);
    REQUIRE(a->shape == b->shape);
    std::vector<float> left(static_cast<std::size_t>(a->elements())), right(left.size());
    dequantize(*a, left);
    dequantize(*b, right);
    // bf16 in the folder, f16 in the file: equal but for what f16 cannot hold.
    for (std::size_t i = 0; i < left.size(); ++i) REQUIRE(right[i] == Approx(left[i]).epsilon(1e-3).margin(1e-7));
  }
  REQUIRE(quantization_name(*folder) == "BF16");
  REQUIRE(quantization_name(*gguf) == "F16");
  REQUIRE(quantization_name(*Checkpoint::open(golden("gguf/qwen2w.Q4_K_M.gguf"))) == "Q4_K_M");
  REQUIRE(parameter_count(*folder) == parameter_count(*gguf));
  REQUIRE(folder->tensor_bytes() == 2 * static_cast<std::size_t>(parameter_count(*folder)));
}

}  // namespace inferd
