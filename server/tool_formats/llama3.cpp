// Llama 3.1 and 3.2 tool calls: {"name": …, "parameters": {…}} as the whole answer, or after <|python_tag|>.
#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"
#include "server/tool_formats/python_call.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {"<|python_tag|>"};
constexpr char kPython = tool_mark(0);

class Llama3 final : public ObjectFormat {
 public:
  explicit Llama3(const ToolSchemas& schemas) : schemas_(schemas) {}

 private:
  bool step_outside(std::string_view& text, CallSink& out) override {
    if (at_start_) {
      const std::size_t begin = skip_space(text, 0);
      if (begin == text.size()) return false;
      at_start_ = false;
      if (text[begin] == '{') {
        enter(begin, &schemas_);  // nothing marks it: it may be any JSON, so the name must be of a tool
        return true;
      }
    }
    if (!content_until(text, kPython, out)) return false;
    const std::size_t call = skip_space(text, 1);
    if (call == text.size()) return false;
    if (text[call] == '{') {
      enter(call);
      return true;
    }
    return step_built_in(text, call, out);
  }

  /// NAME.call(x="text"), as built-in tools are called. Other code is content.
  bool step_built_in(std::string_view& text, std::size_t name, CallSink& out) {
    std::size_t end = name;
    while (end < text.size() && is_name_byte(text[end])) ++end;
    if (end == text.size() && end - name <= kMaxNameBytes) return false;
    constexpr std::string_view kCall = ".call";
    const std::string_view dotted = text.substr(name, end - name);
    PythonArguments arguments;
    if (end < text.size() && text[end] == '(' && dotted.ends_with(kCall) && dotted.size() > kCall.size()) {
      arguments = call_.read(text.substr(end + 1));
    }
    if (arguments.status == PythonArguments::Status::unfinished) return false;
    if (arguments.status == PythonArguments::Status::bad) {
      give_up(text, out);
      return true;
    }
    out.begin_call(dotted.substr(0, dotted.size() - kCall.size()));
    out.arguments(arguments.json);
    text.remove_prefix(end + 1 + arguments.end);
    return true;
  }

  /// Further calls come after a semicolon, a comma or a line break.
  bool step_after(std::string_view& text) override {
    std::size_t next = skip_space(text, 0);
    if (next < text.size() && (text[next] == ';' || text[next] == ',')) next = skip_space(text, next + 1);
    if (next == text.size()) return false;
    if (text[next] == '{') {
      text.remove_prefix(next);
      enter(0, &schemas_);
      return true;
    }
    if (text[next] == kPython) text.remove_prefix(next);
    leave();
    return true;
  }

  const ToolSchemas& schemas_;
  PythonCall call_;
  bool at_start_ = true;
};

bool fits(std::string_view source) {
  return source.find("function name, ") != std::string_view::npos &&
         source.find("dictionary of argument name and its value") != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas& schemas) { return std::make_unique<Llama3>(schemas); }

GrammarExpr calls(const CallGrammar& g) {
  const GrammarExpr call = g.call_objects("parameters");
  const GrammarExpr all = g.one_or_more(call, g.builder.sequence({g.text(";"), g.json.space()}));
  return g.builder.sequence({g.builder.optional(g.marks.mark(kMarks[0])), all});
}

}  // namespace

constinit const ToolFormatRow kLlama3Format = {
    .name = "llama3", .fits = fits, .make = make, .marks = kMarks, .calls = calls};

}  // namespace inferd
