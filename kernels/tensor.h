// Tensor: a typed, shaped view of device memory that somebody else owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/check.h"
#include "kernels/dtype.h"

namespace inferd {

/// A view: pointer, type, up to four dimensions (outermost first), rows possibly strided. Never owns memory.
/// A default-constructed Tensor is "absent"; optional op arguments use it.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, 4> shape{};  // outermost first, PyTorch order
  std::int64_t row_stride = 0;          // elements between successive indices of the first dimension

  Tensor() = default;
  Tensor(void* at, DType type, std::initializer_list<std::int64_t> dims) : data(at), dtype(type) {
    INFERD_CHECK(dims.size() <= 4);
    for (std::int64_t dim : dims) shape[static_cast<std::size_t>(rank++)] = dim;
    row_stride = 1;
    for (int i = 1; i < rank; ++i) row_stride *= shape[static_cast<std::size_t>(i)];
  }

  explicit operator bool() const { return data != nullptr; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  std::int64_t dim(int index) const { return shape[static_cast<std::size_t>(index)]; }
  /// Elements of the first `rows` rows as laid out without stride.
  std::int64_t elements() const {
    std::int64_t product = rank > 0 ? 1 : 0;
    for (int i = 0; i < rank; ++i) product *= shape[static_cast<std::size_t>(i)];
    return product;
  }
  /// The first `rows` rows of a tensor whose capacity is larger.
  Tensor first_rows(std::int64_t rows) const {
    INFERD_CHECK(rank > 0 && rows <= shape[0]);
    Tensor view = *this;
    view.shape[0] = rows;
    return view;
  }
};

}  // namespace inferd
