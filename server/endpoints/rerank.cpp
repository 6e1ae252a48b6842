// POST /v1/rerank, in the shape that Jina and Cohere share.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "server/answers.h"
#include "server/api_types.h"
#include "server/encoding.h"
#include "server/endpoints/endpoints.h"
#include "server/json_fields.h"

namespace inferd {
namespace {

// Qwen3-Reranker's chat form, as its model card gives it.
constexpr char kQwen3Before[] =
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    "provided. "
    "Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: ";
constexpr char kQwen3Instruction[] = "Given a web search query, retrieve relevant passages that answer the query";
constexpr char kQwen3After[] = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

EncodeInput pair_input(const ServedModel& model, const RerankRequest& asked, const std::string& document) {
  if (model.rerank_form == RerankForm::qwen3) {
    MarkedText text = MarkedText::trusted(kQwen3Before);
    text.append(asked.instruction.value_or(kQwen3Instruction), false);
    text.append("\n<Query>: ", true);
    text.append(asked.query, false);
    text.append("\n<Document>: ", true);
    text.append(document, false);
    text.append(kQwen3After, true);
    return {model.tokenizer->encode(text, false), {}};
  }
  PairEncoding pair = model.tokenizer->encode_pair(MarkedText::untrusted(asked.query), MarkedText::untrusted(document));
  return {std::move(pair.ids), std::move(pair.type_ids)};
}

double relevance(const ServedModel& model, float logit) {
  return model.sentence.sigmoid ? 1.0 / (1.0 + std::exp(-static_cast<double>(logit))) : static_cast<double>(logit);
}

}  // namespace

HttpResponse rerank(App& app, const HttpRequest& request) {
  RerankRequest asked = read_rerank_request(parse_body(request.body), app.api);
  const ServedModel& model = app.models.reranker(asked.model, "reranking");
  if (asked.instruction && model.rerank_form == RerankForm::pair) asked.ignored.push_back("instruction");
  std::vector<EncodeInput> inputs;
  std::int64_t tokens = 0;
  for (const std::string& document : asked.documents) {
    inputs.push_back(pair_input(model, asked, document));
    tokens += static_cast<std::int64_t>(inputs.back().tokens.size());
  }
  const std::vector<std::vector<float>> scores =
      run_encoder(model, std::move(inputs), request, "documents", &app.metrics.model(model.name));

  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a][0] > scores[b][0]; });
  order.resize(static_cast<std::size_t>(asked.top_n));
  Json results = Json::array();
  for (const std::size_t index : order) {
    Json entry = Json::object();
    entry["index"] = index;
    entry["relevance_score"] = relevance(model, scores[index][0]);
    if (asked.return_documents) entry["document"] = Json{{"text", asked.documents[index]}};
    results.push_back(std::move(entry));
  }
  Json body = Json::object();
  body["id"] = random_id("rerank-");
  body["model"] = answer_model(model, asked.model);
  body["results"] = std::move(results);
  body["usage"] = Json{{"prompt_tokens", tokens}, {"total_tokens", tokens}};
  return json_response(body, asked.ignored);
}

}  // namespace inferd
