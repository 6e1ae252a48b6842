// Answers as grammars: reasoning first, then JSON or calls.
#include "server/answer_grammar.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "server/api_error.h"

namespace inferd {
namespace {

constexpr std::size_t kMostShown = 200;  // bytes of a pointer in a message
constexpr char kSchemaParam[] = "response_format.json_schema.schema";

std::string shown(const std::string& pointer) {
  if (pointer.empty()) return "its root";
  return "'" + (pointer.size() > kMostShown ? pointer.substr(0, kMostShown) + "…" : pointer) + "'";
}

std::string name_of(const ResponseFormat& format) { return "response_format '" + format.name + "'"; }

/// Runs `compile`, and says of which schema its errors are.
template <typename Compile>
auto explained(const std::string& param, const std::string& what, Compile compile) {
  try {
    return compile();
  } catch (const SchemaError& error) {
    throw ApiError(400, "invalid_request_error", "invalid_json_schema", param,
                   "Invalid schema for " + what + ", at " + shown(error.pointer) + ": " + error.what());
  } catch (const GrammarError& error) {
    throw ApiError(400, "invalid_request_error", "invalid_json_schema", param,
                   "Invalid schema for " + what + ": " + error.what() + ".");
  }
}

/// One function of the request's tools.
struct Tool {
  std::string param;
  std::string name;
  Json parameters;
  bool strict = false;
};

std::vector<Tool> callable_tools(const ChatRequest& chat) {
  std::vector<Tool> out;
  for (std::size_t i = 0; i < chat.tools.size(); ++i) {
    const Json& function = chat.tools[i].at("function");
    Tool tool;
    tool.param = "tools[" + std::to_string(i) + "].function.parameters";
    tool.name = function.at("name").get<std::string>();
    const auto& only = chat.tool_choice.names;
    if (!only.empty() && std::find(only.begin(), only.end(), tool.name) == only.end()) continue;
    const auto parameters = function.find("parameters");
    const bool described = parameters != function.end() && parameters->is_object() && !parameters->empty();
    tool.parameters = described ? *parameters : Json{{"type", "object"}, {"properties", Json::object()}};
    if (!tool.parameters.contains("type") && !tool.parameters.contains("$ref")) tool.parameters["type"] = "object";
    const auto strict = function.find("strict");
    tool.strict = strict != function.end() && *strict == true;
    out.push_back(std::move(tool));
  }
  return out;
}

/// Makes the grammar of one request.
class AnswerBuilder {
 public:
  AnswerBuilder(const ServedModel& model, bool bare)
      : model_(model), json_(builder_, !bare), marks_(builder_, *model.tokenizer) {}

  GrammarExpr json_answer(const ResponseFormat& format) {
    if (format.kind == ResponseFormat::Kind::json_object) return json_.object();
    schemas_.push_back(std::make_unique<SchemaGrammar>(builder_, json_, format.schema, format.strict));
    return explained(kSchemaParam, name_of(format), [&] {
      const GrammarExpr value = schemas_.back()->value();
      note_ignored(kSchemaParam, *schemas_.back());
      return value;
    });
  }

  GrammarExpr calls(const std::vector<Tool>& tools, bool several) {
    const ToolFormatRow& format = *model_.tool_format;
    for (const Tool& tool : tools) {
      check(tool, format);
      schemas_.push_back(std::make_unique<SchemaGrammar>(builder_, json_, tool.parameters, tool.strict));
      functions_.push_back({tool.name, schemas_.back().get()});
    }
    return format.calls({builder_, json_, marks_, functions_, several});
  }

  /// Text that may become calls at any place.
  GrammarExpr free_or(GrammarExpr calls, std::string_view opening) {
    const GrammarExpr text = builder_.graph(text_without({std::string(opening)}));
    return builder_.sequence({text, builder_.optional(calls)});
  }

  GrammarExpr choice(std::vector<GrammarExpr> forms) { return builder_.choice(std::move(forms)); }

  /// `answer`, behind what a model may write before it: reasoning, and a little white space.
  GrammarExpr whole(GrammarExpr answer, bool reasons, bool reasoning_open) {
    const GrammarExpr space = builder_.repeat(builder_.bytes({{' ', ' '}, {'\n', '\n'}}), 0, 2);
    const GrammarExpr body = builder_.rule(builder_.sequence({space, answer}));
    if (!reasons || model_.reasoning_format == nullptr) return body;
    const ReasoningFormat& format = *model_.reasoning_format;
    const GrammarExpr thought =
        builder_.sequence({builder_.graph(text_without({std::string(format.close)})), marks_.mark(format.close), body});
    if (reasoning_open) return thought;
    return builder_.choice({body, builder_.sequence({marks_.mark(format.open), thought})});
  }

  AnswerGrammar build(GrammarExpr root, GrammarCache& cache) {
    auto grammar = std::make_shared<TokenGrammar>(builder_.build(root), cache.vocabulary(), marks_.symbols());
    grammar->prepare();
    return {std::move(grammar), std::move(ignored_)};
  }

 private:
  /// Compiles one function's parameters on their own, so that what is wrong with them is said of them.
  void check(const Tool& tool, const ToolFormatRow& format) {
    const std::string what = "function '" + tool.name + "'";
    if (tool.parameters.contains("type") && tool.parameters["type"] != "object") {
      throw invalid_value(tool.param, "Invalid schema for " + what + ": 'type' must be \"object\".");
    }
    explained(tool.param, what, [&] {
      GrammarBuilder builder;
      JsonText json(builder, !format.bare_values);
      SchemaGrammar schema(builder, json, tool.parameters, tool.strict);
      GrammarExpr root = builder.empty();
      if (format.bare_values) {
        std::vector<GrammarExpr> parts;
        for (const auto& member : schema.bare_members({std::string(format.opening)})) {
          if (member.required) parts.push_back(member.text);
        }
        root = builder.sequence(std::move(parts));
      } else {
        root = schema.value();
      }
      builder.build(root);
      note_ignored(tool.param, schema);
      return 0;
    });
  }

  void note_ignored(const std::string& param, const SchemaGrammar& schema) {
    constexpr std::size_t kMostIgnored = 20;
    for (const std::string& pointer : schema.ignored()) {
      if (ignored_.size() == kMostIgnored) return;
      std::string name = param + "#" + pointer.substr(0, kMostShown);
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c <= ' ' || c > '~' || c == ',' || c == '"'; }, '?');
      ignored_.push_back(std::move(name));
    }
  }

  const ServedModel& model_;
  GrammarBuilder builder_;
  JsonText json_;
  GrammarMarks marks_;
  std::vector<std::unique_ptr<SchemaGrammar>> schemas_;
  std::vector<CallableFunction> functions_;
  std::vector<std::string> ignored_;
};

/// What of the request the grammar depends on.
std::string cache_key(const ChatRequest& chat, const std::vector<Tool>& tools, bool reasoning_open) {
  Json key = Json::array();
  key.push_back(static_cast<int>(chat.response_format.kind));
  key.push_back(chat.response_format.schema);
  key.push_back(chat.response_format.strict);
  key.push_back(chat.tool_choice.required);
  key.push_back(chat.parallel_tool_calls);
  key.push_back(reasoning_open);
  for (const Tool& tool : tools) key.push_back(Json::array({tool.name, tool.parameters, tool.strict}));
  return dump_json(key);
}

void check_calls(const ServedModel& model, const ChatRequest& chat, const std::vector<Tool>& tools) {
  const ToolFormatRow* format = model.tool_format;
  const bool required = chat.tool_choice.required;
  const std::string param = required || !chat.tool_choice.names.empty() ? "tool_choice" : "tools";
  const std::string asked = param == "tools" ? "A function with 'strict'" : "This 'tool_choice'";
  if (tools.empty()) {
    throw invalid_value("tool_choice", "Invalid 'tool_choice': it needs 'tools' that it can choose from.");
  }
  if (format == nullptr) {
    throw unsupported_value(param, asked + " cannot be enforced: the form of the model's tool calls is not known.");
  }
  const bool any_place =
      required || chat.response_format.kind != ResponseFormat::Kind::text || !format->opening.empty();
  if (format->calls == nullptr || !any_place) {
    throw unsupported_value(param, asked + " cannot be enforced for tool calls in the form of '" +
                                       std::string(format->name) + "'" +
                                       (format->calls == nullptr ? "." : "; \"required\" can."));
  }
}

}  // namespace

AnswerGrammar chat_grammar(const ServedModel& model, const ChatRequest& chat, bool reasoning_open) {
  const ResponseFormat& format = chat.response_format;
  const bool json = format.kind != ResponseFormat::Kind::text;
  std::vector<Tool> tools;
  if (chat.parse_tool_calls) tools = callable_tools(chat);
  const bool strict = std::any_of(tools.begin(), tools.end(), [](const Tool& tool) { return tool.strict; });
  const bool chosen = chat.tool_choice.required || !chat.tool_choice.names.empty();
  if (!json && !strict && !chosen) return {};
  const bool calls =
      strict || chosen || (!tools.empty() && model.tool_format != nullptr && model.tool_format->calls != nullptr);
  if (calls) check_calls(model, chat, tools);
  return model.grammars->get(cache_key(chat, calls ? tools : std::vector<Tool>(), reasoning_open), [&] {
    AnswerBuilder builder(model, calls && model.tool_format->bare_values);
    std::vector<GrammarExpr> forms;
    if (json && !chat.tool_choice.required) forms.push_back(builder.json_answer(format));
    return explained(calls ? "tools" : kSchemaParam, calls ? "the functions" : name_of(format), [&] {
      if (calls) {
        const GrammarExpr made = builder.calls(tools, chat.parallel_tool_calls && !chat.tool_choice.single);
        const bool free = !json && !chat.tool_choice.required;
        forms.push_back(free ? builder.free_or(made, model.tool_format->opening) : made);
      }
      return builder.build(builder.whole(builder.choice(std::move(forms)), true, reasoning_open), *model.grammars);
    });
  });
}

AnswerGrammar completion_grammar(const ServedModel& model, const ResponseFormat& format) {
  if (format.kind == ResponseFormat::Kind::text) return {};
  ChatRequest key;
  key.response_format = format;
  return model.grammars->get("completion" + cache_key(key, {}, false), [&] {
    AnswerBuilder builder(model, false);
    const GrammarExpr answer = builder.json_answer(format);
    return explained(kSchemaParam, name_of(format),
                     [&] { return builder.build(builder.whole(answer, false, false), *model.grammars); });
  });
}

}  // namespace inferd
