// Hostile safetensors files and indexes: truncations, flips, and headers that do not fit their data.
#include <random>

#include "engine/weights/safetensors_file.h"
#include "tests/catch.h"
#include "tests/weights/gguf_builder.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::as_bytes;
using test::refusal;

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string out;
  test::append(&out, static_cast<std::uint64_t>(header.size()));
  return out + header + std::string(data_bytes, '\5');
}

std::string refused(const std::string& bytes) {
  return refusal([&] {
    for (const StoredTensor& tensor : read_safetensors(as_bytes(bytes), "hostile.safetensors")) {
      std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
      dequantize(tensor, values);
    }
  });
}

std::string entry(const char* dtype, const char* shape, const char* offsets) {
  return std::string(R"({"t":{"dtype":")") + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

constexpr const char* kHonest =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[8,20]},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"s":{"dtype":"I64","shape":[],"data_offsets":[20,28]}} )";

}  // namespace

TEST_CASE("an honest file loads: any order, a scalar, padding") {
  const std::string bytes = file_of(kHonest, 28);
  const auto tensors = read_safetensors(as_bytes(bytes), "x");
  REQUIRE(tensors.size() == 3);
  REQUIRE(tensors[0].name == "b");
  REQUIRE(tensors[0].shape == std::vector<std::int64_t>{2, 3});
  REQUIRE(tensors[0].dtype == DType::f16);
  REQUIRE(tensors[2].shape.empty());
  REQUIRE(tensors[2].elements() == 1);
}

TEST_CASE("every truncation and every longer file is refused") {
  const std::string whole = file_of(kHonest, 28);
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::string message = refused(std::string(whole, 0, size));
    CAPTURE(size, message);
    REQUIRE(message.rfind("hostile.safetensors: ", 0) == 0);
  }
  REQUIRE(refused(whole + "x") == "hostile.safetensors: data section: expected 28 bytes, as the header says, found 29");
}

TEST_CASE("flipped and random bytes load or are refused") {
  const std::string whole = file_of(kHonest, 28);
  for (std::size_t bit = 0; bit < (whole.size() - 28) * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    refused(flipped);
  }
  std::mt19937 random(3);
  for (int round = 0; round < 10000; ++round) {
    std::string bytes = whole;
    for (int i = static_cast<int>(random() % 4); i >= 0; --i) {
      bytes[8 + random() % (whole.size() - 8)] = "0123456789{}[],:\"ab"[random() % 19];
    }
    refused(bytes);
  }
}

TEST_CASE("headers that lie are refused by tensor") {
  const std::string at = "hostile.safetensors: t: ";
  REQUIRE(refused(file_of(entry("F32", "[2]", "[0,8]"), 8)).empty());
  const std::pair<std::string, std::string> cases[] = {
      {entry("F8_E5M2", "[8]", "[0,8]"),
       at + "type F8_E5M2 is not supported; supported: F32, F16, BF16, F64, I8, I16, I32, I64, U8, BOOL, F8_E4M3"},
      {entry("Q4_0", "[8]", "[0,8]"), at + "type Q4_0 is not supported"},
      {entry("F32", "[1,1,1,1,2]", "[0,8]"), at + "expected at most 4 dimensions, found 5"},
      {entry("F32", "[0]", "[0,0]"), at + "expected dimensions of at least 1, found 0"},
      {entry("F32", "[-2]", "[0,8]"), at + "expected integers of at least 0 in \"shape\""},
      {entry("F32", "[2.0]", "[0,8]"), at + "expected integers of at least 0 in \"shape\""},
      {entry("F32", "2", "[0,8]"), at + "expected an array \"shape\", found another type"},
      {entry("F32", "[2]", "[0]"), at + "expected data_offsets [begin, end] within 8 bytes, found 1 numbers"},
      {entry("F32", "[2]", "[8,0]"), at + "expected data_offsets [begin, end] within 8 bytes, found [8, 0]"},
      {entry("F32", "[2]", "[0,16]"), at + "expected data_offsets [begin, end] within 8 bytes, found [0, 16]"},
      {entry("F32", "[2]", "[0,18446744073709551615]"), "within 8 bytes"},
      {entry("F32", "[2]", "[18446744073709551608,8]"), "within 8 bytes"},
      {entry("F32", "[2]", "[0,18446744073709551616]"), "integers of at least 0 in \"data_offsets\""},
      {entry("F32", "[1]", "[0,8]"), at + "expected 4 bytes for its dtype and shape, found 8"},
      {entry("F32", "[4294967296,4294967297]", "[0,8]"), at + "expected fewer than 2^63 elements"},
      {entry("F32", "[4611686018427387905]", "[0,8]"), at + "expected fewer than 2^63 bytes"},
      {entry("F32", "[1]", "[4,8]"), at + "expected data at offset 0, without a hole, found 4"},
      {R"({"t":{"shape":[2],"data_offsets":[0,8]}})", at + "expected a string \"dtype\", found none"},
      {R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", at + "expected an array \"shape\", found none"},
      {R"({"t":{"dtype":"F32","shape":[2]}})", at + "expected an array \"data_offsets\", found none"},
      {R"({"t":[]})", at + "expected an object, found array"},
      {R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"u":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "expected data of its own, found data that overlaps t"},
      {R"({"__metadata__":7})", "__metadata__: expected an object of strings"},
      {"[]", "header: expected a JSON object, found array"},
      {"{", "header: expected JSON, found JSON ends too early"},
      {"{\"t\":" + std::string(100, '[') + "}", "header: expected JSON, found JSON nested deeper than 4"},
      {"{\"t\\u0000\\n\":7}", "t\\x00\\x0a: expected an object"},
      {"", "header: expected JSON"},
  };
  for (const auto& [header, message] : cases) {
    const std::string found = refused(file_of(header, 8));
    CAPTURE(header, found);
    REQUIRE(found.find(message) != std::string::npos);
  }
  std::string lie;
  test::append(&lie, std::uint64_t{1} << 40);
  REQUIRE(refused(lie + "{}") == "hostile.safetensors: header length: expected at most 33554432, found 1099511627776");
}

TEST_CASE("shard indexes name plain files beside them") {
  const auto index = [](const std::string& text) {
    return refusal([&] { read_safetensors_index(parse_json(text), "index.json"); });
  };
  REQUIRE(index(R"({"weight_map":{"a":"model-00001-of-00002.safetensors"}})").empty());
  for (const char* name : {"../model.safetensors", "/etc/passwd.safetensors", "sub/model.safetensors", ".safetensors",
                           "model.bin", "", "..", "a\\u0000.safetensors"}) {
    const std::string text = std::string(R"({"weight_map":{"a":")") + name + "\"}}";
    CAPTURE(text);
    REQUIRE(index(text).find("index.json: a: expected a .safetensors file in the same folder") != std::string::npos);
  }
  REQUIRE(index("[]").find("weight_map: expected an object") != std::string::npos);
  REQUIRE(index(R"({"weight_map":[]})").find("weight_map: expected an object") != std::string::npos);
  REQUIRE(index(R"({"weight_map":{}})").find("expected at least one tensor") != std::string::npos);
  REQUIRE(index(R"({"weight_map":{"a":3}})").find("a: expected a file name, found number") != std::string::npos);
}

}  // namespace inferd
