// Answers: the JSON objects of responses that several endpoints build, and the two flows of a generation.
#include "server/answers.h"

#include <cmath>
#include <ctime>

#include "base/utf8.h"

namespace inferd {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLookForClient(50);  // how soon a vanished client is noticed

ApiError client_left() {
  return ApiError(499, "invalid_request_error", "client_closed_request", "", "The client closed the connection.");
}

Json bytes_json(const std::string& bytes) {
  Json out = Json::array();
  for (const char byte : bytes) out.push_back(static_cast<int>(static_cast<unsigned char>(byte)));
  return out;
}

Json logprob_json(const Tokenizer& tokenizer, TokenId id, float logprob, bool as_ids) {
  Json out = Json::object();
  out["token"] = token_text(tokenizer, id, as_ids);
  out["logprob"] = json_logprob(logprob);
  out["bytes"] = bytes_json(tokenizer.token_bytes(id));
  return out;
}

}  // namespace

float json_logprob(float logprob) {
  return std::isfinite(logprob) && logprob > kLogprobFloor ? logprob : kLogprobFloor;
}

std::string token_text(const Tokenizer& tokenizer, TokenId id, bool as_ids) {
  if (as_ids) return "token_id:" + std::to_string(id);
  return replace_invalid_utf8(tokenizer.token_bytes(id));
}

Json usage_json(const Usage& usage) {
  Json out = Json::object();
  out["prompt_tokens"] = usage.prompt_tokens;
  out["completion_tokens"] = usage.completion_tokens;
  out["total_tokens"] = usage.prompt_tokens + usage.completion_tokens;
  out["prompt_tokens_details"] = Json{{"cached_tokens", usage.cached_tokens}, {"audio_tokens", 0}};
  out["completion_tokens_details"] = Json{{"reasoning_tokens", usage.reasoning_tokens}, {"audio_tokens", 0}};
  return out;
}

Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<TokenEvent>& tokens, bool as_ids) {
  if (tokens.empty()) return {};
  Json content = Json::array();
  for (const TokenEvent& token : tokens) {
    Json entry = logprob_json(tokenizer, token.token, token.logprob, as_ids);
    Json top = Json::array();
    for (const TokenLogprob& candidate : token.top) {
      top.push_back(logprob_json(tokenizer, candidate.token, candidate.logprob, as_ids));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  Json out = Json::object();
  out["content"] = std::move(content);
  out["refusal"] = Json();
  return out;
}

Json prompt_logprobs_json(const Tokenizer& tokenizer, const std::vector<TokenEvent>& tokens) {
  Json out = Json::array();
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (i == 0) {
      out.push_back(Json());
      continue;
    }
    const TokenEvent& token = tokens[i];
    Json entry = Json::object();
    const auto add = [&](TokenId id, float logprob, Json rank) {
      entry[std::to_string(id)] = Json{{"logprob", json_logprob(logprob)},
                                       {"rank", std::move(rank)},
                                       {"decoded_token", token_text(tokenizer, id, false)}};
    };
    add(token.token, token.logprob, Json());
    for (std::size_t k = 0; k < token.top.size(); ++k) add(token.top[k].token, token.top[k].logprob, Json(k + 1));
    out.push_back(std::move(entry));
  }
  return out;
}

std::int64_t unix_now_s() { return static_cast<std::int64_t>(std::time(nullptr)); }

std::string join(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}

HttpResponse json_response(const Json& body, const std::vector<std::string>& ignored) {
  HttpResponse response;
  response.body = dump_json(body);
  if (!ignored.empty()) response.headers.emplace_back("X-Inferd-Ignored", join(ignored));
  return response;
}

std::string cache_salt(const HttpRequest& request, const std::string& client_salt) {
  return client_salt.empty() ? request.cache_scope : "salt:" + client_salt;
}

std::string answer_model(const ServedModel& model, const std::string& asked) {
  return asked.empty() || asked == "default" ? model.name : asked;
}

void run_generation(Generation& generation, const HttpRequest& request,
                    const std::function<void(ChoiceEvent&)>& on_event) {
  for (;;) {
    ChoiceEvent event;
    const auto progress = generation.next(&event, kLookForClient);
    if (progress == Generation::Progress::done) return;
    if (progress == Generation::Progress::timeout) {
      if (request.client_gone()) throw client_left();
      continue;
    }
    if (event.error) throw *event.error;
    on_event(event);
    if (request.client_gone()) throw client_left();
  }
}

HttpResponse stream_generation(std::shared_ptr<Generation> generation, const HttpRequest& request, double ping_s,
                               EventHandler on_event, EndHandler at_end) {
  // Headers wait for the first event, so that what fails early is a plain HTTP error; but not for longer than a proxy
  // would wait.
  auto first = std::make_shared<ChoiceEvent>();
  auto progress = Generation::Progress::timeout;
  const SystemClock clock;
  const TimePoint deadline =
      clock.now() + std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(ping_s));
  while (progress == Generation::Progress::timeout && clock.now() < deadline) {
    progress = generation->next(first.get(), kLookForClient);
    if (request.client_gone()) throw client_left();
  }
  const bool has_first = progress == Generation::Progress::event;
  if (has_first && first->error) throw *first->error;

  return event_stream([=](ByteSink& sink) {
    SseWriter writer(sink, ping_s);
    ChoiceEvent event;
    bool have_event = has_first;
    if (have_event) event = std::move(*first);
    for (;;) {
      if (have_event) {
        if (event.error) {
          writer.send_error(*event.error);
          return;
        }
        if (!on_event(writer, event)) return;
      }
      const auto next = generation->next(&event, kLookForClient);
      have_event = next == Generation::Progress::event;
      if (next == Generation::Progress::done) break;
      if (next == Generation::Progress::timeout && !writer.ping_if_silent()) return;
      if (have_event && writer.client_gone()) return;
    }
    if (at_end(writer)) writer.done();
  });
}

}  // namespace inferd
