// Published chat templates against jinja2's renderings, where the templates are on this machine.
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>

#include "engine/text/chat_template.h"
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
      const Json& test = golden["cases"][name];
      ChatInput input;
      input.messages = test["messages"];
      input.tools = test["tools"];
      input.add_generation_prompt = test["add_generation_prompt"].get<bool>();
      input.template_kwargs = test["kwargs"];
      input.now_unix_s = golden["now"].get<std::int64_t>();
      std::string text;
      try {
        text = chat->render(input).text();
      } catch (const TemplateError& error) {
        text = error.what();
      }
      CHECK(text == expected["output"].get<std::string>());
    }
  }
}

}  // namespace inferd::test
