// Random stored matrices of every type, for kernel tests and benchmarks.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/quant_formats.h"

namespace inferd::testing {

inline const DType kLinearTypes[] = {
    DType::q4_0,    DType::q4_1,   DType::q5_0,  DType::q5_1,    DType::q8_0,   DType::q2_k,
    DType::q3_k,    DType::q4_k,   DType::q5_k,  DType::q6_k,    DType::iq4_nl, DType::iq4_xs,
    DType::iq2_xxs, DType::iq2_xs, DType::iq2_s, DType::iq3_xxs, DType::iq3_s,  DType::iq1_s,
    DType::iq1_m,   DType::tq1_0,  DType::tq2_0, DType::mxfp4,   DType::g2_32,  DType::g2_128,
    DType::g3_32,   DType::g3_128, DType::g4_32, DType::g4_64,   DType::g4_128, DType::g8_32,
    DType::g8_128,  DType::nf4,    DType::fp4,   DType::f32,     DType::f16,    DType::bf16};

/// A half with 0.5^span ≤ |value| < 1 or so, of random sign.
inline std::uint16_t random_half(std::mt19937& random, int span = 6) {
  const std::uint32_t bits = random();
  const std::uint32_t exponent = 14 - bits % static_cast<std::uint32_t>(span);
  return static_cast<std::uint16_t>(((bits >> 5) & 0x8000u) | (exponent << 10) | ((bits >> 6) & 0x3ffu));
}

/// Offsets of the f16 fields inside a block of the type.
inline std::vector<int> half_offsets(DType dtype) {
  switch (dtype) {
    case DType::q4_1:
    case DType::q5_1:
      return {0, 2};
    case DType::q2_k:
      return {80, 82};
    case DType::q3_k:
      return {108};
    case DType::q4_k:
    case DType::q5_k:
      return {0, 2};
    case DType::q6_k:
      return {208};
    case DType::tq1_0:
      return {52};
    case DType::tq2_0:
      return {64};
    case DType::iq1_m:
    case DType::mxfp4:
      return {};
    default:
      return {0};
  }
}

/// A matrix at an odd address: random bytes in every field, finite scales.
struct StoredMatrix {
  StoredMatrix(DType type, std::int64_t row_count, std::int64_t column_count, std::uint32_t seed)
      : dtype(type), rows(row_count), columns(column_count) {
    std::mt19937 random(seed);
    const std::size_t size = row_bytes(dtype, columns) * static_cast<std::size_t>(rows);
    memory.resize(size + 1);
    std::byte* at = memory.data() + 1;
    if (dtype_info(dtype).quantized) {
      for (std::size_t i = 0; i < size; ++i) at[i] = static_cast<std::byte>(random());
      const auto block = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
      for (std::size_t b = 0; b < size; b += block) {
        if (group_format(dtype).bits > 0 || has_wide_table(dtype)) {
          const float scale = f16_to_f32(random_half(random)) * 1.0009765625f;  // no half itself
          std::memcpy(at + b, &scale, 4);
          continue;
        }
        if (dtype == DType::iq1_m) at[b + 55] = (at[b + 55] & std::byte{0x8f}) | std::byte{0x30};  // a small exponent
        if (dtype == DType::mxfp4) at[b] = static_cast<std::byte>(120 + random() % 12);
        for (int offset : half_offsets(dtype)) {
          const std::uint16_t half = random_half(random);
          std::memcpy(at + b + offset, &half, 2);
        }
      }
      return;
    }
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      const float value = normal(random);
      if (dtype == DType::f32) {
        std::memcpy(at + 4 * i, &value, 4);
      } else {
        std::uint16_t half = random_half(random);
        if (dtype == DType::bf16) {
          std::uint32_t bits;
          std::memcpy(&bits, &value, 4);
          half = static_cast<std::uint16_t>(bits >> 16);
        }
        std::memcpy(at + 2 * i, &half, 2);
      }
    }
  }
  /// Of g8_*: one scale a row and the zero 128, as WeightSource::int8_activations wants it.
  StoredMatrix& give_rows_one_scale() {
    const auto block = static_cast<std::size_t>(dtype_info(dtype).block_bytes), bytes = row_bytes(dtype, columns);
    for (std::size_t at = 1; at < memory.size(); at += block) {
      std::memcpy(memory.data() + at, memory.data() + 1 + (at - 1) / bytes * bytes, sizeof(float));
      memory[at + kGroupZeroAt] = std::byte{128};
    }
    one_scale = true;
    return *this;
  }
  WeightSource source() const { return {memory.data() + 1, dtype, rows, columns, nullptr, one_scale}; }
  /// All rows widened by the scalar yardstick.
  std::vector<float> widened() const {
    std::vector<float> out(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r) {
      dequantize_row(dtype, memory.data() + 1 + static_cast<std::size_t>(r) * row_bytes(dtype, columns),
                     out.data() + r * columns, columns);
    }
    return out;
  }

  DType dtype;
  std::int64_t rows;
  std::int64_t columns;
  std::vector<std::byte> memory;
  bool one_scale = false;
};

}  // namespace inferd::testing
