// One-line facts about a checkpoint, for logs and /v1/models.
#pragma once

#include <cstdint>
#include <string>

#include "engine/weights/checkpoint.h"

namespace inferd {

/// "Q4_K_M" as general.file_type says, else the type most weight bytes have: "BF16".
std::string quantization_name(const Checkpoint& checkpoint);

/// Weights of all tensors, tied matrices once, as stored; of quantised folders those that the codes stand for.
std::int64_t parameter_count(const Checkpoint& checkpoint);

}  // namespace inferd
