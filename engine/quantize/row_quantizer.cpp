// Blocks of Q8_0 and Q4_1 (layouts: quant_formats.cpp).
#include "engine/quantize/row_quantizer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "engine/quantize/fit_blocks.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

constexpr std::int64_t kBlock = 32;
static_assert(kBlock == kFitElements);

/// The nearest f16 (even among equals) of a finite value of at most kMostQuantizable; returns what was stored.
float store_f16(float value, std::byte* out) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 rounds at 2^-24
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    half = (magnitude + 0x0fffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  }
  const auto stored = static_cast<std::uint16_t>(half | ((bits >> 16) & 0x8000u));
  std::memcpy(out, &stored, sizeof stored);
  return f16_to_f32(stored);
}

/// The nearest integer of |value| < 2^22, even among equals, without a call.
int nearest(float value) {
  constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23
  return static_cast<int>((value + kRounding) - kRounding);
}

bool representable(const float* row, std::int64_t columns) {
  bool all = true;
  for (std::int64_t k = 0; k < columns; ++k) all = all && std::fabs(row[k]) <= kMostQuantizable;  // false for NaN
  return all;
}

void write_q8_0(const float* x, std::byte* out) {
  float largest = 0.0f;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = store_f16(largest / 127.0f, out);
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    const int code = nearest(std::clamp(x[i] * inverse, -127.0f, 127.0f));
    out[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(code));
  }
}

void write_q4_1(const float* x, float step, float low, std::byte* out) {
  const float stored_step = store_f16(step, out);
  const float stored_low = store_f16(low, out + 2);
  const float inverse = stored_step > 0.0f ? 1.0f / stored_step : 0.0f;
  const auto code = [&](std::int64_t i) { return nearest(std::clamp((x[i] - stored_low) * inverse, 0.0f, kFitTop)); };
  for (std::int64_t i = 0; i < kBlock / 2; ++i) {
    out[4 + i] = static_cast<std::byte>(code(i) | (code(i + kBlock / 2) << 4));
  }
}

void quantize_q4_1(const float* row, std::int64_t blocks, std::byte* out) {
  const FitBlocks fit = fit_blocks();
  const auto block_bytes = static_cast<std::size_t>(dtype_info(DType::q4_1).block_bytes);
  float lanes[kFitElements * kFitLanes] = {};  // of a last batch: what does not belong to it is not used
  float step[kFitLanes], low[kFitLanes];
  for (std::int64_t first = 0; first < blocks; first += kFitLanes) {
    const auto count = static_cast<int>(std::min<std::int64_t>(kFitLanes, blocks - first));
    const float* from = row + first * kBlock;
    for (int l = 0; l < count; ++l) {
      for (int i = 0; i < kFitElements; ++i) lanes[i * kFitLanes + l] = from[l * kFitElements + i];
    }
    fit(lanes, step, low);
    for (int l = 0; l < count; ++l, out += block_bytes) write_q4_1(from + l * kFitElements, step[l], low[l], out);
  }
}

}  // namespace

bool quantize_row(DType dtype, const float* row, std::int64_t columns, std::byte* out) {
  INFERD_CHECK(is_quantizable_to(dtype) && columns % kBlock == 0);
  if (!representable(row, columns)) return false;
  if (dtype == DType::q4_1) {
    quantize_q4_1(row, columns / kBlock, out);
    return true;
  }
  const auto block_bytes = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  for (std::int64_t k = 0; k < columns; k += kBlock, out += block_bytes) write_q8_0(row + k, out);
  return true;
}

}  // namespace inferd
