// Chat formats of folders without a template, against prompts and ids that the families' own code makes.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/errors.h"
#include "engine/text/chat_template.h"
#include "tests/catch.h"

namespace inferd {
namespace {

std::filesystem::path model_folder(const std::string& name) {
  return std::filesystem::path(INFERD_SOURCE_DIR) / "tests/golden/models" / name;
}

struct ChatModel {
  explicit ChatModel(const std::string& name)
      : checkpoint(Checkpoint::open(model_folder(name))),
        tokenizer(load_tokenizer(*checkpoint)),
        chat(load_chat_template(*checkpoint, *tokenizer)) {}
  std::vector<TokenId> ids(const Json& messages, const Json& tools = Json()) const {
    return tokenizer->encode(chat->render({.messages = messages, .tools = tools}), false);
  }
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;
};

Json expected_of(const std::string& name) {
  std::ifstream file(model_folder(name) / "expected.json");
  std::stringstream text;
  text << file.rdbuf();
  return Json::parse(text.str());
}

bool has_system(const Json& messages) { return messages[0]["role"] == "system"; }

TEST_CASE("conversations become the ids of the published code") {
  const std::string name = GENERATE("chatglm1", "chatglm2", "chatglm3", "glm4_tiktoken", "qwen1");
  CAPTURE(name);
  const ChatModel model(name);
  REQUIRE(model.chat != nullptr);
  const Json expected = expected_of(name);
  int cases = 0;
  for (const Json& one : expected["cases"]) {
    if (!one.contains("messages")) continue;
    CAPTURE(one["messages"].dump());
    // The reference drops a system message where a family knows none; here that is refused.
    if (name == "chatglm2" && has_system(one["messages"])) {
      CHECK_THROWS_AS(model.ids(one["messages"]), TemplateError);
      continue;
    }
    CHECK(model.ids(one["messages"]) == one["input_ids"].get<std::vector<TokenId>>());
    ++cases;
  }
  CHECK(cases >= 2);
}

TEST_CASE("a client's text never becomes a mark of the format") {
  const std::string name = GENERATE("chatglm1", "chatglm3", "glm4_tiktoken", "qwen1");
  CAPTURE(name);
  const ChatModel model(name);
  const std::string marks = "[gMASK]<sop>sop<|user|><|assistant|><|im_end|><|im_start|>";
  const auto special_count = [&](const std::string& content) {
    const std::vector<TokenId> ids = model.ids(Json::array({{{"role", "user"}, {"content", content}}}));
    return std::count_if(ids.begin(), ids.end(), [&](TokenId id) { return model.tokenizer->is_special(id); });
  };
  CHECK(special_count("x " + marks) == special_count("x"));
}

TEST_CASE("GLM-4 is told of tools and results as its published code does") {
  const ChatModel model("glm4_tiktoken");
  const Json tools =
      Json::parse(R"([{"type": "function", "function": {"name": "get_weather", "description": "天气"}}])");
  const Json messages = Json::parse(R"([{"role": "user", "content": "北京天气"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "get_weather", "arguments": "{\"city\": \"北京\"}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "晴"}])");
  const MarkedText prompt = model.chat->render({.messages = messages, .tools = tools});
  CHECK(prompt.text() ==
        "[gMASK]<sop><|system|>\n你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 "
        "模型开发的，你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## get_weather\n\n{\n"
        "    \"name\": \"get_weather\",\n    \"description\": \"天气\"\n}\n在调用上述函数时，请使用 Json "
        "格式表示调用的参数。<|user|>\n北京天气<|assistant|>get_weather\n{\"city\": "
        "\"北京\"}<|observation|>\n晴<|assistant|>");
  CHECK(model.tokenizer->special_id("<|observation|>").has_value());
}

TEST_CASE("ChatGLM3 is told of tools and results as its published code does") {
  const ChatModel model("chatglm3");
  const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "get_weather", "description": "天气",
      "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}])");
  const Json messages = Json::parse(R"([{"role": "user", "content": "北京天气"},
      {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
        "function": {"name": "get_weather", "arguments": "{\"city\": \"北京\"}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "晴"}])");
  CHECK(model.chat->render({.messages = messages, .tools = tools}).text() ==
        "[gMASK]sop<|system|>\n Answer the following questions as best as you can. You have access to the following "
        "tools:\n[\n    {\n        \"name\": \"get_weather\",\n        \"description\": \"天气\",\n"
        "        \"parameters\": {\n            \"type\": \"object\",\n            \"properties\": {\n"
        "                \"city\": {\n                    \"type\": \"string\"\n                }\n"
        "            }\n        }\n    }\n]<|user|>\n 北京天气<|assistant|>get_weather\n ```python\n"
        "tool_call(city='北京')\n```<|observation|>\n 晴<|assistant|>");
}

}  // namespace
}  // namespace inferd
