// What every rank does of an operation, and how the ranks' products come together.
#include "kernels/cuda/tensor_parallel.h"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/errors.h"
#include "kernels/cuda/ranks.h"
#include "kernels/weight_slice.h"

namespace inferd {
namespace cuda {
namespace {

/// A matrix on every rank, or its parts.
class ShardedWeight final : public Weight {
 public:
  ShardedWeight(std::vector<std::unique_ptr<Weight>> parts, Shard shard) : parts_(std::move(parts)), shard_(shard) {}
  std::int64_t rows() const override { return parts_[0]->rows(); }
  std::int64_t columns() const override { return parts_[0]->columns(); }
  std::uint32_t activation_forms() const override { return parts_[0]->activation_forms(); }
  std::size_t bytes() const override {
    std::size_t total = 0;
    for (const auto& part : parts_) total += part->bytes();
    return total;
  }
  const Weight& part(std::size_t rank) const { return *parts_[rank]; }
  Shard shard() const { return shard_; }

 private:
  std::vector<std::unique_ptr<Weight>> parts_;  // by rank
  Shard shard_;
};

const ShardedWeight& sharded(const Weight* weight) { return static_cast<const ShardedWeight&>(*weight); }

}  // namespace

/// A buffer on every rank, known by rank 0's address for as long as it lives.
class TensorParallelBackend::Buffer final : public DeviceBuffer {
 public:
  Buffer(TensorParallelBackend& backend, std::size_t bytes) : backend_(backend), bytes_(bytes) {
    Mirror mirror{bytes, {}};
    for (Rank& rank : backend_.ranks_) {
      parts_.push_back(rank.backend->allocate(bytes));
      mirror.at.push_back(static_cast<std::byte*>(parts_.back()->data()));
    }
    const std::byte* first = mirror.at[0];
    backend_.mirrors_[first] = std::move(mirror);
  }
  ~Buffer() override { backend_.mirrors_.erase(static_cast<const std::byte*>(data())); }
  void* data() const override { return parts_[0]->data(); }
  std::size_t bytes() const override { return bytes_; }

 private:
  TensorParallelBackend& backend_;
  const std::size_t bytes_;
  std::vector<std::unique_ptr<DeviceBuffer>> parts_;
};

TensorParallelBackend::TensorParallelBackend(const TensorParallelOptions& options) {
  const std::vector<int>& ordinals = options.ordinals;
  if (ordinals.size() < 2 || std::set<int>(ordinals.begin(), ordinals.end()).size() != ordinals.size()) {
    throw ConfigError("tensor_parallel: expected two or more different GPUs, found " + std::to_string(ordinals.size()));
  }
  const Nccl nccl = Nccl::open();
  for (const int ordinal : ordinals) {
    ranks_.push_back({std::make_unique<CudaBackend>(CudaBackendOptions{.ordinal = ordinal,
                                                                       .activations = options.activations,
                                                                       .memory_fraction = options.memory_fraction,
                                                                       .batch_invariant = options.batch_invariant,
                                                                       .panels = options.panels}),
                      nullptr});
    const Context &first = ranks_[0].backend->stream().context(), &last = ranks_.back().backend->stream().context();
    if (first.info().arch() == last.info().arch()) continue;
    throw ConfigError("tensor_parallel: expected GPUs of one architecture, found " + first.label() + " (sm_" +
                      std::to_string(first.info().arch()) + ") and " + last.label() + " (sm_" +
                      std::to_string(last.info().arch()) + ")");
  }
  communicators_ = std::make_unique<Communicators>(nccl, ordinals);
}

TensorParallelBackend::~TensorParallelBackend() = default;

std::string TensorParallelBackend::name() const {
  std::string list;
  for (const Rank& rank : ranks_) list += (list.empty() ? "" : "; ") + rank.backend->stream().context().label();
  return "cuda (" + std::to_string(ranks_.size()) + " GPUs: " + list + ", sm_" +
         std::to_string(ranks_[0].backend->stream().context().info().arch()) + ranks_[0].backend->arithmetic() + ")";
}

std::size_t TensorParallelBackend::available_bytes() const {
  std::size_t least = ranks_[0].backend->available_bytes();
  for (const Rank& rank : ranks_) least = std::min(least, rank.backend->available_bytes());
  return least;
}

std::unique_ptr<DeviceBuffer> TensorParallelBackend::allocate(std::size_t bytes) {
  return std::make_unique<Buffer>(*this, bytes);
}

std::unique_ptr<Weight> TensorParallelBackend::load_weight(std::span<const WeightSource> parts,
                                                           const WeightOptions& options) {
  INFERD_CHECK(!parts.empty() && (options.shard == Shard::none || !options.also_embedding));
  for (const WeightSource& part : parts) check_weight_source(part, parts[0].columns);
  std::vector<std::unique_ptr<Weight>> loaded;
  for (int rank = 0; rank < ranks(); ++rank) {
    std::vector<WeightSlice> slices;
    std::vector<WeightSource> sources(parts.begin(), parts.end());
    for (WeightSource& source : sources) {
      if (options.shard == Shard::none) break;
      slices.push_back(options.shard == Shard::rows ? slice_rows(source, rank, ranks())
                                                    : slice_columns(source, rank, ranks()));
      source = slices.back().source;
    }
    loaded.push_back(ranks_[static_cast<std::size_t>(rank)].backend->load_weight(sources, options));
  }
  return std::make_unique<ShardedWeight>(std::move(loaded), options.shard);
}

template <typename Function>
void TensorParallelBackend::guarded(Function function) {
  try {
    function();
  } catch (const FatalError& error) {
    if (error.code == ExitCode::gpu_lost) communicators_->abort();
    throw;
  }
}

template <typename Function>
void TensorParallelBackend::each(Function function) {
  guarded([&] {
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) function(rank, *ranks_[rank].backend);
  });
}

std::size_t TensorParallelBackend::activation_bytes(std::int64_t rows, std::int64_t columns,
                                                    std::uint32_t forms) const {
  return ranks_[0].backend->activation_bytes(rows, columns, forms);
}

void TensorParallelBackend::reserve_workspace(std::int64_t max_tokens, std::int64_t max_columns) {
  for (Rank& rank : ranks_) {
    rank.backend->reserve_workspace(max_tokens, max_columns);
    const std::size_t bytes = ranks_.size() * static_cast<std::size_t>(max_tokens * max_columns) * sizeof(float);
    if (rank.gathered && rank.gathered->bytes() >= bytes) continue;
    rank.backend->graphs().forget();
    rank.gathered.reset();
    rank.gathered = rank.backend->allocate(bytes);
  }
}

void TensorParallelBackend::upload(void* device, const void* host, std::size_t bytes) {
  each([&](std::size_t rank, CudaBackend& backend) { backend.upload(local(rank, device), host, bytes); });
}

void TensorParallelBackend::upload_parts(void* device, const void* host, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(host);
  each(
      [&](std::size_t rank, CudaBackend& backend) { backend.upload(local(rank, device), from + rank * bytes, bytes); });
}

void TensorParallelBackend::download(void* host, const void* device, std::size_t bytes) {
  guarded([&] { ranks_[0].backend->download(host, device, bytes); });
}

void TensorParallelBackend::synchronize() {
  for (bool done = false; !done;) {
    done = true;
    each([&](std::size_t, const CudaBackend& backend) { done = backend.stream().done() && done; });
    guarded([&] { communicators_->check_async(); });
    if (!done) std::this_thread::yield();
  }
}

void TensorParallelBackend::captured(std::uint64_t key, const std::function<void()>& work) {
  if (!ranks_[0].backend->graphs().holds(key)) {
    each([](std::size_t, CudaBackend& backend) { backend.graphs().begin(); });
    try {
      work();
    } catch (...) {
      each([](std::size_t, CudaBackend& backend) { backend.graphs().abandon(); });
      throw;
    }
    each([key](std::size_t, CudaBackend& backend) { backend.graphs().end(key); });
  }
  each([key](std::size_t, CudaBackend& backend) { backend.graphs().replay(key); });
}

void* TensorParallelBackend::local(std::size_t rank, void* device) const {
  if (rank == 0 || device == nullptr) return device;
  const auto* at = static_cast<const std::byte*>(device);
  auto found = mirrors_.upper_bound(at);
  INFERD_CHECK(found != mirrors_.begin());
  --found;
  const auto offset = static_cast<std::size_t>(at - found->first);
  INFERD_CHECK(offset <= found->second.bytes);
  return found->second.at[rank] + offset;
}

template <typename... Parts>
void TensorParallelBackend::translate(std::size_t rank, Parts&... parts) const {
  (translate_one(rank, parts), ...);
}

BatchTensors TensorParallelBackend::local_batch(std::size_t rank, const BatchTensors& batch) const {
  BatchTensors out = batch;
  translate(rank, out.tokens, out.positions, out.slots, out.query_starts, out.context_lens, out.block_tables,
            out.block_positions, out.rope_rows, out.prefix_lens, out.type_ids, out.adapters);
  return out;
}

void TensorParallelBackend::embedding(const EmbeddingArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    EmbeddingArgs own = args;
    own.weight = &sharded(args.weight).part(rank);
    translate(rank, own.out, own.ids);
    backend.embedding(own);
  });
}

void TensorParallelBackend::norm(const NormArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    NormArgs own = args;
    translate(rank, own.x, own.weight, own.bias, own.residual, own.out, own.activation);
    backend.norm(own);
  });
}

void TensorParallelBackend::to_activation(const ToActivationArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    ToActivationArgs own = args;
    translate(rank, own.x, own.out);
    backend.to_activation(own);
  });
}

LinearArgs TensorParallelBackend::local_linear(std::size_t rank, const LinearArgs& args) const {
  LinearArgs own = args;
  own.weight = &sharded(args.weight).part(rank);
  translate(rank, own.x, own.addend, own.bias, own.residual, own.out, own.out_activation);
  return own;
}

void TensorParallelBackend::linear(const LinearArgs& args) {
  const Shard shard = sharded(args.weight).shard();
  if (shard == Shard::columns) return linear_by_columns(args);
  if (shard == Shard::rows && args.out && args.out.dim(1) == ranks() * args.weight->rows()) return linear_joined(args);
  each([&](std::size_t rank, CudaBackend& backend) { backend.linear(local_linear(rank, args)); });
}

template <typename Adjust>
void TensorParallelBackend::gather_products(const LinearArgs& args, Adjust adjust) {
  const std::int64_t columns = args.weight->rows(), count = args.num_tokens * columns;
  std::vector<float*> gathered;
  std::vector<StreamHandle> streams;
  each([&](std::size_t rank, CudaBackend& backend) {
    const DeviceBuffer* buffer = ranks_[rank].gathered.get();
    INFERD_CHECK(buffer && ranks_.size() * static_cast<std::size_t>(count) * sizeof(float) <= buffer->bytes());
    gathered.push_back(static_cast<float*>(buffer->data()));
    streams.push_back(backend.stream().handle());
    LinearArgs own = local_linear(rank, args);
    adjust(rank, own);
    own.out = Tensor(gathered.back() + static_cast<std::int64_t>(rank) * count, DType::f32, {args.num_tokens, columns});
    backend.linear(own);
  });
  guarded([&] { communicators_->all_gather(gathered, static_cast<std::size_t>(count), streams); });
}

void TensorParallelBackend::linear_by_columns(const LinearArgs& args) {
  const std::int64_t columns = args.weight->rows(), count = args.num_tokens * columns;
  if (count == 0) return;
  INFERD_CHECK(args.epilogue == Epilogue::none && args.out && args.out.row_stride == columns);
  gather_products(args, [](std::size_t rank, LinearArgs& own) {
    if (rank > 0) own.addend = own.bias = own.residual = {};  // once in the sum
  });
  each([&](std::size_t rank, CudaBackend& backend) {
    const auto* parts = static_cast<const float*>(ranks_[rank].gathered->data());
    sum_ranks(backend.here(), parts, ranks(), count, static_cast<float*>(local(rank, args.out.data)));
  });
}

void TensorParallelBackend::linear_joined(const LinearArgs& args) {
  if (args.num_tokens == 0) return;
  INFERD_CHECK(args.epilogue == Epilogue::none && !args.addend && !args.residual);
  gather_products(args, [](std::size_t, LinearArgs&) {});
  each([&](std::size_t rank, CudaBackend& backend) {
    Tensor out = args.out.first_rows(args.num_tokens);
    translate(rank, out);
    join_ranks(backend.here(), static_cast<const float*>(ranks_[rank].gathered->data()), ranks(), out);
  });
}

void TensorParallelBackend::rope_table(const RopeTableArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    RopeTableArgs own = args;
    translate(rank, own.positions, own.inv_freq, own.rows, own.out);
    backend.rope_table(own);
  });
}

void TensorParallelBackend::qkv_post(const QkvPostArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    QkvPostArgs own = args;
    translate(rank, own.qkv, own.q_norm, own.k_norm, own.rope, own.second_rope, own.q_scale, own.k_shift, own.kv,
              own.slots);
    backend.qkv_post(own);
  });
}

void TensorParallelBackend::attention(const AttentionArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    const BatchTensors batch = local_batch(rank, *args.batch);
    AttentionArgs own = args;
    own.batch = &batch;
    translate(rank, own.qkv, own.kv, own.alibi_slopes, own.out, own.out_activation);
    backend.attention(own);
  });
}

void TensorParallelBackend::encoder_attention(const EncoderAttentionArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    const BatchTensors batch = local_batch(rank, *args.batch);
    EncoderAttentionArgs own = args;
    own.batch = &batch;
    translate(rank, own.qkv, own.out, own.out_activation);
    backend.encoder_attention(own);
  });
}

void TensorParallelBackend::gather_rows(const GatherRowsArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    GatherRowsArgs own = args;
    translate(rank, own.x, own.rows, own.out);
    backend.gather_rows(own);
  });
}

void TensorParallelBackend::pool(const PoolArgs& args) {
  each([&](std::size_t rank, CudaBackend& backend) {
    const BatchTensors batch = local_batch(rank, *args.batch);
    PoolArgs own = args;
    own.batch = &batch;
    translate(rank, own.x, own.out);
    backend.pool(own);
  });
}

}  // namespace cuda

std::unique_ptr<Backend> make_tensor_parallel_backend(const TensorParallelOptions& options) {
  return std::make_unique<cuda::TensorParallelBackend>(options);
}

}  // namespace inferd
