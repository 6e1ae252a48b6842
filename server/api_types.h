// What clients ask, as structs: every field checked, defaults not yet filled in from the model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "engine/request.h"
#include "server/options.h"

namespace inferd {

/// Limits of the wire format (CONTRACT: HTTP).
constexpr std::int64_t kMaxChoices = 8;
constexpr std::int64_t kMaxTopLogprobs = 20;
constexpr std::size_t kMaxStops = 16;
constexpr std::size_t kMaxStopBytes = 256;
constexpr std::size_t kMaxLogitBias = 1024;
constexpr std::size_t kMaxStopTokenIds = 256;
constexpr std::size_t kMaxPrompts = 128;  // choices of one completions request, n included
constexpr std::size_t kMaxEmbeddingInputs = 2048;
constexpr std::size_t kMaxRerankDocuments = 2048;
constexpr std::size_t kMaxDetokenizeTokens = 500'000;

/// Sampling and output fields that chat and text completions share. nullopt: the client said nothing.
struct GenerationFields {
  std::string model;  // empty: the default
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<std::int64_t> top_k, seed, max_tokens, min_tokens;
  std::vector<std::pair<std::int64_t, float>> logit_bias;
  std::vector<std::string> stop;
  std::vector<std::int64_t> stop_token_ids;
  std::int64_t n = 1;
  std::int64_t priority = 0;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  bool include_stop_str_in_output = false;
  bool return_tokens_as_token_ids = false;
  std::optional<std::int64_t> prompt_logprobs;
  std::string cache_salt;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  std::vector<std::string> ignored;  // fields that had no effect, for x-inferd-ignored
};

/// What an answer's text has to be.
struct ResponseFormat {
  enum class Kind { text, json_object, json_schema } kind = Kind::text;
  std::string name;  // of the schema, for messages
  Json schema;       // an object or a boolean
  bool strict = false;
};

/// How tools may be used, "none" aside.
struct ToolChoice {
  bool required = false;           // the answer is calls
  bool single = false;             // and only one
  std::vector<std::string> names;  // no other function is called; empty: any
};

struct ChatRequest {
  GenerationFields fields;
  ResponseFormat response_format;
  ToolChoice tool_choice;
  Json messages = Json::array();  // normalised: system for developer, text parts joined, arguments as objects
  Json tools;                     // array or null; null too with tool_choice "none"
  bool parse_tool_calls = false;
  bool parallel_tool_calls = true;
  bool logprobs = false;
  std::int64_t top_logprobs = 0;
  bool add_generation_prompt = true;
  Json template_kwargs = Json::object();
  std::optional<std::string> reasoning_effort;
};

using TokenIds = std::vector<std::int64_t>;
using TextOrTokens = std::variant<std::string, TokenIds>;

struct CompletionRequest {
  GenerationFields fields;
  std::vector<TextOrTokens> prompts;
  std::optional<std::int64_t> logprobs;
  ResponseFormat response_format;
  bool echo = false;
  bool add_special_tokens = true;
};

struct EmbeddingRequest {
  std::string model;
  std::vector<TextOrTokens> inputs;
  bool base64 = false;
  std::optional<std::int64_t> dimensions;
  std::optional<std::string> input_type;  // which of the model's prefixes: "query", "document", …
  std::vector<std::string> ignored;
};

struct RerankRequest {
  std::string model;
  std::string query;
  std::vector<std::string> documents;
  std::int64_t top_n = 0;  // ≥ 1
  bool return_documents = false;
  std::optional<std::string> instruction;  // for models that read one
  std::vector<std::string> ignored;
};

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> prompt;
  std::optional<bool> add_special_tokens;
  Json messages;  // array, or null with `prompt`
  Json tools;
  bool add_generation_prompt = true;
  Json template_kwargs = Json::object();
};

struct DetokenizeRequest {
  std::string model;
  TokenIds tokens;
};

// Each reads a parsed body. Throws ApiError(400) naming the field.
ChatRequest read_chat_request(const Json& body, const ApiOptions& options);
CompletionRequest read_completion_request(const Json& body, const ApiOptions& options);
EmbeddingRequest read_embedding_request(const Json& body, const ApiOptions& options);
RerankRequest read_rerank_request(const Json& body, const ApiOptions& options);
TokenizeRequest read_tokenize_request(const Json& body, const ApiOptions& options);
DetokenizeRequest read_detokenize_request(const Json& body, const ApiOptions& options);

}  // namespace inferd
