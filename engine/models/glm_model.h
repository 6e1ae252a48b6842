// load_glm: see families.h.
#pragma once

#include "engine/models/model.h"

namespace inferd {

LoadedModel load_glm(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                     const ModelOptions& options);

}  // namespace inferd
