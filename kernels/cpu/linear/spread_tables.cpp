// The tables that lattice blocks are spread with.
#include <bit>
#include <initializer_list>

#include "base/check.h"
#include "kernels/cpu/linear/spread.h"
#include "kernels/quant_grids.h"

namespace inferd {
namespace {

/// Points of a lattice as bytes, as many as an entry has; kBits of the grid for each.
template <int kBits, typename Entry, std::size_t kPoints>
void fill(Entry (&table)[kPoints], const std::uint16_t (&grid)[kPoints], std::initializer_list<int> values) {
  for (std::size_t point = 0; point < kPoints; ++point) {
    table[point] = 0;
    for (unsigned i = 0; i < sizeof(Entry); ++i) {
      const unsigned index = (static_cast<unsigned>(grid[point]) >> (kBits * i)) & ((1u << kBits) - 1);
      INFERD_CHECK(index < values.size());
      table[point] |= static_cast<Entry>(static_cast<std::uint8_t>(values.begin()[index])) << (8 * i);
    }
  }
}

SpreadTables make_tables() {
  SpreadTables t;
  fill<2>(t.iq2_xxs, kIq2XxsGrid, {8, 25, 43});
  fill<2>(t.iq2_xs, kIq2XsGrid, {8, 25, 43});
  fill<2>(t.iq2_s, kIq2SGrid, {8, 25, 43});
  fill<3>(t.iq3_xxs, kIq3XxsGrid, {4, 12, 20, 28, 36, 44, 52, 62});
  fill<3>(t.iq3_s, kIq3SGrid, {1, 3, 5, 7, 9, 11, 13, 15});
  fill<2>(t.iq1, kIq1Grid, {119, 127, 135});
  for (unsigned bits = 0; bits < 256; ++bits) {
    t.signs[bits] = 0;
    for (unsigned i = 0; i < 8; ++i) t.signs[bits] |= ((bits >> i) & 1 ? std::uint64_t{255} : 0) << (8 * i);
  }
  for (unsigned bits = 0; bits < 128; ++bits) {
    t.even_signs[bits] = t.signs[bits | (static_cast<unsigned>(std::popcount(bits)) % 2 << 7)];
  }
  return t;
}

}  // namespace

const SpreadTables& spread_tables() {
  static const SpreadTables made = make_tables();
  return made;
}

}  // namespace inferd
