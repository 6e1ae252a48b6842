// Arrays of random numbers in a backend's memory, for tests of its operations.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/random_rows.h"

namespace inferd::testing {

using cuda::test::normals;

/// Device memory with a shape.
struct Array {
  Array(Backend& on, std::int64_t rows, std::int64_t columns)
      : backend(on),
        buffer(on.allocate(static_cast<std::size_t>(rows * columns) * 4)),
        tensor(buffer->data(), DType::f32, {rows, columns}) {}
  Array(Backend& on, std::int64_t rows, std::int64_t columns, const std::vector<float>& values)
      : Array(on, rows, columns) {
    set(values);
  }
  void set(const std::vector<float>& values) const {
    REQUIRE(values.size() == static_cast<std::size_t>(tensor.elements()));
    backend.upload(tensor.data, values.data(), values.size() * 4);
  }
  std::vector<float> get() const {
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    backend.synchronize();
    backend.download(values.data(), tensor.data, values.size() * 4);
    return values;
  }
  Backend& backend;
  std::unique_ptr<DeviceBuffer> buffer;
  Tensor tensor;
};

}  // namespace inferd::testing
