// ArenaLayout: lays a model's working memory out in one device allocation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"

namespace inferd {

/// Hands out consecutive 64-byte aligned places from `base` on; a null base only measures. Use twice: measure,
/// allocate, lay out.
class ArenaLayout {
 public:
  explicit ArenaLayout(void* base) : base_(static_cast<std::byte*>(base)) {}

  std::byte* place(std::size_t bytes) {
    constexpr std::size_t kAlignment = 64;
    std::byte* at = base_ == nullptr ? nullptr : base_ + total_;
    total_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return at;
  }
  /// [rows, columns] f32
  Tensor matrix(std::int64_t rows, std::int64_t columns) {
    return Tensor(place(static_cast<std::size_t>(rows * columns) * sizeof(float)), DType::f32, {rows, columns});
  }
  Activation activation(const Backend& backend, std::int64_t rows, std::int64_t columns, std::uint32_t forms) {
    return Activation{place(backend.activation_bytes(rows, columns, forms)), rows, columns, forms};
  }
  std::size_t total_bytes() const { return total_; }

 private:
  std::byte* base_;
  std::size_t total_ = 0;
};

}  // namespace inferd
