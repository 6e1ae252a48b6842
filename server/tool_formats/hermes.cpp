// Hermes tool calls (Qwen2.5, Qwen3, Hermes): <tool_call>{"name": …, "arguments": {…}}</tool_call>, any number.
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {"<tool_call>", "</tool_call>"};
constexpr char kOpen = tool_mark(0), kClose = tool_mark(1);

class Hermes final : public ObjectFormat {
 private:
  bool step_outside(std::string_view& text, CallSink& out) override {
    if (!content_until(text, kOpen, out)) return false;
    const std::size_t object = skip_space(text, 1);
    if (object == text.size()) return false;
    if (text[object] == '{') {
      enter(object);
    } else {
      give_up(text, out);
    }
    return true;
  }

  bool step_after(std::string_view& text) override {
    const std::size_t next = skip_space(text, 0);
    if (next == text.size()) return false;
    if (text[next] == '{') {  // several objects between one pair of tags
      text.remove_prefix(next);
      enter(0);
      return true;
    }
    if (text[next] == kClose) text.remove_prefix(next + 1);
    leave();
    return true;
  }
};

bool fits(std::string_view source) {
  return source.find("<tool_call>") != std::string_view::npos && source.find("arguments") != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas&) { return std::make_unique<Hermes>(); }

GrammarExpr calls(const CallGrammar& g) {
  const GrammarExpr call = g.builder.sequence(
      {g.marks.mark(kMarks[0]), g.json.space(), g.call_objects("arguments"), g.json.space(), g.marks.mark(kMarks[1])});
  return g.one_or_more(call, g.json.space());
}

}  // namespace

constinit const ToolFormatRow kHermesFormat = {
    .name = "hermes", .fits = fits, .make = make, .marks = kMarks, .calls = calls, .opening = kMarks[0]};

}  // namespace inferd
