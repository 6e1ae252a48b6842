// Opening an adapter's folder: anywhere for the administrator, only below one folder for clients.
#include <filesystem>

#include "base/errors.h"
#include "base/log.h"
#include "engine/adapters/lora_adapter.h"

namespace inferd {
namespace {

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kTensors = "adapter_model.safetensors";
constexpr const char* kPickle = "adapter_model.bin";

[[noreturn]] void refuse_pickle(const std::string& path) {
  throw CheckpointError(log_safe(path), kTensors, "this file (saved with safe_serialization=True)",
                        std::string(kPickle) + ", a pickle, which could run code");
}

}  // namespace

AdapterFiles open_adapter(const std::filesystem::path& folder) {
  std::error_code error;
  const bool has_tensors = std::filesystem::exists(folder / kTensors, error);
  if (!has_tensors && std::filesystem::exists(folder / kPickle, error)) refuse_pickle(folder.string());
  return {folder.string(), MappedFile::open(folder / kConfig), MappedFile::open(folder / kTensors)};
}

AdapterFiles open_adapter_beneath(const std::filesystem::path& root, const std::string& relative) {
  AdapterFiles files{relative, MappedFile::open_beneath(root, relative + "/" + kConfig), nullptr};
  try {
    files.tensors = MappedFile::open_beneath(root, relative + "/" + kTensors);
  } catch (const CheckpointError&) {
    bool pickled = true;
    try {
      MappedFile::open_beneath(root, relative + "/" + kPickle);
    } catch (const CheckpointError&) {
      pickled = false;
    }
    if (pickled) refuse_pickle(relative);
    throw;
  }
  return files;
}

}  // namespace inferd
