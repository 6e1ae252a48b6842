// DeepSeek tool calls: a list of calls between marks, each "function", a mark, the name and fenced JSON (R1 and its
// distillates), or the name, a mark and JSON (V3.1).
#include <algorithm>

#include "server/tool_formats/call_name.h"
#include "server/tool_formats/formats.h"
#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr std::string_view kMarks[] = {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
                                       "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"};
constexpr char kList = tool_mark(0), kCall = tool_mark(1), kSeparator = tool_mark(2), kCallEnd = tool_mark(3),
               kListEnd = tool_mark(4);
constexpr std::string_view kFence = "```", kJson = "json";

class DeepSeek final : public ToolFormat {
 public:
  bool step(std::string_view& text, Ending ending, CallSink& out) override {
    if (arguments_.reading()) {
      if (!arguments_.step(text, out)) return false;
      state_ = State::in_call;
      return true;
    }
    return state_ == State::outside ? step_outside(text, out) : step_after(text, ending);
  }

 private:
  enum class State { outside, in_call, after_call };
  /// How far a call's beginning is there.
  enum class Found { call, unfinished, no_call };

  bool step_outside(std::string_view& text, CallSink& out) {
    const std::size_t at = std::min(std::min(text.find(kList), text.find(kCall)), text.size());
    if (at > 0) out.content(text.substr(0, at));
    text.remove_prefix(at);
    if (text.empty()) return false;
    const Found found = step_call(text, out);
    if (found == Found::no_call) give_up(text, out);
    return found != Found::unfinished;
  }

  /// text begins with a mark of a list or of a call.
  Found step_call(std::string_view& text, CallSink& out) {
    std::size_t at = 0;
    if (text[0] == kList) at = skip_space(text, 1);
    if (at == text.size()) return Found::unfinished;
    if (text[at] != kCall) return Found::no_call;
    std::string_view first, second;
    Found found = read_name(text, ++at, first);
    if (found != Found::call) return found;
    if (at == text.size()) return Found::unfinished;
    if (text[at] != kSeparator) return Found::no_call;
    found = read_name(text, ++at, second);
    if (found == Found::no_call && at < text.size() && text[at] == '{') {
      second = first;
      found = Found::call;
    }
    if (found != Found::call) return found;
    for (const std::string_view word : {kFence, kJson}) {
      const std::string_view rest = text.substr(at);
      if (rest.size() < word.size() && word.starts_with(rest)) return Found::unfinished;
      if (rest.starts_with(word)) at = skip_space(text, at + word.size());
    }
    if (at == text.size()) return Found::unfinished;
    if (text[at] != '{') return Found::no_call;
    out.begin_call(second);
    text.remove_prefix(at);
    arguments_.begin();
    return Found::call;
  }

  /// A name with white space around it. Moves `at` past them.
  static Found read_name(std::string_view text, std::size_t& at, std::string_view& name) {
    at = skip_space(text, at);
    std::size_t end = at;
    while (end < text.size() && is_name_byte(text[end])) ++end;
    name = text.substr(at, end - at);
    if (name.size() > kMaxNameBytes) return Found::no_call;
    if (end == text.size()) return Found::unfinished;
    if (name.empty()) return Found::no_call;
    at = skip_space(text, end);
    return at == text.size() ? Found::unfinished : Found::call;
  }

  bool step_after(std::string_view& text, Ending ending) {
    text.remove_prefix(skip_space(text, 0));
    if (text.empty()) return false;
    if (state_ == State::in_call && kFence.starts_with(text.substr(0, kFence.size()))) {
      if (text.size() < kFence.size() && ending == Ending::more) return false;
      text.remove_prefix(std::min(text.size(), kFence.size()));
    } else if (text[0] == kCallEnd) {
      state_ = State::after_call;
      text.remove_prefix(1);
    } else {
      if (text[0] == kListEnd) text.remove_prefix(1);
      state_ = State::outside;
    }
    return true;
  }

  State state_ = State::outside;
  ArgumentObject arguments_;
};

bool fits(std::string_view source) {
  return source.find(kMarks[0]) != std::string_view::npos && source.find(kMarks[2]) != std::string_view::npos;
}

std::unique_ptr<ToolFormat> make(const ToolSchemas&) { return std::make_unique<DeepSeek>(); }

}  // namespace

constinit const ToolFormatRow kDeepSeekFormat = {.name = "deepseek", .fits = fits, .make = make, .marks = kMarks};

}  // namespace inferd
