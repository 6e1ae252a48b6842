// BenchRunner: random prompts through EngineCore::step, as llama-bench measures prompts and generation.
#include "server/commands/bench_runner.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "engine/sampler/philox.h"
#include "engine/weights/model_config.h"

namespace inferd {
namespace {

using Streams = std::vector<std::shared_ptr<TokenStream>>;

double seconds_since(TimePoint start, const Clock& clock) {
  return std::chrono::duration<double>(clock.now() - start).count();
}

/// The matrix of the logits among those with a row for each token: the output matrix, or the tied embedding.
const StoredTensor* output_matrix(const Checkpoint& checkpoint, const ModelConfig& config) {
  const StoredTensor* found = nullptr;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.shape.size() != 2 || tensor.shape[0] < config.vocab_size || tensor.shape[1] != config.hidden_size) {
      continue;
    }
    const bool output =
        tensor.name.find("output") != std::string::npos || tensor.name.find("lm_head") != std::string::npos;
    if (found == nullptr || output) found = &tensor;
  }
  return found;
}

/// Whether a matrix is an expert's, or holds those of all; shared experts are none of them.
bool is_of_experts(const StoredTensor& tensor) {
  return tensor.name.find("_exps.") != std::string::npos || tensor.name.find(".experts.") != std::string::npos;
}

ModelCost cost_of(const Checkpoint& checkpoint, const ModelConfig& config, const ModelInfo& info, DType kv_dtype) {
  ModelCost cost;
  if (info.num_experts > 0) cost.expert_share = static_cast<double>(info.experts_per_token) / info.num_experts;
  const StoredTensor* output = output_matrix(checkpoint, config);
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const auto elements = static_cast<double>(tensor.elements());
    if (is_of_experts(tensor)) {
      cost.expert_weights += elements;
      cost.expert_bytes += static_cast<double>(tensor.bytes);
      continue;
    }
    if (tensor.shape.size() != 2) continue;
    if (&tensor == output) {
      cost.output_weights = elements;
      cost.output_bytes = static_cast<double>(tensor.bytes);
    } else if (tensor.shape[0] < config.vocab_size) {  // of an untied embedding, a token reads one row
      cost.layer_weights += elements;
      cost.layer_bytes += static_cast<double>(tensor.bytes);
    }
  }
  cost.kv_bytes =
      2.0 * config.num_layers * static_cast<double>(kv_bytes(kv_dtype, config.num_kv_heads, config.head_dim));
  cost.attention_flop_pair = 4.0 * config.num_layers * config.num_heads * config.head_dim;
  return cost;
}

std::int64_t prompt_tokens(const BenchCase& what) {
  return what.kind == BenchCase::Kind::prefill ? what.depth + what.tokens : std::max<std::int64_t>(what.depth, 1);
}

/// Tokens one stream may come to have. Streams that start decoding early go on until the last one has its prompt done.
std::int64_t stream_tokens(const BenchCase& what, std::int64_t batch_tokens) {
  if (what.kind == BenchCase::Kind::prefill) return prompt_tokens(what) + 1;
  const std::int64_t prefill_steps =
      what.batch * (prompt_tokens(what) / std::max<std::int64_t>(batch_tokens - what.batch, 1) + 2);
  return prompt_tokens(what) + what.tokens + prefill_steps + 2;
}

EngineOptions engine_options_for(const std::vector<BenchCase>& cases, const BenchOptions& options,
                                 const ModelInfo& info, const KvSpec& spec) {
  EngineOptions out = options.engine;
  std::int64_t blocks = 1, streams = 1, longest = 1;
  for (const BenchCase& what : cases) {
    const std::int64_t tokens = stream_tokens(what, out.max_batch_tokens);
    if (tokens > info.max_context) {
      throw ConfigError("bench: " + what.name() + ": expected at most " + std::to_string(info.max_context) +
                        " tokens (the context of " + info.name + "), found " + std::to_string(tokens));
    }
    longest = std::max(longest, tokens);
    streams = std::max(streams, what.batch);
    // Twice: a prefill at a depth finds its beginning in the prefix cache while the last one's end is still there.
    blocks = std::max(blocks, what.batch * (blocks_for_tokens(tokens) + 1) * (what.batch == 1 ? 2 : 1));
  }
  out.kv_cache_bytes = kv_block_bytes(spec, out.kv_dtype) * static_cast<std::size_t>(blocks);
  out.context_length = longest;
  out.max_concurrent_requests = streams;
  out.prefix_cache = true;
  out.speculation.mode = SpeculationMode::off;
  return out;
}

}  // namespace

std::string BenchCase::name() const {
  std::string text = (kind == Kind::prefill ? "pp" : "tg") + std::to_string(tokens);
  if (batch > 1) text += " x" + std::to_string(batch);
  return depth > 0 ? text + " @ " + std::to_string(depth) : text;
}

BenchRunner::BenchRunner(const Checkpoint& checkpoint, Backend& backend, const std::vector<BenchCase>& cases,
                         const BenchOptions& options)
    : options_(options) {
  const ModelConfig config = read_model_config(checkpoint);
  std::int64_t streams = 1;
  for (const BenchCase& what : cases) streams = std::max(streams, what.batch);
  options_.engine.max_batch_tokens = std::max(options_.engine.max_batch_tokens, streams);
  options_.engine.max_logit_rows = std::max(options_.engine.max_logit_rows, streams);
  ModelOptions model_options;
  model_options.max_batch_tokens = options_.engine.max_batch_tokens;
  model_options.max_logit_rows = options_.engine.max_logit_rows;
  LoadedModel loaded = load_model(checkpoint, config, backend, model_options);
  if (!loaded.decoder)
    throw ConfigError("bench: " + log_safe(checkpoint.path()) + ": expected a decoder, found an encoder");
  cost_ = cost_of(checkpoint, config, loaded.decoder->info(), options_.engine.kv_dtype);
  const EngineOptions engine = engine_options_for(cases, options_, loaded.decoder->info(), loaded.decoder->kv_spec());
  core_ = std::make_unique<EngineCore>(std::move(loaded.decoder), backend, engine, clock_);
}

std::vector<TokenId> BenchRunner::random_prompt(std::int64_t tokens) {
  std::vector<TokenId> prompt(static_cast<std::size_t>(tokens));
  const auto vocab = static_cast<double>(info().vocab_size);
  for (TokenId& token : prompt) token = static_cast<TokenId>(uniform_draw(options_.seed, draws_++) * vocab);
  return prompt;
}

Streams BenchRunner::start_streams(std::int64_t count, std::int64_t prompt_tokens, std::int64_t output_tokens) {
  Streams streams;
  for (std::int64_t i = 0; i < count; ++i) {
    Request request;
    request.prompt = random_prompt(prompt_tokens);
    request.sampling.temperature = 0.0f;
    request.max_output_tokens = output_tokens;
    auto submitted = core_->submit(std::move(request));
    INFERD_CHECK(std::holds_alternative<std::shared_ptr<TokenStream>>(submitted));
    streams.push_back(std::get<std::shared_ptr<TokenStream>>(std::move(submitted)));
  }
  return streams;
}

void BenchRunner::drain_streams(const Streams& streams) {
  for (const auto& stream : streams) stream->cancel();
  while (core_->step()) {
  }
  core_->blocks().drop_cached();
}

/// The depth is prefilled first, and found again in the prefix cache: only `tokens` are computed in the timed part.
double BenchRunner::prefill_once(const BenchCase& what) {
  std::vector<TokenId> prompt = random_prompt(what.depth);
  const auto prefill = [&] {
    Request request;
    request.prompt = prompt;
    request.sampling.temperature = 0.0f;
    request.max_output_tokens = 1;
    auto submitted = core_->submit(std::move(request));
    INFERD_CHECK(std::holds_alternative<std::shared_ptr<TokenStream>>(submitted));
    while (core_->step()) {
    }
  };
  if (what.depth > 0) prefill();
  const std::vector<TokenId> fresh = random_prompt(what.tokens);
  prompt.insert(prompt.end(), fresh.begin(), fresh.end());
  const std::int64_t before = core_->stats().prompt_tokens;
  const TimePoint start = clock_.now();
  prefill();
  const double seconds = seconds_since(start, clock_);
  INFERD_CHECK(core_->stats().prompt_tokens - before == what.tokens);
  core_->blocks().drop_cached();
  return seconds;
}

double BenchRunner::decode_once(const BenchCase& what) {
  const std::int64_t prompt = prompt_tokens(what);
  const std::int64_t room = stream_tokens(what, options_.engine.max_batch_tokens) - prompt;
  const Streams streams = start_streams(what.batch, prompt, room);
  const auto prefilling = [&] {
    const auto& running = core_->scheduler().running_sequences();
    return static_cast<std::int64_t>(running.size()) < what.batch ||
           std::any_of(running.begin(), running.end(), [](const auto& s) { return s->num_outputs() == 0; });
  };
  while (prefilling()) core_->step();
  const std::int64_t before = core_->stats().output_tokens;
  const TimePoint start = clock_.now();
  for (std::int64_t i = 0; i < what.tokens; ++i) core_->step();
  const double seconds = seconds_since(start, clock_);
  INFERD_CHECK(core_->stats().output_tokens - before == what.tokens * what.batch);
  drain_streams(streams);
  return seconds;
}

BenchResult BenchRunner::run(const BenchCase& what) {
  const bool prefill = what.kind == BenchCase::Kind::prefill;
  BenchResult result;
  result.what = what;
  result.tokens = what.tokens * what.batch;
  BenchCase warm_up = what;
  warm_up.tokens = std::min<std::int64_t>(what.tokens, prefill ? 128 : 8);
  warm_up.depth = std::min<std::int64_t>(what.depth, 128);
  for (std::int64_t i = -1; i < options_.repetitions; ++i) {
    const BenchCase& now = i < 0 ? warm_up : what;
    const double seconds = prefill ? prefill_once(now) : decode_once(now);
    if (i >= 0) result.seconds.push_back(seconds);
  }
  std::vector<double> sorted = result.seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  result.median_s = sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  result.tokens_per_s = static_cast<double>(result.tokens) / result.median_s;

  const auto tokens = static_cast<double>(what.tokens), batch = static_cast<double>(what.batch);
  const auto start = static_cast<double>(prefill ? what.depth : prompt_tokens(what));
  const double pairs = batch * (tokens * start + tokens * (tokens + 1) / 2);  // queries times the keys they see
  const std::int64_t chunks = (what.tokens + options_.engine.max_batch_tokens - 1) / options_.engine.max_batch_tokens;
  const double steps = prefill ? static_cast<double>(chunks) : tokens;
  const double logit_rows = prefill ? 1 : tokens * batch;
  const double step_tokens = tokens * batch / steps;
  const double experts_read = 1 - std::pow(1 - cost_.expert_share, step_tokens);
  const double weights = cost_.layer_weights + cost_.expert_share * cost_.expert_weights;
  const double flop =
      2 * weights * tokens * batch + 2 * cost_.output_weights * logit_rows + cost_.attention_flop_pair * pairs;
  const double kv_bytes = cost_.kv_bytes * (prefill ? start * steps + tokens : pairs);
  const double bytes = (cost_.layer_bytes + experts_read * cost_.expert_bytes) * steps +
                       cost_.output_bytes * (prefill ? 1 : steps) + kv_bytes;
  result.gflop_per_s = flop / result.median_s / 1e9;
  result.gb_per_s = bytes / result.median_s / 1e9;
  return result;
}

}  // namespace inferd
