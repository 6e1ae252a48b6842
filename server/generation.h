// Generation: the answers to one API request: submits to the engine, assembles text, counts usage.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/token_stream.h"
#include "server/answer_assembler.h"
#include "server/api_error.h"
#include "server/api_types.h"
#include "server/metrics.h"
#include "server/served_model.h"

namespace inferd {

/// What one step of one answer brought.
struct ChoiceEvent {
  int index = 0;
  AnswerPiece piece;
  std::string finish_reason;      // "stop", "length" or "tool_calls" at the end, else empty
  std::optional<ApiError> error;  // the answer failed; nothing more comes for this index
};

struct Usage {
  std::int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
};

/// Runs one request per choice. Used by one HTTP thread; leaving scope cancels what still runs.
class Generation {
 public:
  /// `prompts_per_choice` choices share one prompt (n), for usage. Throws ApiError if the engine refuses; nothing runs
  /// then. `what` names the prompt in context errors: "messages" or "prompt".
  Generation(const ServedModel& model, ModelMetrics& metrics, const AnswerOptions& options,
             std::vector<Request> requests, int choices_per_prompt, const std::string& what);
  ~Generation();
  Generation(const Generation&) = delete;

  enum class Progress { event, timeout, done };
  /// Waits for the next event of any choice.
  Progress next(ChoiceEvent* event, std::chrono::milliseconds timeout);

  int choices() const { return static_cast<int>(choices_.size()); }
  const std::vector<TokenId>& prompt(int index) const { return choices_[static_cast<std::size_t>(index)].prompt; }
  /// Log-probabilities of a choice's prompt, once its first event has come.
  std::vector<TokenEvent> take_prompt_logprobs(int index);
  /// Usage so far; complete once next() said done.
  Usage usage();
  Usage usage(int index) const;

 private:
  struct Choice {
    std::vector<TokenId> prompt;
    std::optional<TimePoint> deadline;
    std::shared_ptr<TokenStream> stream;
    std::unique_ptr<AnswerAssembler> assembler;
    std::int64_t tokens = 0;
    bool finished = false;  // the caller has got its end
    bool settled = false;   // the engine's statistics are in
    StreamStats stats;
    TimePoint first_at{}, last_at{};
  };
  bool poll(int index, ChoiceEvent* event, std::chrono::milliseconds timeout);
  void take_token(Choice& choice, TokenEvent token, ChoiceEvent* event);
  void end(Choice& choice, ChoiceEvent* event);
  void observe_end(const Choice& choice);
  void settle(Choice& choice);
  ApiError rejection_error(const Rejection& rejection, const std::string& what) const;

  const ServedModel& model_;
  ModelMetrics& metrics_;
  std::vector<Choice> choices_;
  const int choices_per_prompt_;
  const SystemClock clock_;
  const TimePoint start_;
  std::size_t turn_ = 0;  // whose turn it is to be looked at first
};

/// Sampling and limits of one answer: the client's wishes over the model's defaults. `chat`: the model's own sampling
/// defaults apply. Throws ApiError for ids outside the vocabulary.
Request make_request(const GenerationFields& fields, const ModelRef& asked, bool chat, std::vector<TokenId> prompt,
                     const ApiOptions& options);
/// Token ids from a client, checked against the model's vocabulary.
std::vector<TokenId> checked_ids(const TokenIds& ids, const ServedModel& model, const std::string& param);

}  // namespace inferd
