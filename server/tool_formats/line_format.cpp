// LineFormat: lines that may be names of functions are held back, others are content.
#include "server/tool_formats/line_format.h"

#include <algorithm>

#include "server/tool_formats/object_format.h"

namespace inferd {
namespace {

constexpr char kAssistant = tool_mark(0);

}  // namespace

bool LineFormat::step(std::string_view& text, Ending, CallSink& out) {
  if (in_arguments()) return step_arguments(text, out);
  return at_line_start_ ? step_line(text, out) : step_text(text, out);
}

/// At the start of a line, or in white space before it.
bool LineFormat::step_line(std::string_view& text, CallSink& out) {
  const std::size_t begin = skip_space(text, 0);
  if (begin == text.size()) return false;
  if (text[begin] == kAssistant) {
    if (begin > 0) out.content(text.substr(0, begin));
    text.remove_prefix(begin + 1);
    return true;
  }
  const std::size_t line_end = std::min(text.find('\n', begin), text.size());
  std::string_view name = text.substr(begin, line_end - begin);
  name = name.substr(0, name.find_last_not_of(" \t\r") + 1);
  if (line_end == text.size() && schemas_.may_become_known(name)) return false;
  if (line_end < text.size() && schemas_.knows(name)) {
    const Found found = step_call(text, line_end + 1, std::string(name), out);
    if (found != Found::no_call) return found == Found::call;
  }
  out.content(text.substr(0, begin + 1));
  text.remove_prefix(begin + 1);
  at_line_start_ = false;
  return true;
}

/// The rest of a line that is no name.
bool LineFormat::step_text(std::string_view& text, CallSink& out) {
  const char ends[] = {'\n', kAssistant};
  const std::size_t end = std::min(text.find_first_of(std::string_view(ends, 2)), text.size());
  if (end > 0) out.content(text.substr(0, end));
  text.remove_prefix(end);
  at_line_start_ = !text.empty();
  return at_line_start_;
}

}  // namespace inferd
