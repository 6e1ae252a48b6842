// Lattices of the IQ types: each code's magnitudes as indices, 2 bits (IQ2, IQ1: eight) or 3 bits (IQ3: four) each.
#pragma once

#include <cstdint>

namespace inferd {

extern const std::uint16_t kIq2XxsGrid[256];
extern const std::uint16_t kIq2XsGrid[512];
extern const std::uint16_t kIq2SGrid[1024];
extern const std::uint16_t kIq3XxsGrid[256];
extern const std::uint16_t kIq3SGrid[512];
extern const std::uint16_t kIq1Grid[2048];

}  // namespace inferd
