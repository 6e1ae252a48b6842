// POST /v1/chat/completions.
#include <algorithm>
#include <iterator>
#include <utility>

#include "server/answer_grammar.h"
#include "server/answers.h"
#include "server/api_types.h"
#include "server/chat_prompt.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {
namespace {

/// What the chunks of one streamed answer share.
struct ChatStream {
  std::string id, model, fingerprint;
  std::int64_t created_unix_s = 0;
  bool logprobs = false, as_ids = false, include_usage = false, continuous_usage = false;
  std::vector<bool> opened;                      // by index: the role chunk was sent
  std::vector<std::vector<TokenEvent>> waiting;  // by index: tokens whose text has not been sent yet
};

Json tool_call_json(const ToolCallPiece& call) {
  Json out = Json::object();
  out["id"] = call.id;
  out["type"] = "function";
  out["function"] = Json{{"name", call.name}, {"arguments", call.arguments}};
  return out;
}

/// The deltas of a piece of a call: what names it first, without arguments, then arguments alone.
std::vector<Json> call_deltas(ToolCallPiece piece) {
  std::vector<Json> deltas;
  const std::string arguments = std::exchange(piece.arguments, {});
  const auto add = [&](const Json& call) {
    Json indexed = Json::object();
    indexed["index"] = piece.index;
    indexed.update(call);
    deltas.push_back(Json{{"tool_calls", Json::array({std::move(indexed)})}});
  };
  if (!piece.name.empty()) add(tool_call_json(piece));
  if (!arguments.empty()) add(Json{{"function", Json{{"arguments", arguments}}}});
  return deltas;
}

/// reasoning_effort has no meaning of its own: it turns the switches a template has.
void apply_reasoning_effort(const ServedModel& model, ChatRequest& chat) {
  if (!chat.reasoning_effort || model.chat_template == nullptr) return;
  const std::string& source = model.chat_template->source();
  bool used = false;
  if (source.find("enable_thinking") != std::string::npos && !chat.template_kwargs.contains("enable_thinking")) {
    chat.template_kwargs["enable_thinking"] = *chat.reasoning_effort != "none" && *chat.reasoning_effort != "minimal";
    used = true;
  }
  if (source.find("reasoning_effort") != std::string::npos) {
    chat.template_kwargs["reasoning_effort"] = *chat.reasoning_effort;
    used = true;
  }
  if (!used) chat.fields.ignored.emplace_back("reasoning_effort");
}

AnswerOptions answer_options(const ServedModel& model, const ChatRequest& chat, const ChatPrompt& prompt) {
  AnswerOptions options;
  options.skip_special = chat.fields.skip_special_tokens;
  options.stops = chat.fields.stop;
  options.include_stop = chat.fields.include_stop_str_in_output;
  if (!chat.fields.ignore_eos) options.hidden_ids = model.stop_ids;
  options.parser.reasoning = model.reasoning_format;
  options.parser.reasoning_open = prompt.reasoning_open;
  options.parser.parallel_calls = chat.parallel_tool_calls;
  options.parser.trims_start = model.tool_format != nullptr && model.tool_format->trims_start;
  if (chat.parse_tool_calls) {
    options.parser.tools = model.tool_format;
    options.parser.schemas = ToolSchemas(chat.tools);
  }
  return options;
}

Json whole_answer(const ServedModel& model, const ChatRequest& chat, Generation& generation,
                  const HttpRequest& request) {
  struct Whole {
    AnswerPiece piece;
    std::string finish_reason;
    std::vector<TokenEvent> prompt_logprobs;
  };
  std::vector<Whole> wholes(static_cast<std::size_t>(generation.choices()));
  run_generation(generation, request, [&](ChoiceEvent& event) {
    Whole& whole = wholes[static_cast<std::size_t>(event.index)];
    whole.piece.content += event.piece.content;
    whole.piece.reasoning += event.piece.reasoning;
    for (ToolCallPiece& call : event.piece.tool_calls) add_call_piece(whole.piece.tool_calls, std::move(call));
    for (TokenEvent& token : event.piece.tokens) whole.piece.tokens.push_back(std::move(token));
    if (!event.finish_reason.empty()) whole.finish_reason = event.finish_reason;
  });
  Json choices = Json::array();
  for (std::size_t i = 0; i < wholes.size(); ++i) {
    const AnswerPiece& piece = wholes[i].piece;
    Json message = Json::object();
    message["role"] = "assistant";
    message["content"] = piece.content.empty() && !piece.tool_calls.empty() ? Json() : Json(piece.content);
    if (!piece.reasoning.empty()) message["reasoning_content"] = piece.reasoning;
    message["refusal"] = Json();
    if (!piece.tool_calls.empty()) {
      message["tool_calls"] = Json::array();
      for (const ToolCallPiece& call : piece.tool_calls) message["tool_calls"].push_back(tool_call_json(call));
    }
    Json choice = Json::object();
    choice["index"] = i;
    choice["message"] = std::move(message);
    choice["logprobs"] =
        chat.logprobs ? chat_logprobs(*model.tokenizer, piece.tokens, chat.fields.return_tokens_as_token_ids) : Json();
    choice["finish_reason"] = wholes[i].finish_reason;
    choices.push_back(std::move(choice));
  }
  Json body = Json::object();
  body["id"] = random_id("chatcmpl-");
  body["object"] = "chat.completion";
  body["created"] = unix_now_s();
  body["model"] = answer_model(model, chat.fields.model);
  body["system_fingerprint"] = model.fingerprint;
  body["choices"] = std::move(choices);
  body["usage"] = usage_json(generation.usage());
  if (chat.fields.prompt_logprobs) {
    body["prompt_logprobs"] = prompt_logprobs_json(*model.tokenizer, generation.take_prompt_logprobs(0));
  }
  return body;
}

Json chunk(const ChatStream& stream, Json choices, Generation& generation) {
  Json out = Json::object();
  out["id"] = stream.id;
  out["object"] = "chat.completion.chunk";
  out["created"] = stream.created_unix_s;
  out["model"] = stream.model;
  out["system_fingerprint"] = stream.fingerprint;
  out["choices"] = std::move(choices);
  if (stream.continuous_usage) {
    out["usage"] = usage_json(generation.usage());
  } else if (stream.include_usage) {
    out["usage"] = Json();
  }
  return out;
}

Json choice_delta(int index, Json delta, Json logprobs, const std::string& finish_reason) {
  Json choice = Json::object();
  choice["index"] = index;
  choice["delta"] = std::move(delta);
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = finish_reason.empty() ? Json() : Json(finish_reason);
  return Json::array({std::move(choice)});
}

/// Sends the chunks of one event: the role first, then text, calls, and the finish in a chunk of its own.
bool send_event(SseWriter& writer, ChoiceEvent& event, ChatStream& stream, const ServedModel& model,
                Generation& generation) {
  const auto slot = static_cast<std::size_t>(event.index);
  const auto send = [&](Json delta, Json logprobs, const std::string& finish_reason) {
    return writer.send(
        chunk(stream, choice_delta(event.index, std::move(delta), std::move(logprobs), finish_reason), generation));
  };
  if (!stream.opened[slot]) {
    stream.opened[slot] = true;
    if (!send(Json{{"role", "assistant"}, {"content", ""}}, Json(), "")) return false;
  }
  std::vector<TokenEvent>& tokens = stream.waiting[slot];
  if (stream.logprobs) std::move(event.piece.tokens.begin(), event.piece.tokens.end(), std::back_inserter(tokens));
  const auto take_logprobs = [&] {
    Json logprobs = chat_logprobs(*model.tokenizer, tokens, stream.as_ids);
    tokens.clear();
    return logprobs;
  };
  if (!event.piece.reasoning.empty() &&
      !send(Json{{"reasoning_content", event.piece.reasoning}}, take_logprobs(), "")) {
    return false;
  }
  if (!event.piece.content.empty() && !send(Json{{"content", event.piece.content}}, take_logprobs(), "")) return false;
  for (const ToolCallPiece& call : event.piece.tool_calls) {
    for (Json& delta : call_deltas(call)) {
      if (!send(std::move(delta), take_logprobs(), "")) return false;
    }
  }
  return event.finish_reason.empty() || send(Json::object(), take_logprobs(), event.finish_reason);
}

HttpResponse streamed_answer(App& app, const ServedModel& model, const ChatRequest& chat,
                             std::shared_ptr<Generation> generation, const HttpRequest& request) {
  auto stream = std::make_shared<ChatStream>();
  const auto choices = static_cast<std::size_t>(generation->choices());
  stream->id = random_id("chatcmpl-");
  stream->model = answer_model(model, chat.fields.model);
  stream->fingerprint = model.fingerprint;
  stream->created_unix_s = unix_now_s();
  stream->logprobs = chat.logprobs;
  stream->as_ids = chat.fields.return_tokens_as_token_ids;
  stream->include_usage = chat.fields.include_usage;
  stream->continuous_usage = chat.fields.continuous_usage;
  stream->opened.assign(choices, false);
  stream->waiting.resize(choices);
  HttpResponse response = stream_generation(
      generation, request, app.api.sse_ping_s,
      [=, &model](SseWriter& writer, ChoiceEvent& event) {
        return send_event(writer, event, *stream, model, *generation);
      },
      [=](SseWriter& writer) {
        if (!stream->include_usage) return true;
        Json last = chunk(*stream, Json::array(), *generation);
        last["usage"] = usage_json(generation->usage());
        return writer.send(last);
      });
  if (!chat.fields.ignored.empty()) response.headers.emplace_back("X-Inferd-Ignored", join(chat.fields.ignored));
  return response;
}

}  // namespace

HttpResponse chat_completions(App& app, const HttpRequest& request) {
  ChatRequest chat = read_chat_request(parse_body(request.body), app.api);
  const ModelRef asked = app.models.decoder(chat.fields.model, "chat completions");
  const ServedModel& model = *asked;
  apply_reasoning_effort(model, chat);
  const bool tools_shown = model.chat_template == nullptr || model.chat_template->takes_tools();
  if (!chat.tools.is_null() && !tools_shown) chat.fields.ignored.emplace_back("tools");
  ChatPrompt prompt =
      make_chat_prompt(model, chat.messages, chat.tools, chat.add_generation_prompt, chat.template_kwargs, false);
  const AnswerOptions options = answer_options(model, chat, prompt);
  AnswerGrammar grammar = chat_grammar(model, chat, prompt.reasoning_open);
  std::move(grammar.ignored.begin(), grammar.ignored.end(), std::back_inserter(chat.fields.ignored));
  Request base = make_request(chat.fields, asked, true, std::move(prompt.tokens), app.api);
  base.grammar = std::move(grammar.grammar);
  base.cache_salt = cache_salt(request, chat.fields.cache_salt);
  if (chat.logprobs) base.top_logprobs = static_cast<int>(chat.top_logprobs);
  std::vector<Request> requests;
  for (std::int64_t i = 0; i < chat.fields.n; ++i) {
    Request one = base;
    one.id = request.id + "/" + std::to_string(i);
    one.sampling.seed =
        static_cast<std::int64_t>(static_cast<std::uint64_t>(base.sampling.seed) + static_cast<std::uint64_t>(i));
    if (i > 0) one.prompt_logprobs = -1;
    requests.push_back(std::move(one));
  }
  auto generation = std::make_shared<Generation>(model, app.metrics.model(model.name), options, std::move(requests),
                                                 static_cast<int>(chat.fields.n), "messages");
  if (chat.fields.stream) return streamed_answer(app, model, chat, std::move(generation), request);
  return json_response(whole_answer(model, chat, *generation, request), chat.fields.ignored);
}

}  // namespace inferd
