// The loops behind peaks.h at one instruction level: nothing but loads, dot products, or multiply-adds.
#include "kernels/cpu/peaks/peak_loops.h"

#include "kernels/cpu/level.h"
#include "kernels/cpu/linear/level/dot.h"
#if INFERD_LEVEL_RANK == 3
#include "kernels/cpu/linear/level/matrix_unit.h"
#endif

namespace inferd {
namespace {

/// Enough independent sums to hide an operation's latency, few enough for the registers.
constexpr int kSums = INFERD_LEVEL_RANK == 3 ? 16 : 12;
/// Far enough ahead for memory to answer in time.
constexpr std::size_t kAhead = 4096;

std::uint64_t read_all(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t kStep = 1024;
  constexpr std::size_t kVector = sizeof(vb);
  vb sums[8];
  for (int i = 0; i < 8; ++i) sums[i] = load_bytes(data);
  for (std::size_t at = 0; at < bytes; at += kStep) {
    for (std::size_t line = 0; line < kStep; line += 64) __builtin_prefetch(data + at + kAhead + line);
    for (std::size_t i = 0; i < kStep / kVector; ++i) {
      sums[i % 8] = or_bytes(sums[i % 8], load_bytes(data + at + i * kVector));
    }
  }
  std::uint64_t result = 0;
  for (int i = 0; i < 8; ++i) {
    std::uint64_t part;
    std::memcpy(&part, &sums[i], sizeof part);
    result ^= part;
  }
  return result;
}

#if INFERD_LEVEL_RANK == 1
constexpr int kDotsPerSum = 8;  // products of small codes are added as 16-bit pairs, then widened once
#elif INFERD_LEVEL_RANK == 0
constexpr int kDotsPerSum = 4;
#else
constexpr int kDotsPerSum = 1;
#endif

std::int32_t int8_loop(const std::int8_t* seed, std::int64_t rounds) {
  vi sums[kSums];
  vb weights[8];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sums[i] = splat_i(seed[i]);  // all different for all the compiler knows
  for (int i = 0; i < 8; ++i) weights[i] = and_bytes(load_bytes(seed), 1);
  [[maybe_unused]] const vi x = splat_four(seed);
  for (std::int64_t round = 0; round < rounds; ++round) {
#if INFERD_LEVEL_RANK >= 2
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sums[i] = dot_four(sums[i], weights[0], x);
#elif INFERD_LEVEL_RANK == 1
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      vb w = weights[0];
      vi pairs = zero_i();
#pragma GCC unroll 8
      for (int dot = 0; dot < kDotsPerSum; ++dot) {
        asm volatile("" : "+x"(w));  // may have changed: the product is computed each time
        pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(w, x));
      }
      sums[i] = add_i(sums[i], widen_pairs(pairs));
    }
#else
    for (int i = 0; i < kSums; ++i) sums[i] = dot_16<4>(sums[i], weights, seed);
    asm volatile("" : : "r"(weights) : "memory");  // the same
#endif
  }
#pragma GCC unroll 16
  for (int i = 1; i < kSums; ++i) sums[0] = add_i(sums[0], sums[i]);
  std::int32_t result;
  std::memcpy(&result, &sums[0], sizeof result);
  return result;
}

#if INFERD_LEVEL_RANK == 3

/// A product of 16 x 64 by 64 x 16 bytes is there after 52 cycles, and another can begin after 16.
constexpr int kTileSums = 4;

constexpr TileConfig whole_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, 16, 64);
  return config;
}
constexpr TileConfig kWholeTiles = whole_tiles();

std::int32_t amx_loop(const std::int8_t* seed, std::int64_t rounds) {
  alignas(64) std::int8_t bytes[16 * 64];
  for (int i = 0; i < 16; ++i) std::memcpy(bytes + i * 64, seed, 64);
  const MatrixUnit unit(&kWholeTiles);
  tile_load<4>(bytes, 64);
  tile_load<5>(bytes, 64);
  tile_zero<0>();
  tile_zero<1>();
  tile_zero<2>();
  tile_zero<3>();
  for (std::int64_t round = 0; round < rounds; ++round) {
    tile_multiply<0, 4, 5>();
    tile_multiply<1, 4, 5>();
    tile_multiply<2, 4, 5>();
    tile_multiply<3, 4, 5>();
  }
  alignas(64) std::int32_t sums[256];
  tile_store<3>(sums, 64);
  return sums[0];
}

#endif

float f32_loop(const float* seed, std::int64_t rounds) {
  vf sums[kSums];
  const vf a = load_f(seed);
  const vf b = splat(seed[0]);
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sums[i] = splat(seed[i]);
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sums[i] = multiply_add(a, sums[i], b);
  }
#pragma GCC unroll 16
  for (int i = 1; i < kSums; ++i) sums[0] = sums[0] + sums[i];
  float result;
  std::memcpy(&result, &sums[0], sizeof result);
  return result;
}

}  // namespace

namespace INFERD_LEVEL {
extern const PeakLoops kPeakLoops;
const PeakLoops kPeakLoops = {&read_all, &int8_loop, static_cast<std::int64_t>(2) * sizeof(vb) * kSums* kDotsPerSum,
                              &f32_loop, static_cast<std::int64_t>(2) * kLanes* kSums};
#if INFERD_LEVEL_RANK == 3
extern const PeakLoops kAmxPeakLoops;
const PeakLoops kAmxPeakLoops = {&read_all, &amx_loop, static_cast<std::int64_t>(2) * kTileSums * 16 * 16 * 64,
                                 &f32_loop, static_cast<std::int64_t>(2) * kLanes* kSums};
#endif
}  // namespace INFERD_LEVEL

}  // namespace inferd
