// The matrix unit (AMX): its instructions, and the shapes of its registers. Included by level sources only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace inferd {
namespace {

/// What LDTILECFG reads: rows and bytes a row of the eight tile registers ("Intel 64 and IA-32 Architectures Software
/// Developer's Manual", volume 1, chapter on AMX).
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};

  constexpr void set(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<std::uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

/// The thread's matrix unit is set up for as long as this lives, if `config` is there; then its registers are let go,
/// so that nobody saves them any more.
class MatrixUnit {
 public:
  explicit MatrixUnit(const TileConfig* config) : in_use_(config != nullptr) {
    if (in_use_) asm volatile("ldtilecfg %0" : : "m"(*config));
  }
  ~MatrixUnit() {
    if (in_use_) asm volatile("tilerelease");
  }
  MatrixUnit(const MatrixUnit&) = delete;
  MatrixUnit& operator=(const MatrixUnit&) = delete;

 private:
  const bool in_use_;
};

// The instructions themselves: compilers' intrinsics take no constant expressions for registers, and GCC's loads do not
// say that they read memory.
template <int kTile>
inline __attribute__((always_inline)) void tile_load(const void* at, std::int64_t row_stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(at), "r"(row_stride), "i"(kTile) : "memory");
}
template <int kTile>
inline __attribute__((always_inline)) void tile_store(void* at, std::int64_t row_stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(at), "r"(row_stride), "i"(kTile) : "memory");
}
template <int kTile>
inline __attribute__((always_inline)) void tile_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
/// sums[m][n] += the dot products of four signed bytes after four of row m of a and of column n of b, whose rows hold
/// four bytes of each column.
template <int kSums, int kA, int kB>
inline __attribute__((always_inline)) void tile_multiply() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSums), "i"(kA), "i"(kB));
}

}  // namespace
}  // namespace inferd
