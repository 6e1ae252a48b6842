// Answers: the JSON objects of responses that several endpoints build.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/generation.h"
#include "server/http_types.h"
#include "server/sse_writer.h"

namespace inferd {

constexpr float kLogprobFloor = -9999.0f;  // JSON has no -inf

Json usage_json(const Usage& usage);
/// {"content": […], "refusal": null} of chat, or null without tokens.
Json chat_logprobs(const Tokenizer& tokenizer, const std::vector<TokenEvent>& tokens, bool as_ids);
/// vLLM's prompt_logprobs: null, then {"ID": {"logprob", "rank", "decoded_token"}} for each prompt token.
Json prompt_logprobs_json(const Tokenizer& tokenizer, const std::vector<TokenEvent>& tokens);
/// A token's text for JSON ("token_id:N" if asked for); broken UTF-8 becomes U+FFFD.
std::string token_text(const Tokenizer& tokenizer, TokenId id, bool as_ids);
float json_logprob(float logprob);

std::int64_t unix_now_s();
std::string join(const std::vector<std::string>& items);
/// 200 with a body, and the header that lists what was ignored.
HttpResponse json_response(const Json& body, const std::vector<std::string>& ignored);

/// Salt of the prefix cache: entries are shared within one API key, unless the client names a salt of its own.
std::string cache_salt(const HttpRequest& request, const std::string& client_salt);

/// The model's name in answers: as asked for, else the served one.
std::string answer_model(const ServedModel& model, const std::string& asked);

/// The shared flow of a streamed answer: waits for the first event, so that early failures are plain HTTP errors, then
/// calls `on_event` for each and `at_end` once. Both return false when the client is gone.
using EventHandler = std::function<bool(SseWriter&, ChoiceEvent&)>;
using EndHandler = std::function<bool(SseWriter&)>;
HttpResponse stream_generation(std::shared_ptr<Generation> generation, const HttpRequest& request, double ping_s,
                               EventHandler on_event, EndHandler at_end);

/// The flow of a whole answer: every event to `on_event`. Throws ApiError if a choice failed or the client left.
void run_generation(Generation& generation, const HttpRequest& request,
                    const std::function<void(ChoiceEvent&)>& on_event);

}  // namespace inferd
