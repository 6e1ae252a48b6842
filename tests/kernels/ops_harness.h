// What the tests of CPU operations share: a context on any level and thread count, numbers, and paged sequences.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
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

/// Every level with an exact and a quantised cache.
inline std::vector<std::pair<CpuLevel, DType>> levels_and_types() {
  std::vector<std::pair<CpuLevel, DType>> out;
  for (CpuLevel level : machine_levels()) {
    out.emplace_back(level, DType::f16);
    out.emplace_back(level, DType::q8_0);
  }
  return out;
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
    const std::size_t bytes = static_cast<std::size_t>(blocks) * heads * row_bytes(dtype, std::int64_t{block} * dim);
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

/// 32 numbers as q8_0 keeps them: x ≈ scale * quant, the largest magnitude at 127, scale an f16.
struct Q8Run {
  explicit Q8Run(const float* x) {
    float largest = 0;
    for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(x[i]));
    bits = encode_half(largest / 127.0f);
    scale = decode_half(bits);
    for (int i = 0; i < 32; ++i) quants[i] = scale > 0 ? static_cast<int>(std::nearbyint(x[i] / scale)) : 0;
  }
  std::uint16_t bits;
  double scale;
  std::array<int, 32> quants;
};

/// Where a q8_0 cache has the quant of component d and its scale: a head's part of a block holds the quants as other
/// types' elements lie, then the scales.
struct Q8Place {
  Q8Place(const PagedKv& kv, bool key, int block, int head, int offset, int d) {
    const std::size_t size = kv.block_size, dim = kv.head_dim;
    const std::size_t base = (static_cast<std::size_t>(block) * kv.num_heads + head) * row_bytes(kv.type, size * dim);
    quant = base + (key ? d * size + offset : offset * dim + d);
    scale = base + size * dim + 2 * (key ? d / 32 * size + offset : offset * (dim / 32) + d / 32);
  }
  std::size_t quant, scale;
};
inline void q8_write_head(PagedKv& kv, bool key, int block, int head, int offset, const float* x) {
  std::vector<std::byte>& memory = key ? kv.keys : kv.values;
  for (int first = 0; first < kv.head_dim; first += 32) {
    const Q8Run run(x + first);
    for (int i = 0; i < 32; ++i) {
      const Q8Place at(kv, key, block, head, offset, first + i);
      memory[at.quant] = static_cast<std::byte>(run.quants[i]);
      std::memcpy(&memory[at.scale], &run.bits, 2);
    }
  }
}
inline double q8_read(const PagedKv& kv, bool key, int block, int head, int offset, int d) {
  const std::vector<std::byte>& memory = key ? kv.keys : kv.values;
  const Q8Place at(kv, key, block, head, offset, d);
  std::uint16_t bits;
  std::memcpy(&bits, &memory[at.scale], 2);
  return decode_half(bits) * static_cast<std::int8_t>(memory[at.quant]);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace inferd::testing
