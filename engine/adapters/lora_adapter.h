// LoraAdapter: a LoRA adapter as PEFT saves it (arXiv:2106.09685): pairs of low-rank factors for named linear layers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

constexpr std::int64_t kMaxAdapterRank = 512;  // of one pair

/// y += scale * B (A x) for one linear layer.
struct LoraPair {
  std::string module;  // as the adapter calls it: "model.layers.0.self_attn.q_proj", "transformer.h.0.attn.c_attn"
  StoredTensor a;      // [rank, inputs]
  StoredTensor b;      // [outputs, rank]
  double scale = 1.0;  // alpha / rank, or alpha / sqrt(rank) (rank-stabilised)
  /// Of an expert's pair that was stored with those of all its layer's experts: what the expert after their last would
  /// be called. A model that has it has more experts than the adapter.
  std::string after_last;
  std::int64_t rank() const { return a.shape[0]; }
};

/// Immutable and thread-safe once read. The tensors point into its mapped file or what was reordered of it.
struct LoraAdapter {
  std::string path;
  std::vector<LoraPair> pairs;  // at least one
  std::shared_ptr<const MappedFile> file;
  std::vector<std::shared_ptr<const std::vector<std::byte>>> reordered;
};

/// The two files of an adapter's folder.
struct AdapterFiles {
  std::string path;                           // of the folder, for messages
  std::shared_ptr<const MappedFile> config;   // adapter_config.json
  std::shared_ptr<const MappedFile> tensors;  // adapter_model.safetensors
};

/// Opens the files of `folder`. Throws CheckpointError, also for a pickled adapter_model.bin.
AdapterFiles open_adapter(const std::filesystem::path& folder);
/// Likewise for a folder below `root` that a client named: no part of the way, symbolic links included, may lead out of
/// `root`.
AdapterFiles open_adapter_beneath(const std::filesystem::path& root, const std::string& relative);

/// Reads and checks an adapter by itself; whether it fits a model shows when it is loaded. Throws CheckpointError
/// naming the file and the field or tensor: another kind than LoRA, ranks above kMaxAdapterRank or other than the
/// configuration's, tensors that are no pair of factors (DoRA, embeddings, whole modules, biases).
LoraAdapter read_lora_adapter(const AdapterFiles& files);

}  // namespace inferd
