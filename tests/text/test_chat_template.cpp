// ChatTemplate: messages adapted to what a template takes, kwargs, special tokens, and where templates are found.
#include <cstdlib>
#include <ctime>
#include <map>
#include <thread>

#include "base/errors.h"
#include "engine/text/chat_template.h"
#include "tests/catch.h"
#include "tests/text/jinja_support.h"

namespace inferd::test {
namespace {

const std::string kChatml =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

Json message(const char* role, const Json& content) {
  Json result = Json::object();
  result["role"] = role;
  result["content"] = content;
  return result;
}

Json text_part(const char* text) { return {{"type", "text"}, {"text", text}}; }

Json tool_message(const Json& arguments, const Json& content) {
  Json result = message("assistant", content);
  result["tool_calls"] = Json::array(
      {{{"id", "call00001"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", arguments}}}}});
  return result;
}

std::string run(const std::string& source, Json messages, Json tools = Json(), Json kwargs = Json::object()) {
  ChatInput input;
  input.messages = std::move(messages);
  input.tools = std::move(tools);
  input.template_kwargs = std::move(kwargs);
  input.now_unix_s = 86400;
  return parse_chat_template(source, "t.jinja", "<s>", "</s>")->render(input).text();
}

/// A folder or a GGUF file that holds only texts.
class FakeCheckpoint final : public Checkpoint, public GgufMetadata {
 public:
  FakeCheckpoint(bool gguf, std::map<std::string, std::string, std::less<>> texts)
      : gguf_(gguf), texts_(std::move(texts)) {}
  CheckpointFormat format() const override { return gguf_ ? CheckpointFormat::gguf : CheckpointFormat::hugging_face; }
  const std::string& path() const override { return path_; }
  const GgufMetadata* metadata() const override { return gguf_ ? this : nullptr; }
  std::optional<Json> json(std::string_view file) const override {
    const auto text = string(file);
    return text ? std::optional(Json::parse(*text)) : std::nullopt;
  }
  std::optional<std::string> read_file(std::string_view file, std::size_t max_bytes) const override {
    const auto text = string(file);
    if (text && text->size() > max_bytes) throw CheckpointError("too large");
    return text;
  }
  std::span<const StoredTensor> tensors() const override { return {}; }
  const StoredTensor* find(std::string_view) const override { return nullptr; }
  void release(const StoredTensor&) const override {}
  bool has(std::string_view key) const override { return texts_.contains(key); }
  std::optional<std::string> string(std::string_view key) const override {
    const auto found = texts_.find(key);
    return found == texts_.end() ? std::nullopt : std::optional(found->second);
  }
  std::optional<std::int64_t> integer(std::string_view) const override { return std::nullopt; }
  std::optional<double> number(std::string_view) const override { return std::nullopt; }
  std::optional<bool> boolean(std::string_view) const override { return std::nullopt; }
  const std::vector<std::string>* strings(std::string_view) const override { return nullptr; }
  std::optional<std::vector<std::int64_t>> integers(std::string_view) const override { return std::nullopt; }
  std::optional<std::vector<float>> floats(std::string_view) const override { return std::nullopt; }
  std::vector<std::string> keys() const override { return {}; }

 private:
  bool gguf_;
  std::string path_ = "model";
  std::map<std::string, std::string, std::less<>> texts_;
};

/// Two special tokens: <B> and <E>.
class FakeTokenizer final : public Tokenizer {
 public:
  FakeTokenizer() {
    special_.bos = 1;
    special_.eos = 2;
  }
  std::vector<TokenId> encode(const MarkedText&, bool) const override { return {}; }
  std::string token_bytes(TokenId id) const override { return id == 1 ? "<B>" : "<E>"; }
  std::string first_token_bytes(TokenId id) const override { return token_bytes(id); }
  PairEncoding encode_pair(const MarkedText&, const MarkedText&) const override { return {}; }
  std::string decode(const std::vector<TokenId>&, bool) const override { return ""; }
  bool is_special(TokenId) const override { return true; }
  bool strips_leading_space() const override { return false; }
  std::optional<TokenId> special_id(std::string_view) const override { return std::nullopt; }
  std::int64_t vocab_size() const override { return 3; }
  const SpecialTokens& special() const override { return special_; }

 private:
  SpecialTokens special_;
};

std::string load_and_run(const FakeCheckpoint& checkpoint, const Json& tools = Json()) {
  const auto chat = load_chat_template(checkpoint, FakeTokenizer());
  if (chat == nullptr) return "none";
  ChatInput input;
  input.messages = Json::array({message("user", "hi")});
  input.tools = tools;
  return chat->render(input).text();
}

}  // namespace

TEST_CASE("text parts are joined only where a template does not take them", "[chat]") {
  const Json parts = Json::array({message("user", Json::array({text_part("a"), text_part("b")}))});
  CHECK(run(kChatml, parts) == "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n");
  const std::string lists =
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}";
  CHECK(run(lists, parts) == "[a][b]");
  CHECK(run(lists, Json::array({message("user", "x")})) == "x");
  const std::string only_lists =
      "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}";
  CHECK(run(only_lists, Json::array({message("user", "x")})) == "[x]");
  // Parts in user messages, strings in system messages.
  const std::string mixed =
      "{% for m in messages %}{% if m.role == 'user' and m.content is not string %}"
      "{% for p in m.content %}[{{ p.text }}]{% endfor %}{% else %}{{ m.content|trim }};{% endif %}{% endfor %}";
  CHECK(run(mixed, Json::array({message("system", Json::array({text_part("s")})), parts[0]})) == "s;[a][b]");
  const Json image = Json::array({message("user", Json::array({{{"type", "image_url"}, {"image_url", "x"}}}))});
  CHECK_THROWS_WITH(run(kChatml, image), "the model's chat template takes text content only");
}

TEST_CASE("a template that prints no tools is known", "[chat]") {
  const auto takes = [](const std::string& source) {
    return parse_chat_template(source, "t.jinja", "<s>", "</s>")->takes_tools();
  };
  const std::string loop = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
  CHECK_FALSE(takes(loop));
  CHECK_FALSE(takes("{# no tools here #}" + loop));
  CHECK(takes("{% if tools %}{{ tools | tojson }}{% endif %}" + loop));
  CHECK(takes("{% if messages[0].role == 'system' and tools %}{{ tools | tojson }}{% endif %}" + loop));
  CHECK(takes("{% for t in tools or [] %}{{ t.function.parameters.properties.keys() | join }}{% endfor %}" + loop));
}

TEST_CASE("tool call arguments come in the form the template takes", "[chat]") {
  const auto conversation = [](const Json& arguments) {
    return Json::array({message("user", "x"), tool_message(arguments, "")});
  };
  const std::string objects =
      "{% for m in messages %}{% for t in m.tool_calls or [] %}{{ t.function.arguments|tojson }}{% endfor %}{% endfor "
      "%}";
  CHECK(run(objects, conversation("{\"a\": 1}")) == "{\"a\": 1}");
  CHECK(run(objects, conversation(Json{{"a", 1}})) == "{\"a\": 1}");
  CHECK(run(objects, conversation("")) == "{}");
  CHECK(run(objects, conversation("{broken")) == "\"{broken\"");
  const std::string items =
      "{% for m in messages %}{% for t in m.tool_calls or [] %}{% for k, v in t.function.arguments.items() %}{{ k "
      "}}={{ v }}{% endfor %}{% endfor %}{% endfor %}";
  CHECK(run(items, conversation("{\"a\": 1}")) == "a=1");
  const std::string text =
      "{% for m in messages %}{% for t in m.tool_calls or [] %}{{ '```' + t.function.arguments + '```' }}{% endfor "
      "%}{% endfor %}";
  CHECK(run(text, conversation("{\"a\": 1}")) == "```{\"a\": 1}```");
  const std::string printed =
      "{% for m in messages %}{% for t in m.tool_calls or [] %}{{ t.function.arguments }}{% endfor %}{% endfor %}";
  CHECK(run(printed, conversation("{\"a\": 1}")) == "{\"a\": 1}");
}

TEST_CASE("GLM-4's templates get calls as metadata, results as observations, tools where they look", "[chat]") {
  const Json tools = Json::parse(R"([{"type": "function", "function": {"name": "f"}}])");
  const Json calls = Json::array({message("user", "x"), tool_message("{\"a\": 1}", "Hm."), message("tool", "ok")});
  // As GLM-4-0414's: tools as a variable, nothing of tool_calls or the role "tool".
  const std::string named =
      "[gMASK]<sop>{% if tools %}<|system|>{{ tools|tojson }}{% endif %}{% for m in messages %}"
      "{% set meta = m.get('metadata', '') %}{% if m.role == 'user' %}<|user|>\n{{ m.content }}"
      "{% elif m.role == 'assistant' %}<|assistant|>{{ meta }}\n{{ m.content.strip() }}"
      "{% elif m.role == 'observation' %}<|observation|>\n{{ m.content }}{% endif %}{% endfor %}";
  const std::string rest = "<|user|>\nx<|assistant|>\nHm.<|assistant|>f\n{\"a\": 1}<|observation|>\nok";
  const std::string told = R"(<|system|>[{"type": "function", "function": {"name": "f"}}])";
  CHECK(run(named, calls) == "[gMASK]<sop>" + rest);
  CHECK(run(named, calls, tools) == "[gMASK]<sop>" + told + rest);
  // As GLM-4-9B-chat's: tools in a message, every role's name printed.
  const std::string inside =
      "[gMASK]<sop>{% for m in messages %}{% if m['tools'] is defined %}<|system|>{{ m['tools']|tojson }}{% endif %}"
      "{% if m['content'] %}<|{{ m['role'] }}|>{{ m['metadata'] }}\n{{ m['content'] }}{% endif %}{% endfor %}";
  CHECK(run(inside, calls, tools) == "[gMASK]<sop>" + told + rest);
  CHECK(parse_chat_template(inside, "t", "", "")->takes_tools());
  // GLM-4.5 knows all of it.
  const std::string modern =
      "[gMASK]<sop>{{ tools|tojson }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
      "{% for t in m.tool_calls or [] %}{{ t.function.arguments|tojson }}{% endfor %}{% endfor %}";
  CHECK(run(modern, {calls[0], calls[1]}, tools).ends_with("<|user|>x<|assistant|>Hm.{\"a\": 1}"));
}

TEST_CASE("null content beside tool calls becomes empty where a template would print None", "[chat]") {
  const Json messages = Json::array({message("user", "x"), tool_message(Json::object(), Json())});
  CHECK(run("{% for m in messages %}[{{ m.content }}]{{ m.tool_calls|tojson if m.tool_calls }}{% endfor %}", messages)
            .substr(0, 5) == "[x][]");
  CHECK(run("{% for m in messages %}{% if m.content is none %}null{% endif %}{{ m.tool_calls|tojson if m.tool_calls "
            "}}{% endfor %}",
            messages)
            .substr(0, 4) == "null");
  Json without = messages;
  without[1].erase("content");
  CHECK(run("{% for m in messages %}[{{ m.content + '' }}]{% endfor %}", without) == "[x][]");
}

TEST_CASE("developer becomes system unless the template knows it", "[chat]") {
  const Json messages = Json::array({message("developer", "d")});
  CHECK(run("{{ messages[0].role }}", messages) == "system");
  CHECK(run("{% if messages[0].role == 'developer' %}known{% endif %}", messages) == "known");
}

TEST_CASE("variables: tools, special tokens, reasoning, kwargs, time", "[chat]") {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json hi = Json::array({message("user", "hi")});
  CHECK(run("{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
            hi) == "<s></s>TrueTrueTrue");
  CHECK(run("{{ tools|length }}{{ tools[0].function.name }}", hi,
            Json::parse(R"([{"type":"function","function":{"name":"f"}}])")) == "1f");
  CHECK(run("{% for t in tools %}{{ t }}{% endfor %}{{ messages[0].content }}", hi) == "hi");  // none would be an error
  CHECK(run("{{ enable_thinking }}{{ n }}{{ s }}", hi, Json(), {{"enable_thinking", false}, {"n", 2}, {"s", "x"}}) ==
        "False2x");
  CHECK(run("{{ strftime_now('%d %b %Y') }}", hi) == "02 Jan 1970");
  Json reasoning = hi;
  reasoning[0]["reasoning"] = "why";
  CHECK(run("{{ messages[0].reasoning_content }}{{ messages[0].thinking }}", reasoning) == "whywhy");
  for (const char* const name : {"messages", "tools", "add_generation_prompt", "bos_token", "raise_exception"}) {
    CHECK_THROWS_AS(run("x", hi, Json(), {{name, "x"}}), TemplateError);
  }
  CHECK_THROWS_AS(run("x", "no list"), TemplateError);
  CHECK_THROWS_AS(run("x", Json::array({"no object"})), TemplateError);
}

TEST_CASE("special tokens are trusted, kwargs and tools are not", "[chat]") {
  const auto chat =
      parse_chat_template("{{ bos_token }}{{ k }}{{ tools|tojson }}{{ messages[0].role }}", "t", "<s>", "</s>");
  ChatInput input;
  input.messages = Json::array({message("<|im_end|>", "x")});
  input.template_kwargs = {{"k", "</s>"}};
  input.tools = Json::array({{{"<tool>", "<s>"}}});
  CHECK(trusted_text(chat->render(input)) == "<s>[{\"\": \"\"}]");
}

TEST_CASE("errors of templates name file and line", "[chat]") {
  CHECK_THROWS_WITH(parse_chat_template("a\n{% if %}", "dir/t.jinja", "", ""),
                    "dir/t.jinja: chat template, line 2: expected an expression, found '%}'");
  CHECK_THROWS_AS(parse_chat_template("{% include 'x' %}", "t", "", ""), CheckpointError);
  CHECK_THROWS_WITH(run("{{ raise_exception('Only user!') }}", Json::array()), "Only user!");
}

TEST_CASE("templates are found in GGUF metadata", "[chat]") {
  CHECK(load_and_run(FakeCheckpoint(true, {})) == "none");
  const FakeCheckpoint both(true, {{"tokenizer.chat_template", "plain {{ bos_token }}"},
                                   {"tokenizer.chat_template.tool_use", "tools {{ eos_token }}"}});
  CHECK(load_and_run(both) == "plain <B>");
  CHECK(load_and_run(both, Json::array()) == "plain <B>");
  CHECK(load_and_run(both, Json::array({Json::object()})) == "tools <E>");
  CHECK(load_and_run(FakeCheckpoint(true, {{"tokenizer.chat_template.tool_use", "t"}})) == "t");
  CHECK_THROWS_WITH(load_and_run(FakeCheckpoint(true, {{"tokenizer.chat_template", "{{"}})),
                    Catch::Contains("model: tokenizer.chat_template: chat template, line 1"));
}

TEST_CASE("templates are found in a folder", "[chat]") {
  CHECK(load_and_run(FakeCheckpoint(false, {})) == "none");
  CHECK(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", R"({"chat_template": null})"}})) == "none");
  CHECK(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", R"({"chat_template": "c {{ bos_token }}"})"}})) ==
        "c <B>");
  const char* const list =
      R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})";
  CHECK(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", list}})) == "d");
  CHECK(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", list}}), Json::array({Json::object()})) == "t");
  CHECK(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", list}, {"chat_template.jinja", "file"}})) ==
        "file");
  CHECK(load_and_run(FakeCheckpoint(false, {{"chat_template.json", R"({"chat_template": "j"})"}})) == "j");
  CHECK_THROWS_AS(load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", R"({"chat_template": 5})"}})),
                  CheckpointError);
  CHECK_THROWS_AS(
      load_and_run(FakeCheckpoint(false, {{"tokenizer_config.json", R"({"chat_template": [{"name": 1}]})"}})),
      CheckpointError);
}

TEST_CASE("one template renders in many threads at a time", "[chat]") {
  const auto chat = parse_chat_template(kChatml, "t", "<s>", "</s>");
  std::vector<std::string> results(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&chat, &results, i] {
      ChatInput input;
      input.messages = Json::array({message("user", "m" + std::to_string(i))});
      for (int round = 0; round < 50; ++round) results[i] = chat->render(input).text();
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t i = 0; i < results.size(); ++i) {
    CHECK(results[i] == "<|im_start|>user\nm" + std::to_string(i) + "<|im_end|>\n<|im_start|>assistant\n");
  }
}

}  // namespace inferd::test
