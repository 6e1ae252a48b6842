// Qwen3-Coder tool calls: <tool_call><function=name><parameter=x>text</parameter>…</function></tool_call>.
#include <algorithm>

#include "server/tool_formats/argument_writer.h"
#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {
    "<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>"};
constexpr char kOpen = tool_mark(0), kClose = tool_mark(1), kFunction = tool_mark(2), kFunctionEnd = tool_mark(3),
               kParameter = tool_mark(4), kParameterEnd = tool_mark(5);
constexpr std::size_t kMaxKeyBytes = 256;

class Qwen3Coder final : public ToolFormat {
 public:
  explicit Qwen3Coder(const ToolSchemas& schemas) : writer_(schemas) {}

  bool step(std::string_view& text, Ending ending, CallSink& out) override {
    switch (state_) {
      case State::outside:
        return step_outside(text, out);
      case State::function:
        return step_function(text, ending, out);
      case State::value:
        return step_value(text, out);
      case State::after:
        return step_after(text);
    }
    return false;
  }

 private:
  enum class State { outside, function, value, after };
  enum class Tag { unfinished, broken, whole };

  /// Reads "NAME>" at `from`; moves `from` past it.
  static Tag read_tag(std::string_view text, std::size_t& from, std::string_view& name) {
    for (std::size_t at = from; at < text.size() && at - from <= kMaxKeyBytes; ++at) {
      if (text[at] == '>') {
        name = text.substr(from, at - from);
        from = at + 1;
        return name.empty() ? Tag::broken : Tag::whole;
      }
      if (is_mark(text[at]) || text[at] == '\n') return Tag::broken;
    }
    return text.size() - from > kMaxKeyBytes ? Tag::broken : Tag::unfinished;
  }

  bool step_outside(std::string_view& text, CallSink& out) {
    const char opens[] = {kOpen, kFunction};  // the outer tag is sometimes left out
    const std::size_t first = std::min(text.find_first_of(std::string_view(opens, 2)), text.size());
    if (first > 0) out.content(text.substr(0, first));
    text.remove_prefix(first);
    if (text.empty()) return false;
    std::size_t at = text[0] == kOpen ? skip_space(text, 1) : 0;
    if (at == text.size()) return false;
    std::string_view name;
    const Tag tag = text[at] == kFunction ? read_tag(text, ++at, name) : Tag::broken;
    if (tag == Tag::unfinished) return false;
    if (tag == Tag::broken || !is_call_name(name)) {
      give_up(text, out);
      return true;
    }
    writer_.begin_call(name, out);
    text.remove_prefix(at);
    state_ = State::function;
    return true;
  }

  /// Between parameters.
  bool step_function(std::string_view& text, Ending ending, CallSink& out) {
    const std::size_t next = skip_space(text, 0);
    if (next == text.size()) {
      if (ending == Ending::stopped) end_call(State::outside, out);
      return false;
    }
    if (is_mark(text[next])) text.remove_prefix(next);
    if (text[0] == kParameter) return begin_parameter(text, out);
    if (text[0] == kFunctionEnd) {
      text.remove_prefix(1);
      end_call(State::after, out);
    } else if (text[0] == kClose || text[0] == kOpen || text[0] == kFunction) {
      end_call(State::after, out);  // </function> was forgotten
    } else {
      give_stray(text, out);
    }
    return true;
  }

  bool begin_parameter(std::string_view& text, CallSink& out) {
    std::size_t at = 1;
    std::string_view name;
    const Tag tag = read_tag(text, at, name);
    if (tag == Tag::unfinished) return false;
    if (tag == Tag::broken) {
      give_up(text, out);
      return true;
    }
    if (at == text.size()) return false;
    if (text[at] == '\n') ++at;  // the line break after the tag is not of the value
    writer_.begin_value(name, out);
    text.remove_prefix(at);
    state_ = State::value;
    return true;
  }

  bool step_value(std::string_view& text, CallSink& out) {
    const char ends[] = {kParameterEnd, kParameter, kFunctionEnd};  // the closing tag is sometimes left out
    const std::size_t end = std::min(text.find_first_of(std::string_view(ends, 3)), text.size());
    std::size_t value = end;
    if (value > 0 && text[value - 1] == '\n') --value;  // nor is the one before its end
    writer_.value(text.substr(0, value), out);
    if (end == text.size()) {
      text.remove_prefix(value);
      return false;
    }
    writer_.end_value(out);
    text.remove_prefix(text[end] == kParameterEnd ? end + 1 : end);
    state_ = State::function;
    return true;
  }

  bool step_after(std::string_view& text) {
    const std::size_t next = skip_space(text, 0);
    if (next == text.size()) return false;
    if (text[next] == kClose) text.remove_prefix(next + 1);
    state_ = State::outside;
    return true;
  }

  void end_call(State next, CallSink& out) {
    writer_.end_call(out);
    state_ = next;
  }

  ArgumentWriter writer_;
  State state_ = State::outside;
};

bool fits(std::string_view source) {
  return source.find("<tool_call>") != std::string_view::npos && source.find("<parameter=") != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas& schemas) { return std::make_unique<Qwen3Coder>(schemas); }

/// <parameter=x>, its value and </parameter>, for one after the other; those not required may be left out.
GrammarExpr parameters(const CallGrammar& g, SchemaGrammar& schema) {
  std::vector<GrammarExpr> parts;
  for (const SchemaGrammar::Member& member : schema.bare_members({std::begin(kMarks), std::end(kMarks)})) {
    const GrammarExpr part = g.builder.sequence({g.marks.mark(kMarks[4]), g.text(member.name + ">\n"), member.text,
                                                 g.text("\n"), g.marks.mark(kMarks[5]), g.text("\n")});
    parts.push_back(member.required ? part : g.builder.optional(part));
  }
  return g.builder.sequence(std::move(parts));
}

GrammarExpr calls(const CallGrammar& g) {
  std::vector<GrammarExpr> functions;
  for (const CallableFunction& function : g.functions) {
    functions.push_back(g.builder.sequence({g.text(function.name + ">\n"), parameters(g, *function.schema)}));
  }
  const GrammarExpr call = g.builder.sequence({g.marks.mark(kMarks[0]), g.text("\n"), g.marks.mark(kMarks[2]),
                                               g.builder.choice(std::move(functions)), g.marks.mark(kMarks[3]),
                                               g.text("\n"), g.marks.mark(kMarks[1])});
  return g.one_or_more(call, g.text("\n"));
}

}  // namespace

constinit const ToolFormatRow kQwen3CoderFormat = {.name = "qwen3_coder",
                                                   .fits = fits,
                                                   .make = make,
                                                   .marks = kMarks,
                                                   .calls = calls,
                                                   .opening = kMarks[0],
                                                   .bare_values = true};

}  // namespace inferd
