// Asking what an error says.
#pragma once

#include <string>

#include "base/errors.h"

namespace inferd::testing {

/// The FatalError that `function` throws; one with ExitCode::ok if it throws none.
template <typename Function>
FatalError error_of(Function function) {
  try {
    function();
  } catch (const FatalError& error) {
    return error;
  }
  return FatalError(ExitCode::ok, "no error");
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace inferd::testing
