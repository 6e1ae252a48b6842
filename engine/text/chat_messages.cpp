// Rewriting OpenAI messages for one template.
#include "engine/text/chat_messages.h"

#include "engine/text/template_error.h"

namespace inferd {
namespace {

constexpr const char* kReasoningFields[] = {"reasoning_content", "thinking", "reasoning"};

const TemplateAbilities::Content& content_of(const TemplateAbilities& abilities, const std::string& role) {
  if (role == "system" || role == "developer") return abilities.system;
  if (role == "assistant") return abilities.assistant;
  if (role == "tool" || role == "function") return abilities.tool;
  return abilities.user;
}

std::string joined_parts(const Json& parts) {
  std::string text;
  bool first = true;
  for (const Json& part : parts) {
    const auto found = part.is_object() ? part.find("text") : part.end();
    if (!part.is_object() || found == part.end() || !found->is_string()) {
      throw TemplateError("the model's chat template takes text content only");
    }
    if (!first) text += "\n";
    first = false;
    text += found->get_ref<const std::string&>();
  }
  return text;
}

void adapt_content(Json* message, const TemplateAbilities::Content& takes) {
  const auto content = message->find("content");
  if (content == message->end()) return;
  if (content->is_array() && !takes.parts) {
    *content = joined_parts(*content);
  } else if (content->is_string() && !takes.plain) {
    Json part = Json::object();
    part["type"] = "text";
    part["text"] = *content;
    *content = Json::array({std::move(part)});
  }
}

/// JSON text that holds an object becomes that object; anything else stays as the client sent it.
void parse_arguments(Json* arguments) {
  if (!arguments->is_string()) return;
  const std::string& text = arguments->get_ref<const std::string&>();
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    *arguments = Json::object();
    return;
  }
  try {
    Json parsed = parse_json(text);
    if (parsed.is_object()) *arguments = std::move(parsed);
  } catch (const JsonError&) {
    // A model's own earlier call may be malformed; the template then shows it as text.
  }
}

void adapt_tool_calls(Json* message, const TemplateAbilities& abilities) {
  const auto calls = message->find("tool_calls");
  if (calls == message->end() || !calls->is_array() || calls->empty()) return;
  for (Json& call : *calls) {
    const auto function = call.is_object() ? call.find("function") : call.end();
    if (!call.is_object() || function == call.end() || !function->is_object()) continue;
    const auto arguments = function->find("arguments");
    if (arguments == function->end()) continue;
    if (abilities.object_arguments) {
      parse_arguments(&*arguments);
    } else if (!arguments->is_string()) {
      *arguments = dump_json(*arguments);
    }
  }
  const auto content = message->find("content");
  if (content == message->end()) {
    (*message)["content"] = abilities.null_content ? Json() : Json("");
  } else if (content->is_null() && !abilities.null_content) {
    *content = "";
  }
}

/// Reasoning goes by three names; templates read the first two.
void alias_reasoning(Json* message) {
  for (const char* const field : kReasoningFields) {
    const auto found = message->find(field);
    if (found == message->end() || found->is_null()) continue;
    const Json reasoning = *found;
    if (!message->contains("thinking")) (*message)["thinking"] = reasoning;
    (*message)["reasoning_content"] = reasoning;
    return;
  }
}

/// An assistant's text and calls as messages of their own: each call with its name as metadata, its arguments as text.
void add_metadata_calls(const Json& message, Json* adapted) {
  static const jinja::Template kArguments("{{ arguments | tojson }}");  // spaced as the models were taught
  const auto content = message.find("content");
  if (content != message.end() && content->is_string() && !content->get_ref<const std::string&>().empty()) {
    adapted->push_back({{"role", "assistant"}, {"content", *content}});
  }
  for (const Json& call : message["tool_calls"]) {
    const auto function = call.is_object() ? call.find("function") : call.end();
    if (!call.is_object() || function == call.end() || !function->is_object()) continue;
    const Json arguments = function->value("arguments", Json::object());
    adapted->push_back({{"role", "assistant"},
                        {"metadata", function->value("name", "")},
                        {"content", arguments.is_string() ? arguments.get<std::string>()
                                                          : kArguments.render({{"arguments", arguments}}, 0).text()}});
  }
}

}  // namespace

Json adapt_messages(const Json& messages, const Json& tools, const TemplateAbilities& abilities) {
  if (!messages.is_array()) throw TemplateError("messages must be a list");
  Json adapted = Json::array();
  for (Json message : messages) {
    if (!message.is_object()) throw TemplateError("each message must be an object");
    const auto role = message.find("role");
    const std::string name = role != message.end() && role->is_string() ? role->get<std::string>() : "";
    if (name == "developer" && !abilities.developer_role) *role = "system";
    adapt_content(&message, content_of(abilities, name));
    alias_reasoning(&message);
    adapt_tool_calls(&message, abilities);
    if (abilities.observation_role && name == "tool") message["role"] = "observation";
    const auto calls = message.find("tool_calls");
    if (abilities.metadata_calls && calls != message.end() && calls->is_array() && !calls->empty()) {
      add_metadata_calls(message, &adapted);
    } else {
      adapted.push_back(std::move(message));
    }
  }
  if (abilities.tools_in_message && !tools.is_null() && !adapted.empty()) adapted[0]["tools"] = tools;
  return adapted;
}

}  // namespace inferd
