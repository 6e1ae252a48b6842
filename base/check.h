// INFERD_CHECK: invariants that only a programmer error can break.
#pragma once

namespace inferd {

/// Logs the failed expression and aborts. Never reachable from user input.
[[noreturn]] void check_failed(const char* expression, const char* file, int line);

}  // namespace inferd

#define INFERD_CHECK(expression) \
  ((expression) ? static_cast<void>(0) : ::inferd::check_failed(#expression, __FILE__, __LINE__))
