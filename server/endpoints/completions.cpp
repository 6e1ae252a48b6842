// POST /v1/completions: text or token ids, one prompt or several.
#include <algorithm>

#include "base/utf8.h"
#include "engine/text/detokenizer.h"
#include "server/answer_grammar.h"
#include "server/answers.h"
#include "server/api_types.h"
#include "server/chat_prompt.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {
namespace {

/// The four parallel lists of this endpoint's logprobs.
class LogprobLists {
 public:
  LogprobLists(const Tokenizer& tokenizer, bool as_ids, bool skip_special, std::int64_t count)
      : tokenizer_(tokenizer), as_ids_(as_ids), skip_special_(skip_special), count_(count), text_(begin_text()) {}

  void add(const TokenEvent& token, bool has_logprob) {
    const std::string text = token_text(tokenizer_, token.token, as_ids_);
    tokens_.push_back(text);
    token_logprobs_.push_back(has_logprob ? Json(json_logprob(token.logprob)) : Json());
    offsets_.push_back(offset_);
    if (!has_logprob) {
      top_.push_back(Json());
    } else {
      // the sampled token is among the candidates even where it is not among the best
      Json candidates = Json::object();
      for (const TokenLogprob& candidate : token.top) {
        candidates[token_text(tokenizer_, candidate.token, as_ids_)] = json_logprob(candidate.logprob);
      }
      if (count_ > 0) candidates[text] = json_logprob(token.logprob);
      top_.push_back(std::move(candidates));
    }
    offset_ += characters(text_->push(token.token));
  }
  bool empty() const { return tokens_.empty(); }

  /// The lists so far, which begin anew.
  Json take() {
    Json out = Json::object();
    out["tokens"] = std::exchange(tokens_, Json::array());
    out["token_logprobs"] = std::exchange(token_logprobs_, Json::array());
    out["top_logprobs"] = std::exchange(top_, Json::array());
    out["text_offset"] = std::exchange(offsets_, Json::array());
    return out;
  }
  /// The answer begins, behind an echoed prompt of so many characters.
  void begin_answer(std::size_t echo_characters) {
    offset_ = echo_characters;
    text_ = begin_text();
  }

  static std::size_t characters(const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  }

 private:
  std::unique_ptr<Detokenizer> begin_text() const { return std::make_unique<Detokenizer>(tokenizer_, skip_special_); }

  const Tokenizer& tokenizer_;
  const bool as_ids_, skip_special_;
  const std::int64_t count_;
  Json tokens_ = Json::array(), token_logprobs_ = Json::array(), top_ = Json::array(), offsets_ = Json::array();
  std::unique_ptr<Detokenizer> text_;  // the text that the offsets count in
  std::size_t offset_ = 0;
};

/// One answer of a request, as it grows.
struct CompletionChoice {
  std::string text;
  std::string finish_reason;
  std::string echo;  // the prompt's text, if it is to be repeated
  std::unique_ptr<LogprobLists> logprobs;
  bool prompt_added = false;
};

/// A request with everything its two flows share.
struct CompletionRun {
  CompletionRequest request;
  ModelRef model;
  std::shared_ptr<Generation> generation;
  std::vector<CompletionChoice> choices;
  std::string id, model_name;
  std::int64_t created_unix_s = 0;
};

std::vector<TokenId> prompt_ids(const App& app, const ServedModel& model, const CompletionRequest& request,
                                const TextOrTokens& prompt) {
  std::vector<TokenId> ids;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    ids = encode_text(model, *text, app.api.parse_special, request.add_special_tokens);
  } else {
    ids = checked_ids(std::get<TokenIds>(prompt), model, "prompt");
  }
  if (ids.empty()) {
    // An empty text still has a beginning to continue from.
    const SpecialTokens& special = model.tokenizer->special();
    const TokenId start = special.bos >= 0 ? special.bos : special.eos;
    if (start < 0) throw invalid_value("prompt", "Invalid 'prompt': it holds no tokens.");
    ids.push_back(start);
  }
  return ids;
}

std::vector<Request> make_requests(const App& app, const HttpRequest& http, CompletionRun& run) {
  const AnswerGrammar grammar = completion_grammar(*run.model, run.request.response_format);
  auto& ignored = run.request.fields.ignored;
  ignored.insert(ignored.end(), grammar.ignored.begin(), grammar.ignored.end());
  const CompletionRequest& completion = run.request;
  std::vector<Request> requests;
  for (const TextOrTokens& prompt : completion.prompts) {
    Request base =
        make_request(completion.fields, run.model, false, prompt_ids(app, *run.model, completion, prompt), app.api);
    base.grammar = grammar.grammar;
    base.cache_salt = cache_salt(http, completion.fields.cache_salt);
    if (completion.logprobs) base.top_logprobs = static_cast<int>(*completion.logprobs);
    if (completion.logprobs && completion.echo) base.prompt_logprobs = static_cast<int>(*completion.logprobs);
    std::string echo;
    if (completion.echo) {
      const auto* text = std::get_if<std::string>(&prompt);
      echo = text != nullptr ? *text : run.model->tokenizer->decode(base.prompt, completion.fields.skip_special_tokens);
    }
    for (std::int64_t i = 0; i < completion.fields.n; ++i) {
      Request one = base;
      one.id = http.id + "/" + std::to_string(requests.size());
      one.sampling.seed =
          static_cast<std::int64_t>(static_cast<std::uint64_t>(base.sampling.seed) + static_cast<std::uint64_t>(i));
      requests.push_back(std::move(one));
      CompletionChoice choice;
      choice.echo = echo;
      if (completion.logprobs) {
        choice.logprobs =
            std::make_unique<LogprobLists>(*run.model->tokenizer, completion.fields.return_tokens_as_token_ids,
                                           completion.fields.skip_special_tokens, *completion.logprobs);
      }
      run.choices.push_back(std::move(choice));
    }
  }
  return requests;
}

AnswerOptions answer_options(const CompletionRun& run) {
  AnswerOptions options;
  options.skip_special = run.request.fields.skip_special_tokens;
  options.stops = run.request.fields.stop;
  options.include_stop = run.request.fields.include_stop_str_in_output;
  if (!run.request.fields.ignore_eos) options.hidden_ids = run.model->stop_ids;
  return options;
}

/// Adds an event to its choice; the echoed prompt comes with the first. Returns the text that is new.
std::string absorb(CompletionRun& run, ChoiceEvent& event, std::vector<std::vector<TokenEvent>>* prompt_logprobs) {
  CompletionChoice& choice = run.choices[static_cast<std::size_t>(event.index)];
  std::string text;
  if (!choice.prompt_added) {
    choice.prompt_added = true;
    text = choice.echo;
    const bool wanted = run.request.fields.prompt_logprobs || (run.request.echo && run.request.logprobs);
    if (wanted) {
      auto tokens = run.generation->take_prompt_logprobs(event.index);
      if (run.request.echo && choice.logprobs) {
        for (std::size_t i = 0; i < tokens.size(); ++i) choice.logprobs->add(tokens[i], i > 0);
      }
      (*prompt_logprobs)[static_cast<std::size_t>(event.index)] = std::move(tokens);
    }
    if (choice.logprobs) choice.logprobs->begin_answer(LogprobLists::characters(choice.echo));
  }
  text += event.piece.content;
  if (choice.logprobs) {
    for (const TokenEvent& token : event.piece.tokens) choice.logprobs->add(token, true);
  }
  if (!event.finish_reason.empty()) choice.finish_reason = event.finish_reason;
  return text;
}

Json envelope(const CompletionRun& run) {
  Json out = Json::object();
  out["id"] = run.id;
  out["object"] = "text_completion";
  out["created"] = run.created_unix_s;
  out["model"] = run.model_name;
  out["system_fingerprint"] = run.model->fingerprint;
  return out;
}

Json choice_json(int index, const std::string& text, Json logprobs, const std::string& finish_reason) {
  Json choice = Json::object();
  choice["text"] = text;
  choice["index"] = index;
  choice["logprobs"] = std::move(logprobs);
  choice["finish_reason"] = finish_reason.empty() ? Json() : Json(finish_reason);
  return choice;
}

Json whole_answer(CompletionRun& run, const HttpRequest& request) {
  std::vector<std::vector<TokenEvent>> prompt_logprobs(run.choices.size());
  run_generation(*run.generation, request, [&](ChoiceEvent& event) {
    run.choices[static_cast<std::size_t>(event.index)].text += absorb(run, event, &prompt_logprobs);
  });
  Json body = envelope(run);
  body["choices"] = Json::array();
  for (std::size_t i = 0; i < run.choices.size(); ++i) {
    CompletionChoice& choice = run.choices[i];
    Json one = choice_json(static_cast<int>(i), choice.text, choice.logprobs ? choice.logprobs->take() : Json(),
                           choice.finish_reason);
    if (run.request.fields.prompt_logprobs) {
      one["prompt_logprobs"] = prompt_logprobs_json(*run.model->tokenizer, prompt_logprobs[i]);
    }
    body["choices"].push_back(std::move(one));
  }
  body["usage"] = usage_json(run.generation->usage());
  return body;
}

HttpResponse streamed_answer(App& app, std::shared_ptr<CompletionRun> run, const HttpRequest& request) {
  const GenerationFields& fields = run->request.fields;
  const auto event_json = [run, &fields](Json choices) {
    Json out = envelope(*run);
    out["choices"] = std::move(choices);
    if (fields.continuous_usage) {
      out["usage"] = usage_json(run->generation->usage());
    } else if (fields.include_usage) {
      out["usage"] = Json();
    }
    return out;
  };
  return stream_generation(
      run->generation, request, app.api.sse_ping_s,
      [=](SseWriter& writer, ChoiceEvent& event) {
        std::vector<std::vector<TokenEvent>> unused(run->choices.size());
        CompletionChoice& choice = run->choices[static_cast<std::size_t>(event.index)];
        const std::string text = absorb(*run, event, &unused);
        const bool has_logprobs = choice.logprobs && !choice.logprobs->empty();
        if (text.empty() && event.finish_reason.empty()) return true;
        // the finish carries no text of its own, so that clients may drop it
        if (!text.empty() || has_logprobs) {
          Json one = choice_json(event.index, text, has_logprobs ? choice.logprobs->take() : Json(), "");
          if (!writer.send(event_json(Json::array({std::move(one)})))) return false;
        }
        if (event.finish_reason.empty()) return true;
        return writer.send(event_json(Json::array({choice_json(event.index, "", Json(), event.finish_reason)})));
      },
      [=](SseWriter& writer) {
        if (!run->request.fields.include_usage) return true;
        Json last = envelope(*run);
        last["choices"] = Json::array();
        last["usage"] = usage_json(run->generation->usage());
        return writer.send(last);
      });
}

}  // namespace

HttpResponse completions(App& app, const HttpRequest& request) {
  auto run = std::make_shared<CompletionRun>();
  run->request = read_completion_request(parse_body(request.body), app.api);
  const GenerationFields& fields = run->request.fields;
  run->model = app.models.decoder(fields.model, "completions");
  run->id = random_id("cmpl-");
  run->model_name = answer_model(*run->model, fields.model);
  run->created_unix_s = unix_now_s();
  std::vector<Request> requests = make_requests(app, request, *run);
  run->generation = std::make_shared<Generation>(*run->model, app.metrics.model(run->model->name), answer_options(*run),
                                                 std::move(requests), static_cast<int>(fields.n), "prompt");
  HttpResponse response;
  if (fields.stream) {
    response = streamed_answer(app, run, request);
    if (!fields.ignored.empty()) response.headers.emplace_back("X-Inferd-Ignored", join(fields.ignored));
    return response;
  }
  return json_response(whole_answer(*run, request), fields.ignored);
}

}  // namespace inferd
