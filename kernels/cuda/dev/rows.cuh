// What row kernels share: vectors of floats, 16-bit ones widened, and sums over a warp in one fixed order.
#pragma once

#include "kernels/cuda/dev/ptx.cuh"

namespace inferd::cuda {

/// n floats, n = 1, 2 or 4, in one access; aligned to their size.
template <int n>
inline __device__ void load_floats(float (&v)[n], const float* from) {
  if constexpr (n == 4) {
    const float4 f = *reinterpret_cast<const float4*>(from);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
  } else if constexpr (n == 2) {
    const float2 f = *reinterpret_cast<const float2*>(from);
    v[0] = f.x, v[1] = f.y;
  } else {
    v[0] = *from;
  }
}
/// Four neighbours as f32, in one access.
inline __device__ float4 widen(const float* from) { return *reinterpret_cast<const float4*>(from); }
inline __device__ float4 widen(const __half* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  const float2 low = __half22float2(reinterpret_cast<const __half2&>(bits.x));
  const float2 high = __half22float2(reinterpret_cast<const __half2&>(bits.y));
  return make_float4(low.x, low.y, high.x, high.y);
}
inline __device__ float4 widen(const __nv_bfloat16* from) {
  const uint2 bits = *reinterpret_cast<const uint2*>(from);
  return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                     __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}

/// n floats to shared memory, as load_floats takes them.
template <int n>
inline __device__ void store_shared(float* to, const float (&v)[n]) {
  if constexpr (n == 4) {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  } else if constexpr (n == 2) {
    *reinterpret_cast<float2*>(to) = make_float2(v[0], v[1]);
  } else {
    *to = v[0];
  }
}

/// Likewise to global memory.
template <int n>
inline __device__ void store_floats(float* to, const float (&v)[n]) {
  if constexpr (n == 4) {
    ptx::store_global(reinterpret_cast<float4*>(to), make_float4(v[0], v[1], v[2], v[3]));
  } else if constexpr (n == 2) {
    ptx::store_global(reinterpret_cast<float2*>(to), make_float2(v[0], v[1]));
  } else {
    *to = v[0];
  }
}

/// The sum over the lanes, in every lane with the same bits.
inline __device__ float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

}  // namespace inferd::cuda
