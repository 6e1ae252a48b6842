// POST /v1/embeddings.
#include <bit>
#include <cstring>

#include "server/answers.h"
#include "server/api_types.h"
#include "server/chat_prompt.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {
namespace {

std::string base64(const std::vector<float>& values) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static_assert(std::endian::native == std::endian::little, "embeddings go out as little-endian floats");
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](std::size_t k) {
      return i + k < bytes.size() ? static_cast<unsigned>(static_cast<unsigned char>(bytes[i + k])) : 0u;
    };
    const unsigned triple = at(0) << 16 | at(1) << 8 | at(2);
    out += kLetters[triple >> 18];
    out += kLetters[triple >> 12 & 63];
    out += i + 1 < bytes.size() ? kLetters[triple >> 6 & 63] : '=';
    out += i + 2 < bytes.size() ? kLetters[triple & 63] : '=';
  }
  return out;
}

std::vector<std::vector<TokenId>> tokenize_inputs(const ServedModel& model, const EmbeddingRequest& embedding) {
  std::vector<std::vector<TokenId>> inputs;
  for (const TextOrTokens& input : embedding.inputs) {
    std::vector<TokenId> ids;
    if (const auto* text = std::get_if<std::string>(&input)) {
      ids = encode_text(model, *text, false, true);
    } else {
      ids = checked_ids(std::get<TokenIds>(input), model, "input");
    }
    if (ids.empty()) throw invalid_value("input", "Invalid 'input': an entry holds no tokens.");
    if (static_cast<std::int64_t>(ids.size()) > model.context_length) {
      throw context_length_exceeded("input", model.context_length, static_cast<std::int64_t>(ids.size()));
    }
    inputs.push_back(std::move(ids));
  }
  return inputs;
}

/// Runs the encoder; gives up when the client leaves.
std::vector<EncodeResult> encode(const ServedModel& model, std::vector<std::vector<TokenId>> inputs,
                                 const HttpRequest& request) {
  auto submitted = model.engine->encode(model.handle, std::move(inputs));
  if (const auto* rejection = std::get_if<Rejection>(&submitted)) {
    switch (rejection->kind) {
      case Rejection::Kind::prompt_too_long:
        throw context_length_exceeded("input", rejection->limit, rejection->given);
      case Rejection::Kind::draining:
        throw unavailable("shutting_down", "The server is shutting down.", 30);
      case Rejection::Kind::bad_token:
        throw invalid_value("input", "A token id is outside the model's vocabulary.");
      case Rejection::Kind::never_fits:
        throw invalid_value("input", "Invalid 'input': at most " + std::to_string(rejection->limit) +
                                         " entries can wait at a time, but got " + std::to_string(rejection->given) +
                                         ".");
      case Rejection::Kind::queue_full:
        break;
    }
    ApiError error(429, "rate_limit_error", "queue_full", "", "Too many inputs are waiting. Please try again.");
    error.retry_after_s = 1;
    throw error;
  }
  const auto ticket = std::get<std::shared_ptr<EncodeTicket>>(submitted);
  while (!ticket->wait(std::chrono::milliseconds(50))) {
    if (request.client_gone()) {
      ticket->cancel();
      throw ApiError(499, "invalid_request_error", "client_closed_request", "", "The client closed the connection.");
    }
  }
  return ticket->take();
}

}  // namespace

HttpResponse embeddings(App& app, const HttpRequest& request) {
  const EmbeddingRequest embedding = read_embedding_request(parse_body(request.body), app.api);
  const ServedModel& model = app.models.encoder(embedding.model, "embeddings");
  if (embedding.dimensions && *embedding.dimensions != model.embedding_dim) {
    throw unsupported_value("dimensions", "Model '" + model.name +
                                              "' does not support matryoshka representation: its "
                                              "embeddings have " +
                                              std::to_string(model.embedding_dim) + " dimensions.");
  }
  std::vector<std::vector<TokenId>> inputs = tokenize_inputs(model, embedding);
  std::int64_t tokens = 0;
  for (const auto& input : inputs) tokens += static_cast<std::int64_t>(input.size());
  ModelMetrics& metrics = app.metrics.model(model.name);
  metrics.prompt_tokens += tokens;
  metrics.embedding_inputs += static_cast<std::int64_t>(inputs.size());
  const std::vector<EncodeResult> results = encode(model, std::move(inputs), request);

  Json data = Json::array();
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (!results[i].ok) {
      if (results[i].reason == FinishReason::error)
        throw server_error("The model produced no valid numbers for an input.");
      throw unavailable("shutting_down", "The server is shutting down.", 30);
    }
    Json entry = Json::object();
    entry["object"] = "embedding";
    entry["index"] = i;
    entry["embedding"] = embedding.base64 ? Json(base64(results[i].vector)) : Json(results[i].vector);
    data.push_back(std::move(entry));
  }
  Json body = Json::object();
  body["object"] = "list";
  body["data"] = std::move(data);
  body["model"] = answer_model(model, embedding.model);
  body["usage"] = Json{{"prompt_tokens", tokens}, {"total_tokens", tokens}};
  return json_response(body, embedding.ignored);
}

}  // namespace inferd
