// What `inferd inspect` knows about a file: read into one JSON object, which is printed as it is or for people.
#pragma once

#include <string>

#include "base/json.h"

namespace inferd {

/// The report on a GGUF file, a Hugging Face folder or a PEFT adapter's folder. No weights are read. What cannot be
/// made out stands under "problems"; files that cannot be opened at all throw CheckpointError.
Json inspect_path(const std::string& path);

/// The report as text; tensors that differ only in a layer's number share a line.
std::string inspect_text(const Json& report);

}  // namespace inferd
