// The shared memory of one block, and what is known of every word: who wrote and read it, and when.
#pragma once
#include <cstdint>
#include <vector>

#include "tests/ptxsim/instruction.h"

namespace inferd::ptxsim {

class Warp;

/// Finds reads of what nobody wrote, races, and uses of cp.async data before its wait. Lanes of a warp count as
/// unordered between two bar.warp.sync (or block barriers); warps are ordered by barriers alone.
class SharedMemory {
 public:
  /// A new block: `bytes` bytes of 0xff that count as never written. `checked`: keep the records touch() needs.
  void reset(size_t bytes, bool checked);

  uint8_t* data() { return data_; }
  size_t bytes() const { return bytes_; }

  enum class Kind : uint8_t { read, write, atomic };  // atomics do not race with each other

  /// Records an access of `lane`; throws Violation if it is a race or reads uninitialised or pending bytes.
  void touch(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, Kind kind, const Instruction& ins);
  /// A cp.async of this lane will write here: checked like a write, and the bytes are out of bounds to all until
  /// end_copy().
  void begin_copy(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, const Instruction& ins);
  void end_copy(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, const Instruction& ins);

 private:
  struct Access {
    uint32_t clock = 0;   // of the accessing warp
    uint16_t thread = 0;  // in the block
    uint8_t bytes = 0;    // mask of the word's bytes; 0: no access yet
    Kind kind = Kind::read;
    int32_t instruction = 0;
  };
  struct Word {
    Access write, read, earlier_read;  // the last two readers differ in thread
    uint8_t initialised = 0;           // mask of bytes
    uint8_t pending = 0;               // mask of bytes an unfinished cp.async will write
    uint32_t block = 0;                // the record is of this block, or of nothing yet
  };
  Word& word(uint32_t offset) {
    Word& found = words_[offset / 4];
    if (found.block != block_) {
      found = {};
      found.block = block_;
    }
    return found;
  }
  static bool ordered(const Access& before, const Warp& warp, int thread);
  [[noreturn]] void race(const Warp& warp, int lane, uint32_t offset, Kind kind, const Access& other,
                         const Instruction& ins) const;
  void touch_word(Word& word, uint8_t mask, const Warp& warp, int lane, uint32_t offset, Kind kind,
                  const Instruction& ins);

  std::vector<uint8_t> storage_;
  std::vector<Word> words_;
  uint32_t block_ = 0;  // number of the block since the launch began
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace inferd::ptxsim
