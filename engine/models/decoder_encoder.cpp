// A decoder run as an encoder: whole inputs in one step, over the cache of a single layer.
#include "engine/models/decoder_encoder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/errors.h"
#include "base/log.h"
#include "engine/models/weight_loader.h"

namespace inferd {
namespace {

constexpr int kBlock = 16;

std::int64_t blocks_of(std::int64_t tokens) { return (tokens + kBlock - 1) / kBlock; }

/// int32 values that a step needs on the device beside those of its batch.
class StepArray {
 public:
  StepArray(Backend& backend, std::int64_t capacity)
      : backend_(backend), device_(backend.allocate(static_cast<std::size_t>(capacity) * sizeof(std::int32_t))) {
    values.reserve(static_cast<std::size_t>(capacity));
  }
  Tensor send(std::initializer_list<std::int64_t> shape) {
    backend_.upload(device_->data(), values.data(), values.size() * sizeof(std::int32_t));
    return Tensor(device_->data(), DType::i32, shape);
  }
  std::vector<std::int32_t> values;

 private:
  Backend& backend_;
  std::unique_ptr<DeviceBuffer> device_;
};

class DecoderEncoder final : public EncoderModel {
 public:
  DecoderEncoder(std::unique_ptr<Model> decoder, ScoreHead head, Backend& backend, const ModelOptions& options,
                 const DecoderRole& role)
      : decoder_(std::move(decoder)),
        head_(std::move(head)),
        backend_(backend),
        pooling_(role.pooling),
        info_(decoder_->info()),
        max_tokens_(options.max_batch_tokens),
        starts_(static_cast<std::size_t>(max_tokens_) + 1),
        slots_(backend, max_tokens_),
        contexts_(backend, max_tokens_),
        rows_(backend, max_tokens_),
        tables_(backend, max_tokens_ / kBlock * blocks_of(max_tokens_)) {
    if (head_) pooling_ = {.kind = PoolingKind::last, .normalize = false, .max_sequence_tokens = info_.max_context};
    pooling_.max_sequence_tokens = std::min({pooling_.max_sequence_tokens, info_.max_context, max_tokens_});
    info_.max_context = pooling_.max_sequence_tokens;
    memory_ = backend.allocate(lay_out(nullptr));
    lay_out(memory_->data());
  }

  const ModelInfo& info() const override { return info_; }
  std::int64_t max_batch_tokens() const override { return max_tokens_; }
  std::int64_t max_sequence_tokens() const override { return pooling_.max_sequence_tokens; }
  std::int64_t batch_cost(std::int64_t tokens) const override { return blocks_of(tokens) * kBlock; }
  EncoderKind kind() const override { return head_ ? EncoderKind::reranker : EncoderKind::embedding; }
  bool normalizes() const override { return pooling_.normalize; }
  std::int64_t embedding_dim() const override { return head_ ? 1 : info_.hidden_size; }

  Tensor encode(const BatchTensors& batch, const LayerHook& hook) override {
    INFERD_CHECK(batch.num_tokens > 0 && batch.num_tokens <= max_tokens_);
    const BatchTensors placed = place(batch);
    const Tensor features = decoder_->forward(placed, kv_, rows_.send({batch.num_tokens}), hook);
    const Tensor out = pooled_.first_rows(batch.num_sequences);
    backend_.pool({.x = features, .batch = &batch, .kind = pooling_.kind, .normalize = pooling_.normalize, .out = out});
    return head_ ? head_.run(backend_, out) : out;
  }

 private:
  /// The batch with places in the cache: every input from a block of its own on.
  BatchTensors place(const BatchTensors& batch) {
    const auto sequences = static_cast<std::size_t>(batch.num_sequences);
    backend_.download(starts_.data(), batch.query_starts.data, (sequences + 1) * sizeof(std::int32_t));
    const std::int64_t width = blocks_of(batch.max_query_len);
    for (StepArray* array : {&slots_, &contexts_, &rows_, &tables_}) array->values.clear();
    std::int32_t next_block = 0;
    for (std::size_t s = 0; s < sequences; ++s) {
      const std::int32_t length = starts_[s + 1] - starts_[s];
      contexts_.values.push_back(length);
      for (std::int32_t i = 0; i < length; ++i) {
        slots_.values.push_back(next_block * kBlock + i);
        rows_.values.push_back(starts_[s] + i);
      }
      for (std::int64_t i = 0; i < width; ++i) {
        tables_.values.push_back(next_block + static_cast<std::int32_t>(std::min(i, blocks_of(length) - 1)));
      }
      next_block += static_cast<std::int32_t>(blocks_of(length));
    }
    INFERD_CHECK(next_block <= max_tokens_ / kBlock);
    BatchTensors out = batch;
    out.slots = slots_.send({batch.num_tokens});
    out.context_lens = contexts_.send({batch.num_sequences});
    out.block_tables = tables_.send({batch.num_sequences, width});
    out.max_context_len = batch.max_query_len;
    return out;
  }

  /// Sets all views from `base` on (null: only measures). Returns the bytes they take.
  std::size_t lay_out(void* base) {
    ArenaLayout arena(base);
    const KvSpec spec = decoder_->kv_spec();
    const std::int64_t blocks = max_tokens_ / kBlock;
    const std::int64_t row = static_cast<std::int64_t>(spec.num_kv_heads) * spec.head_dim;
    KvLayer layer;
    layer.block_size = kBlock;
    for (Tensor* tensor : {&layer.keys, &layer.values}) {
      *tensor =
          Tensor(arena.matrix(max_tokens_, row).data, DType::f32, {blocks, spec.num_kv_heads, kBlock, spec.head_dim});
    }
    kv_.assign(static_cast<std::size_t>(spec.num_layers), layer);
    pooled_ = arena.matrix(blocks, info_.hidden_size);
    head_.lay_out(&arena, backend_, blocks);
    return arena.total_bytes();
  }

  const std::unique_ptr<Model> decoder_;
  ScoreHead head_;
  Backend& backend_;
  PoolingConfig pooling_;
  ModelInfo info_;
  const std::int64_t max_tokens_;     // a multiple of kBlock
  std::vector<std::int32_t> starts_;  // the batch's query_starts on the host
  StepArray slots_, contexts_, rows_, tables_;
  std::unique_ptr<DeviceBuffer> memory_;
  std::vector<KvLayer> kv_;  // the same memory for every layer: none is read after its own turn
  Tensor pooled_;            // [max_tokens / kBlock, hidden_size] f32
};

/// Row `row` of a matrix, widened to f32.
std::vector<float> matrix_row(const StoredTensor& matrix, std::int64_t row) {
  const std::int64_t columns = matrix.shape.at(1);
  const std::size_t bytes = row_bytes(matrix.dtype, columns);
  StoredTensor one = matrix;
  one.shape = {1, columns};
  one.data = matrix.data + static_cast<std::size_t>(row) * bytes;
  one.bytes = bytes;
  std::vector<float> values(static_cast<std::size_t>(columns));
  dequantize(one, values);
  return values;
}

/// The matrix that has the output rows of yes and no.
const StoredTensor& judging_matrix(const Checkpoint& checkpoint, const ModelConfig& config, const DecoderRole& role) {
  if (role.has_labels) return checkpoint.require("cls.output.weight", {2, config.hidden_size});
  const TensorNames names(checkpoint);
  return checkpoint.require(names.stored(config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight"),
                            {config.vocab_size, config.hidden_size});
}

}  // namespace

ScoreHead load_decoder_head(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                            const ModelOptions& options, const DecoderRole& role) {
  if (role.has_head) {
    WeightLoader loader(checkpoint, backend, options);
    return ScoreHead::of(loader.linear({{"score", 1}}, config.hidden_size, Bias::optional));
  }
  const std::int32_t yes = role.yes >= 0 ? role.yes : options.yes_token;
  const std::int32_t no = role.no >= 0 ? role.no : options.no_token;
  const StoredTensor& matrix = judging_matrix(checkpoint, config, role);
  if (yes < 0 || no < 0 || yes >= matrix.shape[0] || no >= matrix.shape[0]) {
    throw CheckpointError(log_safe(checkpoint.path()), "tokenizer", "the words yes and no as one token each", "none");
  }
  std::vector<float> difference = matrix_row(matrix, yes);
  const std::vector<float> other = matrix_row(matrix, no);
  for (std::size_t i = 0; i < difference.size(); ++i) difference[i] -= other[i];
  const WeightSource source{reinterpret_cast<const std::byte*>(difference.data()), DType::f32, 1, config.hidden_size};
  Linear out;
  out.weight = backend.load_weight({&source, 1}, {});
  return ScoreHead::of(std::move(out));
}

std::unique_ptr<EncoderModel> make_decoder_encoder(std::unique_ptr<Model> decoder, ScoreHead head, Backend& backend,
                                                   const ModelOptions& options, const DecoderRole& role) {
  return std::make_unique<DecoderEncoder>(std::move(decoder), std::move(head), backend, options, role);
}

}  // namespace inferd
