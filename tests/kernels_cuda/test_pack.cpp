// Packing for the CUDA kernels, on the host: places, padding, sizes and refusals. What kernels make of the bytes:
// test_weight_formats.cpp.
#include "kernels/cuda/pack.h"

#include <bit>

#include "base/errors.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/sim_weight.h"

using namespace inferd;
using namespace inferd::cuda;
using inferd::testing::kLinearTypes;
using inferd::testing::StoredMatrix;

namespace {

std::vector<std::byte> packed(const WeightPacker& packer, std::int64_t chunk) {
  std::vector<std::byte> out(packer.bytes(), std::byte{0xee});
  for (std::int64_t first = 0; first < packer.row_tiles(); first += chunk) {
    const std::int64_t count = std::min(chunk, packer.row_tiles() - first);
    packer.pack(first, count, out.data() + static_cast<std::size_t>(first) * packer.row_tile_bytes());
  }
  return out;
}

std::int64_t some_columns(DType dtype) {
  return dtype_info(dtype).block_elements < 64 ? 96 : 2 * dtype_info(dtype).block_elements;
}

}  // namespace

TEST_CASE("chunks of row tiles are parts of the whole") {
  for (const DType dtype : kLinearTypes) {
    CAPTURE(dtype_info(dtype).name);
    const StoredMatrix matrix(dtype, 70, some_columns(dtype), 1);
    const WeightPacker packer(std::vector{matrix.source()}, false);
    CHECK(packer.row_tiles() == 5);
    const std::vector<std::byte> whole = packed(packer, 5);
    CHECK(packed(packer, 1) == whole);
    CHECK(packed(packer, 2) == whole);
  }
}

TEST_CASE("int8 rows lie where m16n8k32 wants them") {
  for (const bool gated : {false, true}) {
    for (const int columns : {32, 96, 128}) {
      const StoredMatrix first = StoredMatrix(DType::g8_32, 21, columns, 1).give_rows_one_scale();
      const StoredMatrix second = StoredMatrix(DType::g8_32, 21, columns, 2).give_rows_one_scale();
      const WeightPacker packer(std::vector{first.source(), second.source()}, gated, true);
      CHECK(packer.format() == WeightFormat::i8);
      const std::vector<std::byte> found = packed(packer, 2);
      const std::size_t k_tiles = columns > 64 ? 2 : 1, row_tiles = 3;
      REQUIRE(packer.row_tile_bytes() == k_tiles * 1024 + 64);
      REQUIRE(found.size() == row_tiles * packer.row_tile_bytes());
      std::vector<std::byte> expected(found.size());
      for (std::size_t row = 0; row < 42; ++row) {
        const StoredMatrix& matrix = row < 21 ? first : second;
        const std::byte* stored = matrix.memory.data() + 1 + row % 21 * row_bytes(DType::g8_32, columns);
        const std::size_t in_tile = gated ? row % 21 % 8 + row / 21 * 8 : row % 16;
        const std::size_t g = in_tile % 8, upper = in_tile / 8;
        std::byte* tile = expected.data() + (gated ? row % 21 / 8 : row / 16) * packer.row_tile_bytes();
        std::memcpy(tile + k_tiles * 1024 + 8 * g + 4 * upper, stored, 4);
        for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c) {
          const std::size_t word = c % 32 / 16 * 2 + upper, lane = 4 * g + c % 16 / 4;
          tile[c / 64 * 1024 + c % 64 / 32 * 512 + 16 * lane + 4 * word + c % 4] =
              stored[c / 32 * 37 + kGroupCodesAt + c % 32] ^ std::byte{0x80};
        }
      }
      CHECK(found == expected);
    }
  }
}

TEST_CASE("stacked rows are packed as one matrix's") {
  for (const DType dtype : kLinearTypes) {
    CAPTURE(dtype_info(dtype).name);
    const StoredMatrix matrix(dtype, 40, some_columns(dtype), 2);
    WeightSource first = matrix.source(), second = matrix.source();
    first.rows = 23;
    second.rows = 17;
    second.data += 23 * row_bytes(dtype, matrix.columns);
    CHECK(packed(WeightPacker(std::vector{first, second}, false), 3) ==
          packed(WeightPacker(std::vector{matrix.source()}, false), 3));
  }
}

TEST_CASE("gated rows are packed as the rows of their tiles") {
  for (const DType dtype : kLinearTypes) {
    CAPTURE(dtype_info(dtype).name);
    const std::int64_t half = 24;
    const StoredMatrix gate(dtype, half, some_columns(dtype), 3), up(dtype, half, some_columns(dtype), 4);
    StoredMatrix woven(dtype, 2 * half, gate.columns, 5);
    const std::size_t bytes = row_bytes(dtype, gate.columns);
    for (std::int64_t row = 0; row < woven.rows; ++row) {
      const StoredMatrix& from = row % 16 < 8 ? gate : up;
      std::memcpy(woven.memory.data() + 1 + static_cast<std::size_t>(row) * bytes,
                  from.memory.data() + 1 + static_cast<std::size_t>(row / 16 * 8 + row % 8) * bytes, bytes);
    }
    CHECK(packed(WeightPacker(std::vector{gate.source(), up.source()}, true), 2) ==
          packed(WeightPacker(std::vector{woven.source()}, false), 2));
  }
}

TEST_CASE("padding of rows and columns is zero bytes") {
  for (const DType dtype : kLinearTypes) {
    CAPTURE(dtype_info(dtype).name);
    const DTypeInfo& info = dtype_info(dtype);
    const std::int64_t columns = info.block_elements == 1 ? 70 : info.block_elements;
    // Every stored bit set, so that a packed zero is a bit nobody stored.
    std::vector<std::byte> stored(row_bytes(dtype, columns), std::byte{0xff});
    const auto set_bits = [&](std::int64_t rows) {
      std::vector<std::byte> all;
      for (std::int64_t r = 0; r < rows; ++r) all.insert(all.end(), stored.begin(), stored.end());
      const WeightPacker packer(std::vector{WeightSource{all.data(), dtype, rows, columns}}, false);
      std::int64_t count = 0;
      for (const std::byte byte : packed(packer, 1)) count += std::popcount(static_cast<unsigned>(byte));
      return count;
    };
    const std::int64_t one = set_bits(1);
    CHECK(one > 0);
    CHECK(set_bits(16) == 16 * one);
    CHECK(set_bits(17) == 17 * one);
    if (!info.quantized) CHECK(one == static_cast<std::int64_t>(8 * stored.size()));
  }
}

TEST_CASE("packed weights take as many bits as the file's, or a few more") {
  const auto growth = [](DType dtype) {
    const std::int64_t columns = 4096;
    std::vector<std::byte> stored(row_bytes(dtype, columns) * 16);
    const WeightPacker packer(std::vector{WeightSource{stored.data(), dtype, 16, columns}}, false);
    return static_cast<double>(packer.bytes()) / static_cast<double>(stored.size());
  };
  for (const DType dtype : kLinearTypes) {
    CAPTURE(dtype_info(dtype).name);
    switch (dtype) {
      case DType::q4_k:
        CHECK(growth(dtype) == Approx(148.0 / 144));
        break;
      case DType::q5_k:
        CHECK(growth(dtype) == Approx(180.0 / 176));
        break;
      case DType::iq4_xs:
        CHECK(growth(dtype) == Approx(138.0 / 136));
        break;
      case DType::tq1_0:
      case DType::tq2_0:
        CHECK(growth(dtype) * dtype_info(dtype).block_bytes == Approx(69));
        break;
      case DType::iq2_xs:
      case DType::iq2_s:
      case DType::iq1_m:
        CHECK(growth(dtype) * dtype_info(dtype).block_bytes == Approx(192));
        break;
      case DType::iq2_xxs:
      case DType::iq3_xxs:
      case DType::iq3_s:
      case DType::iq1_s:
        CHECK(growth(dtype) * dtype_info(dtype).block_bytes == Approx(160));
        break;
      case DType::mxfp4:
        CHECK(growth(dtype) * dtype_info(dtype).block_bytes == Approx(20));
        break;
      default:
        CHECK(growth(dtype) == 1);
    }
  }
}

TEST_CASE("types and shapes that cannot be packed are refused") {
  const std::vector<std::byte> data(4096);
  const auto pack = [&](DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t second_columns) {
    const std::vector<WeightSource> sources{{data.data(), dtype, rows, columns},
                                            {data.data(), dtype, 1, second_columns}};
    WeightPacker(sources, false);
  };
  CHECK_THROWS_WITH(pack(DType::f64, 1, 64, 64), "a matrix of type F64 cannot be used in a linear layer");
  CHECK_THROWS_AS(pack(DType::i8, 1, 64, 64), CheckpointError);
  CHECK_THROWS_AS(pack(DType::q4_0, 1, 48, 48), CheckpointError);
  CHECK_THROWS_AS(pack(DType::q4_k, 1, 64, 64), CheckpointError);
  CHECK_THROWS_AS(pack(DType::f16, 0, 64, 64), CheckpointError);
  CHECK_THROWS_AS(pack(DType::f16, 1, 0, 0), CheckpointError);
  CHECK_THROWS_AS(pack(DType::f16, 1, 64, 128), CheckpointError);
  CHECK_THROWS_AS(pack(DType::f16, std::int64_t{1} << 40, 64, 64), MemoryError);
  CHECK_NOTHROW(pack(DType::f16, 1048559, 64, 64));
  CHECK_THROWS_WITH(pack(DType::f16, 1048560, 64, 64),
                    "a matrix of 1 rows and 1048560 before them: the GPU kernels take at most 1048560");
  CHECK_THROWS_AS(pack(DType::f16, 1, std::int64_t{1} << 40, std::int64_t{1} << 40), MemoryError);
}
