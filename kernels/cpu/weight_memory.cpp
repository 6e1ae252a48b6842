// Where a matrix finds its place: in the chunk at hand, or one of its own.
#include "kernels/cpu/weight_memory.h"

#include "base/errors.h"

namespace inferd {
namespace {

// A step reads all matrices once, more memory than the TLB covers with small pages.
constexpr std::size_t kChunk = std::size_t{32} << 20;
constexpr std::size_t kAlignment = 64;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kShared = 0;  // each matrix alone, so that an overrun shows
#else
constexpr std::size_t kShared = kChunk / 4;  // larger ones fill huge pages by themselves
#endif

}  // namespace

WeightMemory::Piece WeightMemory::allocate(std::size_t bytes) {
  if (bytes > kShared) {
    auto own = std::make_shared<const CpuMemory>(bytes);
    std::byte* data = own->data();
    return {std::move(own), data, bytes};
  }
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  if (!chunk_ || chunk_->bytes() - used_ < rounded) {
    chunk_ = std::make_shared<const CpuMemory>(kChunk);
    used_ = 0;
  }
  Piece piece{chunk_, chunk_->data() + used_, bytes};
  used_ += rounded;
  return piece;
}

}  // namespace inferd
