// POST /tokenize and /detokenize.
#include "server/answers.h"
#include "server/api_types.h"
#include "server/chat_prompt.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {

HttpResponse tokenize(App& app, const HttpRequest& request) {
  const TokenizeRequest asked = read_tokenize_request(parse_body(request.body), app.api);
  const ServedModel& model = app.models.any(asked.model);
  std::vector<TokenId> tokens;
  if (asked.prompt) {
    tokens = encode_text(model, *asked.prompt, app.api.parse_special, asked.add_special_tokens.value_or(true));
  } else {
    tokens = make_chat_prompt(model, asked.messages, asked.tools, asked.add_generation_prompt, asked.template_kwargs,
                              asked.add_special_tokens.value_or(false))
                 .tokens;
  }
  Json body = Json::object();
  body["tokens"] = tokens;
  body["count"] = tokens.size();
  body["max_model_len"] = model.context_length;
  return json_response(body, {});
}

HttpResponse detokenize(App& app, const HttpRequest& request) {
  const DetokenizeRequest asked = read_detokenize_request(parse_body(request.body), app.api);
  const ServedModel& model = app.models.any(asked.model);
  Json body = Json::object();
  body["prompt"] = model.tokenizer->decode(checked_ids(asked.tokens, model, "tokens"), false);
  return json_response(body, {});
}

}  // namespace inferd
