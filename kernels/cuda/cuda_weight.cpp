// Planning, packing and upload of a CudaWeight.
#include "kernels/cuda/cuda_weight.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/dev/linear_i8_params.h"
#include "kernels/cuda/pack.h"

namespace inferd::cuda {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{16} << 20;  // packed and uploaded at a time

/// The form of activation that the kernel of a format reads.
std::uint32_t form_of(WeightFormat format, ActivationMode mode, int arch) {
  if (mode == ActivationMode::f32 || format == WeightFormat::f32) return kF32Form;
  if (format == WeightFormat::i8) return kInt8Form;
  if (format == WeightFormat::bf16) return arch >= 80 ? kBf16Form : kF32Form;
  return kF16Form;
}

/// Whether two sources can be one part.
bool is_alike(const WeightSource& a, const WeightSource& b) {
  if (a.dtype != b.dtype || a.columns != b.columns || a.int8_activations != b.int8_activations) return false;
  if (a.column_order == b.column_order) return true;
  return a.column_order != nullptr && b.column_order != nullptr &&
         std::equal(a.column_order, a.column_order + a.columns, b.column_order);
}

}  // namespace

CudaWeight::CudaWeight(std::span<const WeightSource> sources, const WeightOptions& options, ActivationMode mode,
                       int arch, WeightMemory& memory, ThreadPool& pool)
    : gated_(options.gated) {
  INFERD_CHECK(!sources.empty());
  INFERD_CHECK(!gated_ || (sources.size() == 2 && sources[0].rows == sources[1].rows && !options.also_embedding));
  columns_ = sources[0].columns;
  for (const WeightSource& source : sources) {
    if (source.columns != columns_) throw CheckpointError("matrices of one layer differ in their columns");
  }
  for (std::size_t first = 0, count = 1; first < sources.size(); first += count, count = 1) {
    while (first + count < sources.size() && is_alike(sources[first], sources[first + count])) ++count;
    const bool interleaved = gated_ && count == 2;
    const bool int8 = sources[first].int8_activations && mode == ActivationMode::automatic && !options.also_embedding &&
                      padded_columns(columns_) <= kMostI8Columns;
    add_part(WeightPacker(sources.subspan(first, count), interleaved, int8), sources[first].column_order, memory, pool);
    parts_.back().form = form_of(parts_.back().format, mode, arch);
    forms_ |= parts_.back().form;
  }
}

void CudaWeight::add_part(const WeightPacker& packer, const std::int32_t* column_order, WeightMemory& memory,
                          ThreadPool& pool) {
  std::unique_ptr<DeviceBuffer> buffer = memory.allocate(packer.bytes());
  auto* device = static_cast<std::byte*>(buffer->data());
  const std::size_t tile_bytes = packer.row_tile_bytes();
  const auto chunk = static_cast<std::int64_t>(std::max<std::size_t>(kChunkBytes / tile_bytes, 1));
  for (std::int64_t first = 0; first < packer.row_tiles(); first += chunk) {
    const std::int64_t count = std::min(chunk, packer.row_tiles() - first);
    const std::size_t bytes = static_cast<std::size_t>(count) * tile_bytes;
    std::byte* staged = memory.stage(bytes);
    pool.run(count, [&](std::int64_t task, int) {
      packer.pack(first + task, 1, staged + static_cast<std::size_t>(task) * tile_bytes);
    });
    memory.upload(device + static_cast<std::size_t>(first) * tile_bytes, staged, bytes);
  }
  parts_.push_back({packer.format(), packer.gated(), 0, rows_, packer.rows(), packer.planes(device),
                    upload_order(column_order, memory)});
  rows_ += packer.rows();
  bytes_ += packer.bytes();
  buffers_.push_back(std::move(buffer));
}

/// Columns of the padding read themselves, which are zeros.
const std::int32_t* CudaWeight::upload_order(const std::int32_t* order, WeightMemory& memory) {
  if (order == nullptr) return nullptr;
  const std::size_t bytes = static_cast<std::size_t>(padded_columns(columns_)) * sizeof(std::int32_t);
  std::unique_ptr<DeviceBuffer> buffer = memory.allocate(bytes);
  std::byte* staged = memory.stage(bytes);
  for (std::int64_t i = 0; i < padded_columns(columns_); ++i) {
    const auto column = i < columns_ ? order[i] : static_cast<std::int32_t>(i);
    std::memcpy(staged + i * static_cast<std::int64_t>(sizeof column), &column, sizeof column);
  }
  memory.upload(buffer->data(), staged, bytes);
  bytes_ += bytes;
  const auto* device = static_cast<const std::int32_t*>(buffer->data());
  buffers_.push_back(std::move(buffer));
  return device;
}

}  // namespace inferd::cuda
