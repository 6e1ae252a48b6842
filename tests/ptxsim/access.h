// From the addresses a warp's lanes give to the bytes behind them: state spaces, generic windows, bounds, alignment.
#pragma once
#include "tests/ptxsim/warp.h"

namespace inferd::ptxsim {

enum class Space : uint8_t { generic, global, shared, local, parameter };

// Generic addresses of the spaces that are not global memory. No device or host address lies there.
constexpr uint64_t kSharedWindow = uint64_t{1} << 56, kLocalWindow = uint64_t{2} << 56,
                   kParameterWindow = uint64_t{3} << 56;
constexpr uint64_t kWindowMask = (uint64_t{1} << 56) - 1;

/// The space an opcode names (.global .shared ..., .const counts as global), generic if none.
Space space_of(const Opcode& opcode);

enum class Purpose : uint8_t { read, write, update };

/// The bytes the lanes access; valid for the lanes of the request only.
struct LanePointers {
  uint8_t* at[kWarpSize];
};

/// Resolves and checks an access of `bytes` per lane at operand `address` + its offset.
/// Throws Violation; counts into the profile.
void resolve(Warp& warp, const Instruction& ins, const Operand& address, LaneMask lanes, int bytes, Space space,
             Purpose purpose, LanePointers& pointers);

/// The address each lane gives, offset included.
void lane_addresses(Warp& warp, const Instruction& ins, const Operand& address, uint64_t (&out)[kWarpSize]);

/// One lane's access to global memory, or to one of the module's variables.
uint8_t* resolve_global(Warp& warp, const Instruction& ins, int lane, uint64_t address, int bytes, Purpose purpose);

/// Throws Violation if the `bytes` at `offset` are not in the block's shared memory or not aligned.
void check_shared_bounds(Warp& warp, const Instruction& ins, int lane, uint64_t offset, int bytes);

}  // namespace inferd::ptxsim
