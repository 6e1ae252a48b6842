// What clients are told once an engine takes no more requests.
#include "server/engine_end.h"

namespace inferd {

ApiError engine_ended(const Engine& engine) {
  constexpr int kRetryAfterS = 30;
  switch (engine.failure_code()) {
    case ExitCode::ok:
      return unavailable("shutting_down", "The server is shutting down.", kRetryAfterS);
    case ExitCode::gpu_lost:
      return unavailable("device_failed",
                         "The device that runs this model has failed, and the server is stopping. Please try again "
                         "once it has been restarted.",
                         kRetryAfterS);
    default:
      return unavailable("engine_failed",
                         "The engine that runs this model has failed, and the server is stopping. Please try again "
                         "once it has been restarted.",
                         kRetryAfterS);
  }
}

}  // namespace inferd
