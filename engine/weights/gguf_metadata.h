// The key/value section of a GGUF file: parsed once, checked for type at access.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "engine/weights/checkpoint.h"

namespace inferd {

/// Value types of the GGUF format, by their ids in the file.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// Bounds on what a file may claim; each is checked before anything is allocated.
struct GgufLimits {
  static constexpr std::uint64_t kStringBytes = 16u << 20;
  static constexpr std::uint64_t kNameBytes = 65'535;
  static constexpr std::uint64_t kArrayElements = 4u << 20;
  static constexpr std::uint64_t kKeys = 64u << 10;
  static constexpr std::uint64_t kTensors = 64u << 10;
};

/// Immutable after parsing; numeric arrays point into the mapped file, which must outlive it.
class ParsedMetadata final : public GgufMetadata {
 public:
  /// Reads `count` pairs. Throws CheckpointError on truncation, unknown types, duplicates and exceeded limits.
  static ParsedMetadata parse(ByteReader& reader, std::uint64_t count);

  bool has(std::string_view key) const override;
  std::optional<std::string> string(std::string_view key) const override;
  std::optional<std::int64_t> integer(std::string_view key) const override;
  std::optional<double> number(std::string_view key) const override;
  std::optional<bool> boolean(std::string_view key) const override;
  const std::vector<std::string>* strings(std::string_view key) const override;
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const override;
  std::optional<std::vector<float>> floats(std::string_view key) const override;
  std::vector<std::string> keys() const override;

 private:
  struct NumberArray {
    GgufType type;
    std::size_t count;
    std::span<const std::byte> bytes;
  };
  using Value =
      std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::string>, NumberArray>;

  static Value read_scalar(ByteReader& reader, GgufType type, std::string_view field);
  static Value read_array(ByteReader& reader, std::string_view field);
  const Value* find(std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view key, std::string_view expected, const Value& found) const;

  std::string file_;
  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace inferd
