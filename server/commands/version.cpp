// `inferd version`.
#include <cstdio>

#include "server/commands/commands.h"

namespace inferd {

const char* version_text() { return INFERD_VERSION; }

int run_version(std::span<const std::string>) {
  std::printf("inferd %s\n", version_text());
  return 0;
}

}  // namespace inferd
