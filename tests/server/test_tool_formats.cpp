// The formats of tool calls one by one: their variants, typed values, and output that is no call after all.
#include <fstream>

#include "config/settings.h"
#include "tests/server/parser_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

std::string parsed(const ToolFormatRow& format, std::string_view text, bool cut = false) {
  return parse_all_ways(tool_options(format), text, cut).text();
}

const std::string kTime = "{\"name\": \"get_time\", \"arguments\": {}}";

}  // namespace

TEST_CASE("names of formats and reasoning formats are unique, and \"auto\" and \"none\" are free") {
  std::vector<std::string_view> names = {"auto", "none"};
  for (const ToolFormatRow* format : tool_formats()) names.push_back(format->name);
  const std::size_t tools = names.size();
  for (const std::string_view name : names) {
    CHECK(std::count(names.begin(), names.end(), name) == 1);
    CHECK((find_tool_format(name, "") != nullptr) == (name != "auto" && name != "none"));
  }
  CHECK(tools == 10);
  for (const ReasoningFormat& format : reasoning_formats()) CHECK(find_reasoning_format(format.name, "") == &format);
  CHECK(find_reasoning_format("none", "</think>") == nullptr);
  for (const ToolFormatRow* format : tool_formats()) CHECK(format->marks.size() <= kMaxToolMarks);
}

TEST_CASE("the settings offer every format, in the order of the tables") {
  std::string tools = "auto|none", reasoning = "auto|none";
  for (const ReasoningFormat& format : reasoning_formats()) reasoning += "|" + std::string(format.name);
  CHECK(find_setting("reasoning_parser")->choices == reasoning);
  for (const ToolFormatRow* format : tool_formats()) tools += "|" + std::string(format->name);
  CHECK(find_setting("tool_parser")->choices == tools);
}

TEST_CASE("a JSON call may be written in many ways") {
  const auto call = [](const std::string& object) {
    return parsed(kHermesFormat, "<tool_call>" + object + "</tool_call>");
  };
  CHECK(call("{\"arguments\": {\"a\": [1, {}]}, \"name\": \"f\"}") == "||f{\"a\":[1,{}]};");
  CHECK(call("{\"id\": 7, \"name\": \"f\", \"type\": \"function\", \"parameters\": {\"a\": -1.5e3}, \"x\": null}") ==
        "||f{\"a\":-1.5e3};");
  CHECK(call("{\"name\": \"f\"}") == "||f{};");
  CHECK(call("{\"name\": \"f\", \"arguments\": null}") == "||f{};");
  CHECK(call("{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}") == "||f{\"a\": 1};");
  CHECK(call("{\"name\": \"f\", \"arguments\": {\"s\": \"a\\\"}\\\\ \\u00e9 </tool_call> {\"}}") ==
        "||f{\"s\":\"a\\\"}\\\\ \\u00e9 </tool_call> {\"};");
  CHECK(call("{\"n\\u0061me\": \"f\", \"arguments\": {}}") == "||f{};");
  CHECK(call(kTime + "\n" + kTime) == "||get_time{};get_time{};");
  // Repaired: line breaks and unknown escapes inside strings.
  CHECK(call("{\"name\": \"f\", \"arguments\": {\"s\": \"a\nb\\d\"}}") == "||f{\"s\":\"a\\nb\\\\d\"};");
}

TEST_CASE("what is no JSON call stays content") {
  for (const std::string body :
       {"not json", "", "{}", "[]", "{\"nome\": \"f\"}", "{\"name\": 5, \"arguments\": {}}",
        "{\"name\": \"\", \"arguments\": {}}", "{\"name\": \"f g\"}", "{\"name\": \"f\", \"arguments\": [1]}",
        "{\"name\": \"f\", \"arguments\": 1}", "{\"name\": \"f\", \"arguments\": \"x\"}", "{\"name\": \"f\",}",
        "{'name': 'f'}", "{\"name\" \"f\"}", "{\"name\": \"f\", \"arguments\": nul}", "{\"a\": 01}"}) {
    const std::string text = "a <tool_call>" + body + "</tool_call> b";
    CHECK(parsed(kHermesFormat, text) == "|" + text + "|");
  }
  CHECK(parsed(kHermesFormat, "a <tool b") == "|a <tool b|");
  CHECK(parsed(kHermesFormat, "</tool_call> <tool_call>") == "|</tool_call> <tool_call>|");
  CHECK(parsed(kHermesFormat, "<tool_call><tool_call>" + kTime + "</tool_call>") == "|<tool_call>|get_time{};");
  std::string deep =
      "<tool_call>{\"name\": \"f\", \"x\": " + std::string(70, '[') + std::string(70, ']') + "}</tool_call>";
  CHECK(parse_pieces(tool_options(kHermesFormat), {deep}).content == deep);
}

TEST_CASE("a call that breaks off keeps its beginning, and the rest is content") {
  CHECK(parsed(kHermesFormat, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": }}</tool_call>") ==
        "|}}</tool_call>|f{\"a\":;");
  CHECK(parsed(kHermesFormat, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}</tool_call> ok") ==
        "|ok|f{\"a\":1};");
  CHECK(parsed(kHermesFormat, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}") == "||f{\"a\":1};");
  CHECK(parsed(kHermesFormat, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"1", true) == "||f{\"a\":\"1;");
}

TEST_CASE("Qwen3-Coder: values have the types of the schema") {
  const auto value = [](const std::string& name, const std::string& text) {
    return parsed(kQwen3CoderFormat, "<tool_call>\n<function=get_weather>\n<parameter=" + name + ">\n" + text +
                                         "\n</parameter>\n</function>\n</tool_call>");
  };
  const auto call = [](const std::string& arguments) { return "||get_weather" + arguments + ";"; };
  CHECK(value("city", "12") == call("{\"city\":\"12\"}"));
  CHECK(value("city", "a\n \"b\"\\\t<b> ") == call("{\"city\":\"a\\n \\\"b\\\"\\\\\\t<b> \"}"));
  CHECK(value("city", "") == call("{\"city\":\"\"}"));
  CHECK(value("city", "\nx\n") == call("{\"city\":\"\\nx\\n\"}"));
  CHECK(value("city", "<tool_call>") == call("{\"city\":\"<tool_call>\"}"));
  CHECK(value("days", " 3") == call("{\"days\":3}"));
  CHECK(value("days", "three") == call("{\"days\":\"three\"}"));
  CHECK(value("days", "3.5") == call("{\"days\":\"3.5\"}"));
  CHECK(value("limit", "3") == call("{\"limit\":3}"));
  CHECK(value("metric", "True") == call("{\"metric\":true}"));
  CHECK(value("metric", "false") == call("{\"metric\":false}"));
  CHECK(value("metric", "yes") == call("{\"metric\":\"yes\"}"));
  CHECK(value("tags", "[\"a\", \"<tool_call>\"]") == call("{\"tags\":[\"a\",\"<tool_call>\"]}"));
  CHECK(value("where", "{\"x\": 1}") == call("{\"where\":{\"x\":1}}"));
  CHECK(value("since", "null") == call("{\"since\":null}"));
  CHECK(value("since", "2020") == call("{\"since\":\"2020\"}"));
  CHECK(value("unit", "7") == call("{\"unit\":7}"));
  CHECK(value("unit", "c") == call("{\"unit\":\"c\"}"));
  CHECK(value("unknown", "7") == call("{\"unknown\":\"7\"}"));
  CHECK(value("unknown", "[7]") == call("{\"unknown\":[7]}"));
}

TEST_CASE("Qwen3-Coder: forgotten tags and broken ones") {
  const auto read = [](const std::string& text) { return parsed(kQwen3CoderFormat, text); };
  CHECK(read("<tool_call>\n<function=get_time>\n</function>\n</tool_call>") == "||get_time{};");
  CHECK(read("<function=get_time></function>") == "||get_time{};");
  CHECK(read("<tool_call><function=f><parameter=a>1</parameter><parameter=b>\n2\n</parameter></tool_call>x") ==
        "|x|f{\"a\":\"1\",\"b\":\"2\"};");
  CHECK(read("<tool_call><function=f><parameter=a>\n1\n<parameter=b>\n2\n</function></tool_call>") ==
        "||f{\"a\":\"1\",\"b\":\"2\"};");
  CHECK(read("<tool_call><function=f><parameter=a>1</parameter>") == "||f{\"a\":\"1\"};");
  CHECK(read("<tool_call><function=f>stray text <parameter=a>1</parameter></function></tool_call>") ==
        "|stray text|f{\"a\":\"1\"};");
  CHECK(read("<tool_call>{\"name\": \"f\"}</tool_call>") == "|<tool_call>{\"name\": \"f\"}</tool_call>|");
  CHECK(read("<tool_call><function=f g></function>") == "|<tool_call><function=f g></function>|");
  CHECK(read("<function=\nf>") == "|<function=\nf>|");
  CHECK(read("a <function=> b") == "|a <function=> b|");
  CHECK(read("</parameter> <parameter=x>") == "|</parameter> <parameter=x>|");
}

TEST_CASE("GLM-4.5: pairs of keys and values") {
  const auto read = [](const std::string& text, bool cut = false) { return parsed(kGlm45Format, text, cut); };
  CHECK(read("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Köln\n</arg_value>\n<arg_key>days</arg_key>\n"
             "<arg_value>3</arg_value>\n</tool_call>") == "||get_weather{\"city\":\"Köln\\n\",\"days\":3};");
  CHECK(read("<tool_call>get_weather<arg_key>tags</arg_key><arg_value>[\"a\"]</arg_value></tool_call>") ==
        "||get_weather{\"tags\":[\"a\"]};");
  CHECK(read("<tool_call>get_time</tool_call>") == "||get_time{};");
  CHECK(read("<tool_call>get_time\n") == "||get_time{};");
  CHECK(read("<tool_call>get_time\n", true) == "|<tool_call>get_time\n|");
  CHECK(read("<tool_call>two words</tool_call>") == "|<tool_call>two words</tool_call>|");
  CHECK(read("<tool_call>{\"name\": 1}</tool_call>") == "|<tool_call>{\"name\": 1}</tool_call>|");
  CHECK(read("<tool_call>f<arg_key>a</arg_value></tool_call>") == "|<arg_key>a</arg_value>|f{};");
  CHECK(read("<tool_call>f<arg_key>a</arg_key>text</tool_call>") == "|<arg_key>a</arg_key>text|f{};");
}

TEST_CASE("GLM-4: a known name on a line, then JSON") {
  const auto read = [](const std::string& text) { return parsed(kGlm4Format, text); };
  CHECK(read("\nget_weather \n\n{\"city\": \"北京\"}") == "||get_weather{\"city\":\"北京\"};");
  CHECK(read("get_time\n{}<|assistant|>get_time\n{ }") == "||get_time{};get_time{};");
  CHECK(read("Let me see.<|assistant|>get_time\n{}") == "|Let me see.|get_time{};");
  for (const std::string text :
       {"get_weather", "get_weather\n", "get_weather is a tool\n{}", "get_wind\n{\"a\": 1}", "get_weather\nis a tool",
        "get_weather\n{ x }", "x get_time\n{}", "a\n\n b\nget_tim"}) {
    CHECK(read(text) == "|" + text + "|");
  }
  CHECK(read("get_weather\n{\"city\": nowhere}") == "|}|get_weather{\"city\":nowhere;");
}

TEST_CASE("ChatGLM3: Python keyword arguments") {
  const auto call = [](const std::string& arguments) {
    return parsed(kChatGlm3Format, "get_weather\n ```python\ntool_call(" + arguments + ")\n```");
  };
  const auto read = [](const std::string& json) { return "||get_weather" + json + ";"; };
  CHECK(call("") == read("{}"));
  CHECK(call("city='北京', days=3,") == read("{\"city\":\"北京\",\"days\":3}"));
  CHECK(call("a=-1.5, b=True, c=None, d=1_000") == read("{\"a\":-1.5,\"b\":true,\"c\":null,\"d\":1000}"));
  CHECK(call("a=[1, 'x', (2,)], b={'k': [], \"l\": {}}") == read("{\"a\":[1,\"x\",[2]],\"b\":{\"k\":[],\"l\":{}}}"));
  CHECK(call("s='it\\'s \\n \\x41\\u00e9 \\d)', t=\"\"\"a\n\"b\" )\"\"\", u=''") ==
        read("{\"s\":\"it's \\n \\u0041\\u00e9 \\\\d)\",\"t\":\"a\\n\\\"b\\\" )\",\"u\":\"\"}"));
  for (const std::string arguments :
       {"1", "city=", "city=x", "city=f(1)", "a=1 b=2", "a=[1", "a={1: 2}", "a=1+1", "=1", "a='x"}) {
    const std::string text = "get_weather\n ```python\ntool_call(" + arguments + ")\n```";
    CHECK(parsed(kChatGlm3Format, text) == "|" + text + "|");
  }
  const std::string unknown = "get_wind\n ```python\ntool_call()\n```";
  CHECK(parsed(kChatGlm3Format, unknown) == "|" + unknown + "|");
  const std::string code = "get_time\n ```python\nprint(1)\n```";
  CHECK(parsed(kChatGlm3Format, code) == "|" + code + "|");
}

TEST_CASE("Llama 3: bare JSON of a known tool, or anything after the tag") {
  const auto read = [](const std::string& text) { return parsed(kLlama3Format, text); };
  const std::string bare = "{\"name\": \"get_time\", \"parameters\": {\"a\": \"b\"}}";
  CHECK(read(bare) == "||get_time{\"a\":\"b\"};");
  CHECK(read("{\"type\": \"function\", " + bare.substr(1)) == "||get_time{\"a\":\"b\"};");
  CHECK(read(bare + "; " + bare) == "||get_time{\"a\":\"b\"};get_time{\"a\":\"b\"};");
  CHECK(read("<|python_tag|>{\"name\": \"other\", \"parameters\": {}}") == "||other{};");
  CHECK(read("<|python_tag|>brave_search.call(query=\"x (y)\")") == "||brave_search{\"query\":\"x (y)\"};");
  for (const std::string text :
       {"{\"name\": \"Bob\", \"parameters\": {}}", "{\"name\": \"Bob\", \"age\": 5}", "{\"a\": [1]} x",
        "see "
        "{\"name\": \"get_time\", \"parameters\": {}}",
        "{", "<|python_tag|>print(1)", "<|python_tag|>a.call(1)", "<|python_tag|>", "<|python_tag|>.call()"}) {
    CHECK(read(text) == "|" + text + "|");
  }
}

TEST_CASE("Mistral: lists, and names with arguments") {
  const auto read = [](const std::string& text) { return parsed(kMistralFormat, text); };
  CHECK(read("[TOOL_CALLS] [" + kTime + ", " + kTime + "]") == "||get_time{};get_time{};");
  CHECK(read("[TOOL_CALLS]" + kTime) == "||get_time{};");
  CHECK(read("[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]abcdefghi[ARGS]{}") == "||f{\"a\":1};g{};");
  CHECK(read("[TOOL_CALLS]f{\"a\": 1}") == "||f{\"a\":1};");
  CHECK(read("Hm. [TOOL_CALLS][" + kTime + "] Done") == "|Hm.Done|get_time{};");
  for (const std::string text :
       {"[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS][1]", "[TOOL_CALLS]f", "[TOOL_CALLS]f[ARGS]", "[TOOL_CALLS]f g",
        "[TOOL_CALLS]f[ARGS]1", "[ARGS]{}", "[TOOL_CALLS][{\"a\": 1}]"}) {
    CHECK(read(text) == "|" + text + "|");
  }
}

/// The JSON file below tests/golden/templates.
Json golden_templates(const std::string& file) {
  std::ifstream in(INFERD_SOURCE_DIR "/tests/golden/templates/" + file);
  return Json::parse(in);
}

TEST_CASE("DeepSeek: what published templates write for calls, as jinja2 renders them, is read as those calls") {
  const Json messages = golden_templates("cases.json")["cases"], published = golden_templates("published.json");
  const std::string list = "<｜tool▁calls▁begin｜>", end = "<｜end▁of▁sentence｜>";
  int calls = 0;
  for (const auto& [hash, one] : published.items()) {
    const std::string file = one["file"];
    if (file != "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja" && file != "deepseek-ai-DeepSeek-V3.1.jinja") continue;
    for (const char* name : {"tool_call", "tool_call_null", "two_calls", "reasoning_tools"}) {
      CAPTURE(file, name);
      const std::string text = one["cases"][name]["output"];
      const std::size_t begin = text.find(list);
      REQUIRE(begin != std::string::npos);
      const Parsed found =
          parse_all_ways(tool_options(kDeepSeekFormat), text.substr(begin, text.find(end, begin) - begin));
      CHECK(found.content.empty());
      Json expected = Json::array();
      for (const Json& message : messages[name]["messages"]) {
        if (message.contains("tool_calls") && expected.empty()) expected = message["tool_calls"];
      }
      REQUIRE(found.calls.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i, ++calls) {
        CHECK(found.calls[i].name == expected[i]["function"]["name"].get<std::string>());
        CHECK(Json::parse(found.calls[i].arguments) == expected[i]["function"]["arguments"]);
      }
    }
  }
  CHECK(calls == 10);
}

TEST_CASE("DeepSeek: reasoning, text and calls of one answer") {
  const std::string r1 =
      "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Köln\"}\n```"
      "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{}\n```<｜tool▁call▁end｜>"
      "<｜tool▁calls▁end｜>";
  OutputParserOptions options = tool_options(kDeepSeekFormat);
  options.reasoning = find_reasoning_format("think", "");
  options.reasoning_open = true;  // the prompt ended with <think>
  CHECK(parse_all_ways(options, "Let me see.\n</think>\n\nI look it up.\n" + r1).text() ==
        "Let me see.|I look it up.|get_weather{\"city\":\"Köln\"};get_time{};");
}

TEST_CASE("DeepSeek: marks left out, and text that is no call") {
  const auto read = [](const std::string& text, bool cut = false) { return parsed(kDeepSeekFormat, text, cut); };
  const std::string begin = "<｜tool▁call▁begin｜>", separator = "<｜tool▁sep｜>", end = "<｜tool▁call▁end｜>";
  CHECK(read(begin + "function" + separator + "get_time\n```json\n{}\n```" + end) == "||get_time{};");
  CHECK(read(begin + "function" + separator + "get_time\n{}" + end + "\nDone.") == "|Done.|get_time{};");
  CHECK(read(begin + "function" + separator + "get_time\n```json\n{}\n```") == "||get_time{};");
  CHECK(read(begin + "function" + separator + "get_time\n```json\n{}\n``") == "||get_time{};");
  CHECK(read(begin + "function" + separator + "get_time\n```\n{\"a\": \"```" + end + "\"}\n```" + end) ==
        "||get_time{\"a\":\"```" + end + "\"};");
  CHECK(read(begin + "function" + separator + "get_time\n```json\n{\"a\": \"1", true) == "||get_time{\"a\":\"1;");
  CHECK(read(begin + "function" + separator + "get_time\n{}" + end + "```python\nx\n```") ==
        "|```python\nx\n```|get_time{};");
  const std::vector<std::string> no_calls = {begin,
                                             "<｜tool▁calls▁begin｜>",
                                             "<｜tool▁calls▁begin｜> no",
                                             begin + "function",
                                             begin + "two words" + separator + "f\n{}",
                                             begin + separator + "f\n{}",
                                             begin + "function" + separator + "\n",
                                             begin + "function" + separator + "get_time",
                                             begin + "function" + separator + "get_time\n```json\n[]",
                                             begin + "function" + separator + "get_time\n```yaml\n{}",
                                             "a " + end + separator + " b",
                                             begin + std::string(70, 'x') + separator + "{}"};
  for (const std::string& text : no_calls) {
    CHECK(read(text) == "|" + text + "|");
  }
}
