// How an Activation lies in device memory on the CUDA backend: planes by form, shared by host code and kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/alignment.h"

namespace inferd::cuda {

/// Forms of Activation (Weight::activation_forms() is one of them; Activation::forms an OR).
enum ActivationForm : std::uint32_t {
  kF32Form = 1,   // f32 rows: exact, for f32 weights and for ActivationMode::f32
  kBf16Form = 2,  // bf16 rows: for bf16 weights
  // f16 rows of x / scale, with the row's scale, a power of two that puts its largest |x| into [2^13, 2^14), so that
  // nothing overflows or vanishes; 1 for a row of zeros. And the sums of those f16 values over each 16 columns, in f32,
  // for weight formats with minima. For f16 weights and all quantised ones.
  kF16Form = 4,
  // int8 codes and the row's scale s = max |x| / 127: a code is x * (127 / max |x|), both in f32, rounded to the
  // nearest integer, ties to even, so at most 127 in size. All codes are 0 where max |x| is below kLeastInt8Row,
  // infinite or NaN; in the last two cases s is so too, and with it every product. For int8 weights with one scale a
  // row.
  kInt8Form = 8,
};

/// See kInt8Form: 127 over this is finite.
inline constexpr float kLeastInt8Row = 0x1p-100f;

/// Columns are padded to a multiple of this with zeros, in activations and in packed weights: kernels have no tail in
/// K.
inline constexpr std::int64_t kColumnPad = 64;

constexpr std::int64_t padded_columns(std::int64_t columns) {
  return (columns + kColumnPad - 1) / kColumnPad * kColumnPad;
}

/// Where the planes are, all for the activation's capacity of rows; null where its forms lack one. Passed to kernels.
struct ActivationPlanes {
  float* f32;           // [rows, stride]
  std::uint16_t* bf16;  // [rows, stride]
  std::uint16_t* f16;   // [rows, stride]
  float* f16_scale;     // [rows]
  float* f16_sums;      // [rows, stride / 16]
  std::int8_t* int8;    // [rows, stride]
  float* int8_scale;    // [rows]
  std::int64_t stride;  // padded_columns(columns)
};

/// Planes of an activation at `data` (256-byte aligned): in the order f32, bf16, f16, scales, sums, int8, scales, each
/// 256-byte aligned. With data == null the pointers are offsets; `bytes` gets the total.
inline ActivationPlanes activation_planes(void* data, std::int64_t rows, std::int64_t columns, std::uint32_t forms,
                                          std::size_t* bytes = nullptr) {
  ActivationPlanes planes{};
  planes.stride = padded_columns(columns);
  const auto count = static_cast<std::size_t>(rows) * static_cast<std::size_t>(planes.stride);
  std::size_t at = 0;
  const auto place = [&](std::size_t plane_bytes) {
    void* here = static_cast<char*>(data) + at;
    at += aligned(plane_bytes);
    return here;
  };
  if (forms & kF32Form) planes.f32 = static_cast<float*>(place(count * 4));
  if (forms & kBf16Form) planes.bf16 = static_cast<std::uint16_t*>(place(count * 2));
  if (forms & kF16Form) {
    planes.f16 = static_cast<std::uint16_t*>(place(count * 2));
    planes.f16_scale = static_cast<float*>(place(static_cast<std::size_t>(rows) * 4));
    planes.f16_sums = static_cast<float*>(place(count / 16 * 4));
  }
  if (forms & kInt8Form) {
    planes.int8 = static_cast<std::int8_t*>(place(count));
    planes.int8_scale = static_cast<float*>(place(static_cast<std::size_t>(rows) * 4));
  }
  if (bytes != nullptr) *bytes = at;
  return planes;
}

}  // namespace inferd::cuda
