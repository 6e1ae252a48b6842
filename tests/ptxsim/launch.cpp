// Launches: checks of the request, the blocks of the grid, the warps of a block.
#include "tests/ptxsim/launch.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "tests/ptxsim/block.h"
#include "tests/ptxsim/special_registers.h"

namespace inferd::ptxsim {
namespace {

constexpr size_t kMaxSharedBytes = 227 * 1024;  // of a block, on sm_90
constexpr unsigned kMaxGridYZ = 65535;
constexpr uint64_t kSwitchAfter = 64;  // warp order 2: most instructions before another warp has its turn

[[noreturn]] void bad_launch(const std::string& kernel, const std::string& what) {
  throw Violation(Violation::Kind::bad_launch, kernel + ": " + what);
}

void check_request(const Kernel& kernel, Dim3 grid, Dim3 block, size_t shared_bytes, size_t parameter_bytes) {
  const uint64_t threads = block.count();
  if (threads == 0 || threads > 1024 || block.z > 64) bad_launch(kernel.name, "a block cannot have this shape");
  if (threads > kernel.max_threads) {
    bad_launch(kernel.name,
               std::to_string(threads) + " threads, built for at most " + std::to_string(kernel.max_threads));
  }
  if (grid.count() == 0 || grid.x > 0x7fffffffu || grid.y > kMaxGridYZ || grid.z > kMaxGridYZ) {
    bad_launch(kernel.name, "a grid cannot have this shape");
  }
  if (shared_bytes > kMaxSharedBytes) {
    bad_launch(kernel.name,
               std::to_string(shared_bytes) + " bytes of shared memory, there are " + std::to_string(kMaxSharedBytes));
  }
  if (parameter_bytes != kernel.parameter_bytes) {
    bad_launch(kernel.name, std::to_string(parameter_bytes) + " bytes of parameters, it takes " +
                                std::to_string(kernel.parameter_bytes));
  }
}

int align_up_to_warp(int threads) { return (threads + kWarpSize - 1) / kWarpSize * kWarpSize; }

// Small generator for the shuffled order: splitmix64.
uint64_t next_random(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

void start_block(Block& block) {
  block.shared.reset(block.launch.shared_bytes, block.launch.options.checked);
  block.barriers.fill({});
  for (Warp& warp : block.warps) {
    warp.restart();
    for (const SpecialRegister& special : block.launch.kernel.specials) {
      const SpecialValue value = find_special_register(special.name);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        warp.reg32[size_t(special.index * kWarpSize + lane)] = value(block, unsigned(warp.id * kWarpSize + lane));
      }
    }
  }
}

[[noreturn]] void deadlock(const Block& block) {
  for (const Warp& warp : block.warps) {
    for (const LaneGroup& group : warp.groups) {
      warp.fail(Violation::Kind::divergence, warp.kernel().code[size_t(group.pc)], std::countr_zero(group.lanes),
                "waits for threads that do not come: they have exited or wait elsewhere");
    }
  }
  throw Violation(Violation::Kind::divergence, "no warp can go on");
}

}  // namespace

void run_block(Block& block) {
  start_block(block);
  const int mode = block.launch.options.warp_order;
  uint64_t random = block.id.x + 65537ull * block.id.y + 4294967311ull * block.id.z;
  std::vector<size_t> order(block.warps.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (mode == 1) std::reverse(order.begin(), order.end());
  for (;;) {
    bool progress = false, finished = true;
    if (mode == 2) {
      for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[next_random(random) % i]);
    }
    for (const size_t w : order) {
      Warp& warp = block.warps[w];
      if (warp.finished() || !warp.runnable()) continue;
      warp.run(mode == 2 ? 1 + next_random(random) % kSwitchAfter : UINT64_MAX);
      progress = true;
    }
    progress |= release_complete_barriers(block);
    for (const Warp& warp : block.warps) finished = finished && warp.finished();
    if (finished) return;
    if (!progress) deadlock(block);
  }
}

LaunchStatistics launch(Module& module, const std::string& kernel_name, Dim3 grid, Dim3 block_shape,
                        size_t dynamic_shared_bytes, std::span<const uint8_t> parameters, Memory& memory,
                        const LaunchOptions& options) {
  const Kernel& kernel = module.kernel(kernel_name);
  Launch launch{module, kernel, memory, options, parameters, grid, block_shape, 0, nullptr, 0, {}, {}};
  launch.shared_bytes = kernel.static_shared_bytes + dynamic_shared_bytes;
  check_request(kernel, grid, block_shape, launch.shared_bytes, parameters.size());
  if (options.profile != nullptr) launch.counters = options.profile->of(kernel).data();
  for (const auto& [name, variable] : module.globals()) {
    uint8_t* storage = variable.storage->data();
    launch.globals.push_back(
        {reinterpret_cast<uint64_t>(storage), variable.storage->size(), storage, variable.writable, name, {}});
  }
  launch.last_region.resize(kernel.code.size());

  Block block(launch);
  const int threads = int(block_shape.count());
  block.local.resize(size_t(align_up_to_warp(threads)) * kernel.local_bytes, 0xcd);
  block.warps.reserve(size_t(align_up_to_warp(threads) / kWarpSize));
  for (int w = 0; w * kWarpSize < threads; ++w) {
    const int lanes = std::min(kWarpSize, threads - w * kWarpSize);
    block.warps.emplace_back(block, w, lanes == kWarpSize ? kAllLanes : (1u << lanes) - 1);
  }
  const uint64_t blocks = grid.count();
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t at = options.descending_blocks ? blocks - 1 - i : i;
    block.id = {unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y)};
    run_block(block);
  }
  return {launch.executed};
}

}  // namespace inferd::ptxsim
