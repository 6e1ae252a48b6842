// What the tests of CPU operations share: a context on any level and thread count, numbers, and paged sequences.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "tests/catch.h"

namespace inferd::testing {

/// Levels this machine offers, of those whose row kernels differ.
inline std::vector<CpuLevel> machine_levels() {
  std::vector<CpuLevel> levels = {CpuLevel::portable};
  const CpuLevel best = best_cpu_level();
  if (best > CpuLevel::avx2) levels.push_back(CpuLevel::avx2);
  if (best != CpuLevel::portable) levels.push_back(best);
  return levels;
}

/// A CpuContext with its pool and scratch.
class OpsRig {
 public:
  OpsRig(int threads, CpuLevel level, std::int64_t max_tokens = 1024, std::int64_t max_columns = 4096)
      : pool_(threads), context_{pool_} {
    worker_.resize(static_cast<std::size_t>(threads) * kWorkerFloats, std::nanf(""));
    shared_.resize(cpu_shared_scratch_bytes(threads, max_tokens, max_columns), std::byte{0xff});
    context_.level = level;
    context_.worker_scratch = worker_.data();
    context_.worker_scratch_floats = kWorkerFloats;
    context_.shared_scratch = shared_.data();
    context_.shared_scratch_bytes = shared_.size();
  }
  CpuContext& context() { return context_; }

 private:
  static constexpr std::size_t kWorkerFloats = CpuContext::kMinScratchFloats + 16384;
  ThreadPool pool_;
  std::vector<float> worker_;
  std::vector<std::byte> shared_;
  CpuContext context_;
};

class Numbers {
 public:
  explicit Numbers(unsigned seed) : engine_(seed) {}
  float normal() { return normal_(engine_); }
  int below(int n) { return static_cast<int>(engine_() % static_cast<unsigned>(n)); }
  std::vector<float> normals(std::size_t count, float scale = 1.0f) {
    std::vector<float> out(count);
    for (float& x : out) x = normal() * scale;
    return out;
  }
  std::mt19937& engine() { return engine_; }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

inline double decode_half(std::uint16_t h) {
  const double sign = (h & 0x8000) ? -1.0 : 1.0;
  const int exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return mantissa ? std::nan("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

/// Nearest even, by arithmetic only; saturating.
inline std::uint16_t encode_half(float x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(x));
  if (std::isnan(x)) return static_cast<std::uint16_t>(sign | 0x7e00);
  if (magnitude >= 65504.0) return static_cast<std::uint16_t>(sign | 0x7bff);
  int exponent = magnitude > 0 ? std::max(-14, std::ilogb(magnitude)) : -14;
  double units = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
  if (units == 2048) {
    ++exponent;
    units = 1024;
  }
  if (units < 1024) return static_cast<std::uint16_t>(sign | static_cast<int>(units));
  return static_cast<std::uint16_t>(sign | ((exponent + 15) << 10) | (static_cast<int>(units) - 1024));
}

inline double decode_bfloat(std::uint16_t b) {
  const std::uint32_t bits = static_cast<std::uint32_t>(b) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline std::uint16_t encode_bfloat(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const std::uint32_t lower = bits & 0xffff, upper = bits >> 16;
  const bool up = lower > 0x8000 || (lower == 0x8000 && (upper & 1));
  return static_cast<std::uint16_t>(upper + (up ? 1 : 0));
}

/// Element `at` of KV memory of any of the three types.
inline double kv_read(const std::vector<std::byte>& memory, DType type, std::size_t at) {
  if (type == DType::f32) {
    float x;
    std::memcpy(&x, &memory[at * 4], 4);
    return x;
  }
  std::uint16_t bits;
  std::memcpy(&bits, &memory[at * 2], 2);
  return type == DType::f16 ? decode_half(bits) : decode_bfloat(bits);
}
inline void kv_write(std::vector<std::byte>& memory, DType type, std::size_t at, float x) {
  if (type == DType::f32) {
    std::memcpy(&memory[at * 4], &x, 4);
    return;
  }
  const std::uint16_t bits = type == DType::f16 ? encode_half(x) : encode_bfloat(x);
  std::memcpy(&memory[at * 2], &bits, 2);
}

/// KV memory of one layer, all NaN. On the CPU a block holds keys by component and values by token.
struct PagedKv {
  PagedKv(int blocks, int heads, int dim, DType dtype, int block = 16)
      : num_blocks(blocks), num_heads(heads), head_dim(dim), block_size(block), type(dtype) {
    const std::size_t bytes = static_cast<std::size_t>(blocks) * heads * block * dim * row_bytes(dtype, 1);
    keys.assign(bytes, std::byte{0xff});
    values.assign(bytes, std::byte{0xff});
  }
  KvLayer layer() {
    KvLayer out;
    out.keys = Tensor(keys.data(), type, {num_blocks, num_heads, block_size, head_dim});
    out.values = Tensor(values.data(), type, {num_blocks, num_heads, block_size, head_dim});
    out.block_size = block_size;
    return out;
  }
  std::size_t value_at(int block, int head, int offset, int d) const {
    return ((static_cast<std::size_t>(block) * num_heads + head) * block_size + offset) * head_dim + d;
  }
  std::size_t key_at(int block, int head, int offset, int d) const {
    return ((static_cast<std::size_t>(block) * num_heads + head) * head_dim + d) * block_size + offset;
  }
  int num_blocks, num_heads, head_dim, block_size;
  DType type;
  std::vector<std::byte> keys, values;
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace inferd::testing
