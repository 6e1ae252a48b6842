// What all checkpoints share: opening by kind of path, shape checks, widening.
#include "engine/weights/checkpoint.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/checkpoint_files.h"
#include "engine/weights/stored_tensor.h"
#include "kernels/quant_formats.h"

namespace inferd {

std::int64_t StoredTensor::elements() const {
  std::int64_t product = 1;  // cannot overflow: the reader compared it with the bytes of the file
  for (std::int64_t dim : shape) product *= dim;
  return product;
}

std::unique_ptr<Checkpoint> Checkpoint::open(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw CheckpointError(log_safe(path.string()), "model", "a .gguf file or a model folder", "no such path");
  }
  return std::filesystem::is_directory(status) ? open_model_folder(path) : open_gguf_model(path);
}

const StoredTensor& Checkpoint::require(std::string_view name, std::initializer_list<std::int64_t> shape) const {
  const StoredTensor* tensor = find(name);
  const std::vector<std::int64_t> expected(shape);
  if (tensor == nullptr) {
    throw CheckpointError(log_safe(path()), log_safe(name), "a tensor of shape " + shape_text(expected), "none");
  }
  if (tensor->shape != expected) {
    throw CheckpointError(tensor->file, log_safe(name), "shape " + shape_text(expected), shape_text(tensor->shape));
  }
  return *tensor;
}

std::size_t Checkpoint::tensor_bytes() const {
  std::size_t total = 0;
  for (const StoredTensor& tensor : tensors()) total += tensor.bytes;
  return total;
}

void dequantize(const StoredTensor& tensor, std::span<float> out) {
  INFERD_CHECK(static_cast<std::int64_t>(out.size()) == tensor.elements());
  dequantize_row(tensor.dtype, tensor.data, out.data(), tensor.elements());
}

std::uint64_t checked_tensor_bytes(const std::string& file, const std::string& field, DType dtype,
                                   std::span<const std::uint64_t> dims) {
  std::uint64_t elements = 1;
  for (std::uint64_t dim : dims) {
    if (dim == 0) throw CheckpointError(file, field, "dimensions of at least 1", "0");
    if (__builtin_mul_overflow(elements, dim, &elements)) {
      throw CheckpointError(file, field, "fewer than 2^63 elements", "more");
    }
  }
  const DTypeInfo& info = dtype_info(dtype);
  const auto block = static_cast<std::uint64_t>(info.block_elements);
  const std::uint64_t row = dims.empty() ? 1 : dims.back();
  if (row % block != 0) {
    throw CheckpointError(file, field,
                          "rows of a multiple of " + std::to_string(block) + " for " + std::string(info.name),
                          std::to_string(row));
  }
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / block, static_cast<std::uint64_t>(info.block_bytes), &bytes) ||
      std::max(elements, bytes) > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw CheckpointError(file, field, "fewer than 2^63 bytes", "more");
  }
  return bytes;
}

void check_no_overlap(const std::string& file, std::vector<TensorSpan>& spans) {
  std::sort(spans.begin(), spans.end(), [](const TensorSpan& a, const TensorSpan& b) { return a.begin < b.begin; });
  for (std::size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].begin < spans[i - 1].end) {
      throw CheckpointError(file, log_safe(spans[i].name), "data of its own",
                            "data that overlaps " + log_safe(spans[i - 1].name));
    }
  }
}

CheckpointError unsupported_type(const std::string& file, const std::string& field, const std::string& type,
                                 CheckpointFormat format) {
  std::string supported;
  for (int i = 0; i < kDTypeCount; ++i) {
    const DTypeInfo& info = dtype_info(static_cast<DType>(i));
    const bool listed = format == CheckpointFormat::gguf ? info.ggml_type >= 0 : !info.quantized;
    if (listed) supported += (supported.empty() ? "" : ", ") + std::string(info.name);
  }
  return CheckpointError(file + ": " + field + ": type " + log_safe(type) +
                         " is not supported; supported: " + supported);
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace inferd
