// LineFormat: what ChatGLM3 and GLM-4 share, whose calls begin with a line that is the name of a function.
#pragma once

#include <string>

#include "server/tool_formats/tool_format.h"

namespace inferd {

/// Nothing marks such a line, so only names of the request's tools count. Messages that a model writes one after the
/// other come parted by <|assistant|>, tool_mark(0), which is dropped.
class LineFormat : public ToolFormat {
 public:
  explicit LineFormat(const ToolSchemas& schemas) : schemas_(schemas) {}
  bool step(std::string_view& text, Ending ending, CallSink& out) final;

 protected:
  enum class Found { unfinished, no_call, call };
  /// Reads what follows the line of `name` in `text`, from `at`. A call: takes it off `text`, and tells it.
  virtual Found step_call(std::string_view& text, std::size_t at, const std::string& name, CallSink& out) = 0;
  /// True while a call that has begun takes all text.
  virtual bool step_arguments(std::string_view&, CallSink&) { return false; }
  virtual bool in_arguments() const { return false; }

 private:
  bool step_line(std::string_view& text, CallSink& out);
  bool step_text(std::string_view& text, CallSink& out);
  const ToolSchemas& schemas_;
  bool at_line_start_ = true;
};

inline constexpr std::string_view kLineMarks[] = {"<|assistant|>"};

}  // namespace inferd
