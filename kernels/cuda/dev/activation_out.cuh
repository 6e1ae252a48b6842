// Writing one row of f32 values as an Activation, in whichever forms are asked for, padding included.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/activation.h"

namespace inferd::cuda {

/// Columns one thread writes at once.
inline constexpr int kActivationChunk = 8;

/// The scale of a row's f16 form, and what its values are multiplied with: 1 / scale. Both powers of two.
struct F16RowScale {
  float scale;
  float inverse;
};

/// Of a row whose largest |x| is `largest`. Rows below 2^-113 keep the scale of that, so that 1 / scale is finite.
inline __device__ F16RowScale f16_row_scale(float largest) {
  int exponent = static_cast<int>(__float_as_uint(largest) >> 23) & 0xff;  // biased
  exponent = largest == 0.0f ? 127 + 13 : max(exponent, 14);
  return {__uint_as_float(static_cast<unsigned>(exponent - 13) << 23),
          __uint_as_float(static_cast<unsigned>(127 + 127 + 13 - exponent) << 23)};
}

/// The larger of two values that are not negative; NaN if one of them is.
inline __device__ float larger(float a, float b) {
  return __uint_as_float(max(__float_as_uint(a), __float_as_uint(b)));
}

/// The largest `value`, see larger(), of a block of `threads` threads, in all of them. `scratch`: threads / 32 floats of shared memory
/// that nobody else uses before the next barrier of the block.
template <int threads>
__device__ float block_max(float value, float* scratch) {
  for (int step = 16; step > 0; step /= 2) value = larger(value, __shfl_xor_sync(~0u, value, step));
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  value = scratch[0];
  for (int i = 1; i < threads / 32; ++i) value = larger(value, scratch[i]);
  return value;
}

inline __device__ float largest_of(const float (&v)[kActivationChunk]) {
  float largest = 0.0f;
  for (int i = 0; i < kActivationChunk; ++i) largest = larger(largest, fabsf(v[i]));
  return largest;
}

/// What the values of a row are multiplied with for its f16 and its int8 form.
struct RowFactors {
  float f16;
  float int8;
};

/// Whether write_row_scales has to be called.
inline __device__ bool has_row_scales(const ActivationPlanes& out) { return out.f16 != nullptr || out.int8 != nullptr; }

/// Writes the scales of a row whose largest |x| is `largest`. Called by all threads of the row's block.
inline __device__ RowFactors write_row_scales(const ActivationPlanes& out, std::int64_t row, float largest) {
  RowFactors factors{};
  if (out.f16 != nullptr) {
    const F16RowScale f16 = f16_row_scale(largest);
    factors.f16 = f16.inverse;
    if (threadIdx.x == 0) out.f16_scale[row] = f16.scale;
  }
  if (out.int8 != nullptr) {
    factors.int8 = largest >= kLeastInt8Row ? 127.0f / largest : 0.0f;
    if (threadIdx.x == 0) out.int8_scale[row] = largest / 127.0f;
  }
  return factors;
}

/// Columns [column, column + 8) of a row of `columns` f32 values; zeros behind them. `vectors`: the row is 16-byte
/// aligned.
inline __device__ void load_row_chunk(const float* row, int column, int columns, bool vectors,
                                      float (&v)[kActivationChunk]) {
  if (vectors && column + kActivationChunk <= columns) {
    for (int i = 0; i < kActivationChunk; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(row + column + i);
      v[i] = four.x, v[i + 1] = four.y, v[i + 2] = four.z, v[i + 3] = four.w;
    }
    return;
  }
  for (int i = 0; i < kActivationChunk; ++i) v[i] = column + i < columns ? row[column + i] : 0.0f;
}

/// Writes columns [column, column + 8) of `row` into every plane there is. All lanes of a warp call it together, each
/// two neighbours with neighbouring chunks; a column at or behind out.stride is not written. Values at or behind the
/// activation's columns must be zeros: they are its padding.
inline __device__ void write_activation_chunk(const ActivationPlanes& out, std::int64_t row, int column,
                                              const float (&v)[kActivationChunk], const RowFactors& factors) {
  const bool inside = column < out.stride;
  const std::int64_t at = row * out.stride + column;
  if (out.f32 != nullptr && inside) {
    *reinterpret_cast<float4*>(out.f32 + at) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(out.f32 + at + 4) = make_float4(v[4], v[5], v[6], v[7]);
  }
  if (out.bf16 != nullptr && inside) {
    __nv_bfloat162 pairs[4];
    for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
    *reinterpret_cast<uint4*>(out.bf16 + at) = *reinterpret_cast<const uint4*>(pairs);
  }
  if (out.f16 != nullptr) {
    __half2 pairs[4];
    float sum = 0.0f;
    for (int i = 0; i < 4; ++i) {
      pairs[i] = __floats2half2_rn(v[2 * i] * factors.f16, v[2 * i + 1] * factors.f16);
      const float2 rounded = __half22float2(pairs[i]);
      sum += rounded.x;
      sum += rounded.y;
    }
    sum += __shfl_xor_sync(~0u, sum, 1);
    if (inside) *reinterpret_cast<uint4*>(out.f16 + at) = *reinterpret_cast<const uint4*>(pairs);
    if (inside && column % 16 == 0) out.f16_sums[at / 16] = sum;
  }
  if (out.int8 != nullptr && inside) {
    std::uint32_t words[2] = {};
    for (int i = 0; i < kActivationChunk; ++i) {
      const auto code = static_cast<std::uint32_t>(__float2int_rn(v[i] * factors.int8)) & 255;
      words[i / 4] |= code << (8 * (i % 4));
    }
    *reinterpret_cast<uint2*>(out.int8 + at) = make_uint2(words[0], words[1]);
  }
}

}  // namespace inferd::cuda
