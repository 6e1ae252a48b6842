// Running an encoder for a request: the shared end of embeddings and reranking.
#include "server/encoding.h"

#include "server/api_error.h"
#include "server/engine_end.h"

namespace inferd {
namespace {

[[noreturn]] void refuse(const Engine& engine, const Rejection& rejection, const std::string& param) {
  switch (rejection.kind) {
    case Rejection::Kind::prompt_too_long:
      throw context_length_exceeded(param, rejection.limit, rejection.given);
    case Rejection::Kind::draining:
      throw engine_ended(engine);
    case Rejection::Kind::bad_token:
      throw invalid_value(param, "A token id is outside the model's vocabulary.");
    case Rejection::Kind::never_fits:
      throw invalid_value(param, "Invalid '" + param + "': at most " + std::to_string(rejection.limit) +
                                     " entries can wait at a time, but got " + std::to_string(rejection.given) + ".");
    case Rejection::Kind::no_adapter:          // encoders have none
    case Rejection::Kind::no_prompt_logprobs:  // asked of decoders only
    case Rejection::Kind::queue_full:
      break;
  }
  ApiError error(429, "rate_limit_error", "queue_full", "", "Too many inputs are waiting. Please try again.");
  error.retry_after_s = 1;
  error.limit = "max_queued_inputs";
  throw error;
}

}  // namespace

std::vector<std::vector<float>> run_encoder(const ServedModel& model, std::vector<EncodeInput> inputs,
                                            const HttpRequest& request, const std::string& param,
                                            ModelMetrics* metrics) {
  std::int64_t tokens = 0;
  const auto count = static_cast<std::int64_t>(inputs.size());
  for (const EncodeInput& input : inputs) {
    if (input.tokens.empty()) throw invalid_value(param, "Invalid '" + param + "': an entry holds no tokens.");
    const auto length = static_cast<std::int64_t>(input.tokens.size());
    if (length > model.context_length) throw context_length_exceeded(param, model.context_length, length);
    tokens += length;
  }
  auto submitted = model.engine->encode(model.handle, std::move(inputs));
  if (const auto* rejection = std::get_if<Rejection>(&submitted)) {
    if (rejection->kind == Rejection::Kind::queue_full) metrics->rejected++;
    refuse(*model.engine, *rejection, param);
  }
  metrics->prompt_tokens += tokens;
  metrics->embedding_inputs += count;
  const auto ticket = std::get<std::shared_ptr<EncodeTicket>>(submitted);
  while (!ticket->wait(std::chrono::milliseconds(50))) {
    if (request.client_gone()) {
      ticket->cancel();
      throw ApiError(499, "invalid_request_error", "client_closed_request", "", "The client closed the connection.");
    }
  }
  std::vector<std::vector<float>> rows;
  for (EncodeResult& result : ticket->take()) {
    if (!result.ok && result.reason == FinishReason::error) {
      throw server_error("The model produced no valid numbers for an input.");
    }
    if (!result.ok) throw engine_ended(*model.engine);
    rows.push_back(std::move(result.vector));
  }
  return rows;
}

}  // namespace inferd
