// Matrices made tensor by tensor, read from a folder that holds nothing else; what the reader says where parts do not
// fit.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/weights/quantized_matrix.h"
#include "tests/catch.h"
#include "tests/weights/folder_builder.h"

namespace inferd::test {

/// Tensors of module "m", by a short name.
using Parts = std::map<std::string, BuiltTensor>;

/// config: text of config.json.
inline std::optional<QuantizedMatrix> read_matrix(const std::string& config, const Parts& parts, std::int64_t rows,
                                                  std::int64_t columns) {
  const ScratchFolder folder;
  std::vector<BuiltTensor> list;
  for (const auto& [name, tensor] : parts) list.push_back(tensor);
  write_folder(folder, config, list);
  const auto checkpoint = Checkpoint::open(folder.path());
  return read_quantized_matrix(*checkpoint, read_quantization_config(*checkpoint), "m", rows, columns);
}

/// Checks that a message has all the words; false if there is none.
inline bool says(const std::string& message, std::initializer_list<const char*> words) {
  CAPTURE(message);
  for (const char* word : words) {
    INFO(word);
    CHECK(message.find(word) != std::string::npos);
  }
  return !message.empty();
}

}  // namespace inferd::test
