// Ends the process on a broken invariant.
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace inferd {

void check_failed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "inferd: internal error: %s is false (%s:%d)\n", expression, file, line);
  std::abort();
}

}  // namespace inferd
