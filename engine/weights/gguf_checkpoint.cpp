// A Checkpoint over one GGUF file or a split set.
#include <array>
#include <cstdio>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/checkpoint_files.h"
#include "engine/weights/gguf_file.h"
#include "engine/weights/stored_tensor.h"

namespace inferd {
namespace {

constexpr std::int64_t kMaxSplits = 1024;

class GgufCheckpoint final : public Checkpoint {
 public:
  GgufCheckpoint(std::string path, ParsedMetadata metadata, TensorTable tensors)
      : path_(std::move(path)), metadata_(std::move(metadata)), tensors_(std::move(tensors)) {}

  CheckpointFormat format() const override { return CheckpointFormat::gguf; }
  const std::string& path() const override { return path_; }
  const GgufMetadata* metadata() const override { return &metadata_; }
  std::optional<Json> json(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> read_file(std::string_view, std::size_t) const override { return std::nullopt; }
  std::span<const StoredTensor> tensors() const override { return tensors_.all(); }
  const StoredTensor* find(std::string_view name) const override { return tensors_.find(name); }
  void release(const StoredTensor& tensor) const override { tensors_.release(tensor); }

 private:
  std::string path_;
  ParsedMetadata metadata_;
  TensorTable tensors_;
};

/// "-00002-of-00003.gguf", counted from 1.
std::string split_suffix(std::int64_t number, std::int64_t count) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "-%05lld-of-%05lld.gguf", static_cast<long long>(number),
                static_cast<long long>(count));
  return text.data();
}

std::int64_t split_key(const ParsedMetadata& metadata, const std::string& file, const char* key) {
  const auto value = metadata.integer(key);
  if (!value) throw CheckpointError(file, key, "the key in every file of a split set", "none");
  return *value;
}

/// Checks that a file is number `index` (from 0) of `count`.
void check_split_keys(const ParsedMetadata& metadata, const std::string& file, std::int64_t index, std::int64_t count) {
  const std::int64_t found_count = split_key(metadata, file, "split.count");
  if (found_count != count) {
    throw CheckpointError(file, "split.count", std::to_string(count), std::to_string(found_count));
  }
  const std::int64_t found_index = split_key(metadata, file, "split.no");
  if (found_index != index) {
    throw CheckpointError(file, "split.no", std::to_string(index), std::to_string(found_index));
  }
}

/// Opens files 2 to N of a split set into `tensors`.
void open_further_splits(const std::string& path, const ParsedMetadata& first, TensorTable* tensors) {
  const std::string shown = log_safe(path);
  const std::int64_t count = *first.integer("split.count");
  if (count < 0 || count > kMaxSplits) {
    throw CheckpointError(shown, "split.count", "at most " + std::to_string(kMaxSplits), std::to_string(count));
  }
  const std::int64_t index = split_key(first, shown, "split.no");
  if (index != 0) {
    throw CheckpointError(shown, "split.no", "0: the first file of the set names the model", std::to_string(index));
  }
  const std::string suffix = split_suffix(1, count);
  if (!path.ends_with(suffix)) {
    throw CheckpointError(shown, "file name", "an end of \"" + suffix + "\", as split.count says", "another");
  }
  const std::string stem = path.substr(0, path.size() - suffix.size());
  for (std::int64_t i = 1; i < count; ++i) {
    auto file = MappedFile::open(stem + split_suffix(i + 1, count));
    GgufContents contents = read_gguf(file->bytes(), log_safe(file->path()));
    check_split_keys(contents.metadata, log_safe(file->path()), i, count);
    tensors->add(std::move(file), std::move(contents.tensors));
  }
  const std::int64_t promised = split_key(first, shown, "split.tensors.count");
  if (promised != static_cast<std::int64_t>(tensors->all().size())) {
    throw CheckpointError(shown, "split.tensors.count", std::to_string(promised) + " tensors in all files",
                          std::to_string(tensors->all().size()));
  }
}

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_model(const std::filesystem::path& path) {
  const std::string name = path.string();
  if (path.extension() == ".safetensors") {
    throw CheckpointError(log_safe(name), "model", "the folder that holds config.json and this file", "the file alone");
  }
  auto file = MappedFile::open(path);
  GgufContents contents = read_gguf(file->bytes(), log_safe(name));
  TensorTable tensors;
  tensors.add(std::move(file), std::move(contents.tensors));
  if (contents.metadata.integer("split.count").value_or(0) > 1) {
    open_further_splits(name, contents.metadata, &tensors);
  }
  return std::make_unique<GgufCheckpoint>(name, std::move(contents.metadata), std::move(tensors));
}

void TensorTable::add(std::shared_ptr<const MappedFile> file, std::vector<StoredTensor> tensors) {
  if (tensors.size() > kMaxTensors - tensors_.size()) {
    throw CheckpointError(log_safe(file->path()), "tensors", "at most " + std::to_string(kMaxTensors) + " in all files",
                          "more");
  }
  for (StoredTensor& tensor : tensors) {
    const auto [entry, fresh] = index_.emplace(tensor.name, tensors_.size());
    if (!fresh) {
      throw CheckpointError(tensor.file, log_safe(tensor.name), "one tensor of this name",
                            "another in " + tensors_[entry->second].file);
    }
    tensors_.push_back(std::move(tensor));
  }
  files_.push_back(std::move(file));
}

const StoredTensor* TensorTable::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void TensorTable::release(const StoredTensor& tensor) const {
  for (const auto& file : files_) {
    const auto bytes = file->bytes();
    if (tensor.data >= bytes.data() && tensor.data < bytes.data() + bytes.size()) {
      file->release_pages(tensor.data, tensor.bytes);
      return;
    }
  }
}

}  // namespace inferd
