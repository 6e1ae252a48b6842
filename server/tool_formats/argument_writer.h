// ArgumentWriter: makes the JSON of arguments that a model writes one by one as plain text.
#pragma once

#include <string>
#include <string_view>

#include "server/tool_formats/tool_format.h"

namespace inferd {

/// The arguments of one call after another. A text goes out as it comes, other values once they are whole.
class ArgumentWriter {
 public:
  explicit ArgumentWriter(const ToolSchemas& schemas) : schemas_(schemas) {}

  void begin_call(std::string_view function, CallSink& out) {
    function_ = function;
    first_ = true;
    out.begin_call(function);
  }
  /// A value follows, in any number of pieces.
  void begin_value(std::string_view argument, CallSink& out) {
    types_ = schemas_.types(function_, argument);
    value_.clear();
    out.arguments((first_ ? "{\"" : ",\"") + json_escaped(argument) + "\":" + (only_text(types_) ? "\"" : ""));
    first_ = false;
  }
  void value(std::string_view text, CallSink& out) {
    if (!only_text(types_)) {
      value_ += text;
    } else if (!text.empty()) {
      out.arguments(json_escaped(text));
    }
  }
  void end_value(CallSink& out) { out.arguments(only_text(types_) ? "\"" : typed_value(out.written(value_), types_)); }
  void end_call(CallSink& out) { out.arguments(first_ ? "{}" : "}"); }

 private:
  const ToolSchemas& schemas_;
  std::string function_;
  std::string value_;
  ArgumentTypes types_ = 0;
  bool first_ = true;
};

}  // namespace inferd
