// The macros of files that are compiled once per instruction level.
#pragma once

// CMake compiles every "level source" several times, each with other -m flags and
//   INFERD_LEVEL            portable | avx2 | avxvnni | avx512vnni   (a namespace name)
//   INFERD_LEVEL_RANK       0 | 1 | 2 | 3                            (for #if)
// CpuLevel::amx is avx512vnni's files, by other entry points where there are any.
// Rules, or the linker may pick a wide-instruction copy of a shared inline function for a small machine:
// a level source includes no standard header with inline code it calls (no <vector>, <algorithm>, <cmath> templates;
// <cstdint>, <cstddef>, <immintrin.h>, and C functions such as std::memcpy and expf are fine), and all its own helpers
// are in an anonymous namespace.
#define INFERD_LEVEL_STRING_(x) #x
#define INFERD_LEVEL_STRING(x) INFERD_LEVEL_STRING_(x)
