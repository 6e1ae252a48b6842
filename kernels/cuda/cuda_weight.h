// CudaWeight: a matrix packed into tiles in device memory, for the CUDA backend's kernels.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

class WeightPacker;

/// How weights get into device memory. The backend's; tests put the interpreter's memory behind it.
class WeightMemory {
 public:
  virtual ~WeightMemory() = default;
  /// Device memory, a multiple of 256. Throws MemoryError.
  virtual std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) = 0;
  /// Host memory to fill for the next upload, a multiple of 16, of at least `bytes`; the earlier one is given up.
  virtual std::byte* stage(std::size_t bytes) = 0;
  /// Copies from what `stage` returned. Done before anything that is queued later.
  virtual void upload(void* device, const std::byte* staged, std::size_t bytes) = 0;
};

/// One or more stored matrices, stacked by rows. Immutable once made; outlived by its memory's backend.
class CudaWeight final : public Weight {
 public:
  /// Rows of one packed format. In an interleaved part lane 4 g + t holds gate row 8 tile + g as its row g and the up
  /// row of the same number, first_row + rows / 2 + 8 tile + g, as its row g + 8.
  struct Part {
    WeightFormat format;
    bool interleaved;
    std::uint32_t form;  // the one ActivationForm it reads
    std::int64_t first_row;
    std::int64_t rows;
    WeightPlanes planes;
    const std::int32_t* column_order;  // device, [padded columns]: column i is input column_order[i]; null: input i

    /// Gates and ups are padded to whole row tiles together.
    std::int64_t row_tiles() const {
      constexpr std::int64_t kHalf = kRowTile / 2;
      return interleaved ? (rows / 2 + kHalf - 1) / kHalf : (rows + kRowTile - 1) / kRowTile;
    }
  };

  /// Packs on `pool`. Throws CheckpointError for a type or shape that cannot be packed,
  /// MemoryError. `arch`: compute capability, major * 10 + minor.
  CudaWeight(std::span<const WeightSource> sources, const WeightOptions& options, ActivationMode mode, int arch,
             WeightMemory& memory, ThreadPool& pool);

  std::int64_t rows() const override { return rows_; }
  std::int64_t columns() const override { return columns_; }
  std::size_t bytes() const override { return bytes_; }
  std::uint32_t activation_forms() const override { return forms_; }

  /// Rows are [gate; up] halves. One interleaved part, unless gate and up differ in type or column order: then two.
  bool gated() const { return gated_; }
  std::span<const Part> parts() const { return parts_; }

 private:
  void add_part(const WeightPacker& packer, const std::int32_t* column_order, WeightMemory& memory, ThreadPool& pool);
  const std::int32_t* upload_order(const std::int32_t* order, WeightMemory& memory);

  std::int64_t rows_ = 0;
  std::int64_t columns_ = 0;
  std::size_t bytes_ = 0;
  std::uint32_t forms_ = 0;
  bool gated_ = false;
  std::vector<Part> parts_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
};

}  // namespace inferd::cuda
