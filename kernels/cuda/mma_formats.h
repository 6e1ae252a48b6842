// The formats that tensor cores multiply by, for tables of their kernels.
#pragma once

#include <cstddef>

#include "kernels/cuda/weight_format.h"

/// FORMAT(name) for each format but f32 and i8. g3_32 is too rare for kernels that multiply all experts at once.
// clang-format off
#define INFERD_EXPERT_FORMATS(FORMAT)                                                                            \
  FORMAT(f16) FORMAT(bf16) FORMAT(q8_0) FORMAT(q4_0) FORMAT(q4_1) FORMAT(q5_0) FORMAT(q5_1) FORMAT(q2_k)         \
  FORMAT(q3_k) FORMAT(q4_k) FORMAT(q5_k) FORMAT(q6_k) FORMAT(iq4_nl) FORMAT(iq4_xs) FORMAT(g2_32) FORMAT(g2_64)  \
  FORMAT(g3_64) FORMAT(g4_32) FORMAT(g4_64) FORMAT(g8_32) FORMAT(g8_64) FORMAT(t4_16) FORMAT(t4_32) FORMAT(h4_64)
#define INFERD_MMA_FORMATS(FORMAT) INFERD_EXPERT_FORMATS(FORMAT) FORMAT(g3_32)
// clang-format on

namespace inferd::cuda {

/// The row of `table` that is about `format`; null if there is none.
template <typename Row, std::size_t kRows>
constexpr const Row* row_of(const Row (&table)[kRows], WeightFormat format) {
  for (const Row& row : table) {
    if (row.format == format) return &row;
  }
  return nullptr;
}

}  // namespace inferd::cuda
