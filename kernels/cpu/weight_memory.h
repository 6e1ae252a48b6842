// WeightMemory: memory for matrices that stay, many to a chunk, so that small ones lie in huge pages too.
#pragma once

#include <cstddef>
#include <memory>

#include "kernels/cpu/cpu_memory.h"

namespace inferd {

/// Hands out pieces of large chunks, one behind the other. A chunk is freed with its last piece. One thread at a time.
class WeightMemory {
 public:
  /// `bytes` zero-filled bytes at a 64-byte aligned address.
  struct Piece {
    std::shared_ptr<const CpuMemory> chunk;
    std::byte* data = nullptr;
    std::size_t bytes = 0;
  };

  /// Throws MemoryError, naming needed and available bytes.
  Piece allocate(std::size_t bytes);

 private:
  std::shared_ptr<const CpuMemory> chunk_;
  std::size_t used_ = 0;  // of chunk_
};

}  // namespace inferd
