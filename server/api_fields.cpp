// Readers of fields that several endpoints share: sampling, stops, token lists.
#include "server/api_fields.h"

#include <algorithm>
#include <charconv>
#include <limits>

#include "server/api_error.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMinInt = std::numeric_limits<std::int64_t>::min();

void read_stop(Fields& fields, std::vector<std::string>& out) {
  const Json* stop = fields.find("stop");
  if (stop == nullptr) return;
  std::vector<const Json*> items;
  if (stop->is_string()) {
    items.push_back(stop);
  } else if (stop->is_array()) {
    if (stop->size() > kMaxStops) {
      ApiError error =
          invalid_value("stop", "Invalid 'stop': array too long. Expected at most " + std::to_string(kMaxStops) +
                                    " entries, but got " + std::to_string(stop->size()) + ".");
      error.code = "array_above_max_length";
      error.limit = "stop";
      throw error;
    }
    for (const Json& item : *stop) items.push_back(&item);
  } else {
    throw wrong_type("stop", "a string or an array of strings", *stop);
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string param = stop->is_string() ? "stop" : "stop[" + std::to_string(i) + "]";
    if (!items[i]->is_string()) throw wrong_type(param, "a string", *items[i]);
    const std::string& text = items[i]->get_ref<const std::string&>();
    if (text.empty() || text.size() > kMaxStopBytes) {
      ApiError error = invalid_value(param, "Invalid '" + param + "': expected 1 to " + std::to_string(kMaxStopBytes) +
                                                " bytes, but got " + std::to_string(text.size()) + ".");
      if (!text.empty()) error.limit = "stop";
      throw error;
    }
    out.push_back(text);
  }
}

void read_logit_bias(Fields& fields, std::vector<std::pair<std::int64_t, float>>& out) {
  const Json* bias = fields.object("logit_bias");
  if (bias == nullptr) return;
  if (bias->size() > kMaxLogitBias) {
    ApiError error =
        invalid_value("logit_bias", "Invalid 'logit_bias': expected at most " + std::to_string(kMaxLogitBias) +
                                        " entries, but got " + std::to_string(bias->size()) + ".");
    error.limit = "logit_bias";
    throw error;
  }
  for (const auto& [key, value] : bias->items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id > std::numeric_limits<TokenId>::max()) {
      throw invalid_value("logit_bias", "Invalid key in 'logit_bias': expected token ids as strings of digits.");
    }
    const double bias_value = value.is_number() ? value.get<double>() : 1e9;
    if (!(bias_value >= -100 && bias_value <= 100)) {
      throw invalid_value("logit_bias", "Invalid value in 'logit_bias' for token " + std::to_string(id) +
                                            ": expected a number from -100 to 100.");
    }
    out.emplace_back(id, static_cast<float>(bias_value));
  }
}

void read_stream_options(Fields& fields, GenerationFields& out) {
  out.stream = fields.boolean("stream").value_or(false);
  const Json* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!out.stream) {
    throw invalid_value("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.");
  }
  Fields inner(*options, "stream_options.");
  out.include_usage = inner.boolean("include_usage").value_or(false);
  out.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  inner.ignore("include_obfuscation");
}

/// Fields of constrained decoding and other features that would silently change the answer's meaning if skipped.
void refuse_unsupported(Fields& fields) {
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs",
                           "grammar", "json_schema", "logits_processors", "audio", "functions", "web_search_options"}) {
    if (fields.ignore(name)) {
      throw unsupported_value(name, std::string("Unsupported parameter: '") + name + "' is not supported here.");
    }
  }
  const Json* choice = fields.find("function_call");
  if (choice != nullptr && *choice != "none") {
    throw unsupported_value("function_call", "Unsupported parameter: 'function_call'. Use 'tools' instead.");
  }
  if (fields.boolean("use_beam_search").value_or(false)) {
    throw unsupported_value("use_beam_search", "Beam search is not supported.");
  }
  const Json* modalities = fields.array("modalities", 8);
  for (std::size_t i = 0; modalities != nullptr && i < modalities->size(); ++i) {
    if ((*modalities)[i] != "text") throw unsupported_value("modalities", "Only the modality 'text' is supported.");
  }
}

}  // namespace

std::string read_model(Fields& fields) { return fields.text("model", 512).value_or(""); }

void read_generation_fields(Fields& fields, std::int64_t least_tokens, GenerationFields& out) {
  out.model = read_model(fields);
  out.temperature = fields.number("temperature", 0, 2);
  out.top_p = fields.number("top_p", 0, 1);
  out.min_p = fields.number("min_p", 0, 1);
  out.top_k = fields.integer("top_k", -1, std::numeric_limits<std::int32_t>::max());
  out.repetition_penalty = fields.number("repetition_penalty", 0.01, 100);
  out.presence_penalty = fields.number("presence_penalty", -2, 2);
  out.frequency_penalty = fields.number("frequency_penalty", -2, 2);
  out.seed = fields.integer("seed", kMinInt, kMaxInt);
  const auto old_max = fields.integer("max_tokens", least_tokens, kMaxInt);
  const auto new_max = fields.integer("max_completion_tokens", least_tokens, kMaxInt);
  out.max_tokens = new_max ? new_max : old_max;
  out.min_tokens = fields.integer("min_tokens", 0, kMaxInt);
  if (out.min_tokens && out.max_tokens && *out.min_tokens > *out.max_tokens) {
    throw invalid_value("min_tokens", "Invalid 'min_tokens': expected at most the " + std::to_string(*out.max_tokens) +
                                          " tokens of 'max_tokens', but got " + std::to_string(*out.min_tokens) + ".");
  }
  read_logit_bias(fields, out.logit_bias);
  read_stop(fields, out.stop);
  if (const Json* ids = fields.array("stop_token_ids", kMaxStopTokenIds)) {
    out.stop_token_ids = read_token_ids(*ids, "stop_token_ids");
  }
  out.n = fields.integer("n", 1, kMaxChoices).value_or(1);
  out.priority = fields.integer("priority", -1'000'000, 1'000'000).value_or(0);
  out.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  out.skip_special_tokens = fields.boolean("skip_special_tokens").value_or(true);
  out.include_stop_str_in_output = fields.boolean("include_stop_str_in_output").value_or(false);
  out.return_tokens_as_token_ids = fields.boolean("return_tokens_as_token_ids").value_or(false);
  out.prompt_logprobs = fields.integer("prompt_logprobs", 0, kMaxTopLogprobs);
  out.cache_salt = fields.text("cache_salt", 256).value_or("");
  read_stream_options(fields, out);
  if (out.stream && out.prompt_logprobs) {
    throw unsupported_value("prompt_logprobs", "'prompt_logprobs' cannot be combined with 'stream'.");
  }
  refuse_unsupported(fields);
  for (const char* name : {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
                           "spaces_between_special_tokens", "request_id"}) {
    fields.ignore(name);  // names the request; nothing in the answer depends on it
  }
  for (const char* name : {"store", "service_tier", "verbosity", "prediction", "moderation"}) {
    if (fields.ignore(name)) out.ignored.emplace_back(name);
  }
}

void report_unknown(const Fields& fields, const ApiOptions& options, std::vector<std::string>& ignored) {
  for (const std::string& name : fields.unknown()) {
    std::string shown;
    for (const char c : name.substr(0, 64)) {
      const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                         c == '-' || c == '.';
      shown += plain ? c : '?';
    }
    if (options.strict_fields) {
      throw ApiError(400, "invalid_request_error", "unknown_parameter", shown, "Unknown parameter: '" + shown + "'.");
    }
    ignored.push_back(shown);
  }
}

TokenIds read_token_ids(const Json& array, const std::string& param) {
  TokenIds ids;
  ids.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    const Json& item = array[i];
    const bool fits = item.is_number_integer() &&
                      (!item.is_number_unsigned() || item.get<std::uint64_t>() <= 0x7fffffffu) &&
                      item.get<std::int64_t>() >= 0;
    if (!fits) {
      throw invalid_value(param,
                          "Invalid '" + param + "[" + std::to_string(i) + "]': expected a token id (an integer >= 0).");
    }
    ids.push_back(item.get<std::int64_t>());
  }
  return ids;
}

std::vector<TextOrTokens> read_texts(Fields& fields, std::string_view name, std::size_t max_items) {
  const std::string param(name);
  const Json* value = fields.find(name);
  if (value == nullptr) {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", param,
                   "Missing required parameter: '" + param + "'.");
  }
  std::vector<TextOrTokens> out;
  if (value->is_string()) {
    out.emplace_back(value->get<std::string>());
    return out;
  }
  if (!value->is_array() || value->empty()) {
    throw invalid_value(param, "Invalid '" + param +
                                   "': expected a string, an array of strings, an array of token ids or an array of "
                                   "such arrays, not empty.");
  }
  if ((*value)[0].is_number()) {
    out.emplace_back(read_token_ids(*value, param));
    return out;
  }
  if (value->size() > max_items) {
    ApiError error =
        invalid_value(param, "Invalid '" + param + "': array too long. Expected at most " + std::to_string(max_items) +
                                 " entries, but got " + std::to_string(value->size()) + ".");
    error.code = "array_above_max_length";
    error.limit = param;
    throw error;
  }
  for (std::size_t i = 0; i < value->size(); ++i) {
    const Json& item = (*value)[i];
    const std::string item_param = param + "[" + std::to_string(i) + "]";
    const bool same_kind = item.type() == (*value)[0].type();
    if (same_kind && item.is_string()) {
      out.emplace_back(item.get<std::string>());
    } else if (same_kind && item.is_array() && !item.empty()) {
      out.emplace_back(read_token_ids(item, item_param));
    } else {
      throw invalid_value(item_param, "Invalid '" + item_param + "': expected a string or an array of token ids.");
    }
  }
  return out;
}

}  // namespace inferd
