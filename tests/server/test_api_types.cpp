// Request bodies: what is accepted, what is refused, and that the refusal names the field.
#include "server/api_error.h"
#include "server/api_types.h"
#include "server/json_fields.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

struct Refusal {
  int status = 0;
  std::string code, param, message;
};

template <typename Read>
Refusal refusal_of(Read read, const std::string& body, const ApiOptions& options = {}) {
  try {
    read(parse_body(body), options);
  } catch (const ApiError& error) {
    return {error.status, error.code, error.param, error.what()};
  }
  return {};
}

std::string chat(const std::string& more) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + (more.empty() ? "" : "," + more) + "}";
}

std::string completion(const std::string& more) { return R"({"prompt":"x")" + (more.empty() ? "" : "," + more) + "}"; }

}  // namespace

TEST_CASE("chat: every refused field is named") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("temperature":2.1)", "temperature"},
      {R"("temperature":-0.1)", "temperature"},
      {R"("temperature":"0.5")", "temperature"},
      {R"("top_p":1.01)", "top_p"},
      {R"("min_p":-1)", "min_p"},
      {R"("top_k":-2)", "top_k"},
      {R"("top_k":1.5)", "top_k"},
      {R"("presence_penalty":2.01)", "presence_penalty"},
      {R"("frequency_penalty":-2.01)", "frequency_penalty"},
      {R"("repetition_penalty":0)", "repetition_penalty"},
      {R"("n":0)", "n"},
      {R"("n":9)", "n"},
      {R"("n":true)", "n"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":-1)", "max_tokens"},
      {R"("max_completion_tokens":-5)", "max_completion_tokens"},
      {R"("seed":18446744073709551615)", "seed"},
      {R"("seed":1.5)", "seed"},
      {R"("stop":"")", "stop"},
      {R"("stop":["a",""])", "stop[1]"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop"},
      {R"("stop":5)", "stop"},
      {R"("stop":")" + std::string(257, 'x') + "\"", "stop"},
      {R"("logit_bias":{"x":1})", "logit_bias"},
      {R"("logit_bias":{"-1":1})", "logit_bias"},
      {R"("logit_bias":{"1":101})", "logit_bias"},
      {R"("logit_bias":{"1":null})", "logit_bias"},
      {R"("logit_bias":{"2147483648":1})", "logit_bias"},
      {R"("logit_bias":[1])", "logit_bias"},
      {R"("stop_token_ids":[-1])", "stop_token_ids"},
      {R"("stop_token_ids":["a"])", "stop_token_ids"},
      {R"("min_tokens":-1)", "min_tokens"},
      {R"("top_logprobs":3)", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "top_logprobs"},
      {R"("logprobs":5)", "logprobs"},
      {R"("stream":"yes")", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "stream_options.include_usage"},
      {R"("response_format":{"type":"json_schema"})", "response_format.json_schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"name":"a"}})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":3}})", "response_format.json_schema.schema"},
      {R"("response_format":{"type":"json_schema","json_schema":{"schema":{},"strict":1}})",
       "response_format.json_schema.strict"},
      {R"("response_format":{"type":"yaml"})", "response_format.type"},
      {R"("response_format":"json")", "response_format"},
      {R"("tool_choice":"required")", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice.function.name"},
      {R"("tool_choice":{"type":"function"})", "tool_choice.function.name"},
      {R"("tool_choice":{"type":"tool"})", "tool_choice.type"},
      {R"("tool_choice":{"type":"allowed_tools"})", "tool_choice.allowed_tools"},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"none","tools":[]}})",
       "tool_choice.allowed_tools.mode"},
      {R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}})",
       "tool_choice.allowed_tools.tools"},
      {R"("tool_choice":5)", "tool_choice"},
      {R"("tool_choice":"sometimes")", "tool_choice"},
      {R"("tools":[5])", "tools[0]"},
      {R"("tools":[{"type":"function"}])", "tools[0].function"},
      {R"("tools":[{"type":"retrieval"}])", "tools[0].type"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":"yes"}}])", "tools[0].function.strict"},
      {R"("guided_json":{})", "guided_json"},
      {R"("modalities":["audio"])", "modalities"},
      {R"("chat_template":"{{x}}")", "chat_template"},
      {R"("chat_template_kwargs":{"messages":true})", "chat_template_kwargs"},
      {R"("chat_template_kwargs":{"a":[1]})", "chat_template_kwargs"},
      {R"("reasoning_effort":"huge")", "reasoning_effort"},
      {R"("prompt_logprobs":21)", "prompt_logprobs"},
      {R"("priority":"high")", "priority"},
      {R"("cache_salt":5)", "cache_salt"},
      {R"("model":5)", "model"},
  };
  for (const auto& [part, param] : cases) {
    const std::string body =
        part.starts_with(R"("model")") ? R"({"messages":[{"role":"user","content":"hi"}],)" + part + "}" : chat(part);
    const Refusal refused = refusal_of(read_chat_request, body);
    INFO(part << " -> " << refused.message);
    CHECK(refused.status == 400);
    CHECK(refused.param == param);
    CHECK(refused.message.size() < 400);
  }
}

TEST_CASE("messages: every malformed one is located") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"[]", "messages"},
      {"5", "messages"},
      {"[5]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role":"wizard","content":"x"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":5}])", "messages[0].content"},
      {R"([{"role":"user","content":"a"},{"role":"user","content":[5]}])", "messages[1].content[0]"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"([{"role":"user","content":[{"type":"image_url"}]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","content":null,"tool_calls":"x"}])", "messages[0].tool_calls"},
      {R"([{"role":"assistant","content":null,"tool_calls":[{"id":5}]}])", "messages[0].tool_calls[0].function"},
      {R"([{"role":"assistant","tool_calls":[{"id":5,"function":{"name":"f"}}]}])", "messages[0].tool_calls[0].id"},
  };
  for (const auto& [messages, param] : cases) {
    const Refusal refused = refusal_of(read_chat_request, R"({"messages":)" + messages + "}");
    INFO(messages << " -> " << refused.message);
    CHECK(refused.status == 400);
    CHECK(refused.param == param);
  }
  ApiOptions few;
  few.max_messages = 1;
  CHECK(
      refusal_of(read_chat_request, R"({"messages":[{"role":"user","content":""},{"role":"user","content":""}]})", few)
          .param == "messages");
}

TEST_CASE("messages reach templates in one form") {
  const ChatRequest request = read_chat_request(parse_body(R"({"messages":[
      {"role":"developer","content":"be kind"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"eve"},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
                                                       {"id":"c2","function":{"name":"g","arguments":"{broken"}}]},
      {"role":"tool","tool_call_id":"c1","content":"42"}]})"),
                                                {});
  const Json& m = request.messages;
  CHECK(m[0]["role"] == "system");
  CHECK(m[1]["content"] == "ab");
  CHECK(m[1]["name"] == "eve");
  CHECK(m[2]["content"] == "");
  CHECK(m[2]["tool_calls"][0]["function"]["arguments"]["x"] == 1);
  CHECK(m[2]["tool_calls"][1]["function"]["arguments"] == "{broken");
  CHECK(m[3]["tool_call_id"] == "c1");
}

TEST_CASE("null is absent, and known fields without effect are reported") {
  const ChatRequest request = read_chat_request(
      parse_body(chat(
          R"("temperature":null,"n":null,"stop":null,"logit_bias":null,"max_tokens":null,"stream":null,"tools":null,"tool_choice":null,
         "response_format":null,"stream_options":null,"seed":null,"logprobs":null,"top_logprobs":null,"metadata":null,
         "store":true,"service_tier":"auto","user":"u","new_thing":5)")),
      {});
  CHECK_FALSE(request.fields.temperature);
  CHECK(request.fields.n == 1);
  CHECK_FALSE(request.fields.max_tokens);
  CHECK(request.fields.ignored == std::vector<std::string>{"store", "service_tier", "new_thing"});
  ApiOptions strict;
  strict.strict_fields = true;
  const Refusal refused = refusal_of(read_chat_request, chat(R"("new_thing":5)"), strict);
  CHECK(refused.code == "unknown_parameter");
  CHECK(refused.param == "new_thing");
  CHECK(refusal_of(read_chat_request, chat(R"("user":"u")"), strict).status == 0);
}

TEST_CASE("max_completion_tokens wins, tools and choice") {
  CHECK(read_chat_request(parse_body(chat(R"("max_tokens":3,"max_completion_tokens":5)")), {}).fields.max_tokens == 5);
  CHECK(read_chat_request(parse_body(chat(R"("max_tokens":16.0)")), {}).fields.max_tokens == 16);
  CHECK(read_chat_request(parse_body(chat(R"("top_logprobs":0)")), {}).top_logprobs == 0);  // which asks for nothing
  CHECK(refusal_of(read_chat_request, chat(R"("max_tokens":-1)")).message.find("a value >= 1, but got -1") !=
        std::string::npos);
  const std::string tools = R"("tools":[{"type":"function","function":{"name":"f","parameters":{}}}])";
  CHECK(read_chat_request(parse_body(chat(tools)), {}).parse_tool_calls);
  const ChatRequest none = read_chat_request(parse_body(chat(tools + R"(,"tool_choice":"none")")), {});
  CHECK_FALSE(none.parse_tool_calls);
  CHECK(none.tools.is_null());
  const auto choice = [&](const std::string& given) {
    return read_chat_request(parse_body(chat(tools + ",\"tool_choice\":" + given)), {}).tool_choice;
  };
  CHECK_FALSE(choice("\"auto\"").required);
  CHECK(choice("\"required\"").required);
  CHECK_FALSE(choice("\"required\"").single);
  const ToolChoice named = choice(R"({"type":"function","function":{"name":"f"}})");
  CHECK((named.required && named.single && named.names == std::vector<std::string>{"f"}));
  const ToolChoice allowed = choice(
      R"({"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}})");
  CHECK((allowed.required && !allowed.single && allowed.names == std::vector<std::string>{"f"}));
}

TEST_CASE("response_format is read, and its schema kept as it came") {
  const auto format = [](const std::string& given) {
    return read_chat_request(parse_body(chat("\"response_format\":" + given)), {}).response_format;
  };
  CHECK(format(R"({"type":"text"})").kind == ResponseFormat::Kind::text);
  CHECK(format(R"({"type":"json_object"})").kind == ResponseFormat::Kind::json_object);
  const ResponseFormat schema =
      format(R"({"type":"json_schema","json_schema":{"name":"n","schema":{"z":1,"a":2},"strict":true}})");
  CHECK(schema.kind == ResponseFormat::Kind::json_schema);
  CHECK(schema.strict);
  CHECK(dump_json(schema.schema) == R"({"z":1,"a":2})");
}

TEST_CASE("completions: prompts in all forms, and what is refused") {
  const auto read = [](const std::string& more) { return read_completion_request(parse_body(completion(more)), {}); };
  CHECK(std::get<std::string>(read("").prompts.at(0)) == "x");
  const auto forms = [](const std::string& prompt) {
    return read_completion_request(parse_body(R"({"prompt":)" + prompt + "}"), {}).prompts.size();
  };
  CHECK(forms(R"(["a","b"])") == 2);
  CHECK(forms("[1,2,3]") == 1);
  CHECK(forms("[[1,2],[3]]") == 2);
  const std::vector<std::pair<std::string, std::string>> bad = {
      {R"({})", "prompt"},
      {R"({"prompt":[]})", "prompt"},
      {R"({"prompt":[[]]})", "prompt[0]"},
      {R"({"prompt":[null]})", "prompt[0]"},
      {R"({"prompt":[-1]})", "prompt"},
      {R"({"prompt":[2147483648]})", "prompt"},
      {R"({"prompt":[1.5]})", "prompt"},
      {R"({"prompt":["a",[1]]})", "prompt[1]"},
      {R"({"prompt":[[1],"a"]})", "prompt[1]"},
      {R"({"prompt":{"a":1}})", "prompt"},
      {completion(R"("logprobs":21)"), "logprobs"},
      {completion(R"("logprobs":-1)"), "logprobs"},
      {completion(R"("suffix":"s")"), "suffix"},
      {completion(R"("best_of":2)"), "best_of"},
      {completion(R"("best_of":1000000000,"n":1)"), "best_of"},
      {completion(R"("max_tokens":0)"), "max_tokens"},
      {completion(R"("echo":true,"stream":true,"logprobs":1)"), "echo"},
  };
  for (const auto& [body, param] : bad) {
    const Refusal refused = refusal_of(read_completion_request, body);
    INFO(body << " -> " << refused.message);
    CHECK(refused.status == 400);
    CHECK(refused.param == param);
  }
  std::string many = R"({"prompt":["a")";
  for (int i = 0; i < 100; ++i) many += ",\"a\"";
  CHECK(refusal_of(read_completion_request, many + R"(],"n":2})").param == "n");
  CHECK(read(R"("echo":true,"max_tokens":0)").fields.max_tokens == 0);
  CHECK(read(R"("best_of":2,"n":2)").fields.n == 2);
}

TEST_CASE("embeddings, tokenize, detokenize") {
  CHECK(read_embedding_request(parse_body(R"({"input":"x","encoding_format":"base64"})"), {}).base64);
  CHECK_FALSE(read_embedding_request(parse_body(R"({"input":["x","y"]})"), {}).base64);
  CHECK(refusal_of(read_embedding_request, R"({"input":""})").param == "input");
  CHECK(refusal_of(read_embedding_request, R"({"input":["a",""]})").param == "input");
  CHECK(refusal_of(read_embedding_request, R"({"input":"a","encoding_format":"hex"})").param == "encoding_format");
  CHECK(refusal_of(read_embedding_request, R"({"input":"a","dimensions":0})").param == "dimensions");
  std::string many = R"({"input":["a")";
  for (int i = 0; i < 2048; ++i) many += ",\"a\"";
  CHECK(refusal_of(read_embedding_request, many + "]}").param == "input");
  CHECK(refusal_of(read_tokenize_request, R"({"model":"m"})").param == "prompt");
  CHECK(refusal_of(read_tokenize_request, R"({"prompt":"x","messages":[{"role":"user","content":"a"}]})").param ==
        "prompt");
  CHECK(read_detokenize_request(parse_body(R"({"tokens":[1,2]})"), {}).tokens == TokenIds{1, 2});
  CHECK(refusal_of(read_detokenize_request, R"({"tokens":["a"]})").param == "tokens");
}

TEST_CASE("bodies that are no JSON object are refused with a place") {
  for (const std::string body : {"", "{", "[]", "null", "5", "{}x", "{\"a\":1e400}", "{'a':1}", "\xff"}) {
    INFO(body);
    try {
      parse_body(body);
      FAIL("accepted");
    } catch (const ApiError& error) {
      CHECK(error.status == 400);
      CHECK(error.type == "invalid_request_error");
    }
  }
}

TEST_CASE("errors have OpenAI's shape") {
  const Json body = error_body(context_length_exceeded("messages", 4096, 5120));
  CHECK(body["error"]["message"] ==
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5120 tokens. Please "
        "reduce the "
        "length of the messages.");
  CHECK(body["error"]["code"] == "context_length_exceeded");
  CHECK(body["error"]["param"] == "messages");
  CHECK(body["error"]["n_ctx"] == 4096);
  const Json plain = error_body(server_error("x"));
  CHECK(plain["error"]["param"].is_null());
  CHECK(plain["error"]["code"].is_null());
  CHECK(error_response(unavailable("model_loading", "m", 5)).headers.at(0) ==
        std::pair<std::string, std::string>("Retry-After", "5"));
}
