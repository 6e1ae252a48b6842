// load_glm4: see families.h.
#pragma once

#include "engine/models/model.h"

namespace inferd {

LoadedModel load_glm4(const Checkpoint& checkpoint, const ModelConfig& config, Backend& backend,
                      const ModelOptions& options);

}  // namespace inferd
