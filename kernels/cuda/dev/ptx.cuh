// Every inline-assembly primitive of the kernels, one function each (PTX ISA 9.0); sm_75 lacks cp.async and bf16 mma.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace inferd::cuda::ptx {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool kAsyncCopies = false;
#else
constexpr bool kAsyncCopies = true;
#endif

inline __device__ std::uint32_t shared_address(const void* shared) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

/// Copies 16 bytes to shared memory, asynchronously where the chip can: visible to this thread after copies_wait, to
/// others after a barrier behind that. The first `valid` bytes come from `global`, the rest are zeros; with valid == 0
/// nothing is read. Both addresses are multiples of 16.
inline __device__ void copy_16_async(void* shared, const void* global, int valid = 16) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
               : "memory");
#else
  uint4 value = make_uint4(0, 0, 0, 0);
  if (valid == 16) {
    value = *static_cast<const uint4*>(global);
  } else {
    for (int i = 0; i < valid; ++i) reinterpret_cast<char*>(&value)[i] = static_cast<const char*>(global)[i];
  }
  *static_cast<uint4*>(shared) = value;
#endif
}

/// copy_16_async of 4 bytes; `valid` is 4 or 0, addresses are multiples of 4.
inline __device__ void copy_4_async(void* shared, const void* global, int valid = 4) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
               : "memory");
#else
  *static_cast<std::uint32_t*>(shared) = valid == 4 ? *static_cast<const std::uint32_t*>(global) : 0;
#endif
}

/// Closes a group of copies.
inline __device__ void copies_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `pending` of this thread's newest groups are still under way.
template <int pending>
inline __device__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

/// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
inline __device__ void load_matrix_x4(std::uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
/// Likewise, each matrix transposed.
inline __device__ void load_matrix_x4_transposed(std::uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

/// d += a b: a 16x16 row-major, b 16x8 column-major, f32 accumulators. Lane 4 g + t holds a: {(g, 2t..), (g+8, 2t..),
/// (g, 2t+8..), (g+8, 2t+8..)}, b: {(2t.., g), (2t+8.., g)}, d: {(g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)}.
inline __device__ void mma_f16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[2]), "r"(a[3]), "r"(b[1]));
#endif
}

#if __CUDA_ARCH__ >= 800
/// mma_f16 with bf16 operands. Not on sm_75.
inline __device__ void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/// 16 bytes of weights: read once, so they take no place in L1.
inline __device__ uint4 load_weights_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}

/// Likewise 8 and 4 bytes, for narrow planes.
inline __device__ uint2 load_weights_8(const void* global) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(global));
  return v;
}
inline __device__ std::uint32_t load_weights_4(const void* global) {
  std::uint32_t v;
  asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(global));
  return v;
}

/// Two neighbours in one store: nvcc splits those of structs between inline assembly.
inline __device__ void store_2_shared(void* shared, std::uint32_t x, std::uint32_t y) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(shared_address(shared)), "r"(x), "r"(y) : "memory");
}

/// Likewise four.
inline __device__ void store_4_shared(void* shared, std::uint32_t x, std::uint32_t y, std::uint32_t z,
                                      std::uint32_t w) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(shared)), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
}

/// x, computed anew where it stands: what follows from it is not kept in registers across a loop.
inline __device__ int recomputed(int x) {
  int y;
  asm volatile("mov.s32 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

/// 8 or 16 bytes of global memory in one access, aligned to that: the compiler splits such stores where it likes.
inline __device__ void store_global(float2* to, float2 v) {
  asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(to), "f"(v.x), "f"(v.y) : "memory");
}
inline __device__ void store_global(float4* to, float4 v) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
constexpr float kE4m3Unit = 1.0f;
#else
constexpr float kE4m3Unit = 256.0f;
#endif
/// Four e4m3 codes as f16, in units of kE4m3Unit: exact. Before sm_89 a code's bits are those of a f16 of 2^-8 times
/// the value, but for the sign; NaN, which nobody asks for, is 480 there.
inline __device__ uint2 e4m3_to_f16(std::uint32_t codes) {
  uint2 v;
#if __CUDA_ARCH__ >= 890
  std::uint16_t low, high;
  asm("mov.b32 {%0, %1}, %2;" : "=h"(low), "=h"(high) : "r"(codes));
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(v.x) : "h"(low));
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(v.y) : "h"(high));
#else
  const std::uint32_t low = __byte_perm(codes, 0, 0x1404), high = __byte_perm(codes, 0, 0x3424);
  v.x = (low >> 1 & 0x3f803f80u) | (low & 0x80008000u);
  v.y = (high >> 1 & 0x3f803f80u) | (high & 0x80008000u);
#endif
  return v;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ < 890
/// The code cvt.rn.satfinite gives a number.
inline __device__ std::uint32_t to_e4m3(float x) {
  const float magnitude = fminf(fabsf(x), 448.0f);
  const std::uint32_t bits = __float_as_uint(magnitude);
  const std::uint32_t normal = ((bits + 0x7ffffu + (bits >> 20 & 1)) >> 20) - (120 << 3);  // biases of 127 and 7
  const std::uint32_t subnormal = __float_as_uint(magnitude + 0x1p14f) & 0xf;              // in units of 2^-9
  return (magnitude < 0x1p-6f ? subnormal : normal) | (__float_as_uint(x) >> 24 & 0x80);
}
#endif
/// Two numbers, none of them NaN, as e4m3: to nearest even, at most 448. `low` comes first in memory.
inline __device__ std::uint32_t to_e4m3(float low, float high) {
#if __CUDA_ARCH__ >= 890
  std::uint16_t codes;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
  return codes;
#else
  return to_e4m3(low) | to_e4m3(high) << 8;
#endif
}

/// 2^x, relative error 2^-22 (ex2.approx); 2^-inf = 0.
inline __device__ float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// d += a b in exact integers: a 16x32 row-major, b 32x8 column-major, signed bytes. Lane 4 g + t holds a: {(g, 4t..),
/// (g+8, 4t..), (g, 4t+16..), (g+8, 4t+16..)}, b: {(4t.., g), (4t+16.., g)}, d as in mma_f16.
inline __device__ void mma_s8(int (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+r"(d[2 * (i % 2)]), "+r"(d[2 * (i % 2) + 1])
                 : "r"(a[i]), "r"(b[i / 2]));
  }
#endif
}

}  // namespace inferd::cuda::ptx
