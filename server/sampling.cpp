// Sampling and limits of one answer: the client's wishes over the model's defaults.
#include <unistd.h>

#include <algorithm>

#include "server/generation.h"

namespace inferd {
namespace {

std::int64_t random_seed() {
  std::int64_t seed = 0;
  [[maybe_unused]] const int result = ::getentropy(&seed, sizeof seed);
  return seed;
}

float pick(const std::optional<double>& wish, const std::optional<float>& model, float neutral) {
  if (wish) return static_cast<float>(*wish);
  return model.value_or(neutral);
}

}  // namespace

std::vector<TokenId> checked_ids(const TokenIds& ids, const ServedModel& model, const std::string& param) {
  std::vector<TokenId> out;
  out.reserve(ids.size());
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= model.info.vocab_size) {
      throw invalid_value(param, "Invalid '" + param + "': token id " + std::to_string(id) +
                                     " is outside the vocabulary of " + std::to_string(model.info.vocab_size) +
                                     " tokens.");
    }
    out.push_back(static_cast<TokenId>(id));
  }
  return out;
}

Request make_request(const GenerationFields& fields, const ModelRef& asked, bool chat, std::vector<TokenId> prompt,
                     const ApiOptions& options) {
  const ServedModel& model = *asked;
  const GenerationDefaults defaults = chat ? model.defaults : GenerationDefaults{};
  Request request;
  request.prompt = std::move(prompt);
  request.adapter = asked.adapter;
  SamplingParams& sampling = request.sampling;
  sampling.temperature = pick(fields.temperature, defaults.temperature, 1.0f);
  sampling.top_p = pick(fields.top_p, defaults.top_p, 1.0f);
  sampling.min_p = pick(fields.min_p, defaults.min_p, 0.0f);
  const std::int64_t top_k = fields.top_k.value_or(defaults.top_k.value_or(0));
  sampling.top_k = static_cast<int>(std::clamp<std::int64_t>(top_k, 0, model.info.vocab_size));
  // A greedy request is to give the likeliest tokens, whatever a file recommends for sampling.
  const bool greedy = sampling.temperature == 0.0f;
  sampling.repetition_penalty =
      pick(fields.repetition_penalty, greedy ? std::nullopt : defaults.repetition_penalty, 1.0f);
  sampling.presence_penalty = static_cast<float>(fields.presence_penalty.value_or(0));
  sampling.frequency_penalty = static_cast<float>(fields.frequency_penalty.value_or(0));
  for (const auto& [id, bias] : fields.logit_bias) {
    sampling.logit_bias.emplace_back(checked_ids({id}, model, "logit_bias")[0], bias);
  }
  sampling.seed = fields.seed ? *fields.seed : random_seed();

  const std::int64_t longest =
      chat && options.default_max_tokens > 0 ? options.default_max_tokens : model.context_length;
  request.max_output_tokens = fields.max_tokens.value_or(chat ? longest : 16);
  request.max_output_tokens = std::clamp<std::int64_t>(request.max_output_tokens, 0, model.context_length);
  request.min_output_tokens = std::min(fields.min_tokens.value_or(0), request.max_output_tokens);
  request.stop_token_ids = checked_ids(fields.stop_token_ids, model, "stop_token_ids");
  request.ignore_eos = fields.ignore_eos;
  if (!fields.ignore_eos) {
    for (const TokenId id : model.stop_ids) {
      if (std::find(request.stop_token_ids.begin(), request.stop_token_ids.end(), id) == request.stop_token_ids.end()) {
        request.stop_token_ids.push_back(id);
      }
    }
  }
  request.priority = static_cast<int>(fields.priority);
  if (fields.prompt_logprobs) request.prompt_logprobs = static_cast<int>(*fields.prompt_logprobs);
  if (options.request_deadline_s > 0) {
    const auto limit =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(options.request_deadline_s));
    request.deadline = SystemClock().now() + limit;
  }
  return request;
}

}  // namespace inferd
