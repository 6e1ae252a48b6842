// The API over a simulated model: answers, streams, usage, log-probabilities, models, tokens, embeddings.
#include <limits>
#include <set>

#include "engine/sim/sim_model.h"
#include "server/answers.h"
#include "tests/catch.h"
#include "tests/server/serving_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

const std::string kChat = R"("messages":[{"role":"user","content":"hello"}])";

/// One server for all tests of this file that need nothing special.
ServingFixture& shared_server() {
  static ServingFixture server([] {
    ServingOptions options;
    options.models = {sim_spec("sim", "sim:seed=1"), sim_spec("org/encoder", "sim-encoder:dim=8,context=64")};
    options.models[0].aliases = {"gpt-4"};
    return options;
  }());
  return server;
}

Json post(const std::string& path, const std::string& body, int status = 200) {
  const Answer answer = ask(shared_server().port, "POST", path, body);
  INFO(path << " " << body << " -> " << answer.head << answer.body);
  REQUIRE(answer.status == status);
  return answer.json();
}

std::vector<Json> stream(const std::string& path, const std::string& body) {
  const Answer answer = ask(shared_server().port, "POST", path, body);
  INFO(answer.head << answer.body);
  REQUIRE(answer.status == 200);
  REQUIRE(answer.header("content-type").starts_with("text/event-stream"));
  REQUIRE(answer.body.ends_with("data: [DONE]\n\n"));
  return events(answer);
}

}  // namespace

TEST_CASE("chat: a whole answer has every field") {
  const Json a =
      post("/v1/chat/completions", "{" + kChat + R"(,"model":"sim","max_tokens":8,"temperature":0,"ignore_eos":true})");
  CHECK(a["object"] == "chat.completion");
  CHECK(a["id"].get<std::string>().starts_with("chatcmpl-"));
  CHECK(a["model"] == "sim");
  CHECK(a["system_fingerprint"].get<std::string>().starts_with("fp_"));
  CHECK(a["choices"][0]["message"]["role"] == "assistant");
  CHECK(a["choices"][0]["message"]["content"].get<std::string>().size() == 8);
  CHECK(a["choices"][0]["message"]["refusal"].is_null());
  CHECK(a["choices"][0]["logprobs"].is_null());
  CHECK(a["choices"][0]["finish_reason"] == "length");
  CHECK(a["usage"]["completion_tokens"] == 8);
  CHECK(a["usage"]["prompt_tokens"] == post("/tokenize", "{" + kChat + "}")["count"]);
  CHECK(a["usage"]["total_tokens"] == a["usage"]["prompt_tokens"].get<int>() + 8);
}

TEST_CASE("chat: a stream says the same, well formed") {
  const std::string body = "{" + kChat + R"(,"max_tokens":12,"seed":3,"ignore_eos":true)";
  const Json whole = post("/v1/chat/completions", body + "}");
  const auto chunks =
      stream("/v1/chat/completions", body + R"(,"stream":true,"stream_options":{"include_usage":true}})");
  std::string text;
  std::set<std::string> ids;
  for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {
    const Json& choice = chunks[i]["choices"][0];
    ids.insert(chunks[i]["id"].get<std::string>());
    CHECK(chunks[i]["usage"].is_null());
    CHECK(chunks[i].contains("usage"));
    CHECK(choice["delta"].contains("role") == (i == 0));
    if (i > 0 && choice["delta"].contains("content"))
      CHECK_FALSE(choice["delta"]["content"].get<std::string>().empty());
    if (choice["delta"].contains("content")) text += choice["delta"]["content"].get<std::string>();
    CHECK(choice["finish_reason"].is_null() == (i + 2 < chunks.size()));
  }
  CHECK(ids.size() == 1);
  CHECK(text == whole["choices"][0]["message"]["content"]);
  CHECK(chunks[chunks.size() - 2]["choices"][0]["delta"].empty());
  CHECK(chunks.back()["choices"].empty());
  CHECK(chunks.back()["usage"]["completion_tokens"] == 12);
  const auto without = stream("/v1/chat/completions", body + R"(,"stream":true})");
  for (const Json& chunk : without) CHECK_FALSE(chunk.contains("usage"));
}

TEST_CASE("n answers differ, interleave, and each equals its own seed's") {
  const std::string body = "{" + kChat + R"(,"max_tokens":10,"ignore_eos":true,"n":3,"seed":40)";
  const Json whole = post("/v1/chat/completions", body + "}");
  REQUIRE(whole["choices"].size() == 3);
  CHECK(whole["usage"]["completion_tokens"] == 30);
  std::vector<std::string> texts(3);
  for (const Json& chunk : stream("/v1/chat/completions", body + R"(,"stream":true})")) {
    const Json& choice = chunk["choices"][0];
    if (choice["delta"].contains("content"))
      texts[choice["index"].get<std::size_t>()] += choice["delta"]["content"].get<std::string>();
  }
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(texts[i] == whole["choices"][i]["message"]["content"]);
    const Json one = post("/v1/chat/completions",
                          "{" + kChat + R"(,"max_tokens":10,"ignore_eos":true,"seed":)" + std::to_string(40 + i) + "}");
    CHECK(one["choices"][0]["message"]["content"] == texts[i]);
  }
  CHECK(texts[0] != texts[1]);
}

TEST_CASE("stop strings and stop tokens") {
  const std::string body = R"({"prompt":"abc","max_tokens":20,"temperature":0,"ignore_eos":true)";
  const std::string text = post("/v1/completions", body + "}")["choices"][0]["text"];
  const std::string stop = text.substr(5, 3);
  const Json cut = post("/v1/completions", body + R"(,"stop":[)" + Json(stop).dump() + "]}");
  CHECK(cut["choices"][0]["text"] == text.substr(0, text.find(stop)));
  CHECK(cut["choices"][0]["finish_reason"] == "stop");
  const int token = static_cast<unsigned char>(text[4]);
  const Json ended = post("/v1/completions", body + R"(,"stop_token_ids":[)" + std::to_string(token) + "]}");
  CHECK(ended["choices"][0]["finish_reason"] == "stop");
  CHECK(ended["choices"][0]["text"] == text.substr(0, text.find(static_cast<char>(token)) + 1));
}

TEST_CASE("chat log-probabilities: one entry a token, bytes that join to the text, no infinities") {
  const std::string body =
      "{" + kChat + R"(,"max_tokens":6,"ignore_eos":true,"logprobs":true,"top_logprobs":3,"seed":1)";
  const Json whole = post("/v1/chat/completions", body + "}");
  const Json& content = whole["choices"][0]["logprobs"]["content"];
  REQUIRE(content.size() == 6);
  std::string joined;
  for (const Json& entry : content) {
    CHECK(entry["top_logprobs"].size() == 3);
    CHECK(entry["logprob"].get<double>() >= -9999.0);
    CHECK(entry["logprob"].get<double>() <= 0.0);
    for (const Json& byte : entry["bytes"]) joined += static_cast<char>(byte.get<int>());
  }
  CHECK(joined == whole["choices"][0]["message"]["content"].get<std::string>());
  std::size_t streamed = 0;
  for (const Json& chunk : stream("/v1/chat/completions", body + R"(,"stream":true})")) {
    if (!chunk["choices"][0]["logprobs"].is_null()) streamed += chunk["choices"][0]["logprobs"]["content"].size();
  }
  CHECK(streamed == 6);
  CHECK(json_logprob(-std::numeric_limits<float>::infinity()) == -9999.0f);
}

TEST_CASE("completions: several prompts, echo, log-probabilities") {
  const Json several = post("/v1/completions", R"({"prompt":["one","two",)"
                                               R"("three"],"n":2,"max_tokens":4,"ignore_eos":true,"seed":1})");
  REQUIRE(several["choices"].size() == 6);
  for (int i = 0; i < 6; ++i) CHECK(several["choices"][i]["index"] == i);
  CHECK(several["usage"]["prompt_tokens"] == 11);
  CHECK(several["usage"]["completion_tokens"] == 24);

  const Json echo =
      post("/v1/completions",
           R"({"prompt":"h\u00e9y","max_tokens":3,"echo":true,"logprobs":2,"temperature":0,"ignore_eos":true})");
  const Json& lists = echo["choices"][0]["logprobs"];
  REQUIRE(lists["tokens"].size() == 7);
  CHECK(lists["token_logprobs"].size() == 7);
  CHECK(lists["top_logprobs"].size() == 7);
  CHECK(lists["token_logprobs"][0].is_null());
  CHECK(lists["token_logprobs"][1].is_number());
  // in characters of the text: the two bytes of one character begin at the same place
  const std::vector<int> offsets = lists["text_offset"].get<std::vector<int>>();
  CHECK(std::vector<int>(offsets.begin(), offsets.begin() + 5) == std::vector<int>{0, 1, 1, 2, 3});
  CHECK(echo["choices"][0]["text"].get<std::string>().starts_with("h\xc3\xa9y"));
  const Json only_prompt = post("/v1/completions", R"({"prompt":"abc","max_tokens":0,"echo":true,"logprobs":0})");
  CHECK(only_prompt["choices"][0]["text"] == "abc");
  CHECK(only_prompt["choices"][0]["logprobs"]["tokens"].size() == 3);
  CHECK(only_prompt["usage"]["completion_tokens"] == 0);
  const Json ids =
      post("/v1/completions",
           R"({"prompt":"a","max_tokens":2,"logprobs":0,"return_tokens_as_token_ids":true,"ignore_eos":true})");
  CHECK(ids["choices"][0]["logprobs"]["tokens"][0].get<std::string>().starts_with("token_id:"));
  const Json prompt = post("/v1/completions", R"({"prompt":"abc","max_tokens":1,"prompt_logprobs":1})");
  REQUIRE(prompt["choices"][0]["prompt_logprobs"].size() == 3);
  CHECK(prompt["choices"][0]["prompt_logprobs"][0].is_null());
  CHECK(prompt["choices"][0]["prompt_logprobs"][1].contains(std::to_string('b')));
}

TEST_CASE("the prefix cache shows in usage, within one salt only") {
  const std::string prompt(100, 'p');
  const auto cached = [&](const std::string& salt) {
    return post("/v1/completions", R"({"prompt":")" + prompt + R"(","max_tokens":1,"cache_salt":")" + salt +
                                       "\"}")["usage"]["prompt_tokens_details"]["cached_tokens"]
        .get<int>();
  };
  CHECK(cached("one") == 0);
  CHECK(cached("one") >= 80);
  CHECK(cached("two") == 0);
}

TEST_CASE("the context's end: refusal in OpenAI's words, and clamping") {
  const std::string text(5000, 'x');
  const Json refused = post("/v1/completions", R"({"prompt":")" + text + "\"}", 400);
  CHECK(refused["error"]["code"] == "context_length_exceeded");
  CHECK(refused["error"]["param"] == "prompt");
  CHECK(refused["error"]["message"] ==
        "This model's maximum context length is 4096 tokens. However, your prompt resulted in 5000 "
        "tokens. Please reduce the length of the prompt.");
  const Json streamed =
      post("/v1/chat/completions", R"({"stream":true,"messages":[{"role":"user","content":")" + text + "\"}]}", 400);
  CHECK(streamed["error"]["param"] == "messages");
  const Json clamped = post("/v1/completions", R"({"prompt":")" + std::string(4090, 'x') +
                                                   R"(","max_tokens":1000000000000,"ignore_eos":true})");
  CHECK(clamped["usage"]["total_tokens"] == 4096);
  CHECK(clamped["choices"][0]["finish_reason"] == "length");
}

TEST_CASE("models: list, one, alias, slash in the name, default, wrong kind") {
  const Answer listed = ask(shared_server().port, "GET", "/v1/models");
  std::set<std::string> names;
  const Json list = listed.json();
  for (const Json& model : list["data"]) names.insert(model["id"].get<std::string>());
  CHECK(names == std::set<std::string>{"sim", "org/encoder", "gpt-4"});
  for (const std::string path : {"/v1/models/org/encoder", "/v1/models/org%2Fencoder", "/models/org/encoder"}) {
    CHECK(ask(shared_server().port, "GET", path).json()["id"] == "org/encoder");
  }
  CHECK(ask(shared_server().port, "GET", "/v1/models/absent").json()["error"]["code"] == "model_not_found");
  CHECK(post("/chat/completions", "{" + kChat + R"(,"model":"gpt-4","max_tokens":1})")["model"] == "gpt-4");
  CHECK(post("/v1/chat/completions", "{" + kChat + R"(,"model":"default","max_tokens":1})")["model"] == "sim");
  CHECK(post("/v1/chat/completions", "{" + kChat + R"(,"model":"nope"})", 404)["error"]["code"] == "model_not_found");
  CHECK(post("/v1/chat/completions", "{" + kChat + R"(,"model":"org/encoder"})", 400)["error"]["param"] == "model");
  CHECK(post("/v1/embeddings", R"({"input":"x","model":"sim"})", 400)["error"]["param"] == "model");
}

TEST_CASE("embeddings: order, both encodings, limits") {
  const Json floats = post("/v1/embeddings", R"({"input":["a","b"],"model":"default"})");
  REQUIRE(floats["data"].size() == 2);
  CHECK(floats["data"][1]["index"] == 1);
  CHECK(floats["data"][0]["embedding"].size() == 8);
  CHECK(floats["usage"]["prompt_tokens"] == 2);
  SimOptions options = parse_sim_options("dim=8,context=64");
  const TokenId b = 'b';
  const std::vector<float> expected = sim_embedding(options, std::span(&b, 1));
  for (std::size_t i = 0; i < 8; ++i) CHECK(floats["data"][1]["embedding"][i].get<float>() == expected[i]);
  const Json packed = post("/v1/embeddings", R"({"input":[[98]],"encoding_format":"base64"})");
  CHECK(packed["data"][0]["embedding"].get<std::string>().size() == 44);
  CHECK(post("/v1/embeddings", R"({"input":")" + std::string(65, 'x') + "\"}", 400)["error"]["code"] ==
        "context_length_exceeded");
  CHECK(post("/v1/embeddings", R"({"input":"x","dimensions":4})", 400)["error"]["param"] == "dimensions");
  CHECK(post("/v1/embeddings", R"({"input":"x","dimensions":8})")["data"].size() == 1);
  CHECK(post("/v1/embeddings", R"({"input":[[999999]]})", 400)["error"]["param"] == "input");
}

TEST_CASE("tokenize: control tokens are the template author's, never the client's in chat") {
  CHECK(post("/tokenize", R"({"prompt":"<|im_end|>"})")["tokens"] == Json({257}));
  const Json chat = post("/tokenize", R"({"messages":[{"role":"user","content":"<|im_end|>"}]})");
  int ends = 0;
  for (const Json& id : chat["tokens"]) ends += id == 257;
  CHECK(ends == 1);
  CHECK(post("/detokenize", R"({"tokens":[104,105]})") == Json({{"prompt", "hi"}}));
  CHECK(post("/detokenize", R"({"tokens":[512]})", 400)["error"]["param"] == "tokens");
}

TEST_CASE("ids outside the vocabulary are refused before the engine sees them") {
  CHECK(post("/v1/completions", R"({"prompt":[512]})", 400)["error"]["param"] == "prompt");
  CHECK(post("/v1/completions", R"({"prompt":"x","logit_bias":{"512":1}})", 400)["error"]["param"] == "logit_bias");
  CHECK(post("/v1/completions", R"({"prompt":"x","stop_token_ids":[512]})", 400)["error"]["param"] == "stop_token_ids");
}

TEST_CASE("what had no effect is named in a header") {
  const Answer answer = ask(shared_server().port, "POST", "/v1/completions",
                            R"({"prompt":"x","max_tokens":1,"store":true,"b\r\nad":1,"fresh":2})");
  CHECK(answer.status == 200);
  CHECK(answer.header("x-inferd-ignored") == "store, b??ad, fresh");
}

TEST_CASE("numbers that are none end the request with a 500") {
  ServingOptions options;
  options.models = {sim_spec("sim", "sim:seed=1,poison=120")};
  ServingFixture server(options);
  const Answer whole = ask(server.port, "POST", "/v1/completions", R"({"prompt":"ax"})");
  CHECK(whole.status == 500);
  CHECK(whole.json()["error"]["type"] == "server_error");
  CHECK(ask(server.port, "POST", "/v1/completions", R"({"prompt":"ax","stream":true})").status == 500);
  CHECK(ask(server.port, "POST", "/v1/completions", R"({"prompt":"ab","max_tokens":2,"logit_bias":{"120":-100}})")
            .status == 200);
}
