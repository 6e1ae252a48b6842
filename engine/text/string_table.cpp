// Growth and lookup of the flat vocabulary containers.
#include "engine/text/string_table.h"

#include <cstring>
#include <stdexcept>

namespace inferd {
namespace {

constexpr std::size_t kMaxTableBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxTrieNodes = std::size_t{1} << 24;

std::size_t hash_bytes(std::string_view text) {
  std::uint64_t hash = 0x243F6A8885A308D3u ^ (text.size() * 0x9E3779B97F4A7C15u);
  const char* at = text.data();
  std::size_t left = text.size();
  while (left >= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    hash = (hash ^ word) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 31;
    at += 8;
    left -= 8;
  }
  std::uint64_t tail = 0;
  if (left > 0) std::memcpy(&tail, at, left);
  hash = (hash ^ tail) * 0x94D049BB133111EBu;
  hash ^= hash >> 29;
  return static_cast<std::size_t>(hash ^ (hash >> 32));
}

}  // namespace

std::uint32_t StringTable::add(std::string_view text) {
  if (text.size() > kMaxTableBytes || bytes_.size() + text.size() > kMaxTableBytes) {
    throw std::length_error("vocabulary text beyond 1 GiB");
  }
  bytes_.append(text);
  ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  return static_cast<std::uint32_t>(ends_.size() - 2);
}

void StringTable::index(std::uint32_t index) {
  if ((used_ + 1) * 2 > slots_.size()) grow();
  const std::string_view text = at(index);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash_bytes(text) & mask;; i = (i + 1) & mask) {
    if (slots_[i] == 0) {
      slots_[i] = index + 1;
      ++used_;
      return;
    }
    if (at(slots_[i] - 1) == text) return;
  }
}

std::int32_t StringTable::find(std::string_view text) const {
  if (slots_.empty()) return -1;
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = hash_bytes(text) & mask;; i = (i + 1) & mask) {
    if (slots_[i] == 0) return -1;
    if (at(slots_[i] - 1) == text) return static_cast<std::int32_t>(slots_[i] - 1);
  }
}

void StringTable::grow() {
  std::vector<std::uint32_t> old = std::move(slots_);
  slots_.assign(old.empty() ? 64 : old.size() * 2, 0);
  const std::size_t mask = slots_.size() - 1;
  for (const std::uint32_t slot : old) {
    if (slot == 0) continue;
    std::size_t i = hash_bytes(at(slot - 1)) & mask;
    while (slots_[i] != 0) i = (i + 1) & mask;
    slots_[i] = slot;
  }
}

bool FlatMap::insert(std::uint64_t key, std::uint64_t value) {
  if ((used_ + 1) * 2 > slots_.size()) grow();
  for (std::size_t i = slot_of(key);; i = (i + 1) & mask_) {
    if (slots_[i].key == key) return false;
    if (slots_[i].key == kFree) {
      slots_[i] = {key, value};
      ++used_;
      return true;
    }
  }
}

void FlatMap::grow() {
  std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.empty() ? 64 : old.size() * 2, Slot{});
  mask_ = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.key == kFree) continue;
    std::size_t i = slot_of(slot.key);
    while (slots_[i].key != kFree) i = (i + 1) & mask_;
    slots_[i] = slot;
  }
}

void ByteTrie::add(std::string_view key, std::int32_t value) {
  if (key.empty()) return;
  const auto new_node = [this] {
    if (values_.size() >= kMaxTrieNodes) throw std::length_error("vocabulary trie beyond 16 million nodes");
    values_.push_back(-1);
    return static_cast<std::uint32_t>(values_.size() - 1);
  };
  std::uint32_t& first = root_[static_cast<unsigned char>(key[0])];
  if (first == 0) first = new_node();
  std::uint32_t node = first;
  for (std::size_t i = 1; i < key.size(); ++i) {
    const std::uint64_t from = edge(node, static_cast<unsigned char>(key[i]));
    if (const std::uint64_t* next = edges_.find(from)) {
      node = static_cast<std::uint32_t>(*next);
    } else {
      node = new_node();
      edges_.insert(from, node);
    }
  }
  if (values_[node] < 0) values_[node] = value;
}

}  // namespace inferd
