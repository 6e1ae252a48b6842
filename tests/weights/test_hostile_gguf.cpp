// Hostile GGUF files: every truncation, flipped header bits, and lies about counts, types, sizes and offsets.
#include <cstdint>
#include <limits>
#include <random>

#include "engine/weights/gguf_file.h"
#include "engine/weights/model_config.h"
#include "tests/catch.h"
#include "tests/weights/gguf_builder.h"
#include "tests/weights/memory_checkpoint.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::as_bytes;
using test::GgufBuilder;
using test::refusal;
using test::small_llama;

/// Reads everything a loaded file offers, so that a wrong span would be touched.
std::uint64_t read_everything(const std::string& bytes) {
  const GgufContents contents = read_gguf(as_bytes(bytes), "hostile.gguf");
  std::uint64_t sum = 0;
  for (const StoredTensor& tensor : contents.tensors) {
    for (std::size_t i = 0; i < tensor.bytes; ++i) sum += static_cast<std::uint64_t>(tensor.data[i]);
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    dequantize(tensor, values);
  }
  for (const std::string& key : contents.metadata.keys()) {
    refusal([&] { contents.metadata.string(key); });
    refusal([&] { contents.metadata.integer(key); });
    refusal([&] { contents.metadata.number(key); });
    refusal([&] { contents.metadata.boolean(key); });
    refusal([&] { contents.metadata.strings(key); });
    refusal([&] { contents.metadata.integers(key); });
    refusal([&] { contents.metadata.floats(key); });
  }
  return sum;
}

std::string refused(const std::string& bytes) {
  return refusal([&] { read_everything(bytes); });
}

/// Copies exactly into a fresh heap block, so that a sanitizer sees one byte too far.
std::string cut(const std::string& bytes, std::size_t size) { return std::string(bytes, 0, size); }

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

std::string payload(std::uint32_t element, std::uint64_t count, const std::string& rest = "") {
  std::string out;
  test::append(&out, element);
  test::append(&out, count);
  return out + rest;
}

std::string length_only(std::uint64_t length) {
  std::string out;
  test::append(&out, length);
  return out;
}

}  // namespace

TEST_CASE("the honest file loads") {
  REQUIRE(refused(small_llama().build()).empty());
  GgufBuilder v2 = small_llama();
  v2.version = 2;
  REQUIRE(refused(v2.build()).empty());
  REQUIRE(
      refused(GgufBuilder().text("general.architecture", "x").build()).empty());  // a vocabulary alone has no tensors
}

TEST_CASE("every truncation of a file is refused in one line that names it") {
  const std::string whole = small_llama().build();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string message = refused(cut(whole, size));
    CAPTURE(size, message);
    REQUIRE(message.rfind("hostile.gguf: ", 0) == 0);
    REQUIRE(message.find(", found ") != std::string::npos);
  }
}

TEST_CASE("flipped bits load or are refused, and nothing else") {
  const std::string whole = small_llama().build();
  const std::size_t header = whole.size() - 512;
  int refusals = 0;
  for (std::size_t bit = 0; bit < header * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    if (!refused(flipped).empty()) ++refusals;
    refusal([&] { read_model_config(test::MemoryCheckpoint(as_bytes(flipped))); });
  }
  REQUIRE(refusals > 500);
}

TEST_CASE("random bytes over the header load or are refused") {
  const std::string whole = small_llama().build();
  std::mt19937 random(20);
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = whole;
    for (int i = static_cast<int>(random() % 8); i >= 0; --i) {
      bytes[4 + random() % (whole.size() - 4)] = static_cast<char>(random());
    }
    refused(bytes);
    refusal([&] { read_model_config(test::MemoryCheckpoint(as_bytes(bytes))); });
  }
}

TEST_CASE("lies in the header are refused with the limit and the value") {
  const auto with = [](auto change) {
    GgufBuilder builder = small_llama();
    change(builder);
    return refused(builder.build());
  };
  REQUIRE(with([](auto& b) { b.magic = "GGML"; }) == "hostile.gguf: magic: expected GGUF, found \"GGML\"");
  REQUIRE(with([](auto& b) { b.magic = std::string("\n\0\x1b[", 4); }).find("\"\\x0a\\x00\\x1b[\"") !=
          std::string::npos);
  REQUIRE(with([](auto& b) { b.version = 1; }) == "hostile.gguf: version: expected 2 or 3, found 1");
  REQUIRE(with([](auto& b) { b.version = 4; }) == "hostile.gguf: version: expected 2 or 3, found 4");
  REQUIRE(with([](auto& b) { b.version = 0x03000000; }) ==
          "hostile.gguf: version: expected a little-endian file, found a big-endian one");
  REQUIRE(with([](auto& b) { b.claimed_tensors = 65537; }) ==
          "hostile.gguf: tensor count: expected at most 65536, found 65537");
  REQUIRE(with([](auto& b) { b.claimed_tensors = std::numeric_limits<std::int64_t>::max(); }).find("tensor count") !=
          std::string::npos);
  REQUIRE(with([](auto& b) { b.claimed_keys = 65537; }) ==
          "hostile.gguf: metadata count: expected at most 65536, found 65537");
  REQUIRE_FALSE(with([](auto& b) { b.claimed_keys = 65536; }).empty());
  REQUIRE_FALSE(with([](auto& b) { b.claimed_tensors = 65536; }).empty());
  REQUIRE_FALSE(with([](auto& b) { b.claimed_keys = 0; }).empty());
}

TEST_CASE("lies in the metadata are refused by key") {
  const auto key = [](std::uint32_t type, const std::string& bytes) {
    return refused(small_llama().raw("some.key", type, bytes).build());
  };
  REQUIRE(key(13, "") == "hostile.gguf: some.key: expected a value type from 0 to 12, found 13");
  REQUIRE(key(0xffffffff, "").find("a value type from 0 to 12, found 4294967295") != std::string::npos);
  REQUIRE(key(7, "\x02") == "hostile.gguf: some.key: expected a bool, 0 or 1, found 2");
  REQUIRE(key(8, length_only(kHuge)).find("a length of at most 16777216, found 18446744073709551615") !=
          std::string::npos);
  REQUIRE(key(8, length_only((16u << 20) + 1)).find("at most 16777216, found 16777217") != std::string::npos);
  REQUIRE(key(8, length_only(1u << 20)).find("expected 1048576 bytes at offset") != std::string::npos);
  REQUIRE(key(9, payload(9, 1)).find("found an array of arrays") != std::string::npos);
  REQUIRE(key(9, payload(99, 1)).find("found 99") != std::string::npos);
  REQUIRE(key(9, payload(8, kHuge)).find("at most 4194304 elements, found 18446744073709551615") != std::string::npos);
  REQUIRE(key(9, payload(8, (4u << 20) + 1)).find("at most 4194304 elements, found 4194305") != std::string::npos);
  REQUIRE(key(9, payload(8, 4u << 20)).find("expected 4194304 strings") != std::string::npos);
  REQUIRE(key(9, payload(6, 4u << 20)).find("expected 16777216 bytes") != std::string::npos);
  REQUIRE(key(9, payload(12, (kHuge / 8) + 2)).find("at most 4194304 elements") != std::string::npos);
  REQUIRE(key(9, payload(8, 2, length_only(kHuge))).find("some.key: expected a length of at most 16777216") !=
          std::string::npos);
  REQUIRE(refused(small_llama().u32("general.name", 3).build()) ==
          "hostile.gguf: general.name: expected one value, found the key twice");
  for (std::uint32_t alignment : {0u, 1u, 4u, 33u, 96u, 131072u, 0x80000000u}) {
    REQUIRE(refused(small_llama().u32("general.alignment", alignment).build()) ==
            "hostile.gguf: general.alignment: expected a power of two from 8 to 65536, found " +
                std::to_string(alignment));
  }
  REQUIRE(refused(small_llama().text("general.alignment", "32").build()) ==
          "hostile.gguf: general.alignment: expected an integer, found a string");
  REQUIRE(refused(small_llama().number("general.alignment", 10, kHuge).build()).find("an integer below 2^63") !=
          std::string::npos);
  const std::string evil = refused(small_llama().raw("evil\n[critical] fake\x1b[2J", 99, "").build());
  REQUIRE(evil.find("evil\\x0a[critical] fake\\x1b[2J") != std::string::npos);
}

TEST_CASE("keys of the wrong type are refused at access") {
  GgufBuilder builder = small_llama();
  builder.number("u64", 10, kHuge).number("i8", 1, std::int8_t{-3}).number("bool", 7, std::uint8_t{1});
  builder.number("f64", 12, 2.5).array<std::uint64_t>("big", 10, {1, kHuge}).array<std::uint8_t>("flags", 7, {0, 1});
  builder.array<double>("doubles", 12, {0.5, 1.5});
  const std::string bytes = builder.build();
  const GgufContents contents = read_gguf(as_bytes(bytes), "typed.gguf");
  const ParsedMetadata& metadata = contents.metadata;
  REQUIRE(metadata.integer("i8") == -3);
  REQUIRE(metadata.number("i8") == -3.0);
  REQUIRE(metadata.number("f64") == 2.5);
  REQUIRE(metadata.boolean("bool") == true);
  REQUIRE(metadata.number("u64") == Approx(1.8446744073709552e19));
  REQUIRE(metadata.integers("flags") == std::vector<std::int64_t>{0, 1});
  REQUIRE(metadata.integers("i8") == std::vector<std::int64_t>{-3});
  REQUIRE(metadata.floats("doubles") == std::vector<float>{0.5f, 1.5f});
  REQUIRE(metadata.strings("tokenizer.ggml.tokens")->at(2) == "a");
  REQUIRE(metadata.strings("absent") == nullptr);
  REQUIRE_FALSE(metadata.integer("absent"));
  REQUIRE_FALSE(metadata.has("absent"));
  REQUIRE(metadata.has("f64"));
  REQUIRE(refusal([&] { metadata.integer("u64"); }) ==
          "typed.gguf: u64: expected an integer below 2^63, found 18446744073709551615");
  REQUIRE(refusal([&] { metadata.integer("f64"); }) == "typed.gguf: f64: expected an integer, found a float");
  REQUIRE(refusal([&] { metadata.integer("bool"); }) == "typed.gguf: bool: expected an integer, found a bool");
  REQUIRE(refusal([&] { metadata.string("i8"); }) == "typed.gguf: i8: expected a string, found a signed integer");
  REQUIRE(refusal([&] { metadata.strings("big"); }) ==
          "typed.gguf: big: expected an array of strings, found an array of u64");
  REQUIRE(refusal([&] { metadata.integers("big"); }).find("integers below 2^63") != std::string::npos);
  REQUIRE(refusal([&] { metadata.floats("flags"); }) ==
          "typed.gguf: flags: expected an array of floats, found an array of bool");
  REQUIRE(refusal([&] { metadata.boolean("general.name"); }) ==
          "typed.gguf: general.name: expected a bool, found a string");
}

TEST_CASE("lies in the tensor table are refused by tensor") {
  const auto tensor = [](const std::vector<std::uint64_t>& dims, std::uint32_t type, std::size_t bytes = 64,
                         std::int64_t lie = -1) {
    return refused(small_llama().tensor("blk.0.attn_q.weight", dims, type, std::string(bytes, '\1'), lie).build());
  };
  const std::string at = "hostile.gguf: blk.0.attn_q.weight: ";
  REQUIRE(tensor({16}, 0).empty());
  REQUIRE(tensor({256}, 40, 144) ==
          at +
              "type NVFP4 is not supported; supported: F32, F16, BF16, F64, I8, I16, I32, I64, Q4_0, Q4_1, Q5_0, Q5_1, "
              "Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ1_S, "
              "IQ1_M, TQ1_0, TQ2_0, MXFP4");
  for (std::uint32_t type : {4u, 5u, 9u, 15u, 31u, 32u, 33u, 36u, 37u, 38u, 41u}) {
    REQUIRE(tensor({256}, type).find("is not supported; supported: F32") != std::string::npos);
  }
  REQUIRE(tensor({256}, 77).find("type 77 is not supported") != std::string::npos);
  REQUIRE(tensor({256}, 0xffffffff).find("type 4294967295 is not supported") != std::string::npos);
  REQUIRE(tensor({}, 0) == at + "expected 1 to 4 dimensions, found 0");
  REQUIRE(tensor({1, 1, 1, 1, 1}, 0) == at + "expected 1 to 4 dimensions, found 5");
  REQUIRE(tensor({0}, 0) == at + "expected dimensions of at least 1, found 0");
  REQUIRE(tensor({16, 0}, 0) == at + "expected dimensions of at least 1, found 0");
  REQUIRE(tensor({48}, 2) == at + "expected rows of a multiple of 32 for Q4_0, found 48");
  REQUIRE(tensor({128, 2}, 12) == at + "expected rows of a multiple of 256 for Q4_K, found 128");
  REQUIRE(tensor({std::uint64_t{1} << 32, std::uint64_t{1} << 32}, 0) ==
          at + "expected fewer than 2^63 elements, found more");
  REQUIRE(tensor({kHuge}, 0) == at + "expected fewer than 2^63 bytes, found more");
  REQUIRE(tensor({std::uint64_t{1} << 62}, 0) == at + "expected fewer than 2^63 bytes, found more");
  REQUIRE(tensor({std::uint64_t{1} << 61}, 0).find("expected fewer than 2^63 bytes") != std::string::npos);
  REQUIRE(tensor({std::uint64_t{1} << 40}, 0).find("expected 4398046511104 bytes at offset 416 of the data section") !=
          std::string::npos);
  REQUIRE(tensor({1024}, 0).find("expected 4096 bytes at offset") != std::string::npos);
  REQUIRE(tensor({16}, 0, 64, 8) == at + "expected an offset that is a multiple of 32, found 8");
  REQUIRE(tensor({16}, 0, 64, 1 << 20).find("expected 64 bytes at offset 1048576") != std::string::npos);
  REQUIRE(tensor({16}, 0, 64, std::numeric_limits<std::int64_t>::max() - 31)
              .find("expected 64 bytes at offset 9223372036854775776") != std::string::npos);
  REQUIRE(tensor({16}, 0, 64, 0).find("expected data of its own, found data that overlaps") != std::string::npos);
  REQUIRE(refused(small_llama().tensor("output_norm.weight", {16}, 0, std::string(64, '\0')).build()) ==
          "hostile.gguf: output_norm.weight: expected one tensor of this name, found two");
  REQUIRE(refused(small_llama().tensor(std::string(70000, 'x'), {16}, 0, std::string(64, '\0')).build())
              .find("name of tensor 2: expected a length of at most 65535, found 70000") != std::string::npos);
}

TEST_CASE("every rank, type and count near its limit: 400 crafted tables load or are refused") {
  int cases = 0;
  const std::uint64_t dims[] = {0, 1, 32, 256, 257, 65536, std::uint64_t{1} << 31, std::uint64_t{1} << 62, kHuge};
  for (std::uint32_t type = 0; type < 45; ++type) {
    for (std::uint64_t a : dims) {
      GgufBuilder builder = small_llama();
      builder.tensor("t", {256, a}, type, std::string(512, '\3'));
      const std::string message = refused(builder.build());
      const bool fits =
          dtype_from_ggml(type) && a >= 1 && a * row_bytes(*dtype_from_ggml(type), 256) <= 512 && a < 65536;
      CAPTURE(type, a, message);
      REQUIRE(message.empty() == fits);
      ++cases;
    }
  }
  REQUIRE(cases == 405);
}

}  // namespace inferd
