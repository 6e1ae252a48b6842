// A model folder with a safetensors file made of given tensors.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "tests/weights/gguf_builder.h"
#include "tests/weights/test_support.h"

namespace inferd::test {

struct BuiltTensor {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

template <typename T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// Writes config.json and model.safetensors into `folder`.
inline void write_folder(const ScratchFolder& folder, const std::string& config,
                         const std::vector<BuiltTensor>& tensors) {
  Json header = Json::object();
  std::string data;
  for (const BuiltTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = dump_json(header);
  std::string file;
  append(&file, static_cast<std::uint64_t>(text.size()));
  folder.write("model.safetensors", file + text + data);
  folder.write("config.json", config);
}

}  // namespace inferd::test
