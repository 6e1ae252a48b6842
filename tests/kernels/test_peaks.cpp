// Measured peaks: every usable level gives plausible rates, unusable ones none, and the loops do the work they count.
#include "kernels/cpu/peaks.h"

#include "kernels/cpu/cpu_topology.h"
#include "tests/catch.h"

using namespace inferd;

TEST_CASE("reading memory is measured in bytes per second") {
  const double rate = measure_read_bandwidth(1);
  CHECK(rate > 1e8);   // slower than any machine that runs this
  CHECK(rate < 1e12);  // faster than any: the loop would have been left out
}

TEST_CASE("arithmetic peaks exist for the levels this machine has") {
  for (CpuLevel level : kCpuLevels) {
    INFO(cpu_level_name(level));
    const double int8 = measure_int8_ops(level, 1);
    const double f32 = measure_f32_flops(level, 1);
    if (!cpu_level_available(level)) {
      CHECK(int8 == 0.0);
      CHECK(f32 == 0.0);
      continue;
    }
    CHECK(int8 > 1e8);
    CHECK(f32 > 1e8);
    // 10 GHz, two 512-bit instructions a cycle; of AMX 16 x 16 x 64 products in 16 cycles.
    CHECK(int8 < 10e9 * 2 * (level == CpuLevel::amx ? 16 * 64 : 64 * 2));
    CHECK(f32 < 10e9 * 2 * 16 * 2);
  }
}
