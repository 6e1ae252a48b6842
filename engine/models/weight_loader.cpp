// Taking checkpoint tensors up into a backend.
#include "engine/models/weight_loader.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"

namespace inferd {

DeviceVector to_device(Backend& backend, const std::vector<float>& values) {
  DeviceVector out;
  out.size = static_cast<std::int64_t>(values.size());
  out.buffer = backend.allocate(values.size() * sizeof(float));
  backend.upload(out.buffer->data(), values.data(), values.size() * sizeof(float));
  return out;
}

WeightLoader::WeightLoader(const Checkpoint& checkpoint, Backend& backend, const ModelOptions& options)
    : checkpoint_(checkpoint),
      backend_(&backend),
      options_(options),
      names_(checkpoint),
      quantization_(read_quantization_config(checkpoint)),
      total_bytes_(checkpoint.tensor_bytes()) {}

bool WeightLoader::has(std::string_view name) const {
  constexpr std::string_view kWeight = ".weight";
  const std::string stored = names_.stored(name);
  if (checkpoint_.find(stored) != nullptr) return true;
  return stored.ends_with(kWeight) &&
         has_quantized_parts(checkpoint_, stored.substr(0, stored.size() - kWeight.size()));
}

WeightLoader::Matrix WeightLoader::matrix(const std::string& module, std::int64_t rows, std::int64_t columns) {
  const std::string name = names_.stored(module + ".weight");
  const std::string stored_module = name.substr(0, name.rfind('.'));
  if (auto found = read_quantized_matrix(checkpoint_, quantization_, stored_module, rows, columns)) {
    Matrix matrix{{}, std::move(*found), {}};
    const QuantizedMatrix& from = matrix.quantized;
    matrix.source = {
        from.data.data(),     from.dtype, rows, columns, from.column_order.empty() ? nullptr : from.column_order.data(),
        from.int8_activations};
    matrix.tensors = from.tensors;
    return matrix;
  }
  const StoredTensor& tensor = require_matrix(name, rows, columns);
  return {{tensor.data, tensor.dtype, rows, columns}, {}, {&tensor}};
}

const StoredTensor& WeightLoader::require_matrix(const std::string& stored_name, std::int64_t rows,
                                                 std::int64_t columns) {
  const StoredTensor* found = checkpoint_.find(stored_name);
  const bool flat = rows == 1 && found != nullptr && found->shape.size() == 1;
  return require_matrix_type(flat ? checkpoint_.require(stored_name, {columns})
                                  : checkpoint_.require(stored_name, {rows, columns}));
}

const StoredTensor& WeightLoader::require_matrix_type(const StoredTensor& tensor) const {
  const bool plain = tensor.dtype == DType::f32 || tensor.dtype == DType::f16 || tensor.dtype == DType::bf16;
  if (!plain && !dtype_info(tensor.dtype).quantized) {
    throw CheckpointError(tensor.file, log_safe(tensor.name), "a matrix of F32, F16, BF16 or a block type",
                          std::string(dtype_info(tensor.dtype).name));
  }
  return tensor;
}

void WeightLoader::taken(const StoredTensor& tensor) {
  checkpoint_.release(tensor);
  if (!used_.insert(tensor.name).second) return;
  done_bytes_ += tensor.bytes;
  if (options_.progress) options_.progress(done_bytes_, total_bytes_);
}

namespace {

/// The pieces of a stored matrix, or all of it.
void add_pieces(const WeightSource& source, const std::vector<std::int64_t>& pieces,
                std::vector<WeightSource>* sources) {
  WeightSource piece = source;
  for (const std::int64_t rows : pieces) {
    piece.rows = rows;
    sources->push_back(piece);
    piece.data += static_cast<std::size_t>(rows) * row_bytes(source.dtype, source.columns);
  }
  if (pieces.empty()) sources->push_back(source);
}

}  // namespace

Linear WeightLoader::linear(std::initializer_list<MatrixPart> parts, std::int64_t columns, Bias bias,
                            WeightOptions weight_options) {
  const bool divided = weight_options.shard == Shard::rows && backend_->ranks() > 1;
  std::vector<Matrix> matrices;
  std::vector<WeightSource> sources;  // what they point into stays where it is when a Matrix moves
  for (const MatrixPart& part : parts) {
    matrices.push_back(matrix(part.module, part.rows, columns));
    add_pieces(matrices.back().source, divided ? part.pieces : std::vector<std::int64_t>(), &sources);
  }
  Linear linear;
  linear.weight = backend_->load_weight(sources, weight_options);
  resident_bytes_ += linear.weight->bytes();
  for (const Matrix& from : matrices) {
    for (const StoredTensor* tensor : from.tensors) taken(*tensor);
  }
  linear.bias = stacked_bias(parts, bias, weight_options.shard);
  return linear;
}

Linear WeightLoader::expert_linear(std::initializer_list<MatrixPart> parts, int expert, int num_experts,
                                   std::int64_t columns, WeightOptions weight_options) {
  std::vector<const StoredTensor*> tensors;
  std::vector<WeightSource> sources;
  for (const MatrixPart& part : parts) {
    const StoredTensor& all = require_matrix_type(
        checkpoint_.require(names_.stored(part.module + ".weight"), {num_experts, part.rows, columns}));
    const std::size_t expert_bytes = static_cast<std::size_t>(part.rows) * row_bytes(all.dtype, columns);
    sources.push_back({all.data + static_cast<std::size_t>(expert) * expert_bytes, all.dtype, part.rows, columns});
    tensors.push_back(&all);
  }
  Linear linear;
  linear.weight = backend_->load_weight(sources, weight_options);
  resident_bytes_ += linear.weight->bytes();
  for (const StoredTensor* tensor : tensors) {
    if (expert + 1 == num_experts) {
      taken(*tensor);
      continue;
    }
    StoredTensor part = *tensor;  // all experts of a layer are some hundred megabytes
    part.bytes /= static_cast<std::size_t>(num_experts);
    part.data += static_cast<std::size_t>(expert) * part.bytes;
    checkpoint_.release(part);
  }
  return linear;
}

Linear WeightLoader::gated_linear(const std::string& module, std::int64_t half_rows, std::int64_t columns, Bias bias,
                                  HalfOrder order) {
  const Matrix both = matrix(module, 2 * half_rows, columns);
  WeightSource gate = both.source;
  gate.rows = half_rows;
  WeightSource up = gate;
  up.data += static_cast<std::size_t>(half_rows) * row_bytes(up.dtype, columns);
  const bool swapped = order == HalfOrder::up_first;
  if (swapped) std::swap(gate.data, up.data);
  Linear linear;
  linear.weight = backend_->load_weight(std::array{gate, up}, {.gated = true, .shard = Shard::rows});
  resident_bytes_ += linear.weight->bytes();
  for (const StoredTensor* tensor : both.tensors) taken(*tensor);
  if (swapped && has(module + ".bias")) {
    throw CheckpointError(both.tensors.front()->file, log_safe(names_.stored(module + ".bias")), "no bias", "one");
  }
  linear.bias = stacked_bias({{module, 2 * half_rows, {half_rows, half_rows}}}, bias, Shard::rows);
  return linear;
}

std::vector<float> WeightLoader::bias(const MatrixPart& part, Bias bias) {
  const std::string name = names_.stored(part.module + ".bias");
  if (bias == Bias::optional && checkpoint_.find(name) == nullptr) return {};
  return values(checkpoint_.require(name, {part.rows}));
}

DeviceVector WeightLoader::stacked_bias(std::initializer_list<MatrixPart> parts, Bias bias, Shard shard) {
  std::vector<float> stacked;
  std::vector<std::int64_t> pieces;
  bool any = false;
  for (const MatrixPart& part : parts) {
    std::vector<float> part_values = this->bias(part, bias);
    any = any || !part_values.empty();
    part_values.resize(static_cast<std::size_t>(part.rows));
    stacked.insert(stacked.end(), part_values.begin(), part_values.end());
    pieces.insert(pieces.end(), part.pieces.begin(), part.pieces.end());
    if (part.pieces.empty()) pieces.push_back(part.rows);
  }
  if (!any) return {};
  return shard == Shard::rows ? upload_by_rank(stacked, pieces) : upload(stacked);
}

std::unique_ptr<Weight> WeightLoader::embedding(std::string_view name, std::int64_t rows, std::int64_t columns,
                                                std::int64_t skipped) {
  const StoredTensor& tensor = require_matrix(names_.stored(name), rows, columns);
  const std::size_t offset = static_cast<std::size_t>(skipped) * row_bytes(tensor.dtype, columns);
  const WeightSource source{tensor.data + offset, tensor.dtype, rows - skipped, columns};
  auto weight = backend_->load_weight({&source, 1}, {.also_embedding = true});
  resident_bytes_ += weight->bytes();
  taken(tensor);
  return weight;
}

std::vector<float> WeightLoader::values(const StoredTensor& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  dequantize(tensor, out);
  taken(tensor);
  return out;
}

DeviceVector WeightLoader::vector(std::string_view name, std::int64_t size, float factor) {
  std::vector<float> out = values(checkpoint_.require(names_.stored(name), {size}));
  for (float& value : out) value *= factor;
  return upload(out);
}

DeviceVector WeightLoader::upload(const std::vector<float>& from, Shard shard) {
  if (shard == Shard::rows) return upload_by_rank(from, {static_cast<std::int64_t>(from.size())});
  DeviceVector out = to_device(*backend_, from);
  resident_bytes_ += out.buffer->bytes();
  return out;
}

DeviceVector WeightLoader::upload_by_rank(const std::vector<float>& from, const std::vector<std::int64_t>& pieces) {
  const std::int64_t ranks = backend_->ranks();
  std::vector<float> ordered;  // all pieces' parts of the first rank, then those of the next
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    auto piece = from.begin();
    for (const std::int64_t rows : pieces) {
      INFERD_CHECK(rows % ranks == 0);  // as the matrix's rows are
      ordered.insert(ordered.end(), piece + rank * (rows / ranks), piece + (rank + 1) * (rows / ranks));
      piece += rows;
    }
  }
  DeviceVector out;
  out.size = static_cast<std::int64_t>(ordered.size()) / ranks;
  const std::size_t bytes = static_cast<std::size_t>(out.size) * sizeof(float);
  out.buffer = backend_->allocate(bytes);
  backend_->upload_parts(out.buffer->data(), ordered.data(), bytes);
  resident_bytes_ += bytes;
  return out;
}

void WeightLoader::finish(std::initializer_list<std::string_view> ignored) {
  std::size_t unused = 0;
  std::string first;
  for (const StoredTensor& tensor : checkpoint_.tensors()) {
    const bool expected = std::any_of(ignored.begin(), ignored.end(), [&](std::string_view end) {
      return std::string_view(tensor.name).ends_with(end);
    });
    if (expected || used_.contains(tensor.name)) continue;
    if (unused++ == 0) first = log_safe(tensor.name);
  }
  if (unused > 0) {
    spdlog::warn("{}: {} tensors are not part of the model and were not loaded, {} first", log_safe(checkpoint_.path()),
                 unused, first);
  }
  if (options_.progress && done_bytes_ < total_bytes_) options_.progress(total_bytes_, total_bytes_);
}

}  // namespace inferd
