// What clients are told once an engine takes no more requests.
#pragma once

#include "engine/engine.h"
#include "server/api_error.h"

namespace inferd {

/// 503 saying whether the engine's device has failed, the engine itself has, or the server shuts down.
ApiError engine_ended(const Engine& engine);

}  // namespace inferd
