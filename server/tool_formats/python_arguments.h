// Python keyword arguments, as ChatGLM3 and Llama's built-in tools write them, made JSON.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace inferd {

/// What read_python_arguments found.
struct PythonArguments {
  enum class Status { unfinished, bad, whole } status = Status::bad;
  std::size_t end = 0;  // of the closing parenthesis, exclusive
  std::string json;     // an object
};

/// Reads "x=1, y='z')" at the front of `text`: literals only, nothing is evaluated.
PythonArguments read_python_arguments(std::string_view text);

}  // namespace inferd
