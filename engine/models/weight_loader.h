// WeightLoader: takes the tensors of a checkpoint up into a backend, checking every shape against the configuration.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/models/model.h"
#include "engine/models/tensor_names.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/quantized_matrix.h"
#include "kernels/backend.h"

namespace inferd {

/// f32 values on the device: a norm's weight, a bias, frequencies. Absent by default.
struct DeviceVector {
  std::unique_ptr<DeviceBuffer> buffer;
  std::int64_t size = 0;
  /// [size] f32; the absent tensor if there is none.
  Tensor tensor() const { return buffer ? Tensor(buffer->data(), DType::f32, {size}) : Tensor(); }
};

/// Copies values to memory of `backend`. Throws MemoryError.
DeviceVector to_device(Backend& backend, const std::vector<float>& values);

/// Rows of a Linear that are a module of their own to adapters.
struct LinearSlice {
  std::string module;  // Hugging Face name: "model.layers.0.self_attn.q_proj"
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  int interleaved_head_dim = 0;  // > 0: row 2j of a head is its row j, row 2j + 1 its row j + head_dim / 2 (GGUF llama)
  int by_head_dim = 0;  // > 0: the module has q, k and v of the first head, then of the next; here all q come first
};

/// A matrix with its bias; possibly several matrices stacked by rows (q, k, v or gate, up). Of a sharded one rows and
/// columns are those of one rank.
struct Linear {
  std::unique_ptr<Weight> weight;   // [rows, columns]
  DeviceVector bias;                // [rows] or absent
  std::vector<LinearSlice> slices;  // what adapters may update; slices of one another's rows are names for the same
  int adapter_index = -1;           // set by AdapterBank
};

/// One matrix of a Linear.
struct MatrixPart {
  std::string module;                     // Hugging Face name without ".weight"
  std::int64_t rows = 0;                  // outputs
  std::vector<std::int64_t> pieces = {};  // rows of matrices stored as one, which Shard::rows divides each for itself
};

/// Which half of a stored gate-and-up matrix comes first.
enum class HalfOrder { gate_first, up_first };

/// `optional`: a bias is taken if the files have one.
enum class Bias { optional, required };

/// Used while a model is built; one thread. Every method throws CheckpointError for a missing tensor, a wrong shape or
/// a type that matrices cannot have, and MemoryError. Names are Hugging Face's (TensorNames).
class WeightLoader {
 public:
  /// All arguments outlive the loader.
  WeightLoader(const Checkpoint& checkpoint, Backend& backend, const ModelOptions& options);

  /// What is loaded from now on goes to `backend`.
  void use(Backend& backend) { backend_ = &backend; }
  bool has(std::string_view name) const;
  /// Backend::group_experts of Weights loaded where the loader is now.
  std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts) {
    return backend_->group_experts(experts);
  }
  /// True for files that store each matrix of all experts of a layer as one tensor.
  bool has_stacked_experts() const { return checkpoint_.format() == CheckpointFormat::gguf; }
  /// The parts stacked by rows, all with `columns` inputs. Parts without a bias beside parts with one get zeros.
  Linear linear(std::initializer_list<MatrixPart> parts, std::int64_t columns, Bias bias,
                WeightOptions weight_options = {});
  /// The same of matrix `expert` of parts that are stored together for all experts, [num_experts, rows, columns].
  Linear expert_linear(std::initializer_list<MatrixPart> parts, int expert, int num_experts, std::int64_t columns,
                       WeightOptions weight_options = {});
  /// One stored matrix of 2 * `half_rows` rows for the gated epilogues. A bias can only be loaded with the gate first.
  Linear gated_linear(const std::string& module, std::int64_t half_rows, std::int64_t columns, Bias bias,
                      HalfOrder order = HalfOrder::gate_first);
  /// One stored matrix of q, k and v rows of the first head, then of the next; taken up as all q, all k, all v.
  Linear linear_by_head(const std::string& module, int heads, int head_dim, std::int64_t columns);
  /// One matrix whose rows are looked up by id; it may serve as an output matrix too. Its first `skipped` rows are left
  /// out.
  std::unique_ptr<Weight> embedding(std::string_view name, std::int64_t rows, std::int64_t columns,
                                    std::int64_t skipped = 0);
  /// A vector of `size` values, widened to f32 and multiplied.
  DeviceVector vector(std::string_view name, std::int64_t size, float factor = 1.0f);
  /// The values of a matrix's bias; empty if there is none.
  std::vector<float> bias(const MatrixPart& part, Bias bias);
  /// Values computed by the caller; with Shard::rows each rank gets its part of them.
  DeviceVector upload(const std::vector<float>& values, Shard shard = Shard::none);

  /// Reports full progress and logs tensors that nobody asked for. Names ending in one of `ignored` are expected.
  void finish(std::initializer_list<std::string_view> ignored);
  std::size_t resident_bytes() const { return resident_bytes_; }

 private:
  /// A matrix in the form a backend takes it.
  struct Matrix {
    WeightSource source;
    QuantizedMatrix quantized;  // what `source` points into, if the files keep it in parts
    std::vector<const StoredTensor*> tensors;
  };
  Matrix matrix(const std::string& module, std::int64_t rows, std::int64_t columns);
  /// Of exactly this shape; [1, columns] may be stored as [columns].
  const StoredTensor& require_matrix(const std::string& stored_name, std::int64_t rows, std::int64_t columns);
  const StoredTensor& require_matrix_type(const StoredTensor& tensor) const;
  DeviceVector stacked_bias(std::initializer_list<MatrixPart> parts, Bias bias, Shard shard);
  DeviceVector upload_by_rank(const std::vector<float>& values, const std::vector<std::int64_t>& pieces);
  std::vector<float> values(const StoredTensor& tensor);
  void taken(const StoredTensor& tensor);

  const Checkpoint& checkpoint_;
  Backend* backend_;
  const ModelOptions& options_;
  TensorNames names_;
  QuantizationConfig quantization_;
  std::set<std::string, std::less<>> used_;
  std::size_t done_bytes_ = 0;
  std::size_t total_bytes_ = 0;
  std::size_t resident_bytes_ = 0;
};

}  // namespace inferd
