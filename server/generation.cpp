// Generation: the answers to one API request: submits to the engine, assembles text, counts usage.
#include "server/generation.h"

#include <algorithm>
#include <cmath>

#include "server/engine_end.h"

namespace inferd {
namespace {

using std::chrono::milliseconds;

double seconds(TimePoint from, TimePoint to) { return std::chrono::duration<double>(to - from).count(); }

}  // namespace

Generation::Generation(const ServedModel& model, ModelMetrics& metrics, const AnswerOptions& options,
                       std::vector<Request> requests, int choices_per_prompt, const std::string& what)
    : model_(model), metrics_(metrics), choices_per_prompt_(choices_per_prompt), start_(clock_.now()) {
  for (const Request& request : requests) {
    const auto given = static_cast<std::int64_t>(request.prompt.size());
    const std::int64_t room = request.max_output_tokens > 0 ? 1 : 0;
    if (given + room > model.context_length) throw context_length_exceeded(what, model.context_length, given);
  }
  choices_.reserve(requests.size());
  for (Request& request : requests) {
    Choice choice;
    choice.prompt = request.prompt;
    choice.deadline = request.deadline;
    choice.assembler = std::make_unique<AnswerAssembler>(*model.tokenizer, options);
    auto submitted = model.engine->submit(model.handle, std::move(request));
    if (const auto* rejection = std::get_if<Rejection>(&submitted)) {
      metrics_.rejected++;
      for (Choice& admitted : choices_) admitted.stream->cancel();
      throw rejection_error(*rejection, what);
    }
    choice.stream = std::get<std::shared_ptr<TokenStream>>(std::move(submitted));
    choices_.push_back(std::move(choice));
  }
  for (std::size_t i = 0; i < choices_.size(); i += static_cast<std::size_t>(choices_per_prompt_)) {
    metrics_.prompt_tokens += static_cast<std::int64_t>(choices_[i].prompt.size());
  }
}

Generation::~Generation() {
  for (Choice& choice : choices_) {
    if (choice.finished) {
      settle(choice);
      continue;
    }
    choice.stream->cancel();
    metrics_.aborted++;
  }
}

ApiError Generation::rejection_error(const Rejection& rejection, const std::string& what) const {
  switch (rejection.kind) {
    case Rejection::Kind::prompt_too_long:
      return context_length_exceeded(what, rejection.limit, rejection.given);
    case Rejection::Kind::never_fits: {
      ApiError error = context_length_exceeded(what, rejection.limit, rejection.given);
      return error;
    }
    case Rejection::Kind::draining:
      return engine_ended(*model_.engine);
    case Rejection::Kind::bad_token:
      return invalid_value(what, "A token id is outside the model's vocabulary.");
    case Rejection::Kind::no_adapter:  // unloaded after its name was looked up
      return {404, "invalid_request_error", "model_not_found", "model", "The adapter has just been unloaded."};
    case Rejection::Kind::no_prompt_logprobs:
      return invalid_value("prompt_logprobs", "The model reads its prompt both ways: prompt tokens have no logprobs.");
    case Rejection::Kind::queue_full:
      break;
  }
  ApiError error(429, "rate_limit_error", "queue_full", "",
                 "The server has " + std::to_string(rejection.limit) + " requests waiting already. Please try again.");
  error.limit = "max_queued_requests";
  const DecoderStats stats = model_.engine->stats(model_.handle);
  const double at_once = static_cast<double>(std::max<std::int64_t>(stats.running, 1));
  const double wait_s = metrics_.recent_request_s() * static_cast<double>(stats.waiting) / at_once;
  error.retry_after_s = static_cast<int>(std::clamp(std::ceil(wait_s), 1.0, 60.0));
  return error;
}

Generation::Progress Generation::next(ChoiceEvent* event, milliseconds timeout) {
  const TimePoint deadline = clock_.now() + timeout;
  for (;;) {
    std::size_t alive = 0, alone = 0;
    for (std::size_t k = 0; k < choices_.size(); ++k) {
      const std::size_t i = (turn_ + k) % choices_.size();
      if (choices_[i].finished) continue;
      ++alive;
      alone = i;
      if (poll(static_cast<int>(i), event, milliseconds(0))) {
        turn_ = i + 1;
        return Progress::event;
      }
    }
    if (alive == 0) return Progress::done;
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock_.now());
    if (left.count() <= 0) return Progress::timeout;
    // There is no way to wait for several streams at once: look around every few milliseconds.
    constexpr milliseconds kLookAround(4);
    if (poll(static_cast<int>(alone), event, alive == 1 ? left : std::min(left, kLookAround))) {
      turn_ = alone + 1;
      return Progress::event;
    }
  }
}

/// Takes tokens of one choice until something can be shown. False if nothing has come within `timeout`.
bool Generation::poll(int index, ChoiceEvent* event, milliseconds timeout) {
  Choice& choice = choices_[static_cast<std::size_t>(index)];
  *event = ChoiceEvent{};
  event->index = index;
  for (;;) {
    TokenEvent token;
    switch (choice.stream->pop(&token, timeout)) {
      case TokenStream::PopResult::timeout:
        return false;
      case TokenStream::PopResult::finished:
        end(choice, event);
        return true;
      case TokenStream::PopResult::token:
        take_token(choice, std::move(token), event);
        break;
    }
    if (choice.finished || !event->piece.empty()) return true;
  }
}

void Generation::take_token(Choice& choice, TokenEvent token, ChoiceEvent* event) {
  const TimePoint now = clock_.now();
  if (choice.tokens == 0) {
    choice.first_at = now;
    metrics_.time_to_first_token.observe(seconds(start_, now));
  } else {
    metrics_.inter_token.observe(seconds(choice.last_at, now));
  }
  choice.last_at = now;
  choice.tokens++;
  metrics_.output_tokens++;
  event->piece = choice.assembler->push(std::move(token));
  if (!choice.assembler->stopped()) return;
  choice.stream->cancel();
  choice.finished = true;
  event->finish_reason = choice.assembler->called_tools() ? "tool_calls" : "stop";
  metrics_.stopped++;
  observe_end(choice);
}

void Generation::end(Choice& choice, ChoiceEvent* event) {
  choice.finished = true;
  settle(choice);
  const FinishReason reason = choice.stream->finish_reason();
  switch (reason) {
    case FinishReason::stop:
    case FinishReason::length: {
      event->piece = choice.assembler->finish(reason == FinishReason::length);
      const bool stopped = reason == FinishReason::stop || choice.assembler->stopped();
      event->finish_reason = !stopped ? "length" : choice.assembler->called_tools() ? "tool_calls" : "stop";
      (stopped ? metrics_.stopped : metrics_.length)++;
      break;
    }
    case FinishReason::deadline:
      metrics_.failed++;
      metrics_.limits.count(choice.deadline && clock_.now() >= *choice.deadline ? "request_deadline_s"
                                                                                : "queue_wait_s");
      event->error = unavailable("request_timeout", "The request took longer than this server allows.", 5);
      break;
    case FinishReason::shutdown:
      metrics_.failed++;
      metrics_.limits.count("drain_s");
      event->error = engine_ended(*model_.engine);
      break;
    case FinishReason::engine_failed:
      metrics_.failed++;
      event->error = engine_ended(*model_.engine);
      break;
    case FinishReason::cancelled:
      metrics_.aborted++;
      event->error = ApiError(499, "invalid_request_error", "client_closed_request", "", "The request was cancelled.");
      break;
    case FinishReason::blocked:
      metrics_.failed++;
      event->error = invalid_value(
          "logit_bias", "'logit_bias' bans every token with which the answer could go on in the required form.");
      break;
    case FinishReason::none:
    case FinishReason::error:
      metrics_.failed++;
      event->error = server_error("The model produced no valid numbers for this request.");
      break;
  }
  observe_end(choice);
}

void Generation::observe_end(const Choice& choice) {
  metrics_.request_ended(seconds(start_, clock_.now()));
  if (choice.tokens > 1) {
    metrics_.per_output_token.observe(seconds(choice.first_at, choice.last_at) /
                                      static_cast<double>(choice.tokens - 1));
  }
}

/// Fetches the engine's statistics; after a stop string the engine still has to notice the cancel, within a step.
void Generation::settle(Choice& choice) {
  if (choice.settled) return;
  const TimePoint deadline = clock_.now() + std::chrono::seconds(1);
  TokenEvent unused;
  while (choice.stream->finish_reason() == FinishReason::none && clock_.now() < deadline) {
    choice.stream->pop(&unused, milliseconds(50));
  }
  choice.settled = true;
  choice.stats = choice.stream->stats();
  metrics_.queue_time.observe(choice.stats.queue_wait_s);
  metrics_.cached_tokens += choice.stats.cached_tokens;
}

std::vector<TokenEvent> Generation::take_prompt_logprobs(int index) {
  return choices_[static_cast<std::size_t>(index)].stream->take_prompt_logprobs();
}

Usage Generation::usage(int index) const {
  const Choice& choice = choices_[static_cast<std::size_t>(index)];
  Usage usage;
  usage.prompt_tokens = static_cast<std::int64_t>(choice.prompt.size());
  usage.completion_tokens = choice.tokens;
  usage.cached_tokens = choice.stats.cached_tokens;
  usage.reasoning_tokens = choice.assembler->reasoning_tokens();
  return usage;
}

Usage Generation::usage() {
  Usage total;
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    if (choices_[i].finished) settle(choices_[i]);
    const Usage one = usage(static_cast<int>(i));
    // The prompt counts once for all its choices; what the first of them found cached is what the prompt cost.
    if (i % static_cast<std::size_t>(choices_per_prompt_) == 0) {
      total.prompt_tokens += one.prompt_tokens;
      total.cached_tokens += one.cached_tokens;
    }
    total.completion_tokens += one.completion_tokens;
    total.reasoning_tokens += one.reasoning_tokens;
  }
  return total;
}

}  // namespace inferd
