// Walks the double-array trie; every index is checked, since the units come from a file.
#include "engine/text/charsmap.h"

#include <algorithm>

#include "base/errors.h"

namespace inferd {
namespace {

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = (value << 8) | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// The layout of a unit: label in the low byte, bit 8 "a key ends here", bits 9 and up the offset (bit 9: times 256).
// A unit that holds a value has bit 31 set, so it never equals a label.
std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }
bool ends_key(std::uint32_t unit) { return ((unit >> 8) & 1u) != 0; }
std::uint32_t label_of(std::uint32_t unit) { return unit & ((1u << 31) | 0xFFu); }
std::uint32_t value_of(std::uint32_t unit) { return unit & ((1u << 31) - 1); }

}  // namespace

Charsmap Charsmap::parse(std::string_view blob, const std::string& file) {
  const auto fail = [&](const std::string& expected, const std::string& found) -> CheckpointError {
    return CheckpointError(file, "precompiled_charsmap", expected, found);
  };
  if (blob.size() < 8) throw fail("at least 8 bytes", std::to_string(blob.size()));
  const std::size_t trie_bytes = read_u32(blob, 0);
  if (trie_bytes == 0 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4) {
    throw fail("a trie of 4-byte units within " + std::to_string(blob.size()) + " bytes", std::to_string(trie_bytes));
  }
  Charsmap map;
  map.units_.resize(trie_bytes / 4);
  for (std::size_t i = 0; i < map.units_.size(); ++i) map.units_[i] = read_u32(blob, 4 + 4 * i);
  map.replacements_.assign(blob.substr(4 + trie_bytes));
  return map;
}

std::optional<std::pair<std::size_t, std::string_view>> Charsmap::longest(std::string_view text) const {
  std::optional<std::pair<std::size_t, std::string_view>> found;
  std::size_t node = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size()) break;
    const std::uint32_t unit = units_[node];
    if (label_of(unit) != byte) break;
    node ^= offset_of(unit);
    if (node >= units_.size()) break;
    if (!ends_key(unit)) continue;
    const std::size_t begin = value_of(units_[node]);
    if (begin >= replacements_.size()) break;
    const std::size_t end = std::min(replacements_.find('\0', begin), replacements_.size());
    found.emplace(i + 1, std::string_view(replacements_).substr(begin, end - begin));
  }
  return found;
}

}  // namespace inferd
