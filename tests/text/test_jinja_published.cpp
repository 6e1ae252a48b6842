// Published chat templates against jinja2's renderings, where the templates are on this machine.
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>

#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "tests/catch.h"
#include "tests/text/jinja_support.h"
#include "tests/text/sha256.h"

namespace inferd::test {
namespace {

/// Cases in which transformers and the daemon hand the template the same messages.
bool is_plain(const std::string& name) {
  return name != "developer" && name != "parts" && name != "parts_system" && name != "tool_call_text" &&
         name != "tool_call_null" && name != "no_messages";
}

struct Source {
  std::string name, text;
  const Json* golden;
};

std::vector<Source> sources_with_golden(const Json& published) {
  std::vector<Source> sources;
  for (const auto& path : published_templates()) {
    std::string text = read_text(path);
    const auto entry = published.find(sha256_hex(text));
    if (entry != published.end()) sources.push_back({path.filename().string(), std::move(text), &*entry});
  }
  return sources;
}

/// What a chat template makes of a golden case's messages; the message of the refusal if it refuses.
std::string chat_text(const ChatTemplate& chat, const Json& golden, const Json& test, MarkedText* marked = nullptr) {
  ChatInput input;
  input.messages = test["messages"];
  input.tools = test["tools"];
  input.add_generation_prompt = test["add_generation_prompt"].get<bool>();
  input.template_kwargs = test["kwargs"];
  input.now_unix_s = golden["now"].get<std::int64_t>();
  try {
    MarkedText text = chat.render(input);
    if (marked != nullptr) *marked = text;
    return text.text();
  } catch (const TemplateError& error) {
    return error.what();
  }
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

/// The template in a model's own file: every golden case, as plain Jinja and through what the daemon loads.
void check_model_template(const char* file) {
  setenv("TZ", "UTC", 1);
  tzset();
  const auto path = source_dir() / "models" / file;
  if (!std::filesystem::exists(path)) {
    WARN(file << " is not there: run scripts/setup");
    return;
  }
  const Json golden = read_golden("cases.json");
  const auto checkpoint = Checkpoint::open(path.string());
  const auto tokenizer = load_tokenizer(*checkpoint);
  const auto chat = load_chat_template(*checkpoint, *tokenizer);
  REQUIRE(chat != nullptr);
  const Json published = read_golden("published.json");
  const auto entry = published.find(sha256_hex(chat->source()));
  REQUIRE(entry != published.end());
  CHECK((*entry)["file"] == file);
  const TokenId start = *tokenizer->special_id("<|im_start|>");
  int as_chat = 0;
  for (const auto& [name, expected] : (*entry)["cases"].items()) {
    INFO(file << ", case " << name);
    const Outcome outcome = render(chat->source(), case_variables(golden, golden["cases"][name]));
    CHECK(outcome.failed == expected.contains("error"));
    if (expected.contains("error")) continue;
    const std::string text = expected["output"].get<std::string>();
    CHECK(outcome.text == text);
    if (!is_plain(name)) continue;
    MarkedText marked;
    CHECK(chat_text(*chat, golden, golden["cases"][name], &marked) == text);
    // the roles' marks are control tokens, and what is encoded is what was rendered
    const std::vector<TokenId> ids = tokenizer->encode(marked, false);
    CHECK(static_cast<std::size_t>(std::count(ids.begin(), ids.end(), start)) ==
          occurrences(trusted_text(marked), "<|im_start|>"));
    CHECK(tokenizer->decode(ids, false) == text);
    ++as_chat;
  }
  CHECK(as_chat >= 14);
}

}  // namespace

TEST_CASE("published templates render as in jinja2", "[jinja][model]") {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = read_golden("cases.json");
  const Json published = read_golden("published.json");
  const auto sources = sources_with_golden(published);
  if (sources.empty()) {
    WARN("third_party/chat-templates is not there: run scripts/setup");
    return;
  }
  CHECK(sources.size() >= 25);
  int rendered = 0;
  for (const Source& source : sources) {
    for (const auto& [name, expected] : (*source.golden)["cases"].items()) {
      INFO(source.name << ", case " << name);
      const Outcome outcome = render(source.text, case_variables(golden, golden["cases"][name]));
      if (expected.contains("error")) {
        INFO("jinja2: " << expected["error"].get<std::string>() << "\nhere: " << outcome.text);
        CHECK(outcome.failed);
      } else {
        CHECK(outcome.text == expected["output"].get<std::string>());
        CHECK_FALSE(outcome.failed);
        ++rendered;
      }
    }
  }
  std::cout << sources.size() << " templates, " << rendered << " renderings compared\n";
}

TEST_CASE("chat templates leave messages alone that a template can take", "[jinja][model]") {
  setenv("TZ", "UTC", 1);
  tzset();
  const Json golden = read_golden("cases.json");
  const Json published = read_golden("published.json");
  for (const Source& source : sources_with_golden(published)) {
    const auto chat = parse_chat_template(source.text, source.name, golden["bos_token"].get<std::string>(),
                                          golden["eos_token"].get<std::string>());
    for (const auto& [name, expected] : (*source.golden)["cases"].items()) {
      if (!is_plain(name) || expected.contains("error")) continue;
      INFO(source.name << ", case " << name);
      CHECK(chat_text(*chat, golden, golden["cases"][name]) == expected["output"].get<std::string>());
    }
  }
}

TEST_CASE("SmolLM2's own template renders as in jinja2", "[jinja][model]") {
  check_model_template("SmolLM2-135M-Instruct.Q4_1.gguf");
}

TEST_CASE("Qwen2.5-Coder's own template renders as in jinja2", "[jinja][model]") {
  check_model_template("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf");
}

}  // namespace inferd::test
