// Messages, tools and template arguments of chat requests: checked, and brought into the form templates expect.
#include <algorithm>
#include <array>

#include "server/api_error.h"
#include "server/api_fields.h"

namespace inferd {
namespace {

constexpr std::array<std::string_view, 6> kRoles = {"system", "developer", "user", "assistant", "tool", "function"};

/// The text of `content`: a string, or a list of text parts joined.
std::string read_content(const Json& content, const std::string& param) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) throw wrong_type(param, "a string or an array of content parts", content);
  std::string joined;
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string part_param = param + "[" + std::to_string(i) + "]";
    if (!content[i].is_object()) throw wrong_type(part_param, "an object", content[i]);
    Fields part(content[i], part_param + ".");
    const std::string type = part.text("type", 64).value_or("");
    if (type == "text" || type == "refusal") {
      const auto text = part.text(type, std::string::npos);
      if (!text) {
        throw ApiError(400, "invalid_request_error", "missing_required_parameter", part_param + "." + type,
                       "Missing required parameter: '" + part_param + "." + type + "'.");
      }
      joined += *text;
    } else {
      throw unsupported_value(part_param, "Unsupported content part in '" + part_param +
                                              "': only parts of type 'text' are supported by this model.");
    }
  }
  return joined;
}

/// An assistant's earlier calls: arguments come as a JSON text, and templates want the object.
Json read_tool_calls(const Json& calls, const std::string& param) {
  Json out = Json::array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string call_param = param + "[" + std::to_string(i) + "]";
    if (!calls[i].is_object()) throw wrong_type(call_param, "an object", calls[i]);
    Fields call(calls[i], call_param + ".");
    const Json* function = call.object("function");
    if (function == nullptr) {
      throw ApiError(400, "invalid_request_error", "missing_required_parameter", call_param + ".function",
                     "Missing required parameter: '" + call_param + ".function'.");
    }
    Fields inner(*function, call_param + ".function.");
    Json arguments = Json::object();
    if (const Json* given = inner.find("arguments")) {
      arguments = *given;
      if (given->is_string()) {
        try {
          Json parsed = parse_json(given->get_ref<const std::string&>());
          if (parsed.is_object()) arguments = std::move(parsed);
        } catch (const JsonError&) {
          // a model's broken call in the history stays the text it was
        }
      }
    }
    Json made = Json::object();
    made["id"] = call.text("id", 256).value_or("");
    made["type"] = "function";
    made["function"] = Json::object();
    made["function"]["name"] = inner.text("name", 256).value_or("");
    made["function"]["arguments"] = std::move(arguments);
    out.push_back(std::move(made));
  }
  return out;
}

Json read_message(const Json& message, const std::string& param, const ApiOptions& options) {
  if (!message.is_object()) throw wrong_type(param, "an object", message);
  Fields fields(message, param + ".");
  const auto role = fields.text("role", 64);
  if (!role || std::find(kRoles.begin(), kRoles.end(), *role) == kRoles.end()) {
    throw invalid_value(param + ".role", "Invalid value for '" + param +
                                             ".role': expected one of 'system', 'developer', 'user', 'assistant', "
                                             "'tool' or 'function'.");
  }
  Json out = Json::object();
  out["role"] = *role == "developer" ? "system" : *role == "function" ? "tool" : *role;
  const Json* calls = fields.array("tool_calls", static_cast<std::size_t>(options.max_tools), "max_tools");
  const Json* content = fields.find("content");
  if (content != nullptr) {
    out["content"] = read_content(*content, param + ".content");
  } else if (*role == "assistant") {
    out["content"] = "";
  } else {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", param + ".content",
                   "Missing required parameter: '" + param + ".content'.");
  }
  if (const auto name = fields.text("name", 256)) out["name"] = *name;
  if (const auto id = fields.text("tool_call_id", 256)) out["tool_call_id"] = *id;
  if (const auto reasoning = fields.text("reasoning_content", std::string::npos)) out["reasoning_content"] = *reasoning;
  if (calls != nullptr && !calls->empty()) {
    if (*role != "assistant") throw invalid_value(param + ".tool_calls", "Only assistant messages have 'tool_calls'.");
    out["tool_calls"] = read_tool_calls(*calls, param + ".tool_calls");
  }
  return out;
}

}  // namespace

Json read_messages(Fields& fields, const ApiOptions& options) {
  const Json* messages = fields.array("messages", static_cast<std::size_t>(options.max_messages), "max_messages");
  if (messages == nullptr) {
    throw ApiError(400, "invalid_request_error", "missing_required_parameter", "messages",
                   "Missing required parameter: 'messages'.");
  }
  if (messages->empty()) {
    ApiError error = invalid_value("messages", "Invalid 'messages': empty array. Expected at least 1 entry.");
    error.code = "empty_array";
    throw error;
  }
  Json out = Json::array();
  for (std::size_t i = 0; i < messages->size(); ++i) {
    out.push_back(read_message((*messages)[i], "messages[" + std::to_string(i) + "]", options));
  }
  return out;
}

Json read_tools(Fields& fields, const ApiOptions& options) {
  const Json* tools = fields.array("tools", static_cast<std::size_t>(options.max_tools), "max_tools");
  if (tools == nullptr || tools->empty()) return {};
  for (std::size_t i = 0; i < tools->size(); ++i) {
    const std::string param = "tools[" + std::to_string(i) + "]";
    const Json& tool = (*tools)[i];
    if (!tool.is_object()) throw wrong_type(param, "an object", tool);
    Fields inner(tool, param + ".");
    if (inner.text("type", 64).value_or("") != "function") {
      throw unsupported_value(param + ".type",
                              "Unsupported value in '" + param + ".type': only 'function' is supported.");
    }
    const Json* function = inner.object("function");
    if (function == nullptr) {
      throw ApiError(400, "invalid_request_error", "missing_required_parameter", param + ".function",
                     "Missing required parameter: '" + param + ".function'.");
    }
    Fields body(*function, param + ".function.");
    const auto name = body.text("name", 64);
    const auto plain = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.'; };
    if (!name || name->empty() || !std::all_of(name->begin(), name->end(), plain)) {
      throw invalid_value(param + ".function.name",
                          "Invalid '" + param + ".function.name': expected 1 to 64 letters, digits, _ - or .");
    }
    body.text("description", 64u << 10);
    body.object("parameters");
    body.boolean("strict");
  }
  return *tools;
}

Json read_template_kwargs(Fields& fields) {
  constexpr std::size_t kMostArguments = 32, kLongestText = 1024;
  const Json* kwargs = fields.object("chat_template_kwargs");
  if (kwargs == nullptr) return Json::object();
  if (kwargs->size() > kMostArguments) {
    ApiError error =
        invalid_value("chat_template_kwargs", "Invalid 'chat_template_kwargs': expected at most 32 entries, but got " +
                                                  std::to_string(kwargs->size()) + ".");
    error.limit = "chat_template_kwargs";
    throw error;
  }
  for (const auto& [name, value] : kwargs->items()) {
    const bool plain = value.is_boolean() || value.is_number() || value.is_null() ||
                       (value.is_string() && value.get_ref<const std::string&>().size() <= kLongestText);
    const bool reserved = name == "messages" || name == "tools" || name == "add_generation_prompt" ||
                          name == "bos_token" || name == "eos_token" || name.size() > 64;
    if (!plain || reserved) {
      throw invalid_value("chat_template_kwargs",
                          "Invalid 'chat_template_kwargs': expected booleans, numbers and short strings under names of "
                          "the template's own.");
    }
  }
  return *kwargs;
}

}  // namespace inferd
