// The table of special registers.
#include "tests/ptxsim/special_registers.h"

#include <array>

namespace inferd::ptxsim {

SpecialValue find_special_register(const std::string& name) {
  struct Row {
    std::string_view name;
    SpecialValue value;
  };
  static constexpr std::array rows = {
      Row{"%tid.x", [](const Block& b, unsigned t) { return t % b.launch.block.x; }},
      Row{"%tid.y", [](const Block& b, unsigned t) { return t / b.launch.block.x % b.launch.block.y; }},
      Row{"%tid.z", [](const Block& b, unsigned t) { return t / (b.launch.block.x * b.launch.block.y); }},
      Row{"%ntid.x", [](const Block& b, unsigned) { return b.launch.block.x; }},
      Row{"%ntid.y", [](const Block& b, unsigned) { return b.launch.block.y; }},
      Row{"%ntid.z", [](const Block& b, unsigned) { return b.launch.block.z; }},
      Row{"%ctaid.x", [](const Block& b, unsigned) { return b.id.x; }},
      Row{"%ctaid.y", [](const Block& b, unsigned) { return b.id.y; }},
      Row{"%ctaid.z", [](const Block& b, unsigned) { return b.id.z; }},
      Row{"%nctaid.x", [](const Block& b, unsigned) { return b.launch.grid.x; }},
      Row{"%nctaid.y", [](const Block& b, unsigned) { return b.launch.grid.y; }},
      Row{"%nctaid.z", [](const Block& b, unsigned) { return b.launch.grid.z; }},
      Row{"%laneid", [](const Block&, unsigned t) { return t % kWarpSize; }},
      Row{"%warpid", [](const Block&, unsigned t) { return t / kWarpSize; }},
      Row{"%nwarpid", [](const Block& b, unsigned) { return uint32_t(b.warps.size()); }},
      Row{"%lanemask_eq", [](const Block&, unsigned t) { return 1u << t % kWarpSize; }},
      Row{"%lanemask_lt", [](const Block&, unsigned t) { return (1u << t % kWarpSize) - 1; }},
      Row{"%lanemask_le", [](const Block&, unsigned t) { return (2u << t % kWarpSize) - 1; }},
      Row{"%lanemask_gt", [](const Block&, unsigned t) { return ~((2u << t % kWarpSize) - 1); }},
      Row{"%lanemask_ge", [](const Block&, unsigned t) { return ~((1u << t % kWarpSize) - 1); }},
      Row{"%dynamic_smem_size",
          [](const Block& b, unsigned) {
            return uint32_t(b.launch.shared_bytes - b.launch.kernel.static_shared_bytes);
          }},
      Row{"%total_smem_size", [](const Block& b, unsigned) { return uint32_t(b.launch.shared_bytes); }},
  };
  for (const Row& row : rows) {
    if (row.name == name) return row.value;
  }
  return nullptr;
}

}  // namespace inferd::ptxsim
