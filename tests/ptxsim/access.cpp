// Resolving the addresses of a warp.
#include "tests/ptxsim/access.h"

#include <algorithm>
#include <bit>

#include "tests/ptxsim/ops/lanes.h"

namespace inferd::ptxsim {
namespace {

void check_alignment(Warp& warp, const Instruction& ins, int lane, uint64_t address, int bytes) {
  if ((address & uint64_t(bytes - 1)) == 0) return;
  warp.fail(Violation::Kind::alignment, ins, lane,
            "address " + std::to_string(address) + " is not aligned to " + std::to_string(bytes) + " bytes");
}

SharedMemory::Kind kind_of(Purpose purpose) {
  using Kind = SharedMemory::Kind;
  return purpose == Purpose::read ? Kind::read : purpose == Purpose::write ? Kind::write : Kind::atomic;
}

uint8_t* resolve_shared(Warp& warp, const Instruction& ins, int lane, uint64_t offset, int bytes, Purpose purpose) {
  check_shared_bounds(warp, ins, lane, offset, bytes);
  SharedMemory& shared = warp.block->shared;
  if (warp.launch().options.checked) {
    shared.touch(warp, lane, uint32_t(offset), uint32_t(bytes), kind_of(purpose), ins);
  }
  return shared.data() + offset;
}

uint8_t* resolve_local(Warp& warp, const Instruction& ins, int lane, uint64_t offset, int bytes) {
  const size_t per_thread = warp.kernel().local_bytes;
  if (offset > per_thread || uint64_t(bytes) > per_thread - offset) {
    warp.fail(Violation::Kind::bounds, ins, lane, "local address " + std::to_string(offset) + " is out of bounds");
  }
  check_alignment(warp, ins, lane, offset, bytes);
  return warp.block->local.data() + size_t(warp.id * kWarpSize + lane) * per_thread + offset;
}

uint8_t* resolve_parameter(Warp& warp, const Instruction& ins, int lane, uint64_t offset, int bytes, Purpose purpose) {
  const auto& parameters = warp.launch().parameters;
  if (purpose != Purpose::read || offset > parameters.size() || uint64_t(bytes) > parameters.size() - offset) {
    warp.fail(Violation::Kind::bounds, ins, lane, "parameter byte " + std::to_string(offset) + " is out of bounds");
  }
  return const_cast<uint8_t*>(parameters.data()) + offset;
}

uint8_t* resolve_lane(Warp& warp, const Instruction& ins, int lane, uint64_t address, int bytes, Space space,
                      Purpose purpose) {
  if (space == Space::generic) {
    const uint64_t window = address & ~kWindowMask;
    if (window == kSharedWindow)
      space = Space::shared;
    else if (window == kLocalWindow)
      space = Space::local;
    else if (window == kParameterWindow)
      space = Space::parameter;
    else
      space = Space::global;
    if (space != Space::global) address &= kWindowMask;
  }
  switch (space) {
    case Space::shared:
      return resolve_shared(warp, ins, lane, address, bytes, purpose);
    case Space::local:
      return resolve_local(warp, ins, lane, address, bytes);
    case Space::parameter:
      return resolve_parameter(warp, ins, lane, address, bytes, purpose);
    default:
      return resolve_global(warp, ins, lane, address, bytes, purpose);
  }
}

// The common case: all lanes inside one known region, aligned, nothing to record but in shared memory.
bool resolve_together(Warp& warp, const Instruction& ins, const uint64_t* addresses, LaneMask lanes, int bytes,
                      Space space, Purpose purpose, LanePointers& pointers) {
  uint64_t base = 0, size = 0;
  uint8_t* storage = nullptr;
  SharedMemory& shared = warp.block->shared;
  if (space == Space::shared) {
    size = shared.bytes();
    storage = shared.data();
  } else {
    const Region* region = warp.launch().last_region[size_t(ins.index)];
    if (region == nullptr || !region->initialised.empty() || (purpose != Purpose::read && !region->writable))
      return false;
    base = region->address;
    size = region->bytes;
    storage = region->storage;
  }
  if (size < uint64_t(bytes)) return false;
  // The top bit of `outside` is set if any offset is beyond the last one that fits: vector code has no unsigned
  // compare.
  const uint64_t last = size - uint64_t(bytes);
  uint64_t outside = 0, bits = 0;
  each_lane(lanes, [&](int l) {
    const uint64_t offset = addresses[l] - base;
    outside |= offset | (last - offset);
    bits |= addresses[l];
    pointers.at[l] = storage + offset;
  });
  if ((outside >> 63) != 0 || (bits & uint64_t(bytes - 1)) != 0) return false;
  if (space == Space::shared && warp.launch().options.checked) {
    for (LaneMask m = lanes; m != 0; m &= m - 1) {
      const int l = std::countr_zero(m);
      shared.touch(warp, l, uint32_t(addresses[l]), uint32_t(bytes), kind_of(purpose), ins);
    }
  }
  return true;
}

}  // namespace

Space space_of(const Opcode& op) {
  if (op.has("global") || op.has("const")) return Space::global;
  if (op.has("shared")) return Space::shared;
  if (op.has("local")) return Space::local;
  return op.has("param") ? Space::parameter : Space::generic;
}

void check_shared_bounds(Warp& warp, const Instruction& ins, int lane, uint64_t offset, int bytes) {
  const size_t size = warp.block->shared.bytes();
  if (offset > size || uint64_t(bytes) > size - offset) {
    warp.fail(Violation::Kind::bounds, ins, lane,
              std::to_string(bytes) + " bytes at shared offset " + std::to_string(offset) +
                  " are out of bounds, the block has " + std::to_string(size));
  }
  check_alignment(warp, ins, lane, offset, bytes);
}

uint8_t* resolve_global(Warp& warp, const Instruction& ins, int lane, uint64_t address, int bytes, Purpose purpose) {
  Launch& launch = warp.launch();
  check_alignment(warp, ins, lane, address, bytes);
  Region* region = launch.memory.find(address);
  if (region == nullptr) {
    for (Region& global : launch.globals) {
      if (global.contains(address, size_t(bytes))) region = &global;
    }
  }
  const char* verb = purpose == Purpose::read ? "read" : "write";
  if (region == nullptr || !region->contains(address, size_t(bytes))) {
    warp.fail(
        Violation::Kind::bounds, ins, lane,
        std::string("global ") + verb + " of " + std::to_string(bytes) + " bytes " + launch.memory.explain(address));
  }
  if (purpose != Purpose::read && !region->writable) {
    warp.fail(Violation::Kind::bounds, ins, lane, "write to read-only '" + region->name + "'");
  }
  const uint64_t offset = address - region->address;
  if (!region->initialised.empty()) {
    const auto flags = region->initialised.begin() + std::ptrdiff_t(offset);
    if (purpose != Purpose::write && !std::all_of(flags, flags + bytes, [](uint8_t f) { return f != 0; })) {
      warp.fail(Violation::Kind::uninitialised, ins, lane,
                "reads bytes nobody wrote " + launch.memory.explain(address));
    }
    if (purpose != Purpose::read) std::fill(flags, flags + bytes, uint8_t{1});
  }
  launch.last_region[size_t(ins.index)] = region;
  return region->storage + offset;
}

void lane_addresses(Warp& warp, const Instruction& ins, const Operand& address, uint64_t (&out)[kWarpSize]) {
  const Operand& base = ins.element(address, 0);
  const uint64_t offset = uint64_t(address.offset);
  if (base.kind == Operand::Kind::reg32) {
    const uint32_t* a = warp.lanes32(base);
    for (int l = 0; l < kWarpSize; ++l) out[l] = uint32_t(a[l] + offset);
  } else {
    const uint64_t* a = warp.lanes64(base);
    for (int l = 0; l < kWarpSize; ++l) out[l] = a[l] + offset;
  }
}

void resolve(Warp& warp, const Instruction& ins, const Operand& address, LaneMask lanes, int bytes, Space space,
             Purpose purpose, LanePointers& pointers) {
  uint64_t addresses[kWarpSize];
  lane_addresses(warp, ins, address, addresses);
  if (InstructionCounters* counters = warp.counters(ins)) {
    const uint64_t first = addresses[std::countr_zero(lanes)];
    if (space == Space::shared || (space == Space::generic && (first & ~kWindowMask) == kSharedWindow)) {
      count_shared(*counters, addresses, lanes, bytes);
    } else if (space == Space::global || (space == Space::generic && (first & ~kWindowMask) == 0)) {
      count_global(*counters, addresses, lanes, bytes);
    }
  }
  const bool may_be_together = space == Space::shared || space == Space::global || space == Space::generic;
  if (may_be_together && resolve_together(warp, ins, addresses, lanes, bytes, space, purpose, pointers)) return;
  for (LaneMask m = lanes; m != 0; m &= m - 1) {
    const int l = std::countr_zero(m);
    pointers.at[l] = resolve_lane(warp, ins, l, addresses[l], bytes, space, purpose);
  }
}

}  // namespace inferd::ptxsim
