// Shared memory checks: one record per 4-byte word.
#include "tests/ptxsim/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {
namespace {

constexpr size_t kAlign = 1024;

// The bytes of the word at `word_offset` that [offset, offset + bytes) covers, as a mask.
uint8_t covered(uint32_t word_offset, uint32_t offset, uint32_t bytes) {
  unsigned mask = 0xf;
  if (offset > word_offset) mask &= 0xfu << (offset - word_offset);
  if (offset + bytes < word_offset + 4) mask &= 0xfu >> (word_offset + 4 - offset - bytes);
  return uint8_t(mask);
}

}  // namespace

void SharedMemory::reset(size_t bytes, bool checked) {
  if (storage_.size() < bytes + kAlign) storage_.resize(bytes + kAlign);
  data_ = storage_.data() + (kAlign - reinterpret_cast<uintptr_t>(storage_.data()) % kAlign) % kAlign;
  bytes_ = bytes;
  std::memset(data_, 0xff, bytes);
  ++block_;
  if (checked && words_.size() < (bytes + 3) / 4) words_.resize((bytes + 3) / 4);
}

// Two accesses are ordered if one thread made both or a barrier lies between them.
bool SharedMemory::ordered(const Access& before, const Warp& warp, int thread) {
  if (before.thread == thread) return true;
  const int other = before.thread / kWarpSize;
  return before.clock < (other == warp.id ? warp.clock : warp.seen[size_t(other)]);
}

void SharedMemory::race(const Warp& warp, int lane, uint32_t offset, Kind kind, const Access& other,
                        const Instruction& ins) const {
  const Kernel& kernel = warp.kernel();
  warp.fail(Violation::Kind::race, ins, lane,
            std::string(kind == Kind::read    ? "read"
                        : kind == Kind::write ? "write"
                                              : "atomic") +
                " of shared offset " + std::to_string(offset) + " races with thread " + std::to_string(other.thread) +
                " at " + kernel.describe(kernel.code[size_t(other.instruction)]));
}

void SharedMemory::touch_word(Word& word, uint8_t mask, const Warp& warp, int lane, uint32_t offset, Kind kind,
                              const Instruction& ins) {
  const int thread = warp.id * kWarpSize + lane;
  const auto conflicts = [&](const Access& access) {
    const bool both_atomic = kind == Kind::atomic && access.kind == Kind::atomic;
    return (access.bytes & mask) != 0 && !both_atomic && !ordered(access, warp, thread);
  };
  if (conflicts(word.write)) race(warp, lane, offset, kind, word.write, ins);
  const Access now{warp.clock, uint16_t(thread), mask, kind, ins.index};
  if (kind == Kind::read) {
    if (word.read.thread != thread) word.earlier_read = word.read;
    word.read = now;
    return;
  }
  if (conflicts(word.read)) race(warp, lane, offset, kind, word.read, ins);
  if (conflicts(word.earlier_read)) race(warp, lane, offset, kind, word.earlier_read, ins);
  const uint8_t own = word.write.thread == thread ? word.write.bytes : 0;
  word.write = now;
  word.write.bytes |= own;
  word.initialised |= mask;
}

void SharedMemory::touch(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, Kind kind,
                         const Instruction& ins) {
  for (uint32_t at = offset & ~3u; at < offset + bytes; at += 4) {
    Word& touched = word(at);
    const uint8_t mask = covered(at, offset, bytes);
    if (touched.pending & mask) {
      warp.fail(Violation::Kind::copy_not_waited, ins, lane,
                "shared offset " + std::to_string(at) + " belongs to a cp.async that nobody has waited for");
    }
    if (kind != Kind::write && (mask & ~touched.initialised) != 0) {
      warp.fail(Violation::Kind::uninitialised, ins, lane,
                "reads shared memory nobody wrote, offset " + std::to_string(at));
    }
    touch_word(touched, mask, warp, lane, at, kind, ins);
  }
}

void SharedMemory::begin_copy(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, const Instruction& ins) {
  touch(warp, lane, offset, bytes, Kind::write, ins);
  for (uint32_t at = offset; at < offset + bytes; at += 4) word(at).pending = 0xf;
}

void SharedMemory::end_copy(const Warp& warp, int lane, uint32_t offset, uint32_t bytes, const Instruction& ins) {
  for (uint32_t at = offset; at < offset + bytes; at += 4) word(at).pending = 0;
  touch(warp, lane, offset, bytes, Kind::write, ins);
}

}  // namespace inferd::ptxsim
