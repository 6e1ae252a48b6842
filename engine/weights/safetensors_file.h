// The safetensors format: one file's tensors, and the index of a sharded set.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/checkpoint.h"

namespace inferd {

/// Reads a whole file: dtypes, shapes and offsets agree, the data section is covered without hole or overlap.
/// `bytes` must outlive the result; `file` names it in errors. Throws CheckpointError.
std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, const std::string& file);

/// Reads model.safetensors.index.json: shard file name → names of its tensors. Shard names are plain file names.
std::map<std::string, std::vector<std::string>> read_safetensors_index(const Json& index, const std::string& file);

}  // namespace inferd
