// From tokens to text: split characters, stop strings, reasoning, tool calls, and which tokens go with which text.
#include "engine/sim/sim_tokenizer.h"
#include "server/answer_assembler.h"
#include "server/sse_writer.h"
#include "server/tool_formats/formats.h"
#include "tests/catch.h"

using namespace inferd;

namespace {

/// The answer to the bytes of `text`, one token a byte, collected and as pieces.
struct Answer {
  AnswerPiece whole;
  std::vector<std::string> contents;
  bool stopped = false;
};

void add(Answer& answer, AnswerPiece piece) {
  if (!piece.content.empty()) answer.contents.push_back(piece.content);
  answer.whole.content += piece.content;
  answer.whole.reasoning += piece.reasoning;
  for (auto& call : piece.tool_calls) add_call_piece(answer.whole.tool_calls, std::move(call));
  for (auto& token : piece.tokens) answer.whole.tokens.push_back(std::move(token));
}

Answer assemble(const std::string& text, AnswerOptions options) {
  static const ByteTokenizer tokenizer;
  AnswerAssembler assembler(tokenizer, options);
  Answer answer;
  for (const char c : text) {
    TokenEvent event;
    event.token = static_cast<unsigned char>(c);
    add(answer, assembler.push(event));
    if (assembler.stopped()) break;
  }
  add(answer, assembler.finish(false));
  answer.stopped = assembler.stopped();
  return answer;
}

std::string token_bytes(const Answer& answer) {
  std::string bytes;
  for (const TokenEvent& token : answer.whole.tokens) bytes += static_cast<char>(token.token);
  return bytes;
}

AnswerOptions thinking(bool open = false) {
  AnswerOptions options;
  options.parser.reasoning = find_reasoning_format("think", "");
  options.parser.reasoning_open = open;
  return options;
}

AnswerOptions tools() {
  AnswerOptions options;
  options.parser.tools = &kHermesFormat;
  return options;
}

class StringSink final : public ByteSink {
 public:
  std::string text;
  bool write(std::string_view bytes) override {
    text += bytes;
    return true;
  }
  bool client_gone() override { return false; }
};

}  // namespace

TEST_CASE("characters come whole, and a cut one at the end becomes U+FFFD once") {
  const Answer answer = assemble("a\xc3\xa9\xe6\xbc\xa2\xf0\x9f\x99\x82z", {});
  CHECK(answer.contents == std::vector<std::string>{"a", "\xc3\xa9", "\xe6\xbc\xa2", "\xf0\x9f\x99\x82", "z"});
  for (const std::string cut : {"\xf0", "\xf0\x9f", "\xf0\x9f\x99"}) {
    CHECK(assemble("ok" + cut, {}).whole.content == "ok\xef\xbf\xbd");
  }
}

TEST_CASE("every token goes out once, with its text") {
  for (const std::string text : {"plain", "\xf0\x9f\x99\x82\xe6\xbc\xa2", "stop here STOP and more"}) {
    AnswerOptions options;
    options.stops = {"STOP"};
    const Answer answer = assemble(text, options);
    INFO(text);
    CHECK(token_bytes(answer) == answer.whole.content);
  }
}

TEST_CASE("stop strings cut at every place, across tokens and characters") {
  const std::string text = "The \xe6\x98\xa5\xe5\xa4\xa9 came early";
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t length = 1; begin + length <= text.size(); ++length) {
      const std::string stop = text.substr(begin, length);
      if ((stop[0] & 0xc0) == 0x80 || (begin + length < text.size() && (text[begin + length] & 0xc0) == 0x80)) continue;
      AnswerOptions options;
      options.stops = {"never", stop};
      const Answer answer = assemble(text, options);
      REQUIRE(answer.stopped);
      REQUIRE(answer.whole.content == text.substr(0, text.find(stop)));
      options.include_stop = true;
      REQUIRE(assemble(text, options).whole.content == text.substr(0, text.find(stop)) + stop);
    }
  }
}

TEST_CASE("what only might become a stop string is held, then given") {
  AnswerOptions options;
  options.stops = {"abcd"};
  const Answer answer = assemble("xabcabc", options);
  CHECK(answer.whole.content == "xabcabc");
  CHECK_FALSE(answer.stopped);
  CHECK(answer.contents.front() == "x");
  CHECK(token_bytes(answer) == "xabcabc");
}

TEST_CASE("ids that end an answer are no text") {
  static const ByteTokenizer tokenizer;
  AnswerOptions options;
  options.hidden_ids = {257};
  AnswerAssembler assembler(tokenizer, options);
  TokenEvent event;
  event.token = 'a';
  CHECK(assembler.push(event).content == "a");
  event.token = 257;
  CHECK(assembler.push(event).empty());
  CHECK(assembler.finish(false).empty());
}

TEST_CASE("reasoning is split off, whether the prompt or the answer opens it") {
  const std::string answer_text = "<think>\nlet me see < 5\n</think>\n\nThe answer </think>";
  const Answer opened = assemble(answer_text, thinking());
  CHECK(opened.whole.reasoning == "let me see < 5");
  CHECK(opened.whole.content == "The answer </think>");
  const Answer by_prompt = assemble("\nhm</think>ok", thinking(true));
  CHECK(by_prompt.whole.reasoning == "hm");
  CHECK(by_prompt.whole.content == "ok");
  CHECK(assemble("no <think> here", thinking()).whole.content == "no <think> here");
  CHECK(assemble("\n <th", thinking()).whole.content == "\n <th");
  CHECK(assemble("<think>cut off", thinking()).whole.reasoning == "cut off");
  CHECK(assemble("<think></think>x", thinking()).whole.content == "x");
  for (const std::string& piece : opened.contents) CHECK_FALSE(piece.empty());
}

TEST_CASE("a stop string in the reasoning does not end the answer") {
  AnswerOptions options = thinking();
  options.stops = {"END"};
  const Answer answer = assemble("<think>END?</think>text END more", options);
  CHECK(answer.whole.reasoning == "END?");
  CHECK(answer.whole.content == "text ");
  CHECK(answer.stopped);
}

TEST_CASE("tool calls are taken out of the text") {
  const Answer answer = assemble(
      "I will look.\n<tool_call>\n{\"name\": \"get\", \"arguments\": {\"city\": "
      "\"K\xc3\xb6ln\"}}\n</tool_call>\n<tool_call>"
      "{\"name\":\"b\",\"arguments\":{}}</tool_call>\n",
      tools());
  CHECK(answer.whole.content == "I will look.");
  REQUIRE(answer.whole.tool_calls.size() == 2);
  CHECK(answer.whole.tool_calls[0].name == "get");
  CHECK(answer.whole.tool_calls[0].arguments == "{\"city\":\"K\xc3\xb6ln\"}");
  CHECK(answer.whole.tool_calls[0].id.starts_with("call_"));
  CHECK(answer.whole.tool_calls[0].id != answer.whole.tool_calls[1].id);
  CHECK(assemble("<tool_call>{\"name\":\"f\",\"arguments\":{}}", tools()).whole.tool_calls.size() == 1);
}

TEST_CASE("what is no call stays text, and parallel calls can be refused") {
  CHECK(assemble("<tool_call>not json</tool_call>", tools()).whole.content == "<tool_call>not json</tool_call>");
  CHECK(assemble("a <tool b", tools()).whole.content == "a <tool b");
  CHECK(assemble("<tool_call>{}</tool_call>", {}).whole.content == "<tool_call>{}</tool_call>");
  AnswerOptions one = tools();
  one.parser.parallel_calls = false;
  const std::string call = "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>";
  CHECK(assemble(call + call, one).whole.tool_calls.size() == 1);
}

TEST_CASE("control tokens part calls from text and never show, tokens and all") {
  const auto checkpoint = Checkpoint::open(std::string(INFERD_SOURCE_DIR) + "/tests/golden/models/chatglm3");
  const auto tokenizer = load_tokenizer(*checkpoint);
  const TokenId mark = tokenizer->special_id("<|assistant|>").value();
  REQUIRE(tokenizer->is_special(mark));
  const std::vector<TokenId> text = tokenizer->encode(MarkedText::untrusted("see <|assistant|>"), false);
  const std::vector<TokenId> call =
      tokenizer->encode(MarkedText::untrusted("get_time\n ```python\ntool_call(x=1)\n```"), false);
  REQUIRE(std::count(text.begin(), text.end(), mark) == 0);
  std::vector<TokenId> ids = text;
  ids.push_back(mark);
  ids.insert(ids.end(), call.begin(), call.end());
  ids.push_back(mark);
  AnswerOptions options;
  options.parser.tools = &kChatGlm3Format;
  options.parser.schemas = ToolSchemas(Json::parse(R"([{"type": "function", "function": {"name": "get_time"}}])"));
  AnswerAssembler assembler(*tokenizer, options);
  Answer answer;
  for (const TokenId id : ids) {
    TokenEvent event;
    event.token = id;
    add(answer, assembler.push(event));
  }
  add(answer, assembler.finish(false));
  CHECK(answer.whole.content == "see <|assistant|>");
  REQUIRE(answer.whole.tool_calls.size() == 1);
  CHECK(answer.whole.tool_calls[0].name == "get_time");
  CHECK(answer.whole.tool_calls[0].arguments == "{\"x\":1}");
  std::vector<TokenId> told;
  for (const TokenEvent& event : answer.whole.tokens) told.push_back(event.token);
  CHECK(told == ids);
}

TEST_CASE("server-sent events are one line of JSON each") {
  StringSink sink;
  SseWriter writer(sink, 1000);
  writer.send(Json{{"a", "line\nbreak \xff"}});
  writer.send_error(server_error("boom"));
  writer.done();
  CHECK(sink.text ==
        "data: {\"a\":\"line\\nbreak \xef\xbf\xbd\"}\n\n"
        "data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"
        "data: [DONE]\n\n");
  StringSink pinged;
  SseWriter silent(pinged, 0.0);
  CHECK(silent.ping_if_silent());
  CHECK(pinged.text == ": ping\n\n");
}
