// GLM-4.5 tool calls: <tool_call>name, then <arg_key>x</arg_key><arg_value>text</arg_value> pairs, then </tool_call>.
#include <algorithm>

#include "server/tool_formats/argument_writer.h"
#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {"<tool_call>", "</tool_call>", "<arg_key>",
                                       "</arg_key>",  "<arg_value>",  "</arg_value>"};
constexpr char kOpen = tool_mark(0), kClose = tool_mark(1), kKey = tool_mark(2), kKeyEnd = tool_mark(3),
               kValue = tool_mark(4), kValueEnd = tool_mark(5);
constexpr std::size_t kMaxKeyBytes = 256;

class Glm45 final : public ToolFormat {
 public:
  explicit Glm45(const ToolSchemas& schemas) : writer_(schemas) {}

  bool step(std::string_view& text, Ending ending, CallSink& out) override {
    switch (state_) {
      case State::outside:
        return step_outside(text, ending, out);
      case State::call:
        return step_call(text, ending, out);
      case State::value:
        return step_value(text, out);
    }
    return false;
  }

 private:
  enum class State { outside, call, value };

  bool step_outside(std::string_view& text, Ending ending, CallSink& out) {
    if (!content_until(text, kOpen, out)) return false;
    const std::size_t name = skip_space(text, 1);
    std::size_t end = name;
    while (end < text.size() && is_name_byte(text[end])) ++end;
    const std::size_t next = skip_space(text, end);
    const bool ended = next < text.size() || ending == Ending::stopped;
    if (!ended && end - name <= kMaxNameBytes) return false;
    const bool pairs = next == text.size() || text[next] == kKey || text[next] == kClose;
    if (!pairs || !is_call_name(text.substr(name, end - name))) {
      give_up(text, out);
      return true;
    }
    writer_.begin_call(text.substr(name, end - name), out);
    text.remove_prefix(next);
    state_ = State::call;
    return true;
  }

  /// Between pairs.
  bool step_call(std::string_view& text, Ending ending, CallSink& out) {
    const std::size_t next = skip_space(text, 0);
    if (next == text.size()) {
      if (ending == Ending::stopped) end_call(out);
      return false;
    }
    if (is_mark(text[next])) text.remove_prefix(next);
    if (text[0] == kKey) return step_key(text, out);
    if (text[0] == kClose) {
      text.remove_prefix(1);
      end_call(out);
    } else if (text[0] == kOpen) {
      end_call(out);  // </tool_call> was forgotten
    } else {
      give_stray(text, out);
    }
    return true;
  }

  /// "<arg_key>x</arg_key> <arg_value>" at the front of `text`.
  bool step_key(std::string_view& text, CallSink& out) {
    const auto end = static_cast<std::size_t>(std::find_if(text.begin() + 1, text.end(), is_mark) - text.begin());
    const std::size_t value = end < text.size() ? skip_space(text, end + 1) : end;
    const bool broken = end > kMaxKeyBytes || (end < text.size() && text[end] != kKeyEnd) ||
                        (value < text.size() && text[value] != kValue);
    if (broken) {
      give_up(text, out);
      return true;
    }
    if (value == text.size()) return false;
    std::string_view key = text.substr(1, end - 1);
    key.remove_prefix(skip_space(key, 0));
    key = key.substr(0, key.find_last_not_of(" \t\r\n") + 1);
    writer_.begin_value(key, out);
    text.remove_prefix(value + 1);
    state_ = State::value;
    return true;
  }

  bool step_value(std::string_view& text, CallSink& out) {
    const std::size_t end = std::min(text.find(kValueEnd), text.size());
    writer_.value(text.substr(0, end), out);
    const bool ended = end < text.size();
    text.remove_prefix(ended ? end + 1 : end);
    if (!ended) return false;
    writer_.end_value(out);
    state_ = State::call;
    return true;
  }

  void end_call(CallSink& out) {
    writer_.end_call(out);
    state_ = State::outside;
  }

  ArgumentWriter writer_;
  State state_ = State::outside;
};

bool fits(std::string_view source) {
  return source.find("<tool_call>") != std::string_view::npos && source.find("<arg_key>") != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas& schemas) { return std::make_unique<Glm45>(schemas); }

/// Pairs of key and value, one after the other; those not required may be left out.
GrammarExpr pairs(const CallGrammar& g, SchemaGrammar& schema) {
  std::vector<GrammarExpr> parts;
  for (const SchemaGrammar::Member& member : schema.bare_members({std::begin(kMarks), std::end(kMarks)})) {
    const GrammarExpr part =
        g.builder.sequence({g.marks.mark(kMarks[2]), g.text(member.name), g.marks.mark(kMarks[3]), g.text("\n"),
                            g.marks.mark(kMarks[4]), member.text, g.marks.mark(kMarks[5]), g.text("\n")});
    parts.push_back(member.required ? part : g.builder.optional(part));
  }
  return g.builder.sequence(std::move(parts));
}

GrammarExpr calls(const CallGrammar& g) {
  std::vector<GrammarExpr> functions;
  for (const CallableFunction& function : g.functions) {
    functions.push_back(g.builder.sequence({g.text(function.name + "\n"), pairs(g, *function.schema)}));
  }
  const GrammarExpr call =
      g.builder.sequence({g.marks.mark(kMarks[0]), g.builder.choice(std::move(functions)), g.marks.mark(kMarks[1])});
  return g.one_or_more(call, g.text("\n"));
}

}  // namespace

constinit const ToolFormatRow kGlm45Format = {.name = "glm45",
                                              .fits = fits,
                                              .make = make,
                                              .marks = kMarks,
                                              .calls = calls,
                                              .opening = kMarks[0],
                                              .bare_values = true};

}  // namespace inferd
