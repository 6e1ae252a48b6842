// for_rows: shares the rows of a step among the workers in even stretches.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_pool.h"

namespace inferd {

/// Calls body(row, worker) for every row in [0, rows). Rows must not depend on each other.
template <typename Body>
void for_rows(ThreadPool& pool, std::int64_t rows, const Body& body) {
  constexpr std::int64_t kStretchesPerWorker = 4;  // so that a worker that lost its core does not hold up the rest
  const std::int64_t most = kStretchesPerWorker * pool.size();
  const std::int64_t stretches = rows < most ? rows : most;
  if (pool.size() == 1 || stretches <= 1) {
    for (std::int64_t row = 0; row < rows; ++row) body(row, 0);
    return;
  }
  pool.run(stretches, [&](std::int64_t stretch, int worker) {
    const std::int64_t end = rows * (stretch + 1) / stretches;
    for (std::int64_t row = rows * stretch / stretches; row < end; ++row) body(row, worker);
  });
}

}  // namespace inferd
