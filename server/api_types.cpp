// The bodies of the endpoints: JSON to structs.
#include "server/api_types.h"

#include <algorithm>

#include "server/api_error.h"
#include "server/api_fields.h"

namespace inferd {
namespace {

constexpr std::size_t kAnyBytes = std::string::npos;

/// The name in {"type":"function","function":{"name":…}}.
std::string function_name(const Json& object, const std::string& path, const Json& tools) {
  Fields fields(object, path);
  if (fields.text("type", 64).value_or("") != "function") {
    throw invalid_value(path + "type", "Invalid '" + path + "type': expected \"function\".");
  }
  const Json* function = fields.object("function");
  std::optional<std::string> name;
  if (function != nullptr) name = Fields(*function, path + "function.").text("name", 64);
  const std::string param = path + "function.name";
  if (!name) {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", param,
                   "Missing required parameter: '" + param + "'.");
  }
  const bool known =
      std::any_of(tools.begin(), tools.end(), [&](const Json& tool) { return tool["function"]["name"] == *name; });
  if (!known) throw invalid_value(param, "Invalid '" + param + "': no function of that name is among the 'tools'.");
  return *name;
}

/// {"type":"allowed_tools","allowed_tools":{"mode":…,"tools":[…]}}
void read_allowed_tools(Fields& choice, ChatRequest& out) {
  const Json* allowed = choice.object("allowed_tools");
  if (allowed == nullptr) {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", "tool_choice.allowed_tools",
                   "Missing required parameter: 'tool_choice.allowed_tools'.");
  }
  const std::string path = "tool_choice.allowed_tools.";
  Fields fields(*allowed, path);
  const std::string mode = fields.text("mode", 64).value_or("");
  if (mode != "auto" && mode != "required") {
    throw invalid_value(path + "mode", "Invalid '" + path + "mode': expected \"auto\" or \"required\".");
  }
  out.tool_choice.required = mode == "required";
  const Json* tools = fields.array("tools", kAnyBytes);
  if (tools == nullptr || tools->empty()) {
    throw invalid_value(path + "tools", "Invalid '" + path + "tools': expected an array that is not empty.");
  }
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string item = path + "tools[" + std::to_string(i) + "]";
    if (!(*tools)[i].is_object()) throw wrong_type(item, "an object", (*tools)[i]);
    out.tool_choice.names.push_back(function_name((*tools)[i], item + ".", out.tools));
  }
}

void read_tool_choice(Fields& fields, ChatRequest& out) {
  const Json* given = fields.find("tool_choice");
  std::string choice = "auto";
  if (given != nullptr && given->is_object()) {
    const auto type = given->find("type");
    Fields inner(*given, "tool_choice.");
    if (type != given->end() && *type == "allowed_tools") {
      read_allowed_tools(inner, out);
    } else {
      out.tool_choice = {.required = true, .single = true, .names = {function_name(*given, "tool_choice.", out.tools)}};
    }
  } else if (given != nullptr) {
    if (!given->is_string()) throw wrong_type("tool_choice", "a string or an object", *given);
    choice = given->get<std::string>();
  }
  if (choice != "auto" && choice != "none" && choice != "required") {
    throw invalid_value("tool_choice",
                        "Invalid 'tool_choice': expected \"none\", \"auto\", \"required\" or an object.");
  }
  if (choice == "required") {
    if (out.tools.is_null()) throw invalid_value("tool_choice", "Invalid 'tool_choice': \"required\" needs 'tools'.");
    out.tool_choice.required = true;
  }
  if (choice == "none") out.tools = Json();
  out.parse_tool_calls = !out.tools.is_null();
}

ResponseFormat read_response_format(Fields& fields) {
  ResponseFormat out;
  const Json* format = fields.object("response_format");
  if (format == nullptr) return out;
  Fields inner(*format, "response_format.");
  const std::string type = inner.text("type", 64).value_or("");
  if (type == "text") return out;
  if (type == "json_object") {
    out.kind = ResponseFormat::Kind::json_object;
    return out;
  }
  if (type != "json_schema") {
    throw invalid_value("response_format.type",
                        "Invalid 'response_format.type': expected 'text', 'json_object' or 'json_schema'.");
  }
  const Json* given = inner.object("json_schema");
  const auto missing = [](const std::string& param) {
    return ApiError(400, "invalid_request_error", "missing_required_parameter", param,
                    "Missing required parameter: '" + param + "'.");
  };
  if (given == nullptr) throw missing("response_format.json_schema");
  Fields body(*given, "response_format.json_schema.");
  const Json* schema = body.find("schema");
  if (schema == nullptr) throw missing("response_format.json_schema.schema");
  if (!schema->is_object() && !schema->is_boolean()) {
    throw wrong_type("response_format.json_schema.schema", "an object", *schema);
  }
  out.kind = ResponseFormat::Kind::json_schema;
  out.name = body.text("name", 256).value_or("");
  out.schema = *schema;
  out.strict = body.boolean("strict").value_or(false);
  return out;
}

}  // namespace

ChatRequest read_chat_request(const Json& body, const ApiOptions& options) {
  Fields fields(body, "");
  ChatRequest out;
  read_generation_fields(fields, 1, out.fields);
  out.messages = read_messages(fields, options);
  out.tools = read_tools(fields, options);
  read_tool_choice(fields, out);
  out.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  out.response_format = read_response_format(fields);
  out.logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (top.value_or(0) > 0 && !out.logprobs) {
    throw invalid_value("top_logprobs", "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.");
  }
  out.top_logprobs = top.value_or(0);
  out.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  if (fields.boolean("continue_final_message").value_or(false)) {
    throw unsupported_value("continue_final_message", "'continue_final_message' is not supported.");
  }
  if (fields.ignore("chat_template")) {
    throw unsupported_value("chat_template", "A chat template cannot come with a request.");
  }
  out.template_kwargs = read_template_kwargs(fields);
  out.reasoning_effort = fields.text("reasoning_effort", 32);
  if (out.reasoning_effort) {
    static constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", "max"};
    bool known = false;
    for (const std::string_view effort : kEfforts) known = known || effort == *out.reasoning_effort;
    if (!known) {
      throw invalid_value("reasoning_effort",
                          "Invalid 'reasoning_effort': expected none, minimal, low, medium, high, "
                          "xhigh or max.");
    }
  }
  report_unknown(fields, options, out.fields.ignored);
  return out;
}

CompletionRequest read_completion_request(const Json& body, const ApiOptions& options) {
  Fields fields(body, "");
  CompletionRequest out;
  out.echo = fields.boolean("echo").value_or(false);
  read_generation_fields(fields, out.echo ? 0 : 1, out.fields);
  out.prompts = read_texts(fields, "prompt", kMaxPrompts);
  if (out.prompts.size() * static_cast<std::size_t>(out.fields.n) > kMaxPrompts) {
    ApiError error = invalid_value("n", "Invalid 'n': expected at most " + std::to_string(kMaxPrompts) +
                                            " answers in one request (prompts times n).");
    error.limit = "n";
    throw error;
  }
  out.logprobs = fields.integer("logprobs", 0, kMaxTopLogprobs);
  if (out.echo && out.fields.stream && out.logprobs) {
    throw unsupported_value("echo", "'echo' with 'logprobs' cannot be combined with 'stream'.");
  }
  const auto suffix = fields.text("suffix", kAnyBytes);
  if (suffix && !suffix->empty()) {
    throw ApiError(400, "invalid_request_error", "unsupported_parameter", "suffix",
                   "Unsupported parameter: 'suffix' is not supported with this model.");
  }
  const auto best_of = fields.integer("best_of", 1, kMaxChoices);
  if (best_of && *best_of != out.fields.n) {
    throw unsupported_value("best_of", "'best_of' is only supported when it equals 'n'.");
  }
  out.response_format = read_response_format(fields);
  out.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);
  report_unknown(fields, options, out.fields.ignored);
  return out;
}

EmbeddingRequest read_embedding_request(const Json& body, const ApiOptions& options) {
  Fields fields(body, "");
  EmbeddingRequest out;
  out.model = read_model(fields);
  out.inputs = read_texts(fields, "input", kMaxEmbeddingInputs);
  for (std::size_t i = 0; i < out.inputs.size(); ++i) {
    const auto* text = std::get_if<std::string>(&out.inputs[i]);
    if (text != nullptr && text->empty()) throw invalid_value("input", "Invalid 'input': expected no empty strings.");
  }
  const std::string format = fields.text("encoding_format", 32).value_or("float");
  if (format != "float" && format != "base64") {
    throw invalid_value("encoding_format", "Invalid 'encoding_format': expected 'float' or 'base64'.");
  }
  out.base64 = format == "base64";
  out.dimensions = fields.integer("dimensions", 1, 1'000'000);
  out.input_type = fields.text("input_type", 128);
  fields.ignore("user");
  report_unknown(fields, options, out.ignored);
  return out;
}

RerankRequest read_rerank_request(const Json& body, const ApiOptions& options) {
  Fields fields(body, "");
  RerankRequest out;
  out.model = read_model(fields);
  const auto missing = [](const char* name) {
    return ApiError(400, "invalid_request_error", "missing_required_parameter", name,
                    std::string("Missing required parameter: '") + name + "'.");
  };
  const auto query = fields.text("query", kAnyBytes);
  if (!query) throw missing("query");
  if (query->empty()) throw invalid_value("query", "Invalid 'query': expected a text that is not empty.");
  out.query = *query;
  const Json* documents = fields.array("documents", kMaxRerankDocuments);
  if (documents == nullptr) throw missing("documents");
  if (documents->empty()) throw invalid_value("documents", "Invalid 'documents': expected at least one.");
  for (std::size_t i = 0; i < documents->size(); ++i) {
    const std::string param = "documents[" + std::to_string(i) + "]";
    // A text, or Jina's and Cohere's {"text": …}.
    const Json* text = &(*documents)[i];
    if (text->is_object() && text->contains("text")) text = &(*text)["text"];
    if (!text->is_string()) {
      throw invalid_value(param, "Invalid type for '" + param +
                                     "': expected a string or an object with a 'text', but got " +
                                     json_type_name((*documents)[i]) + " instead.");
    }
    out.documents.push_back(text->get<std::string>());
  }
  const auto count = static_cast<std::int64_t>(out.documents.size());
  out.top_n = std::min(fields.integer("top_n", 1, 1'000'000).value_or(count), count);
  out.return_documents = fields.boolean("return_documents").value_or(false);
  out.instruction = fields.text("instruction", kAnyBytes);
  fields.ignore("user");
  report_unknown(fields, options, out.ignored);
  return out;
}

TokenizeRequest read_tokenize_request(const Json& body, const ApiOptions& options) {
  Fields fields(body, "");
  TokenizeRequest out;
  out.model = read_model(fields);
  out.prompt = fields.text("prompt", kAnyBytes);
  out.add_special_tokens = fields.boolean("add_special_tokens");
  const bool has_messages = body.contains("messages") && !body["messages"].is_null();
  if (out.prompt.has_value() == has_messages) {
    throw invalid_value("prompt", "Expected either 'prompt' or 'messages'.");
  }
  if (has_messages) {
    out.messages = read_messages(fields, options);
    out.tools = read_tools(fields, options);
  }
  out.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  out.template_kwargs = read_template_kwargs(fields);
  return out;
}

DetokenizeRequest read_detokenize_request(const Json& body, const ApiOptions&) {
  Fields fields(body, "");
  DetokenizeRequest out;
  out.model = read_model(fields);
  const Json* tokens = fields.array("tokens", kMaxDetokenizeTokens);
  if (tokens == nullptr) {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", "tokens",
                   "Missing required parameter: 'tokens'.");
  }
  out.tokens = read_token_ids(*tokens, "tokens");
  return out;
}

}  // namespace inferd
