// Reads safetensors headers and shard indexes.
#include "engine/weights/safetensors_file.h"

#include <optional>

#include "base/log.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/stored_tensor.h"

namespace inferd {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 32u << 20;
constexpr JsonLimits kHeaderLimits{.max_bytes = kMaxHeaderBytes, .max_depth = 4, .max_nodes = 1'500'000};
constexpr std::size_t kMaxShards = 1024;

constexpr DType kFileTypes[] = {DType::f64, DType::f32, DType::f16, DType::bf16,    DType::i64,    DType::i32,
                                DType::i16, DType::i8,  DType::u8,  DType::boolean, DType::f8_e4m3};

std::optional<DType> dtype_of(std::string_view name) {
  for (DType dtype : kFileTypes) {
    if (dtype_info(dtype).name == name) return dtype;
  }
  return std::nullopt;
}

/// The member `key` of a tensor's entry as an array of integers ≥ 0.
std::vector<std::uint64_t> unsigned_list(const Json& entry, const char* key, const std::string& file,
                                         const std::string& name) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_array()) {
    throw CheckpointError(file, name, std::string("an array \"") + key + "\"",
                          found == entry.end() ? "none" : "another type");
  }
  std::vector<std::uint64_t> out;
  for (const Json& item : *found) {
    if (!item.is_number_unsigned()) {
      throw CheckpointError(file, name, std::string("integers of at least 0 in \"") + key + "\"", "something else");
    }
    out.push_back(item.get<std::uint64_t>());
  }
  return out;
}

StoredTensor read_entry(const std::string& name, const Json& entry, std::span<const std::byte> data,
                        const std::string& file, TensorSpan* span) {
  const std::string field = log_safe(name);
  if (!entry.is_object()) throw CheckpointError(file, field, "an object", std::string(entry.type_name()));
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) throw CheckpointError(file, field, "a string \"dtype\"", "none");
  const std::optional<DType> dtype = dtype_of(type->get_ref<const std::string&>());
  if (!dtype) {
    throw unsupported_type(file, field, type->get_ref<const std::string&>(), CheckpointFormat::hugging_face);
  }
  const std::vector<std::uint64_t> dims = unsigned_list(entry, "shape", file, field);
  if (dims.size() > kMaxTensorRank) {
    throw CheckpointError(file, field, "at most 4 dimensions", std::to_string(dims.size()));
  }
  const std::uint64_t bytes = checked_tensor_bytes(file, field, *dtype, dims);
  const std::vector<std::uint64_t> offsets = unsigned_list(entry, "data_offsets", file, field);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size()) {
    throw CheckpointError(file, field, "data_offsets [begin, end] within " + std::to_string(data.size()) + " bytes",
                          offsets.size() == 2
                              ? "[" + std::to_string(offsets[0]) + ", " + std::to_string(offsets[1]) + "]"
                              : std::to_string(offsets.size()) + " numbers");
  }
  if (offsets[1] - offsets[0] != bytes) {
    throw CheckpointError(file, field, std::to_string(bytes) + " bytes for its dtype and shape",
                          std::to_string(offsets[1] - offsets[0]));
  }
  *span = {offsets[0], offsets[1], name};
  return {.name = name,
          .dtype = *dtype,
          .shape = {dims.begin(), dims.end()},
          .data = data.data() + offsets[0],
          .bytes = static_cast<std::size_t>(bytes),
          .file = file};
}

Json read_header(ByteReader& reader) {
  const auto length = reader.read<std::uint64_t>("header length");
  if (length > kMaxHeaderBytes) {
    throw CheckpointError(reader.file(), "header length", "at most " + std::to_string(kMaxHeaderBytes),
                          std::to_string(length));
  }
  const auto header = reader.take(length, "header");
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  try {
    Json json = parse_json(text, kHeaderLimits);
    if (!json.is_object()) throw CheckpointError(reader.file(), "header", "a JSON object", json.type_name());
    return json;
  } catch (const JsonError& error) {
    throw CheckpointError(reader.file(), "header", "JSON", error.what());
  }
}

void check_covered(const std::vector<TensorSpan>& spans, std::uint64_t data_bytes, const std::string& file) {
  std::uint64_t end = 0;
  for (const TensorSpan& span : spans) {
    if (span.begin != end) {
      throw CheckpointError(file, log_safe(span.name), "data at offset " + std::to_string(end) + ", without a hole",
                            std::to_string(span.begin));
    }
    end = span.end;
  }
  if (end != data_bytes) {
    throw CheckpointError(file, "data section", std::to_string(end) + " bytes, as the header says",
                          std::to_string(data_bytes));
  }
}

}  // namespace

std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  ByteReader reader(bytes, file);
  const Json header = read_header(reader);
  const auto data = bytes.subspan(reader.offset());
  if (header.size() > kMaxTensors) {
    throw CheckpointError(file, "header", "at most " + std::to_string(kMaxTensors) + " tensors",
                          std::to_string(header.size()));
  }
  std::vector<StoredTensor> tensors;
  std::vector<TensorSpan> spans;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) throw CheckpointError(file, name, "an object of strings", entry.type_name());
      continue;
    }
    spans.emplace_back();
    tensors.push_back(read_entry(name, entry, data, file, &spans.back()));
  }
  check_no_overlap(file, spans);
  check_covered(spans, data.size(), file);
  return tensors;
}

std::map<std::string, std::vector<std::string>> read_safetensors_index(const Json& index, const std::string& file) {
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    throw CheckpointError(file, "weight_map", "an object from tensor to file name", "none");
  }
  if (map->size() > kMaxTensors) {
    throw CheckpointError(file, "weight_map", "at most " + std::to_string(kMaxTensors) + " tensors",
                          std::to_string(map->size()));
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) throw CheckpointError(file, log_safe(tensor), "a file name", shard.type_name());
    const std::string& name = shard.get_ref<const std::string&>();
    // Shards lie beside the index; anything that could name another place is refused.
    if (!name.ends_with(".safetensors") || name.starts_with(".") || name.find('/') != std::string::npos ||
        name.find('\0') != std::string::npos || name.size() > 255) {
      throw CheckpointError(file, log_safe(tensor), "a .safetensors file in the same folder",
                            "\"" + log_safe(name) + "\"");
    }
    shards[name].push_back(tensor);
    if (shards.size() > kMaxShards) {
      throw CheckpointError(file, "weight_map", "at most " + std::to_string(kMaxShards) + " files", "more");
    }
  }
  if (shards.empty()) throw CheckpointError(file, "weight_map", "at least one tensor", "none");
  return shards;
}

}  // namespace inferd
