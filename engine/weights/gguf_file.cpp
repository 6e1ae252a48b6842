// Reads GGUF headers, tensor tables and data sections.
#include "engine/weights/gguf_file.h"

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "base/log.h"
#include "engine/weights/stored_tensor.h"

namespace inferd {
namespace {

constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMaxAlignment = 64u << 10;

struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;  // from the start of the data section
};

std::uint64_t read_count(ByteReader& reader, const char* field, std::uint64_t limit) {
  const auto count = reader.read<std::uint64_t>(field);
  if (count > limit) {
    throw CheckpointError(reader.file(), field, "at most " + std::to_string(limit), std::to_string(count));
  }
  return count;
}

std::uint32_t read_version(ByteReader& reader) {
  const auto version = reader.read<std::uint32_t>("version");
  if (version == 2 || version == 3) return version;
  if (version != 0 && (version & 0xffff) == 0) {
    throw CheckpointError(reader.file(), "version", "a little-endian file", "a big-endian one");
  }
  throw CheckpointError(reader.file(), "version", "2 or 3", std::to_string(version));
}

std::uint64_t read_alignment(const ParsedMetadata& metadata, const std::string& file) {
  const std::int64_t found = metadata.integer("general.alignment").value_or(kDefaultAlignment);
  const auto alignment = static_cast<std::uint64_t>(found);
  if (found < 8 || alignment > kMaxAlignment || !std::has_single_bit(alignment)) {
    throw CheckpointError(file, "general.alignment", "a power of two from 8 to 65536", std::to_string(found));
  }
  return alignment;
}

TensorInfo read_tensor_info(ByteReader& reader, std::uint64_t index, std::uint64_t alignment) {
  TensorInfo info;
  info.name = reader.text(GgufLimits::kNameBytes, "name of tensor " + std::to_string(index));
  const std::string field = log_safe(info.name);
  const auto rank = reader.read<std::uint32_t>(field);
  if (rank < 1 || rank > kMaxTensorRank) {
    throw CheckpointError(reader.file(), field, "1 to 4 dimensions", std::to_string(rank));
  }
  std::vector<std::uint64_t> dims(rank);
  for (std::uint64_t& dim : dims) dim = reader.read<std::uint64_t>(field);
  std::reverse(dims.begin(), dims.end());  // the file has the contiguous dimension first
  const auto type = reader.read<std::uint32_t>(field);
  const std::optional<DType> dtype = dtype_from_ggml(type);
  if (!dtype) {
    const std::string name(ggml_type_name(type));
    throw unsupported_type(reader.file(), field, name == "unknown type" ? std::to_string(type) : name,
                           CheckpointFormat::gguf);
  }
  info.dtype = *dtype;
  info.bytes = checked_tensor_bytes(reader.file(), field, info.dtype, dims);
  info.shape.assign(dims.begin(), dims.end());
  info.offset = reader.read<std::uint64_t>(field);
  if (info.offset % alignment != 0) {
    throw CheckpointError(reader.file(), field, "an offset that is a multiple of " + std::to_string(alignment),
                          std::to_string(info.offset));
  }
  return info;
}

void check_unique_names(const std::vector<TensorInfo>& infos, const std::string& file) {
  std::unordered_set<std::string_view> names;
  for (const TensorInfo& info : infos) {
    if (!names.insert(info.name).second) {
      throw CheckpointError(file, log_safe(info.name), "one tensor of this name", "two");
    }
  }
}

}  // namespace

bool has_gguf_magic(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

GgufContents read_gguf(std::span<const std::byte> bytes, const std::string& file) {
  ByteReader reader(bytes, file);
  if (!has_gguf_magic(bytes)) {
    const std::size_t shown = std::min<std::size_t>(bytes.size(), 4);
    throw CheckpointError(file, "magic", "GGUF",
                          "\"" + log_safe({reinterpret_cast<const char*>(bytes.data()), shown}) + "\"");
  }
  reader.take(4, "magic");
  GgufContents contents;
  contents.version = read_version(reader);
  const std::uint64_t tensor_count = read_count(reader, "tensor count", GgufLimits::kTensors);
  const std::uint64_t key_count = read_count(reader, "metadata count", GgufLimits::kKeys);
  contents.metadata = ParsedMetadata::parse(reader, key_count);
  const std::uint64_t alignment = read_alignment(contents.metadata, file);

  std::vector<TensorInfo> infos;
  for (std::uint64_t i = 0; i < tensor_count; ++i) infos.push_back(read_tensor_info(reader, i, alignment));
  if (infos.empty()) return contents;
  check_unique_names(infos, file);

  const std::uint64_t data_begin = (reader.offset() + alignment - 1) / alignment * alignment;
  const std::uint64_t data_bytes = data_begin <= bytes.size() ? bytes.size() - data_begin : 0;
  std::vector<TensorSpan> spans;
  for (const TensorInfo& info : infos) {
    if (info.offset > data_bytes || info.bytes > data_bytes - info.offset) {
      throw CheckpointError(
          file, log_safe(info.name),
          std::to_string(info.bytes) + " bytes at offset " + std::to_string(info.offset) + " of the data section",
          "a data section of " + std::to_string(data_bytes) + " bytes");
    }
    spans.push_back({info.offset, info.offset + info.bytes, info.name});
  }
  check_no_overlap(file, spans);
  contents.tensors.reserve(infos.size());
  for (TensorInfo& info : infos) {
    contents.tensors.push_back({.name = std::move(info.name),
                                .dtype = info.dtype,
                                .shape = std::move(info.shape),
                                .data = bytes.data() + data_begin + info.offset,
                                .bytes = static_cast<std::size_t>(info.bytes),
                                .file = file});
  }
  return contents;
}

}  // namespace inferd
