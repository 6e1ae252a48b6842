// OutputParser: marks, reasoning, ids, and what all formats of tool calls have in common.
#include <random>

#include "tests/server/parser_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

OutputParserOptions thinking(bool open, const ToolFormatRow* tools = nullptr) {
  OutputParserOptions options;
  if (tools != nullptr) options = tool_options(*tools);
  options.reasoning = find_reasoning_format("think", "");
  options.reasoning_open = open;
  return options;
}

std::string parsed(const OutputParserOptions& options, std::string_view text, bool cut = false) {
  return parse_all_ways(options, text, cut).text();
}

/// `text` without its white space.
std::string solid(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text;
}

bool drop_first(std::string& text, std::string_view part) {
  const std::size_t at = text.find(part);
  if (at != std::string::npos) text.erase(at, part.size());
  return at != std::string::npos;
}

/// One well-formed call of get_weather(city="Köln") in each format.
const std::pair<const ToolFormatRow*, std::string> kCalls[] = {
    {&kHermesFormat, "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\"}}\n</tool_call>"},
    {&kQwen3CoderFormat,
     "<tool_call>\n<function=get_weather>\n<parameter=city>\nKöln\n</parameter>\n</function>\n</tool_call>"},
    {&kGlm45Format, "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n</tool_call>"},
    {&kGlm4Format, "get_weather\n{\"city\": \"Köln\"}"},
    {&kChatGlm3Format, "get_weather\n ```python\ntool_call(city='Köln')\n```"},
    {&kLlama3Format, "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Köln\"}}"},
    {&kMistralFormat, "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln\"}}]"},
};

}  // namespace

TEST_CASE("reasoning is split off at every split of the text") {
  CHECK(parsed(thinking(false), "<think>\nlet me see < 5\n</think>\n\nThe answer </think>") ==
        "let me see < 5|The answer </think>|");
  CHECK(parsed(thinking(true), "\nhm\n\n</think>\n\nok") == "hm|ok|");
  CHECK(parsed(thinking(false), "no <think> here ") == "|no <think> here |");
  CHECK(parsed(thinking(false), "\n <th") == "|\n <th|");
  CHECK(parsed(thinking(false), "<think>cut off \n", true) == "cut off||");
  CHECK(parsed(thinking(true), "cut off</thin", true) == "cut off</thin||");
  CHECK(parsed(thinking(false), "<think></think>x") == "|x|");
  CHECK(parsed({}, "<think>\na\n</think>b ") == "|<think>\na\n</think>b |");
}

TEST_CASE("a call after reasoning is a call, inside it it is thought") {
  const std::string call = kCalls[0].second;
  CHECK(parsed(thinking(false, &kHermesFormat), "<think>\nhm\n</think>\n\n" + call) ==
        "hm||get_weather{\"city\":\"Köln\"};");
  CHECK(parsed(thinking(true, &kHermesFormat), "I could " + call + "\n</think>\nno") == "I could " + call + "|no|");
}

TEST_CASE("every format reads its call, alone, after text, twice, and before text") {
  for (const auto& [format, call] : kCalls) {
    CAPTURE(format->name);
    const OutputParserOptions options = tool_options(*format);
    const std::string one = "get_weather{\"city\":\"Köln\"};";
    CHECK(parsed(options, call) == "||" + one);
    CHECK(parsed(options, "  \n" + call + " \n") == "||" + one);
    CHECK(parsed(options, "I will look:\n\n" + call) == "|I will look:|" + one);
    CHECK(parsed(options, call + "\n" + call) == "||" + one + one);
    CHECK(parsed(options, "Look: x < y\n" + call + "\n" + call + "\nDone. ") == "|Look: x < yDone.|" + one + one);
    CHECK(parsed(options, "no call, only <text> and [brackets] ") == "|no call, only <text> and [brackets] |");
  }
}

TEST_CASE("ids are unique, and in the form the template takes back") {
  for (const auto& [format, call] : kCalls) {
    CAPTURE(format->name);
    const Parsed two = parse_pieces(tool_options(*format), {call, "\n", call});
    REQUIRE(two.calls.size() == 2);
    CHECK(two.calls[0].id != two.calls[1].id);
    CHECK(two.calls[1].index == 1);
    if (format->short_ids) {
      CHECK(two.calls[0].id.size() == 9);
      CHECK(two.calls[0].id.find('_') == std::string::npos);
    } else {
      CHECK(two.calls[0].id.starts_with("call_"));
    }
  }
}

TEST_CASE("without parallel calls only the first counts") {
  for (const auto& [format, call] : kCalls) {
    CAPTURE(format->name);
    OutputParserOptions options = tool_options(*format);
    options.parallel_calls = false;
    CHECK(parsed(options, call + "\n" + call) == "||get_weather{\"city\":\"Köln\"};");
  }
}

TEST_CASE("a call that is cut off loses nothing, and is never whole by chance") {
  for (const auto& [format, call] : kCalls) {
    for (std::size_t size = 0; size < call.size(); ++size) {
      const std::string text = call.substr(0, size);
      CAPTURE(format->name, text);
      const Parsed cut = parse_pieces(tool_options(*format), {text}, true);
      if (cut.calls.empty()) {
        CHECK(solid(cut.content) == solid(text));
        continue;
      }
      const std::string& arguments = cut.calls[0].arguments;
      const std::string whole = "{\"city\":\"Köln\"}";
      CHECK((whole.starts_with(arguments) || arguments.starts_with("{\"city\":\"Köln")));
      // Arguments are whole only once their own end has been written.
      const bool ended = call.substr(0, size).find(format->name == "qwen3_coder" ? "</function>"
                                                   : format->name == "glm45"     ? "</tool_call>"
                                                   : format->name == "chatglm3"  ? "\n```"
                                                                                 : "\"}") != std::string::npos;
      CHECK((arguments.ends_with("}")) == ended);
    }
  }
}

TEST_CASE("arguments stream before the call is whole") {
  const std::string_view head = "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Kö";
  OutputParser parser(tool_options(kHermesFormat), plain_marks(tool_options(kHermesFormat)));
  Parsed out;
  add_segments(parser.push(head), out);
  REQUIRE(out.calls.size() == 1);
  CHECK(out.calls[0].arguments == "{\"city\":\"Kö");
  CHECK(parser.held() == 0);
  add_segments(parser.push("ln"), out);
  CHECK(out.calls[0].arguments == "{\"city\":\"Köln");
  const OutputParserOptions coder = tool_options(kQwen3CoderFormat);
  const Parsed texts =
      parse_pieces(coder, {"<tool_call><function=get_weather><parameter=city>\nK", "ö", "ln\n</parameter>"}, true);
  CHECK(texts.pieces.at(0) >= 5);
}

TEST_CASE("control tokens start calls, their letters do not, and neither is shown where it is hidden") {
  const OutputParserOptions options = tool_options(kMistralFormat);
  std::vector<Mark> marks = plain_marks(options);
  for (Mark& mark : marks) mark.control = mark.hidden = true;
  const auto run = [&](const std::string& text) {
    OutputParser parser(options, marks);
    Parsed out;
    add_segments(parser.push(text), out);
    CHECK(parser.written_size(std::string(1, tool_mark(0))) == 12);
    add_segments(parser.finish(false), out);
    return out.text();
  };
  const std::string token(1, tool_mark(0));
  const std::string object = "{\"name\": \"get_time\", \"arguments\": {}}";
  CHECK(run(token + "[" + object + "]") == "||get_time{};");
  CHECK(run("write [TOOL_CALLS][" + object + "]") == "|write [TOOL_CALLS][" + object + "]|");
  CHECK(run("no" + token + " call") == "|no call|");
  marks[kReasoningMarks].hidden = false;
  CHECK(run("no" + token + " call") == "|no[TOOL_CALLS] call|");
}

TEST_CASE("the first white space of an answer is dropped where the family writes it") {
  OutputParserOptions options;
  options.trims_start = true;
  CHECK(parsed(options, "\n 你好 ") == "|你好 |");
}

TEST_CASE("random text of marks and fragments: same result for every split, nothing lost") {
  const std::vector<std::string> fragments = {"<tool_call>",
                                              "</tool_call>",
                                              "<function=get_weather>",
                                              "<function=",
                                              "</function>",
                                              "<parameter=city>",
                                              "<parameter=",
                                              "</parameter>",
                                              "<arg_key>",
                                              "</arg_key>",
                                              "<arg_value>",
                                              "</arg_value>",
                                              "[TOOL_CALLS]",
                                              "[ARGS]",
                                              "<|python_tag|>",
                                              "<|assistant|>",
                                              "get_weather",
                                              "get_time",
                                              "\n",
                                              " ",
                                              "{\"name\": \"get_time\"",
                                              ", ",
                                              "\"arguments\": {",
                                              "\"parameters\": ",
                                              "}",
                                              "]",
                                              "[",
                                              "{",
                                              "\"",
                                              "\\",
                                              "\"city\": \"x\"",
                                              "```python\n",
                                              "tool_call(",
                                              "city='a'",
                                              ")",
                                              "```",
                                              "é",
                                              "<think>",
                                              "</think>",
                                              "<",
                                              "text",
                                              "null",
                                              "1",
                                              ":",
                                              "a.call("};
  std::mt19937 random(20);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  std::size_t calls = 0;
  for (int round = 0; round < 6000; ++round) {
    const auto& [format, call] = kCalls[below(std::size(kCalls))];
    OutputParserOptions options = thinking(below(4) == 0, format);
    std::string text = below(3) == 0 ? call.substr(0, below(call.size())) : "";
    for (std::size_t n = below(14); n > 0; --n) text += below(8) == 0 ? call : fragments[below(fragments.size())];
    const bool cut = below(2) == 0;
    CAPTURE(format->name, text, cut);
    const Parsed whole = parse_pieces(options, {text}, cut);
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min(text.size() - at, 1 + below(5));
      pieces.push_back(std::string_view(text).substr(at, size));
      at += size;
    }
    const Parsed split = parse_pieces(options, pieces, cut);
    INFO(whole.text() << "\n" << split.text());
    REQUIRE(split == whole);
    calls += whole.calls.size();
    if (!whole.calls.empty()) continue;
    // Without a call, all comes back but white space, the tags of reasoning, and what parts messages.
    std::string expected = text;
    const bool opened = options.reasoning_open || solid(text).starts_with("<think>");
    if (!options.reasoning_open && opened) drop_first(expected, "<think>");
    if (opened) drop_first(expected, "</think>");
    std::string given = whole.reasoning + whole.content;
    if (format == &kGlm4Format || format == &kChatGlm3Format) {
      while (drop_first(expected, "<|assistant|>")) {
      }
      while (drop_first(given, "<|assistant|>")) {
      }
    }
    REQUIRE(solid(given) == solid(expected));
  }
  CHECK(calls > 1000);
}
