// The contents of one GGUF file (versions 2 and 3), validated against its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/weights/checkpoint.h"
#include "engine/weights/gguf_metadata.h"

namespace inferd {

struct GgufContents {
  std::uint32_t version = 0;
  ParsedMetadata metadata;
  std::vector<StoredTensor> tensors;  // data points into the bytes that were read
};

/// Reads a whole file. `bytes` must outlive the result; `file` names it in errors. Throws CheckpointError.
GgufContents read_gguf(std::span<const std::byte> bytes, const std::string& file);

/// True if the bytes begin with GGUF's magic.
bool has_gguf_magic(std::span<const std::byte> bytes);

}  // namespace inferd
