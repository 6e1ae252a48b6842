// ChatGLM3 tool calls: a line with the function's name, then ```python, tool_call(x='text', y=1), ```.
#include "server/tool_formats/formats.h"
#include "server/tool_formats/line_format.h"
#include "server/tool_formats/object_format.h"
#include "server/tool_formats/python_call.h"

namespace inferd {
namespace {

class ChatGlm3 final : public LineFormat {
 public:
  using LineFormat::LineFormat;

 private:
  Found step_call(std::string_view& text, std::size_t at, const std::string& name, CallSink& out) override {
    for (const std::string_view word : {"```python", "tool_call("}) {
      const Found found = skip(text, at, word);
      if (found != Found::call) return found;
    }
    const PythonArguments arguments = call_.read(text.substr(at));
    if (arguments.status == PythonArguments::Status::unfinished) return Found::unfinished;
    if (arguments.status == PythonArguments::Status::bad) return Found::no_call;
    at += arguments.end;
    const Found found = skip(text, at, "```");
    if (found == Found::unfinished) return found;
    if (found == Found::no_call) return found;
    out.begin_call(name);
    out.arguments(arguments.json);
    text.remove_prefix(at);
    return Found::call;
  }

  /// Moves `at` past white space and `word`.
  static Found skip(std::string_view text, std::size_t& at, std::string_view word) {
    const std::size_t begin = skip_space(text, at);
    const std::string_view rest = text.substr(begin);
    if (rest.size() < word.size() && word.starts_with(rest)) return Found::unfinished;
    if (!rest.starts_with(word)) return Found::no_call;
    at = begin + word.size();
    return Found::call;
  }

  PythonCall call_;
};

bool fits(std::string_view source) {
  return source.find("<|observation|>") != std::string_view::npos &&
         source.find("tool_call(") != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas& schemas) { return std::make_unique<ChatGlm3>(schemas); }

}  // namespace

constinit const ToolFormatRow kChatGlm3Format = {
    .name = "chatglm3", .fits = fits, .make = make, .marks = kLineMarks, .trims_start = true};

}  // namespace inferd
