// Device memory regions.
#include "tests/ptxsim/memory.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace inferd::ptxsim {

namespace {
constexpr uint64_t kAddressAlign = 256;
constexpr uint64_t kGap = 4096;  // nothing lies between two allocations for at least so many bytes
}  // namespace

uint64_t Memory::allocate(size_t bytes, std::string name, bool track_initialised) {
  Owned owned;
  owned.storage = std::make_unique<uint8_t[]>(bytes + kAddressAlign);
  std::memset(owned.storage.get(), 0xff, bytes + kAddressAlign);
  owned.region.address = next_address_;
  owned.region.bytes = bytes;
  owned.region.storage = owned.storage.get();
  // Storage is as aligned as the address, for the vector loads of the interpreter.
  owned.region.storage +=
      (kAddressAlign - reinterpret_cast<uint64_t>(owned.storage.get()) % kAddressAlign) % kAddressAlign;
  owned.region.name = std::move(name);
  if (track_initialised) owned.region.initialised.resize(bytes);
  const uint64_t address = next_address_;
  next_address_ += (bytes + kGap + kAddressAlign - 1) / kAddressAlign * kAddressAlign;
  regions_[address] = std::move(owned);
  return address;
}

void Memory::map(uint64_t address, uint8_t* storage, size_t bytes, std::string name, bool writable) {
  Owned owned;
  owned.region = {address, bytes, storage, writable, std::move(name), {}};
  regions_[address] = std::move(owned);
}

void Memory::free(uint64_t address) {
  if (regions_.erase(address) == 0) throw std::invalid_argument("no device memory begins at this address");
}

Region* Memory::find(uint64_t address) {
  auto after = regions_.upper_bound(address);
  if (after == regions_.begin()) return nullptr;
  Region& region = std::prev(after)->second.region;
  return address - region.address < region.bytes ? &region : nullptr;
}

Region& Memory::require(uint64_t address, size_t bytes) {
  Region* region = find(address);
  if (region == nullptr || !region->contains(address, bytes)) {
    throw std::out_of_range(std::to_string(bytes) + " bytes " + explain(address));
  }
  return *region;
}

void Memory::write(uint64_t address, const void* source, size_t bytes) {
  if (bytes == 0) return;
  Region& region = require(address, bytes);
  std::memcpy(region.storage + (address - region.address), source, bytes);
  if (!region.initialised.empty()) std::memset(&region.initialised[address - region.address], 1, bytes);
}

void Memory::read(uint64_t address, void* destination, size_t bytes) {
  if (bytes == 0) return;
  const Region& region = require(address, bytes);
  std::memcpy(destination, region.storage + (address - region.address), bytes);
}

void Memory::fill(uint64_t address, uint8_t value, size_t bytes) {
  if (bytes == 0) return;
  Region& region = require(address, bytes);
  std::memset(region.storage + (address - region.address), value, bytes);
  if (!region.initialised.empty()) std::memset(&region.initialised[address - region.address], 1, bytes);
}

std::string Memory::explain(uint64_t address) const {
  auto after = regions_.upper_bound(address);
  if (after != regions_.begin()) {
    const Region& before = std::prev(after)->second.region;
    const uint64_t distance = address - before.address;
    if (distance < before.bytes) return "at byte " + std::to_string(distance) + " of '" + before.name + "'";
    const bool nearer = after == regions_.end() || distance - before.bytes <= after->first - address;
    if (nearer) return std::to_string(distance - before.bytes) + " bytes past the end of '" + before.name + "'";
  }
  if (after == regions_.end()) return "where no memory is";
  return std::to_string(after->first - address) + " bytes before '" + after->second.region.name + "'";
}

}  // namespace inferd::ptxsim
