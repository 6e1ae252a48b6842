// Backend: one device: its memory, its copy of the weights, and every operation of ops.h.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "kernels/tensor.h"

namespace inferd {

/// Device memory, freed on destruction. Zero-filled.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() const = 0;  // a device address: host code reads it only through Backend::download
  virtual std::size_t bytes() const = 0;
};

/// One matrix as a file stores it, to be taken up by a backend.
struct WeightSource {
  const std::byte* data = nullptr;  // rows * row_bytes(dtype, columns), row-major, no alignment promised
  DType dtype = DType::f32;
  std::int64_t rows = 0;     // outputs
  std::int64_t columns = 0;  // inputs
  /// [columns]: column i of `data` multiplies input column_order[i], a permutation; null: input i.
  const std::int32_t* column_order = nullptr;
  /// The matrix was made for activations of 8 bits: a backend may round them to int8 with one scale a row. It is of
  /// g8_*, and all blocks of a row have one scale and the zero 128.
  bool int8_activations = false;
};

/// Throws CheckpointError unless the matrix has rows of `columns` inputs, those are whole blocks of its type, and its
/// column order, if it has one, is a permutation.
void check_weight_source(const WeightSource& source, std::int64_t columns);

/// A matrix as a backend keeps it: packed for its kernels, never losing a bit of the stored weights. Possibly several
/// sources stacked by rows, of different formats. Immutable; owned by the model; outlived by its backend.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual std::int64_t rows() const = 0;
  virtual std::int64_t columns() const = 0;
  virtual std::size_t bytes() const = 0;               // resident bytes
  virtual std::uint32_t activation_forms() const = 0;  // forms of Activation its kernel reads
};

/// One pair of factors of an adapter's update, on the host: rows [first_row, first_row + rows) of the layer's product
/// get B (A x).
struct LowRankSource {
  const float* a = nullptr;  // [rank, columns]
  const float* b = nullptr;  // [rows, rank], the adapter's scale folded in
  std::int64_t rank = 0;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
};

/// An adapter's update of one Weight as a backend keeps it. Immutable; outlived by its backend.
class LowRank {
 public:
  virtual ~LowRank() = default;
  virtual std::int64_t rank() const = 0;  // of all pairs together
  virtual std::size_t bytes() const = 0;  // resident bytes
};

/// The same matrix of every expert of a layer, to be multiplied at once. Refers to the Weights it was made of.
class ExpertGroup {
 public:
  virtual ~ExpertGroup() = default;
};

/// Host memory that takes copies from a device behind the device's work. Outlived by its backend.
class HostCopy {
 public:
  virtual ~HostCopy() = default;
  /// Queues a copy of `bytes` bytes, at most those it was made for, after what is queued by now.
  virtual void start(const void* device, std::size_t bytes) = 0;
  /// Waits for the copy started last, but not for what was queued after it. Valid until the next start.
  virtual const std::byte* wait() = 0;
};

/// How the ranks of a backend divide a matrix. rows: each source's evenly, products being those of a rank's rows, or in
/// an `out` as wide as one source's whole rows those of all ranks. columns: evenly, as the input is; the products are
/// added up over the ranks, so such a layer has no epilogue and writes f32 rows. One device keeps everything.
enum class Shard { none, rows, columns };

struct WeightOptions {
  bool gated = false;           // two sources of equal shape [gate; up], for the gated epilogues
  bool also_embedding = false;  // rows will be read by `embedding` too
  Shard shard = Shard::none;
};

/// How activations enter linear layers. automatic: the backend's fastest faithful form. f32: exact, for proofs.
enum class ActivationMode { automatic, f32 };

/// One device, or several equal ones that do the same in step (ranks). Ops are called from one thread at a time, in
/// order; none allocates; on a GPU they are queued and `synchronize` waits. Loading functions may allocate. Owned by
/// main; outlives models, caches and buffers.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;             // "cpu (avx512vnni, 2 threads)"
  virtual std::size_t available_bytes() const = 0;  // device memory that could be allocated now

  /// Devices that work as one: each has every buffer, and of a sharded weight its part. Sizes given to the backend are
  /// those of one rank, except a weight's sources.
  virtual int ranks() const { return 1; }

  /// Whether `attention` reads caches of this type, one of those KvLayer names.
  virtual bool keeps_kv(DType dtype) const { return dtype != DType::fp8; }

  virtual std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) = 0;  // throws MemoryError
  virtual std::unique_ptr<Weight> load_weight(std::span<const WeightSource> parts, const WeightOptions& options) = 0;
  /// Takes an adapter's update of a [rows, columns] layer up; may be called between steps. Throws MemoryError, and
  /// ConfigError where the backend has no adapters, as here.
  virtual std::unique_ptr<LowRank> load_low_rank(std::span<const LowRankSource> parts, std::int64_t rows,
                                                 std::int64_t columns);
  /// Puts the experts' matrices together for expert_linear; null where they differ in shape, type or order of columns,
  /// or the backend has no kernel for them: then they take their turns in `linear`.
  virtual std::unique_ptr<ExpertGroup> group_experts(std::span<const Weight* const> experts);
  /// Bytes an Activation of this capacity takes in these forms.
  virtual std::size_t activation_bytes(std::int64_t rows, std::int64_t columns, std::uint32_t forms) const = 0;
  /// Scratch the ops share, sized for the largest step; called once per model before its first step.
  virtual void reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) = 0;
  /// What reserve_workspace would take beyond copies of a step's rows: cuBLASLt's workspace and what it multiplies.
  virtual std::size_t extra_workspace_bytes(std::int64_t max_tokens, std::int64_t max_columns) const;

  virtual void upload(void* device, const void* host, std::size_t bytes) = 0;
  /// host: [ranks()] parts of `bytes` each, of which every rank gets its own.
  virtual void upload_parts(void* device, const void* host, std::size_t bytes) { upload(device, host, bytes); }
  virtual void download(void* host, const void* device, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  /// Whether `captured` saves time here (CUDA graphs).
  virtual bool captures() const { return false; }
  /// Does `work`, which calls operations of this backend only, always the same ones with the same arguments for one
  /// key; their buffers' contents may differ. May repeat what it queued for the key before instead of calling it. Keys
  /// are forgotten when an allocation could have moved what they refer to (reserve_workspace).
  virtual void captured(std::uint64_t key, const std::function<void()>& work);

  /// Whether tokens can be drawn here from rows of `vocab_size` logits: `sample`, `take_tokens` and `host_copy` exist.
  virtual bool samples(std::int64_t vocab_size) const;
  virtual std::unique_ptr<HostCopy> host_copy(std::size_t bytes);  // throws MemoryError

  virtual void embedding(const EmbeddingArgs& args) = 0;
  virtual void norm(const NormArgs& args) = 0;
  virtual void to_activation(const ToActivationArgs& args) = 0;
  virtual void linear(const LinearArgs& args) = 0;
  virtual void lora(const LoraArgs& args);  // of updates this backend has loaded
  virtual void rope_table(const RopeTableArgs& args) = 0;
  virtual void qkv_post(const QkvPostArgs& args) = 0;
  virtual void attention(const AttentionArgs& args) = 0;
  virtual void encoder_attention(const EncoderAttentionArgs& args) = 0;
  virtual void route(const RouteArgs& args);  // the four of mixtures: where there is one device
  virtual void gather_activation(const GatherActivationArgs& args);
  virtual void expert_linear(const ExpertLinearArgs& args);
  virtual void combine_experts(const CombineExpertsArgs& args);
  virtual void gather_rows(const GatherRowsArgs& args) = 0;
  virtual void pool(const PoolArgs& args) = 0;
  virtual void sample(const SampleArgs& args);           // where `samples`
  virtual void take_tokens(const TakeTokensArgs& args);  // likewise
};

/// Instruction levels of the CPU backend, best last.
enum class CpuLevel { portable, avx2, avxvnni, avx512vnni, amx };

struct CpuBackendOptions {
  int threads = 0;           // 0: physical cores ∩ affinity ∩ cgroup quota
  std::string isa = "auto";  // auto | portable | avx2 | avxvnni | avx512vnni | amx; INFERD_ISA overrides auto
  ActivationMode activations = ActivationMode::automatic;
};

/// The level this machine offers.
CpuLevel best_cpu_level();
/// Throws ConfigError naming the levels if options.isa is unknown or beyond this machine.
std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

struct GpuInfo {
  int ordinal = 0;  // N of "cuda:N"
  std::string name;
  std::size_t memory_bytes = 0;
  int arch = 0;         // compute capability: major * 10 + minor
  std::string problem;  // why kernels of this build do not run on it; empty if they do
};

/// The GPUs of this machine, in the driver's order.
struct GpuList {
  std::vector<GpuInfo> gpus;
  int cuda_version = 0;  // what the driver supports, 13000: CUDA 13.0; 0 without one
  std::string problem;   // why none of them can be used; empty if one can
};

/// Never throws for want of a driver or a GPU: the list says so.
GpuList list_gpus();

/// What goes through cuBLASLt if it may, and in pieces of which size (docs/gpu/linear.md has the reasons).
struct PanelLimits {
  std::int64_t dense_tokens = 512;                      // least tokens of a product with 16-bit weights
  std::int64_t quantized_tokens = 256;                  // and with quantised ones
  std::int64_t panel_bytes = std::int64_t{64} << 20;    // of weights that are row-major at a time
  std::int64_t product_bytes = std::int64_t{64} << 20;  // of products that wait for their epilogue
};

/// Whether cuBLASLt is there.
struct BlasInfo {
  std::string version;  // "13.1.0"
  std::string problem;  // why it cannot be used; empty if it can
};
BlasInfo find_cublaslt();

struct CudaBackendOptions {
  int ordinal = 0;
  ActivationMode activations = ActivationMode::automatic;
  double memory_fraction = 0.9;  // of the memory free at the start, what available_bytes() counts as there
  bool batch_invariant = true;   // false: large products through cuBLASLt, so that results depend on a step's size
  PanelLimits panels = {};
};

/// Throws ConfigError with the reason if that GPU cannot be used or cuBLASLt is wanted and not there, MemoryError.
std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options);

struct TensorParallelOptions {
  std::vector<int> ordinals;  // of the GPUs, two or more, each once
  ActivationMode activations = ActivationMode::automatic;
  double memory_fraction = 0.9;  // as CudaBackendOptions', of each
  bool batch_invariant = true;   // likewise
  PanelLimits panels = {};
};

/// Several GPUs of one architecture as one backend. Throws ConfigError with the reason if they cannot be used together,
/// MemoryError.
std::unique_ptr<Backend> make_tensor_parallel_backend(const TensorParallelOptions& options);

}  // namespace inferd
