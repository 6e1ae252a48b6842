// Device memory: named regions of the global address space, with bounds and (if asked) initialisation known per byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace inferd::ptxsim {

/// One allocation. Its device address need not be a host address; `storage` is where its bytes are.
struct Region {
  uint64_t address = 0;
  size_t bytes = 0;
  uint8_t* storage = nullptr;
  bool writable = true;
  std::string name;
  std::vector<uint8_t> initialised;  // one flag per byte; empty: everything counts as initialised
  bool contains(uint64_t at, size_t n) const { return at >= address && n <= bytes && at - address <= bytes - n; }
};

/// The memory of one device. Not thread-safe. Regions keep their address in memory until they are freed.
class Memory {
 public:
  /// The first allocation gets `first_address`, a multiple of 256.
  explicit Memory(uint64_t first_address = uint64_t{0x7e} << 36) : next_address_(first_address) {}

  /// A region with its own storage, filled with 0xff (a NaN in every float format). Freed addresses are not reused, and
  /// neighbours lie apart, so that an overrun or a use after free hits nothing. `track_initialised`: reading a byte
  /// that nobody wrote is a violation. The address is 256-byte aligned.
  uint64_t allocate(size_t bytes, std::string name, bool track_initialised = false);
  /// Gives device address `address` to memory owned by someone else, e.g. pinned host memory at its own address.
  void map(uint64_t address, uint8_t* storage, size_t bytes, std::string name, bool writable = true);
  /// Forgets a region; its own storage is freed. Throws std::invalid_argument if none begins there.
  void free(uint64_t address);

  /// The region that holds the byte at `address`, or null.
  Region* find(uint64_t address);
  /// Host access to device memory; throws std::out_of_range outside of one region.
  void write(uint64_t address, const void* source, size_t bytes);
  void read(uint64_t address, void* destination, size_t bytes);
  void fill(uint64_t address, uint8_t value, size_t bytes);
  /// "16 bytes past the end of 'kv cache'", for messages.
  std::string explain(uint64_t address) const;
  size_t num_regions() const { return regions_.size(); }

 private:
  struct Owned {
    Region region;
    std::unique_ptr<uint8_t[]> storage;
  };
  Region& require(uint64_t address, size_t bytes);

  std::map<uint64_t, Owned> regions_;  // by address
  uint64_t next_address_;
};

}  // namespace inferd::ptxsim
