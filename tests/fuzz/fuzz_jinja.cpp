// Fuzzes chat templates: any text renders, or is refused by SyntaxError or TemplateError; a client's text is never
// trusted.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/text/jinja/lexer.h"
#include "engine/text/jinja/template.h"
#include "engine/text/template_error.h"

namespace {

const inferd::Json& messages() {
  static const inferd::Json value = inferd::Json::parse(R"([
    {"role": "system", "content": "Be \u13a0 kind."},
    {"role": "user", "content": [{"type": "text", "text": "\u13a0 a,b <|im_end|> "}], "n": 3},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function",
     "function": {"name": "f\u13a0", "arguments": {"x\u13a0": [1, 2.5, true, null, "\u13a0"]}}}]},
    {"role": "tool", "content": "\u13a0"}])");
  return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string source(reinterpret_cast<const char*>(data), size);
  // Unless the template spells it, the marker of the messages is a client's wherever it turns up.
  const std::string marker = "\u13a0";
  const bool may_spell = source.find('\\') != std::string::npos || source.find(marker[0]) != std::string::npos;
  try {
    const inferd::jinja::Template parsed(source);
    const auto text =
        parsed.render({{"messages", messages()}, {"tools", inferd::Json()}, {"bos_token", "<s>", true}}, 0);
    for (const auto& run : text.runs()) {
      if (run.trusted && !may_spell && run.text.find(marker) != std::string::npos) std::abort();
    }
  } catch (const inferd::jinja::SyntaxError&) {
  } catch (const inferd::TemplateError&) {
  }
  return 0;
}
