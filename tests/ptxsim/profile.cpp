// Counting bank conflicts and sectors of one memory request.
#include "tests/ptxsim/profile.h"

#include <algorithm>
#include <array>
#include <bit>
#include <sstream>

namespace inferd::ptxsim {
namespace {

constexpr int kBanks = 32;
constexpr int kSectorBytes = 32;

// Sorted distinct values of `step`-sized units that [address, address + bytes) of the lanes touch.
struct Units {
  std::array<uint64_t, size_t{kWarpSize} * 8> at;
  size_t count = 0;
  void add(uint64_t address, int bytes, int step) {
    for (uint64_t u = address / step; u <= (address + bytes - 1) / step; ++u) {
      if (count < at.size()) at[count++] = u;
    }
  }
  void make_distinct() {
    std::sort(at.begin(), at.begin() + std::ptrdiff_t(count));
    count = size_t(std::unique(at.begin(), at.begin() + std::ptrdiff_t(count)) - at.begin());
  }
};

constexpr size_t kMaxInstructions = size_t{1} << 20;  // of a kernel, in a profile's text

}  // namespace

void Profile::add(const Profile& other) {
  for (const auto& [kernel, theirs] : other.counters_) {
    auto& ours = counters_[kernel];
    ours.resize(std::max(ours.size(), theirs.size()));
    for (size_t i = 0; i < theirs.size(); ++i) {
      ours[i].executions += theirs[i].executions;
      ours[i].lanes += theirs[i].lanes;
      ours[i].shared_requests += theirs[i].shared_requests;
      ours[i].shared_wavefronts += theirs[i].shared_wavefronts;
      ours[i].sectors += theirs[i].sectors;
      ours[i].global_bytes += theirs[i].global_bytes;
    }
  }
}

std::string Profile::format() const {
  std::ostringstream out;
  for (const auto& [kernel, all] : counters_) {
    for (size_t i = 0; i < all.size(); ++i) {
      const InstructionCounters& c = all[i];
      if (c.executions == 0) continue;
      out << kernel << ' ' << i << ' ' << c.executions << ' ' << c.lanes << ' ' << c.shared_requests << ' '
          << c.shared_wavefronts << ' ' << c.sectors << ' ' << c.global_bytes << '\n';
    }
  }
  return out.str();
}

Profile Profile::parse(const std::string& text) {
  Profile result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string kernel;
    size_t index = 0;
    InstructionCounters c;
    fields >> kernel >> index >> c.executions >> c.lanes >> c.shared_requests >> c.shared_wavefronts >> c.sectors >>
        c.global_bytes;
    if (!fields || index >= kMaxInstructions) throw ParseError("not a line of a profile: " + line);
    auto& all = result.counters_[kernel];
    if (all.size() <= index) all.resize(index + 1);
    all[index] = c;
  }
  return result;
}

void count_shared(InstructionCounters& counters, const uint64_t* addresses, LaneMask lanes, int bytes) {
  const int together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  for (int first = 0; first < kWarpSize; first += together) {
    Units words;
    for (int lane = first; lane < first + together; ++lane) {
      if (lanes >> lane & 1) words.add(addresses[lane], bytes, 4);
    }
    if (words.count == 0) continue;
    words.make_distinct();
    std::array<int, kBanks> per_bank{};
    for (size_t i = 0; i < words.count; ++i) ++per_bank[words.at[i] % kBanks];
    ++counters.shared_requests;
    counters.shared_wavefronts += uint64_t(*std::max_element(per_bank.begin(), per_bank.end()));
  }
}

void count_global(InstructionCounters& counters, const uint64_t* addresses, LaneMask lanes, int bytes) {
  Units sectors;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (lanes >> lane & 1) sectors.add(addresses[lane], bytes, kSectorBytes);
  }
  sectors.make_distinct();
  counters.sectors += sectors.count;
  counters.global_bytes += uint64_t(std::popcount(lanes)) * uint64_t(bytes);
}

}  // namespace inferd::ptxsim
