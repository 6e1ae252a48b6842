// Mistral tool calls: [TOOL_CALLS][{"name": …, "arguments": {…}}, …], and since 2025 [TOOL_CALLS]name[ARGS]{…}.
#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"};
constexpr char kCalls = tool_mark(0), kArguments = tool_mark(1), kCallId = tool_mark(2);

class Mistral final : public ToolFormat {
 public:
  bool step(std::string_view& text, Ending ending, CallSink& out) override {
    if (arguments_.reading()) return arguments_.step(text, out);
    return list_.step(text, ending, out);
  }

 private:
  /// Calls as a list of objects; hands over to ArgumentObject where a name stands instead.
  class List final : public ObjectFormat {
   public:
    explicit List(ArgumentObject& arguments) : arguments_(arguments) {}

   private:
    bool step_outside(std::string_view& text, CallSink& out) override {
      if (!content_until(text, kCalls, out)) return false;
      std::size_t at = skip_space(text, 1);
      if (at < text.size() && text[at] == '[') at = skip_space(text, at + 1);
      if (at == text.size()) return false;
      if (text[at] == '{') {
        enter(at);
        return true;
      }
      return step_name(text, at, out);
    }

    bool step_name(std::string_view& text, std::size_t at, CallSink& out) {
      std::size_t end = at;
      while (end < text.size() && is_name_byte(text[end])) ++end;
      std::size_t object = skip_space(text, end);
      if (object < text.size() && text[object] == kCallId) {  // the model's own id is not needed
        ++object;
        while (object < text.size() && is_name_byte(text[object])) ++object;
      }
      if (object < text.size() && text[object] == kArguments) object = skip_space(text, object + 1);
      if (object == text.size() && end - at <= kMaxNameBytes) return false;
      if (end == at || end - at > kMaxNameBytes || text[object] != '{') {
        give_up(text, out);
        return true;
      }
      out.begin_call(text.substr(at, end - at));
      text.remove_prefix(object);
      arguments_.begin();
      return true;
    }

    bool step_after(std::string_view& text) override {
      std::size_t next = skip_space(text, 0);
      if (next < text.size() && text[next] == ',') next = skip_space(text, next + 1);
      if (next == text.size()) return false;
      if (text[next] == '{') {
        text.remove_prefix(next);
        enter(0);
        return true;
      }
      if (text[next] == ']') text.remove_prefix(next + 1);
      leave();
      return true;
    }

    ArgumentObject& arguments_;
  };

  ArgumentObject arguments_;
  List list_{arguments_};
};

bool fits(std::string_view source) { return source.find("[TOOL_CALLS]") != std::string_view::npos; }

std::unique_ptr<ToolFormat> make(const ToolSchemas&) { return std::make_unique<Mistral>(); }

GrammarExpr calls(const CallGrammar& g) {
  const GrammarExpr open = g.marks.mark(kMarks[0]);
  if (!g.marks.is_token(kMarks[1])) {
    return g.builder.sequence(
        {open, g.json.list('[', g.call_objects("arguments"), 1, g.several ? kUnlimited : 1, ']')});
  }
  std::vector<GrammarExpr> functions;
  for (const CallableFunction& function : g.functions) {
    functions.push_back(g.builder.sequence({g.text(function.name), g.marks.mark(kMarks[1]), function.schema->value()}));
  }
  return g.one_or_more(g.builder.sequence({open, g.builder.choice(std::move(functions))}), g.builder.empty());
}

}  // namespace

constinit const ToolFormatRow kMistralFormat = {.name = "mistral",
                                                .fits = fits,
                                                .make = make,
                                                .marks = kMarks,
                                                .short_ids = true,
                                                .calls = calls,
                                                .opening = kMarks[0]};

}  // namespace inferd
