// PythonCall: a call written as NAME(…keyword arguments…), held until it is whole.
#pragma once

#include <string_view>

#include "server/tool_formats/python_arguments.h"

namespace inferd {

/// Reads the arguments of one call as its text grows, without reading them anew for every token.
class PythonCall {
 public:
  /// `text` begins after the opening parenthesis and has only grown since the last call. Unfinished stays unfinished
  /// until a further parenthesis closes.
  PythonArguments read(std::string_view text) {
    const bool closes = text.find(')', tried_) != std::string_view::npos;
    tried_ = text.size();
    if (!closes) return {PythonArguments::Status::unfinished, 0, {}};
    PythonArguments arguments = read_python_arguments(text);
    if (arguments.status != PythonArguments::Status::unfinished) tried_ = 0;
    return arguments;
  }

 private:
  std::size_t tried_ = 0;
};

}  // namespace inferd
