// POST /v1/embeddings.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "server/answers.h"
#include "server/api_types.h"
#include "server/chat_prompt.h"
#include "server/encoding.h"
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

/// The text that goes before the inputs, by the client's `input_type` (the names of Cohere and Voyage count as the
/// model's own) or the model's default.
std::string prefix_of(const ServedModel& model, const std::optional<std::string>& input_type) {
  const auto& prompts = model.sentence.prompts;
  if (!input_type) {
    return model.sentence.default_prompt.empty() ? "" : prompts.find(model.sentence.default_prompt)->second;
  }
  using Names = std::vector<std::string_view>;
  const Names synonyms[] = {{"query", "search_query"}, {"document", "passage", "search_document"}};
  if (const auto found = prompts.find(*input_type); found != prompts.end()) return found->second;
  for (const Names& names : synonyms) {
    if (std::find(names.begin(), names.end(), *input_type) == names.end()) continue;
    for (const std::string_view name : names) {
      if (const auto found = prompts.find(name); found != prompts.end()) return found->second;
    }
  }
  std::string known;
  for (const auto& [name, text] : prompts) known += (known.empty() ? "'" : ", '") + name + "'";
  throw unsupported_value("input_type", "Model '" + model.name + "' has no prefix for this input_type; it has " +
                                            (known.empty() ? "none" : known) + ".");
}

std::vector<EncodeInput> tokenize_inputs(const ServedModel& model, const EmbeddingRequest& embedding) {
  const std::string prefix = prefix_of(model, embedding.input_type);
  std::vector<EncodeInput> inputs;
  for (const TextOrTokens& input : embedding.inputs) {
    EncodeInput one;
    if (const auto* text = std::get_if<std::string>(&input)) {
      one.tokens = encode_text(model, prefix + *text, false, true);
    } else {
      one.tokens = checked_ids(std::get<TokenIds>(input), model, "input");
    }
    inputs.push_back(std::move(one));
  }
  return inputs;
}

/// Throws unless the model can give vectors of this length.
void check_dimensions(const ServedModel& model, std::int64_t dimensions) {
  if (dimensions == model.embedding_dim) return;
  const auto refuse = [&](const std::string& why) {
    throw unsupported_value("dimensions", "Model '" + model.name + "' " + why);
  };
  const std::string has = std::to_string(model.embedding_dim);
  if (!model.sentence.matryoshka) {
    refuse("does not support matryoshka representation: its embeddings have " + has + " dimensions.");
  }
  const auto& known = model.sentence.matryoshka_dimensions;
  const bool trained = known.empty() || std::find(known.begin(), known.end(), dimensions) != known.end();
  if (dimensions <= model.embedding_dim && trained) return;
  std::string list;
  for (const std::int64_t each : known) list += (list.empty() ? "" : ", ") + std::to_string(each);
  refuse("gives embeddings of " + (list.empty() ? "1 to " + has : list) + " dimensions, not of " +
         std::to_string(dimensions) + ".");
}

/// The first values of a vector, at unit length if the whole one is.
void shorten(std::vector<float>* vector, std::int64_t dimensions, bool normalized) {
  if (dimensions >= static_cast<std::int64_t>(vector->size())) return;
  vector->resize(static_cast<std::size_t>(dimensions));
  if (!normalized) return;
  double squares = 0;
  for (const float x : *vector) squares += static_cast<double>(x) * x;
  const double factor = 1.0 / std::max(std::sqrt(squares), 1e-12);
  for (float& x : *vector) x = static_cast<float>(x * factor);
}

}  // namespace

HttpResponse embeddings(App& app, const HttpRequest& request) {
  const EmbeddingRequest embedding = read_embedding_request(parse_body(request.body), app.api);
  const ServedModel& model = app.models.encoder(embedding.model, "embeddings");
  if (embedding.dimensions) check_dimensions(model, *embedding.dimensions);
  std::vector<EncodeInput> inputs = tokenize_inputs(model, embedding);
  std::int64_t tokens = 0;
  for (const EncodeInput& input : inputs) tokens += static_cast<std::int64_t>(input.tokens.size());
  std::vector<std::vector<float>> vectors =
      run_encoder(model, std::move(inputs), request, "input", &app.metrics.model(model.name));

  Json data = Json::array();
  for (std::size_t i = 0; i < vectors.size(); ++i) {
    if (embedding.dimensions) shorten(&vectors[i], *embedding.dimensions, model.normalized);
    Json entry = Json::object();
    entry["object"] = "embedding";
    entry["index"] = i;
    entry["embedding"] = embedding.base64 ? Json(base64(vectors[i])) : Json(vectors[i]);
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
