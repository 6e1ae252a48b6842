// Finding out what a template understands, by rendering conversations that hold a word to look for.
#include <optional>

#include "engine/text/chat_messages.h"
#include "engine/text/template_error.h"

namespace inferd {
namespace {

constexpr const char* kNeedle = "Xq7needle";
constexpr const char* kCallId = "call00001";  // some templates insist on nine letters and digits

class Prober {
 public:
  Prober(const jinja::Template& parsed, const std::vector<jinja::Variable>& model_variables)
      : parsed_(parsed), model_variables_(model_variables) {
    const Json messages = Json::array({message("user", kNeedle)});
    if (!render(messages, Json()) && render(messages, Json::array())) no_tools_ = Json::array();
  }

  bool takes_null_tools() const { return no_tools_.is_null(); }

  /// A tool's definition shows in the rendering, with a system message or without.
  bool takes_tools() const {
    const Json alone = Json::array({message("user", kNeedle)});
    const Json with_system = Json::array({message("system", kNeedle), message("user", kNeedle)});
    return contains(render(alone, tool_definition()), "probe_key") ||
           contains(render(with_system, tool_definition()), "probe_key");
  }

  /// The rendering, or nullopt if the template refuses.
  std::optional<std::string> render(const Json& messages, const Json& tools) const {
    std::vector<jinja::Variable> variables = model_variables_;
    variables.push_back({"messages", messages});
    variables.push_back({"tools", tools});
    variables.push_back({"documents", Json()});
    variables.push_back({"add_generation_prompt", true});
    try {
      return parsed_.render(variables, 0).text();
    } catch (const TemplateError&) {
      return std::nullopt;
    }
  }

  static bool contains(const std::optional<std::string>& text, const std::string& part) {
    return text && text->find(part) != std::string::npos;
  }

  static Json message(const char* role, const Json& content) {
    Json result = Json::object();
    result["role"] = role;
    result["content"] = content;
    return result;
  }

  static Json tool_definition() {
    return Json::parse(R"([{"type": "function", "function": {"name": "probe", "description": "a probe",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string", "description": "a key"}},
                       "required": ["probe_key"]}}}])");
  }

  static Json tool_conversation(const Json& arguments, const Json& content, const Json& result) {
    Json call = Json::object();
    call["id"] = kCallId;
    call["type"] = "function";
    call["function"] = {{"name", "probe"}, {"arguments", arguments}};
    Json assistant = message("assistant", content);
    assistant["tool_calls"] = Json::array({std::move(call)});
    Json tool = message("tool", result);
    tool["tool_call_id"] = kCallId;
    tool["name"] = "probe";
    return Json::array({message("user", "probe"), std::move(assistant), std::move(tool)});
  }

  /// What GLM-4's templates do in ways of their own.
  void probe_glm(const std::string& source, TemplateAbilities* abilities) const {
    if (source.find("[gMASK]") == std::string::npos) return;
    Json with_tools = message("user", "probe");
    with_tools["tools"] = tool_definition();
    if (!abilities->tools && contains(render(Json::array({with_tools}), no_tools_), "probe_key")) {
      abilities->tools = abilities->tools_in_message = true;
    }
    Json call = message("assistant", kNeedle);
    call["metadata"] = "Xq7name";
    abilities->metadata_calls =
        !contains(render(tool_conversation({{"probe_key", kNeedle}}, "", "x"), no_tools_), kNeedle) &&
        contains(render(Json::array({message("user", "probe"), call}), no_tools_), "Xq7name");
    const auto result = render(Json::array({message("user", "probe"), message("tool", kNeedle)}), no_tools_);
    const auto observed = render(Json::array({message("user", "probe"), message("observation", kNeedle)}), no_tools_);
    abilities->observation_role =
        (!contains(result, kNeedle) || contains(result, "<|tool|>")) && contains(observed, kNeedle);
  }

  TemplateAbilities::Content content_ability(const char* role) const {
    TemplateAbilities::Content ability;
    ability.plain = shows(conversation(role, kNeedle));
    Json part = Json::object();
    part["type"] = "text";
    part["text"] = kNeedle;
    ability.parts = shows(conversation(role, Json::array({std::move(part)})));
    // A role that the template ignores or refuses says nothing: strings are what most templates take.
    if (!ability.plain && !ability.parts) ability.plain = true;
    return ability;
  }

  void probe_calls(TemplateAbilities* abilities) const {
    const Json tools = tool_definition();
    const Json object = {{"probe_key", kNeedle}};
    const std::string text = dump_python_style();
    const auto with_object = render(tool_conversation(object, "", "result"), tools);
    const auto with_text = render(tool_conversation(text, "", "result"), tools);
    const bool prints_python = contains(with_object, std::string("'probe_key': '") + kNeedle);
    abilities->object_arguments = contains(with_text, kNeedle)
                                      ? contains(with_object, kNeedle) && !(prints_python && contains(with_text, text))
                                      : true;
    const Json arguments = abilities->object_arguments ? object : Json(text);
    const auto with_empty = render(tool_conversation(arguments, "", "result"), tools);
    const auto with_null = render(tool_conversation(arguments, Json(), "result"), tools);
    abilities->null_content =
        !with_empty || (with_null && (!contains(with_null, "None") || contains(with_empty, "None")));
  }

 private:
  static std::string dump_python_style() { return std::string("{\"probe_key\": \"") + kNeedle + "\"}"; }

  Json conversation(const std::string& role, const Json& content) const {
    if (role == "system") return Json::array({message("system", content), message("user", "probe")});
    if (role == "user") return Json::array({message("user", content)});
    if (role == "assistant") {
      return Json::array({message("user", "probe"), message("assistant", content), message("user", "probe")});
    }
    return tool_conversation(Json::object(), "", content);
  }

  /// The word stands in the rendering, and not as part of a printed list.
  bool shows(const Json& messages) const {
    const bool calls = messages.back()["role"] == "tool";
    const auto text = render(messages, calls ? tool_definition() : no_tools_);
    const std::string needle = kNeedle;
    return contains(text, needle) && !contains(text, "'text': '" + needle) &&
           !contains(text, "\"text\": \"" + needle) && !contains(text, "\"text\":\"" + needle) &&
           !contains(text, "\\\"" + needle);
  }

  const jinja::Template& parsed_;
  const std::vector<jinja::Variable>& model_variables_;
  Json no_tools_;
};

}  // namespace

TemplateAbilities probe_template(const jinja::Template& parsed, const std::string& source,
                                 const std::vector<jinja::Variable>& model_variables) {
  const Prober prober(parsed, model_variables);
  TemplateAbilities abilities;
  abilities.tools = prober.takes_tools();
  abilities.null_tools = prober.takes_null_tools();
  abilities.system = prober.content_ability("system");
  abilities.user = prober.content_ability("user");
  abilities.assistant = prober.content_ability("assistant");
  abilities.tool = prober.content_ability("tool");
  prober.probe_calls(&abilities);
  prober.probe_glm(source, &abilities);
  abilities.developer_role = source.find("developer") != std::string::npos;
  return abilities;
}

}  // namespace inferd
