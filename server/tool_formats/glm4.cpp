// GLM-4 tool calls (GLM-4-9B, GLM-4-0414, GLM-Z1): a line with the function's name, then a JSON object of arguments.
#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/line_format.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

class Glm4 final : public LineFormat {
 public:
  using LineFormat::LineFormat;

 private:
  Found step_call(std::string_view& text, std::size_t at, const std::string& name, CallSink& out) override {
    const std::size_t object = skip_space(text, at);
    if (object == text.size()) return Found::unfinished;
    if (text[object] != '{') return Found::no_call;
    const std::size_t member = skip_space(text, object + 1);
    if (member == text.size()) return Found::unfinished;
    if (text[member] != '"' && text[member] != '}') return Found::no_call;
    out.begin_call(name);
    text.remove_prefix(object);
    arguments_.begin();
    return Found::call;
  }
  bool step_arguments(std::string_view& text, CallSink& out) override { return arguments_.step(text, out); }
  bool in_arguments() const override { return arguments_.reading(); }

  ArgumentObject arguments_;
};

bool fits(std::string_view source) { return source.find("请使用 Json 格式表示调用的参数") != std::string_view::npos; }

std::unique_ptr<ToolFormat> make(const ToolSchemas& schemas) { return std::make_unique<Glm4>(schemas); }

GrammarExpr calls(const CallGrammar& g) {
  std::vector<GrammarExpr> functions;
  for (const CallableFunction& function : g.functions) {
    functions.push_back(g.builder.sequence({g.text(function.name + "\n"), function.schema->value()}));
  }
  const GrammarExpr call = g.builder.choice(std::move(functions));
  const bool parted = g.marks.is_token(kLineMarks[0]);  // else nothing says that a further call begins
  return parted ? g.one_or_more(call, g.marks.mark(kLineMarks[0])) : call;
}

}  // namespace

constinit const ToolFormatRow kGlm4Format = {
    .name = "glm4", .fits = fits, .make = make, .marks = kLineMarks, .calls = calls, .trims_start = true};

}  // namespace inferd
