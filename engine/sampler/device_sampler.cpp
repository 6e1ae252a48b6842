// DeviceSampler: rules as the backend reads them, and what it drew on the way back.
#include "engine/sampler/device_sampler.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace inferd {
namespace {

// What a slot holds; rows of requests with more go to the host.
constexpr std::int64_t kMaxBiases = 1024;
constexpr std::int64_t kMaxBanned = 64;
constexpr std::int64_t kMaxCounts = 32768;

static_assert(kMaxTopLogprobs == kSampleTopLogprobs);

/// Where each result of a step of `rows` rows lies, in 4-byte words: tokens, status, logprobs [rows], then
/// top_tokens, top_logprobs [rows, kSampleTopLogprobs].
struct ResultLayout {
  explicit ResultLayout(std::int64_t step_rows) : rows(step_rows) {}
  std::int64_t status() const { return rows; }
  std::int64_t logprobs() const { return 2 * rows; }
  std::int64_t top_tokens() const { return 3 * rows; }
  std::int64_t top_logprobs() const { return (3 + kSampleTopLogprobs) * rows; }
  std::int64_t end() const { return (3 + 2 * kSampleTopLogprobs) * rows; }
  const std::int64_t rows;
};

std::size_t bytes_of(std::int64_t words) { return static_cast<std::size_t>(words) * sizeof(std::int32_t); }

template <typename T>
T word_at(const std::byte* words, std::int64_t index) {
  static_assert(sizeof(T) == sizeof(std::int32_t));
  T value;
  std::memcpy(&value, words + bytes_of(index), sizeof(value));
  return value;
}

bool in_vocabulary(TokenId token, std::int64_t vocab_size) { return token >= 0 && token < vocab_size; }

/// The ids of a vocabulary among `ids`, each once.
void keep_distinct(std::span<const TokenId> ids, std::int64_t vocab_size, std::vector<std::int32_t>* out) {
  out->assign(ids.begin(), ids.end());
  std::erase_if(*out, [vocab_size](TokenId token) { return !in_vocabulary(token, vocab_size); });
  std::sort(out->begin(), out->end());
  out->erase(std::unique(out->begin(), out->end()), out->end());
}

}  // namespace

DeviceSampler::DeviceSampler(Backend& backend, const DeviceSamplerLimits& limits)
    : backend_(backend),
      limits_(limits),
      counts_capacity_(std::min({limits.vocab_size, limits.context_length, kMaxCounts})) {
  INFERD_CHECK(backend.samples(limits.vocab_size) && limits.slots > 0 && limits.rows > 0 && counts_capacity_ > 0);
  const auto slots = static_cast<std::size_t>(limits.slots);
  const auto per_slot = [&](std::int64_t count, std::size_t bytes) {
    return backend_.allocate(slots * static_cast<std::size_t>(count) * bytes);
  };
  rules_ = per_slot(1, sizeof(SampleRules));
  biases_ = per_slot(kMaxBiases, sizeof(TokenBias));
  banned_ = per_slot(kMaxBanned, sizeof(std::int32_t));
  counts_ = per_slot(counts_capacity_, sizeof(TokenCount));
  device_slots_ = backend_.allocate(bytes_of(limits.rows));
  const std::size_t result_bytes = bytes_of(ResultLayout(limits.rows).end());
  results_ = backend_.allocate(result_bytes);
  for (Copy& copy : copies_) copy.memory = backend_.host_copy(result_bytes);
  for (std::int64_t slot = limits.slots - 1; slot >= 0; --slot) free_.push_back(static_cast<std::int32_t>(slot));
  row_slots_.reserve(static_cast<std::size_t>(limits.rows));
  host_biases_.reserve(kMaxBiases);
  host_banned_.reserve(kMaxBanned);
  host_counts_.reserve(static_cast<std::size_t>(counts_capacity_));
}

bool DeviceSampler::takes(const SamplingParams& params, std::span<const TokenId> stop_ids,
                          std::int64_t min_outputs) const {
  if (static_cast<std::int64_t>(params.logit_bias.size()) > kMaxBiases) return false;
  // The host adds the biases of a token named twice up; here each is named once.
  std::vector<TokenId> biased;
  for (const auto& [token, bias] : params.logit_bias) biased.push_back(token);
  std::sort(biased.begin(), biased.end());
  if (std::adjacent_find(biased.begin(), biased.end()) != biased.end()) return false;
  if (min_outputs <= 0) return true;
  std::vector<std::int32_t> banned;
  keep_distinct(stop_ids, limits_.vocab_size, &banned);
  return static_cast<std::int64_t>(banned.size()) <= kMaxBanned;
}

void DeviceSampler::put_lists(const RuleSource& source, std::int32_t slot, SampleRules* rules) {
  const auto put = [this](auto* device, const auto& host) {
    if (!host.empty()) backend_.upload(device, host.data(), host.size() * sizeof(host.front()));
    return static_cast<std::int32_t>(host.size());
  };
  host_biases_.clear();
  for (const auto& [token, bias] : source.params.logit_bias) {
    if (in_vocabulary(token, limits_.vocab_size)) host_biases_.push_back({token, bias, 0.0f});
  }
  INFERD_CHECK(static_cast<std::int64_t>(host_biases_.size()) <= kMaxBiases);
  rules->biases = list<TokenBias>(biases_, slot, kMaxBiases);
  rules->num_biases = put(rules->biases, host_biases_);

  host_banned_.clear();
  if (source.position < source.min_outputs) keep_distinct(source.stop_ids, limits_.vocab_size, &host_banned_);
  INFERD_CHECK(static_cast<std::int64_t>(host_banned_.size()) <= kMaxBanned);
  rules->banned = list<std::int32_t>(banned_, slot, kMaxBanned);
  rules->num_banned = put(rules->banned, host_banned_);
  rules->banned_until = source.min_outputs;

  if (!has_penalties(source.params)) return;
  host_counts_.clear();
  for (const TokenCounts::Entry& entry : source.counts) {
    host_counts_.push_back({entry.token, static_cast<std::int32_t>(entry.in_output), 0.0f});
  }
  INFERD_CHECK(static_cast<std::int64_t>(host_counts_.size()) <= counts_capacity_);
  rules->counts = list<TokenCount>(counts_, slot, counts_capacity_);
  rules->num_counts = put(rules->counts, host_counts_);
  rules->counts_capacity = static_cast<std::int32_t>(counts_capacity_);
}

std::int32_t DeviceSampler::make_slot(const RuleSource& source) {
  INFERD_CHECK(!free_.empty());
  const std::int32_t slot = free_.back();
  free_.pop_back();
  const SamplingParams& params = source.params;
  SampleRules rules;
  rules.seed = static_cast<std::uint64_t>(params.seed);
  rules.position = source.position;
  rules.temperature = params.temperature;
  rules.top_p = params.top_p;
  rules.min_p = params.min_p;
  rules.top_k = params.top_k;
  rules.repetition_penalty = params.repetition_penalty;
  rules.presence_penalty = params.presence_penalty;
  rules.frequency_penalty = params.frequency_penalty;
  rules.top_logprobs = std::min(source.top_logprobs, kMaxTopLogprobs);
  put_lists(source, slot, &rules);
  backend_.upload(list<SampleRules>(rules_, slot, 1), &rules, sizeof(rules));
  return slot;
}

void DeviceSampler::clear() {
  row_slots_.clear();
  draws_ = false;
  top_logprobs_ = -1;
}

void DeviceSampler::add_row(std::int32_t slot, int top_logprobs) {
  INFERD_CHECK(rows() < limits_.rows);
  row_slots_.push_back(slot);
  if (slot < 0) return;
  draws_ = true;
  top_logprobs_ = std::max(top_logprobs_, top_logprobs);
}

void DeviceSampler::upload() {
  if (!row_slots_.empty()) backend_.upload(device_slots_->data(), row_slots_.data(), bytes_of(rows()));
}

void DeviceSampler::sample(const Tensor& logits) {
  const ResultLayout at(rows());
  INFERD_CHECK(logits.dim(0) == at.rows && logits.dim(1) == limits_.vocab_size);
  auto* words = static_cast<std::int32_t*>(results_->data());
  SampleArgs args;
  args.logits = logits;
  args.slots = Tensor(device_slots_->data(), DType::i32, {at.rows});
  args.rules = static_cast<SampleRules*>(rules_->data());
  args.tokens = Tensor(words, DType::i32, {at.rows});
  args.status = Tensor(words + at.status(), DType::i32, {at.rows});
  if (wants_logprobs()) {
    args.logprobs = Tensor(words + at.logprobs(), DType::f32, {at.rows});
    args.top_tokens = Tensor(words + at.top_tokens(), DType::i32, {at.rows, kSampleTopLogprobs});
    args.top_logprobs = Tensor(words + at.top_logprobs(), DType::f32, {at.rows, kSampleTopLogprobs});
  }
  backend_.sample(args);
}

void DeviceSampler::send_back(int copy) {
  Copy& to = copies_[static_cast<std::size_t>(copy)];
  const ResultLayout at(rows());
  to.received = nullptr;
  to.rows = at.rows;
  const std::int64_t words = top_logprobs_ > 0  ? at.end()
                             : wants_logprobs() ? at.top_tokens()
                             : draws_           ? at.logprobs()
                                                : 0;
  to.memory->start(results_->data(), bytes_of(words));
}

void DeviceSampler::receive(int copy) {
  Copy& from = copies_[static_cast<std::size_t>(copy)];
  from.received = from.memory->wait();
}

SampleResult DeviceSampler::read(int copy, std::int64_t row, int top_logprobs, TokenEvent* out) const {
  const Copy& from = copies_[static_cast<std::size_t>(copy)];
  INFERD_CHECK(from.received != nullptr && row >= 0 && row < from.rows);
  const ResultLayout at(from.rows);
  const auto status = static_cast<SampleStatus>(word_at<std::int32_t>(from.received, at.status() + row));
  if (status != SampleStatus::token) {
    return status == SampleStatus::all_banned ? SampleResult::all_banned : SampleResult::not_finite;
  }
  *out = {};
  out->token = word_at<std::int32_t>(from.received, row);
  INFERD_CHECK(in_vocabulary(out->token, limits_.vocab_size));
  if (top_logprobs < 0) return SampleResult::token;
  out->logprob = word_at<float>(from.received, at.logprobs() + row);
  const std::int64_t tops = std::min<std::int64_t>({top_logprobs, kMaxTopLogprobs, limits_.vocab_size});
  for (std::int64_t i = row * kSampleTopLogprobs; i < row * kSampleTopLogprobs + tops; ++i) {
    out->top.push_back(
        {word_at<TokenId>(from.received, at.top_tokens() + i), word_at<float>(from.received, at.top_logprobs() + i)});
  }
  return SampleResult::token;
}

}  // namespace inferd
