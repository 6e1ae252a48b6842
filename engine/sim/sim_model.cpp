// The sim models: hashes through the paged cache.
#include "engine/sim/sim_model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "base/check.h"
#include "engine/options.h"

namespace inferd {
namespace {

/// Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), the finaliser.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15u;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return mix(a ^ (mix(b) + 0x632be59bd9b4e019u)); }

/// What one KV slot holds: the key half as it stands, the value half with the link inverted.
struct Record {
  std::uint64_t link;
  std::int32_t token;
  std::int32_t position;
};
constexpr int kHeadDim = 8;  // 16 bytes of f16, 32 of f32: room for a Record
static_assert(sizeof(Record) == 16);

std::uint64_t next_link(std::uint64_t previous, TokenId token, std::int64_t position) {
  return mix(previous, (static_cast<std::uint64_t>(position) << 32) | static_cast<std::uint32_t>(token));
}

std::uint64_t fold_record(std::uint64_t fold, const Record& key, const Record& value) {
  fold = mix(fold, key.link);
  fold = mix(fold, (static_cast<std::uint64_t>(key.position) << 32) | static_cast<std::uint32_t>(key.token));
  fold = mix(fold, value.link);
  return mix(fold, (static_cast<std::uint64_t>(value.position) << 32) | static_cast<std::uint32_t>(value.token));
}

Record value_half(const Record& key) { return {~key.link, key.token, key.position}; }

constexpr float kSure = 200.0f;  // a logit that no sampling misses

void write_logits(const SimOptions& options, std::uint64_t fold, bool poisoned, std::span<float> out) {
  if (poisoned) {
    std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
    return;
  }
  double others = 0.0;
  for (std::size_t id = 0; id < out.size(); ++id) {
    const auto bits = static_cast<double>(mix(fold, id) >> 40) * 0x1.0p-24;
    out[id] = static_cast<float>(bits * 8.0 - 4.0);
    if (options.printable && !(id == '\n' || (id >= ' ' && id <= '~'))) out[id] -= 40.0f;
    if (static_cast<TokenId>(id) != options.eos_token) others += std::exp(static_cast<double>(out[id]));
  }
  const auto eos = static_cast<std::size_t>(options.eos_token);
  if (options.eos_token < 0 || eos >= out.size()) return;
  const double p = std::clamp(options.eos_probability, 0.0, 1.0 - 1e-9);
  out[eos] = p > 0.0 ? static_cast<float>(std::log(others * p / (1.0 - p))) : -80.0f;
}

void pass_time(double seconds, VirtualClock* clock) {
  if (seconds <= 0.0) return;
  if (clock != nullptr) {
    clock->advance(seconds);
  } else {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
}

/// A forward's time, spread over its layers.
void run_layers(const SimOptions& options, std::int32_t num_tokens, VirtualClock* clock, const LayerHook& hook) {
  const double seconds = options.step_s + options.token_s * static_cast<double>(num_tokens);
  for (int layer = 0; layer < options.layers; ++layer) {
    pass_time(seconds / options.layers, clock);
    if (hook) hook(layer);
  }
}

ModelInfo sim_info(const SimOptions& options) {
  ModelInfo info;
  info.name = "sim";
  info.family = "sim";
  info.quantization = "none";
  info.max_context = options.max_context;
  info.vocab_size = options.vocab_size;
  info.hidden_size = options.embedding_dim;
  return info;
}

class SimModel final : public Model {
 public:
  SimModel(const SimOptions& options, VirtualClock* clock)
      : options_(options),
        clock_(clock),
        info_(sim_info(options)),
        logits_(static_cast<std::size_t>(options.max_logit_rows * options.vocab_size)) {}

  const ModelInfo& info() const override { return info_; }
  KvSpec kv_spec() const override { return {1, 1, kHeadDim}; }
  bool only_queues() const override { return true; }

  Tensor forward(const BatchTensors& batch, const std::vector<KvLayer>& kv, const Tensor& logit_rows,
                 const LayerHook& hook) override {
    INFERD_CHECK(kv.size() == 1 && kv[0].block_size == kKvBlockTokens);
    INFERD_CHECK(logit_rows.dim(0) <= options_.max_logit_rows);
    for (std::int32_t s = 0; s < batch.num_sequences; ++s) write_records(batch, kv[0], s);
    run_layers(options_, batch.num_tokens, clock_, hook);
    const auto vocab = static_cast<std::size_t>(options_.vocab_size);
    const auto* rows = logit_rows.as<std::int32_t>();
    for (std::int64_t i = 0; i < logit_rows.dim(0); ++i) {
      write_row(batch, kv[0], rows[i], std::span(logits_).subspan(static_cast<std::size_t>(i) * vocab, vocab));
    }
    return Tensor(logits_.data(), DType::f32, {logit_rows.dim(0), options_.vocab_size});
  }

 private:
  static std::byte* at(const Tensor& half, std::int64_t slot) {
    INFERD_CHECK(slot >= 0 && slot < half.dim(0) * kKvBlockTokens);
    return half.as<std::byte>() + static_cast<std::size_t>(slot) * row_bytes(half.dtype, kHeadDim);
  }
  static Record load(const Tensor& half, std::int64_t slot) {
    Record record;
    std::memcpy(&record, at(half, slot), sizeof(record));
    return record;
  }
  static std::int64_t slot_of(const BatchTensors& batch, std::int32_t sequence, std::int64_t position) {
    const std::int64_t entry = position / kKvBlockTokens;
    INFERD_CHECK(entry < batch.block_tables.dim(1));
    const std::int32_t block = batch.block_tables.as<std::int32_t>()[sequence * batch.block_tables.row_stride + entry];
    return std::int64_t{block} * kKvBlockTokens + position % kKvBlockTokens;
  }

  void write_records(const BatchTensors& batch, const KvLayer& kv, std::int32_t sequence) const {
    const auto* starts = batch.query_starts.as<std::int32_t>();
    for (std::int32_t row = starts[sequence]; row < starts[sequence + 1]; ++row) {
      const std::int32_t position = batch.positions.as<std::int32_t>()[row];
      const std::int32_t token = batch.tokens.as<std::int32_t>()[row];
      const std::uint64_t previous =
          position == 0 ? options_.seed : load(kv.keys, slot_of(batch, sequence, position - 1)).link;
      const Record key{next_link(previous, token, position), token, position};
      const Record value = value_half(key);
      const std::int64_t slot = batch.slots.as<std::int32_t>()[row];
      std::memcpy(at(kv.keys, slot), &key, sizeof(key));
      std::memcpy(at(kv.values, slot), &value, sizeof(value));
    }
  }

  void write_row(const BatchTensors& batch, const KvLayer& kv, std::int32_t row, std::span<float> out) const {
    const auto* starts = batch.query_starts.as<std::int32_t>();
    const auto* end = starts + batch.num_sequences + 1;
    const auto sequence = static_cast<std::int32_t>(std::upper_bound(starts, end, row) - starts) - 1;
    // The row's place follows from context_lens, independently of `positions`, so that the two must agree.
    const std::int32_t context = batch.context_lens.as<std::int32_t>()[sequence];
    const std::int64_t last = context - (starts[sequence + 1] - row);
    std::uint64_t fold = options_.seed;
    bool poisoned = false;
    std::vector<TokenId> history;
    for (std::int64_t position = 0; position <= last; ++position) {
      const std::int64_t slot = slot_of(batch, sequence, position);
      const Record key = load(kv.keys, slot);
      fold = fold_record(fold, key, load(kv.values, slot));
      poisoned = poisoned || key.token == options_.poison_token;
      if (options_.echo) history.push_back(key.token);
    }
    write_logits(options_, fold, poisoned, out);
    if (options_.echo) out[static_cast<std::size_t>(echo_token(options_, history))] = kSure;
  }

  const SimOptions options_;
  VirtualClock* const clock_;
  const ModelInfo info_;
  std::vector<float> logits_;
};

class SimEncoder final : public EncoderModel {
 public:
  SimEncoder(const SimOptions& options, VirtualClock* clock)
      : options_(options), clock_(clock), info_(sim_info(options)) {}
  const ModelInfo& info() const override { return info_; }
  std::int64_t max_batch_tokens() const override { return options_.max_batch_tokens; }
  std::int64_t max_sequence_tokens() const override { return options_.max_context; }
  std::int64_t embedding_dim() const override { return options_.embedding_dim; }

  Tensor encode(const BatchTensors& batch, const LayerHook& hook) override {
    run_layers(options_, batch.num_tokens, clock_, hook);
    vectors_.clear();
    const auto* starts = batch.query_starts.as<std::int32_t>();
    const auto* tokens = batch.tokens.as<std::int32_t>();
    for (std::int32_t s = 0; s < batch.num_sequences; ++s) {
      const auto row =
          sim_embedding(options_, std::span(tokens + starts[s], static_cast<std::size_t>(starts[s + 1] - starts[s])));
      vectors_.insert(vectors_.end(), row.begin(), row.end());
    }
    return Tensor(vectors_.data(), DType::f32, {batch.num_sequences, options_.embedding_dim});
  }

 private:
  const SimOptions options_;
  VirtualClock* const clock_;
  const ModelInfo info_;
  std::vector<float> vectors_;
};

}  // namespace

void SimHistory::push(TokenId token) {
  link_ = next_link(link_, token, position_);
  const Record key{link_, token, static_cast<std::int32_t>(position_)};
  fold_ = fold_record(fold_, key, value_half(key));
  poisoned_ = poisoned_ || token == options_.poison_token;
  ++position_;
}

TokenId echo_token(const SimOptions& options, std::span<const TokenId> history) {
  constexpr TokenId kMessageStart = 256, kMessageEnd = 257;
  /// Where the text of the message that starts before `end` begins: after its role's line.
  const auto message_text = [&](std::size_t end) {
    const auto start = std::find(history.rend() - static_cast<std::ptrdiff_t>(end), history.rend(), kMessageStart);
    const auto line = std::find(start.base(), history.end(), '\n');
    return std::pair(static_cast<std::size_t>(history.rend() - start),
                     static_cast<std::size_t>(line - history.begin()) + 1);
  };
  const auto [answer_start, answer] = message_text(history.size());
  if (answer_start == 0 || answer > history.size()) return options.eos_token;
  const auto [said_start, said] = message_text(answer_start - 1);
  const std::size_t next = said + (history.size() - answer);
  if (said_start == 0 || next >= answer_start) return options.eos_token;
  const auto repeated = history.subspan(said, next + 1 - said);
  if (std::find(repeated.begin(), repeated.end(), kMessageEnd) != repeated.end()) return options.eos_token;
  return history[next];
}

void SimHistory::logits(std::span<float> out) const { write_logits(options_, fold_, poisoned_, out); }

std::vector<float> sim_embedding(const SimOptions& options, std::span<const TokenId> tokens) {
  std::uint64_t fold = options.seed;
  bool poisoned = false;
  for (const TokenId token : tokens) {
    fold = mix(fold, static_cast<std::uint64_t>(token));
    poisoned = poisoned || token == options.poison_token;
  }
  std::vector<float> out(static_cast<std::size_t>(options.embedding_dim));
  double square = 0.0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(mix(fold, i) >> 40) * 0x1.0p-23f - 1.0f;
    square += static_cast<double>(out[i]) * static_cast<double>(out[i]);
  }
  const float scale = poisoned ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>(1.0 / std::sqrt(square));
  for (float& x : out) x *= scale;
  return out;
}

std::unique_ptr<Model> make_sim_model(const SimOptions& options, VirtualClock* clock) {
  return std::make_unique<SimModel>(options, clock);
}
std::unique_ptr<Model> make_sim_model(std::string_view spec, VirtualClock* clock) {
  return make_sim_model(parse_sim_options(spec), clock);
}
std::unique_ptr<EncoderModel> make_sim_encoder(const SimOptions& options, VirtualClock* clock) {
  return std::make_unique<SimEncoder>(options, clock);
}
std::unique_ptr<EncoderModel> make_sim_encoder(std::string_view spec, VirtualClock* clock) {
  return make_sim_encoder(parse_sim_options(spec), clock);
}

}  // namespace inferd
