// A Checkpoint over a Hugging Face folder.
#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/checkpoint_files.h"
#include "engine/weights/safetensors_file.h"

namespace inferd {
namespace {

/// tokenizer.json of a large vocabulary: up to 35 MB and, with merges as pairs, well over a million values.
constexpr JsonLimits kFileLimits{.max_bytes = 64u << 20, .max_depth = 64, .max_nodes = 8'000'000};
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kSingleFile = "model.safetensors";

class FolderCheckpoint final : public Checkpoint {
 public:
  FolderCheckpoint(std::filesystem::path folder, TensorTable tensors)
      : folder_(std::move(folder)), path_(folder_.string()), tensors_(std::move(tensors)) {}

  CheckpointFormat format() const override { return CheckpointFormat::hugging_face; }
  const std::string& path() const override { return path_; }
  const GgufMetadata* metadata() const override { return nullptr; }
  std::optional<Json> json(std::string_view file) const override;
  std::optional<std::string> read_file(std::string_view file, std::size_t max_bytes) const override;
  std::span<const StoredTensor> tensors() const override { return tensors_.all(); }
  const StoredTensor* find(std::string_view name) const override { return tensors_.find(name); }
  void release(const StoredTensor& tensor) const override { tensors_.release(tensor); }

 private:
  std::filesystem::path folder_;
  std::string path_;
  TensorTable tensors_;
};

/// The whole of `folder`/`file`; nullopt if it is not there.
std::optional<std::string> read_whole(const std::filesystem::path& folder, std::string_view file,
                                      std::size_t max_bytes) {
  const std::filesystem::path relative(file);
  const bool inside = !relative.empty() && relative.is_relative() && file.find('\0') == std::string_view::npos &&
                      std::none_of(relative.begin(), relative.end(), [](const auto& part) { return part == ".."; });
  if (!inside) {
    throw CheckpointError(log_safe(folder.string()), log_safe(file), "a file inside the folder", "another path");
  }
  const std::filesystem::path path = folder / relative;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  const auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  if (bytes.size() > max_bytes) {
    throw CheckpointError(log_safe(path.string()), "size", "at most " + std::to_string(max_bytes) + " bytes",
                          std::to_string(bytes.size()));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::optional<Json> read_json(const std::filesystem::path& folder, std::string_view file) {
  const auto text = read_whole(folder, file, kFileLimits.max_bytes);
  if (!text) return std::nullopt;
  try {
    return parse_json(*text, kFileLimits);
  } catch (const JsonError& error) {
    throw CheckpointError(log_safe((folder / file).string()) + ": " + error.what());
  }
}

std::optional<Json> FolderCheckpoint::json(std::string_view file) const { return read_json(folder_, file); }

std::optional<std::string> FolderCheckpoint::read_file(std::string_view file, std::size_t max_bytes) const {
  return read_whole(folder_, file, max_bytes);
}

void add_file(const std::filesystem::path& path, TensorTable* tensors) {
  auto file = MappedFile::open(path);
  std::vector<StoredTensor> stored = read_safetensors(file->bytes(), log_safe(path.string()));
  tensors->add(std::move(file), std::move(stored));
}

void open_shards(const std::filesystem::path& folder, const Json& index, TensorTable* tensors) {
  const std::string index_path = log_safe((folder / kIndexFile).string());
  for (const auto& [shard, names] : read_safetensors_index(index, index_path)) {
    std::error_code error;
    if (!std::filesystem::exists(folder / shard, error)) {
      throw CheckpointError(index_path, log_safe(names.front()), "the shard " + log_safe(shard), "no such file");
    }
    add_file(folder / shard, tensors);
    const std::string shard_path = log_safe((folder / shard).string());
    for (const std::string& name : names) {
      const StoredTensor* tensor = tensors->find(name);
      if (tensor == nullptr || tensor->file != shard_path) {
        throw CheckpointError(shard_path, log_safe(name),
                              "the tensor in this file, as " + std::string(kIndexFile) + " says",
                              tensor == nullptr ? "none" : "it in " + tensor->file);
      }
    }
  }
}

/// Why a folder without safetensors cannot be served, in words that say what to do.
[[noreturn]] void refuse_without_safetensors(const std::filesystem::path& folder) {
  const std::string shown = log_safe(folder.string());
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".bin" || extension == ".pt" || extension == ".pth") {
      throw CheckpointError(shown + ": only PyTorch weights (" + log_safe(entry.path().filename().string()) +
                            "), which can run code when loaded; get the model's .safetensors files instead");
    }
    if (extension == ".gguf") {
      throw CheckpointError(shown, "model",
                            "model.safetensors in a folder; a GGUF model is named by its file, " +
                                log_safe(entry.path().filename().string()),
                            "the folder");
    }
  }
  throw CheckpointError(shown, kSingleFile, "this file or " + std::string(kIndexFile), "neither");
}

}  // namespace

std::unique_ptr<Checkpoint> open_model_folder(const std::filesystem::path& folder) {
  TensorTable tensors;
  std::error_code error;
  if (std::filesystem::exists(folder / kSingleFile, error)) {
    add_file(folder / kSingleFile, &tensors);
  } else if (const auto index = read_json(folder, kIndexFile)) {
    open_shards(folder, *index, &tensors);
  } else {
    refuse_without_safetensors(folder);
  }
  if (!std::filesystem::exists(folder / "config.json", error)) {
    throw CheckpointError(log_safe(folder.string()), "config.json", "this file beside the weights", "none");
  }
  return std::make_unique<FolderCheckpoint>(folder, std::move(tensors));
}

}  // namespace inferd
