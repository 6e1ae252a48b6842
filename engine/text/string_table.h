// Flat containers for vocabularies: byte strings with lookup, a 64-bit hash map, and a trie over bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// Byte strings by index, all in one block of memory, with lookup by content for those that were indexed.
/// Built by one thread, then immutable and thread-safe.
class StringTable {
 public:
  StringTable() : ends_(1, 0) {}
  /// Appends `text` and returns its index. Throws std::length_error beyond 1 GiB in all.
  std::uint32_t add(std::string_view text);
  /// Makes entry `index` findable; of equal strings the first indexed stays.
  void index(std::uint32_t index);
  /// The index of `text`, or -1.
  std::int32_t find(std::string_view text) const;
  std::string_view at(std::size_t index) const {
    return std::string_view(bytes_).substr(ends_[index], ends_[index + 1] - ends_[index]);
  }
  std::size_t size() const { return ends_.size() - 1; }

 private:
  void grow();
  std::string bytes_;
  std::vector<std::uint32_t> ends_;
  std::vector<std::uint32_t> slots_;  // index + 1, 0 is free; a power of two long
  std::size_t used_ = 0;
};

/// Open-addressing map from 64-bit keys (any but ~0) to 64-bit values.
class FlatMap {
 public:
  /// False, and nothing changed, if the key is there already.
  bool insert(std::uint64_t key, std::uint64_t value);
  /// Null if absent. Valid until the next insert.
  const std::uint64_t* find(std::uint64_t key) const {
    if (slots_.empty()) return nullptr;
    for (std::size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return &slots_[i].value;
      if (slots_[i].key == kFree) return nullptr;
    }
  }
  std::size_t size() const { return used_; }

 private:
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kFree;
    std::uint64_t value = 0;
  };
  std::size_t slot_of(std::uint64_t key) const {
    std::uint64_t h = key * 0x9E3779B97F4A7C15u;
    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    return static_cast<std::size_t>(h >> 32) & mask_;
  }
  void grow();
  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  std::size_t used_ = 0;
};

/// Trie over byte strings: finds every key that starts a text.
class ByteTrie {
 public:
  ByteTrie() : values_(1, -1) { root_.fill(0); }
  /// Of equal keys the first stays. Throws std::length_error beyond 16 million nodes.
  void add(std::string_view key, std::int32_t value);
  bool empty() const { return values_.size() == 1; }
  bool may_start(unsigned char byte) const { return root_[byte] != 0; }
  /// Calls visit(length, value) for every key that is a prefix of `text`, shortest first.
  template <typename Visit>
  void each_prefix(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    std::uint32_t node = root_[static_cast<unsigned char>(text[0])];
    for (std::size_t n = 1; node != 0; ++n) {
      if (values_[node] >= 0) visit(n, values_[node]);
      if (n == text.size()) return;
      const std::uint64_t* next = edges_.find(edge(node, static_cast<unsigned char>(text[n])));
      node = next == nullptr ? 0 : static_cast<std::uint32_t>(*next);
    }
  }

 private:
  static std::uint64_t edge(std::uint32_t node, unsigned char byte) { return (std::uint64_t{node} << 8) | byte; }
  std::array<std::uint32_t, 256> root_;
  FlatMap edges_;
  std::vector<std::int32_t> values_;  // by node; -1: no key ends here
};

}  // namespace inferd
