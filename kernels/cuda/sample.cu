// Drawing tokens: one block of 1024 threads a row, which stays where the last layer left it (in L2) and is read a few
// times; nothing is sorted but what is left at the end.
//
// Tokens are ordered by rank: larger logit first, of equal ones the lower id. A token's mass is its weight
// exp((logit - max) / temperature) in units of 2^-42 (cut off below), an integer: sums of masses are exact, so they do
// not depend on who adds them in which order. top_p keeps the shortest run of best tokens whose mass reaches
// top_p * (mass of what top_k left).
#include <cfloat>

#include "kernels/cuda/dev/ptx.cuh"
#include "kernels/cuda/dev/sample_params.h"

namespace inferd::cuda {
namespace {

using Rank = unsigned long long;  // order in the high half, id in the low one
using Mass = unsigned long long;

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kSegment = 1024;  // tokens that one warp takes after each other
constexpr int kMaxSegments = 256;
constexpr int kBins = 2 * kThreads;
constexpr int kList = kThreads;
constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLogitBound = 1e30f;
constexpr float kBanBias = -100.0f;
constexpr Rank kLastRank = ~Rank{0};
constexpr float kWholeMass = 0x1p42f;
constexpr float kHalfMass = 0x1p21f;

struct Shared {
  alignas(16) std::uint32_t low[kBins];  // of each bin's measure
  alignas(16) std::uint32_t high[kBins];
  Rank list[kList];
  Rank exchange[kList];
  Mass segments[kMaxSegments];
  Mass warps[kWarps];
  Rank ranks[kWarps];
  Mass above;  // of the bins before the border
  Mass left;   // in the segment
  int border;
  int listed;
  int segment;
  int token;
  float raw;
};

struct Row {
  const float* logits;
  int vocab;
  bool vectors;
};

/// Rises from the largest logit to the smallest; +0 and -0 are equal.
__device__ std::uint32_t order_of(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);
  return static_cast<int>(bits) < 0 ? bits : ~bits & 0x7fffffffu;
}
__device__ float logit_of(std::uint32_t order) {
  return __uint_as_float(static_cast<int>(order) < 0 ? order : ~order & 0x7fffffffu);
}
__device__ Rank rank_of(float x, int id) {
  return static_cast<Rank>(order_of(x)) << 32 | static_cast<std::uint32_t>(id);
}
__device__ float logit_of(Rank rank) { return logit_of(static_cast<std::uint32_t>(rank >> 32)); }

/// 64 bins for each factor of two of the distance from the largest logit, from 2^-12 to 2^20.
constexpr int kFirstBin = (127 - 12) << 6;
__device__ int bin_of(float distance) {
  return min(max(static_cast<int>(__float_as_uint(distance) >> 17) - kFirstBin, 0), kBins - 1);
}
/// The largest distance of a bin.
__device__ float end_of(int bin) {
  return bin == kBins - 1 ? INFINITY : __uint_as_float(static_cast<std::uint32_t>(bin + 1 + kFirstBin) << 17);
}

/// Calls visit(logit, id) for four neighbouring tokens a lane, `behind` behind the row's end; whole warps together.
template <typename Visit>
__device__ void visit_segment(const Row& row, int segment, const Visit& visit, float behind = -INFINITY) {
  const int end = min(row.vocab, (segment + 1) * kSegment);
#pragma unroll 2
  for (int start = segment * kSegment; start < end; start += 128) {
    const int id = start + 4 * static_cast<int>(threadIdx.x % 32);
    float x[4];
    if (row.vectors && id + 4 <= row.vocab) {
      const float4 four = *reinterpret_cast<const float4*>(row.logits + id);
      x[0] = four.x, x[1] = four.y, x[2] = four.z, x[3] = four.w;
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) x[i] = id + i < row.vocab ? row.logits[id + i] : behind;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) visit(x[i], id + i);
  }
}
template <typename Visit>
__device__ void visit_row(const Row& row, const Visit& visit, float behind = -INFINITY) {
  for (int segment = threadIdx.x / 32; segment * kSegment < row.vocab; segment += kWarps) {
    visit_segment(row, segment, visit, behind);
  }
}

template <typename T>
__device__ T warp_scan(T value) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const T other = __shfl_up_sync(~0u, value, distance);
    if (threadIdx.x % 32 >= distance) value += other;
  }
  return value;
}

/// Sum over the threads up to this one, and over all if asked for. Between two of these there is a barrier.
__device__ Mass block_scan(Shared& s, Mass value, Mass* total = nullptr) {
  value = warp_scan(value);
  if (threadIdx.x % 32 == 31) s.warps[threadIdx.x / 32] = value;
  __syncthreads();  // the warps' sums
  const Mass others = warp_scan(s.warps[threadIdx.x % 32]);
  if (total != nullptr) *total = __shfl_sync(~0u, others, 31);
  const Mass before = __shfl_sync(~0u, others, threadIdx.x / 32 > 0 ? threadIdx.x / 32 - 1 : 0);
  return threadIdx.x / 32 > 0 ? value + before : value;
}

/// The best rank of the row; an id behind it if all are -inf. *finite: no logit is NaN or infinite.
__device__ Rank scan_row(Shared& s, const Row& row, bool* finite) {
  float best = -INFINITY;
  int best_id = 0x7fffffff;
  float zero = 0.0f;  // until it meets a NaN or an infinity
  visit_row(
      row,
      [&](float x, int id) {
        zero = fmaf(x, 0.0f, zero);
        if (x > best) best = x, best_id = id;
      },
      -FLT_MAX);
  Rank rank = rank_of(best, best_id);
  for (int distance = 16; distance > 0; distance /= 2) rank = min(rank, __shfl_xor_sync(~0u, rank, distance));
  *finite = __syncthreads_or(zero != 0.0f) == 0;
  if (threadIdx.x % 32 == 0) s.ranks[threadIdx.x / 32] = rank;
  __syncthreads();  // the warps' best
  rank = s.ranks[threadIdx.x % 32];
  for (int distance = 16; distance > 0; distance /= 2) rank = min(rank, __shfl_xor_sync(~0u, rank, distance));
  return rank;
}

/// Some of a row's tokens, and what each counts.
struct Measure {
  float max;
  float scale;  // log2(e) / temperature
  float least;  // weight
  // Tokens with a larger logit than this count, and up to an id those with this one.
  float lowest = -INFINITY;
  int last_id = -1;
  bool only_lowest = false;  // those with a larger logit do not
  bool counting = false;     // 1 for each token instead of its mass

  __device__ float weight(float x) const { return ptx::exp2((x - max) * scale); }
  __device__ bool has(float x, int id) const {
    return ((x > lowest) & !only_lowest) | ((x == lowest) & (id <= last_id));  // no branches
  }
  /// High and low part, the high one in units of 2^21; 32 of them may be added up.
  __device__ uint2 parts(float x, int id) const {
    if (!has(x, id)) return make_uint2(0, 0);
    if (counting) return make_uint2(0, 1);
    const float w = weight(x);
    if (w < least) return make_uint2(0, 0);
    if (w < 0x1p-16f) return make_uint2(0, static_cast<std::uint32_t>(w * kWholeMass));
    return parts_of(w);
  }
  static __device__ uint2 parts_of(float weight) {
    const float scaled = weight * kHalfMass;
    const auto high = static_cast<std::uint32_t>(scaled);
    return make_uint2(high, static_cast<std::uint32_t>((scaled - static_cast<float>(high)) * kHalfMass));
  }
  static __device__ Mass joined(uint2 p) { return (Mass{p.x} << 21) + p.y; }
  __device__ Mass of(float x, int id) const { return joined(parts(x, id)); }
};

__device__ void clear_bins(Shared& s) {
  __syncthreads();  // the last border was read
  *reinterpret_cast<uint2*>(&s.low[2 * threadIdx.x]) = make_uint2(0, 0);
  *reinterpret_cast<uint2*>(&s.high[2 * threadIdx.x]) = make_uint2(0, 0);
  if (threadIdx.x == 0) s.border = -1;
  __syncthreads();  // empty bins
}
__device__ void add_to_bin(Shared& s, int bin, Mass mass, bool counting) {
  const auto low = static_cast<std::uint32_t>(mass);
  const std::uint32_t old = atomicAdd(&s.low[bin], low);
  if (counting) return;
  const std::uint32_t high = static_cast<std::uint32_t>(mass >> 32) + (old + low < old ? 1 : 0);
  if (high != 0) atomicAdd(&s.high[bin], high);
}
/// Sets s.border to the first bin with which the bins' sum reaches `wanted`, s.above to the sum before it; -1 if they
/// never reach it.
__device__ void find_border(Shared& s, Mass wanted) {
  __syncthreads();  // full bins
  const int bin = 2 * threadIdx.x;
  const uint2 low = *reinterpret_cast<const uint2*>(&s.low[bin]);
  const uint2 high = *reinterpret_cast<const uint2*>(&s.high[bin]);
  const Mass a = Mass{high.x} << 32 | low.x, b = Mass{high.y} << 32 | low.y;
  const Mass with = block_scan(s, a + b);
  const Mass before = with - a - b;
  if (before < wanted && wanted <= with) {
    const bool second = wanted > before + a;
    s.border = bin + second;
    s.above = second ? before + a : before;
  }
  __syncthreads();  // the border
}

/// The id at which the measure's sum over rising ids passes a target: `target` itself, or, with draws, that many
/// 2^53rds of the whole sum.
__device__ int locate(Shared& s, const Row& row, const Measure& measure, Mass target, bool draws) {
  for (int segment = threadIdx.x / 32; segment * kSegment < row.vocab; segment += kWarps) {
    std::uint32_t high = 0, low = 0;
    visit_segment(row, segment, [&](float x, int id) {
      const uint2 p = measure.parts(x, id);
      high += p.x, low += p.y;
    });
    high += low >> 21, low &= (1u << 21) - 1;
    for (int distance = 16; distance > 0; distance /= 2) {
      high += __shfl_xor_sync(~0u, high, distance);
      low += __shfl_xor_sync(~0u, low, distance);
    }
    if (threadIdx.x % 32 == 0) s.segments[segment] = Measure::joined(make_uint2(high, low));
  }
  __syncthreads();  // the segments' sums
  Mass total;
  const bool used = threadIdx.x * kSegment < row.vocab;
  const Mass mine = used ? s.segments[threadIdx.x] : 0;
  const Mass with = block_scan(s, mine, draws ? &total : nullptr);
  if (draws) target = __umul64hi(target, total) << 11 | target * total >> 53;
  if (with - mine <= target && target < with) {
    s.segment = threadIdx.x;
    s.left = target - (with - mine);
  }
  __syncthreads();  // the segment
  if (threadIdx.x < 32) {
    Mass left = s.left;
    const int segment = s.segment, end = min(row.vocab, (segment + 1) * kSegment);
    for (int start = segment * kSegment; start < end; start += 128) {
      const int id = start + 4 * threadIdx.x;
      Mass parts[4], here = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        parts[i] = id + i < end ? measure.of(row.logits[id + i], id + i) : 0;
        here += parts[i];
      }
      const Mass up_to = warp_scan(here);
      Mass from = up_to - here;
#pragma unroll
      for (int i = 0; i < 4; from += parts[i++]) {
        if (from <= left && left < from + parts[i]) s.token = id + i;
      }
      const Mass whole = __shfl_sync(~0u, up_to, 31);
      if (left < whole) break;
      left -= whole;
    }
  }
  __syncthreads();  // the token
  return s.token;
}

/// Sorts one rank a thread, rising; the first `size` threads, a power of two from 32 on, have them.
__device__ Rank sort_ranks(Shared& s, Rank mine, int size) {
#pragma unroll 1
  for (int run = 2; run <= size; run *= 2) {
#pragma unroll 1
    for (int distance = run / 2; distance > 0; distance /= 2) {
      Rank other;
      if (distance >= 32) {
        __syncthreads();  // the last exchange was read
        s.exchange[threadIdx.x] = mine;
        __syncthreads();  // this one was written
        other = s.exchange[threadIdx.x ^ distance];
      } else {
        if (threadIdx.x / 32 * 32 >= size) continue;  // a warp of nothing
        other = __shfl_xor_sync(~0u, mine, distance);
      }
      const bool rising = (threadIdx.x & run) == 0, lower = (threadIdx.x & distance) == 0;
      mine = rising == lower ? min(mine, other) : max(mine, other);
    }
  }
  return mine;
}
__device__ int sort_size(int count) {
  int size = 32;
  while (size < count) size *= 2;
  return size;
}

/// Lists the measure's tokens in bins up to `border`, best first; what a thread lists, only it may read before the next
/// barrier. Returns how many there are; more than kList: not listed.
__device__ int list_tokens(Shared& s, const Row& row, const Measure& measure, int border) {
  if (threadIdx.x == 0) s.listed = 0;
  __syncthreads();  // an empty list
  const float near = end_of(border);
  visit_row(row, [&](float x, int id) {
    const float distance = measure.max - x;
    const bool wanted = distance <= near && measure.has(x, id) && bin_of(distance) <= border;
    const unsigned lanes = __ballot_sync(~0u, wanted);
    if (lanes == 0) return;
    int at = 0;
    if (threadIdx.x % 32 == 0) at = atomicAdd(&s.listed, __popc(lanes));
    at = __shfl_sync(~0u, at, 0) + __popc(lanes & ((1u << threadIdx.x % 32) - 1));
    if (wanted && at < kList) s.list[at] = rank_of(x, id);
  });
  __syncthreads();  // a full list
  const int count = s.listed;
  if (count > kList) return count;
  const Rank mine = static_cast<int>(threadIdx.x) < count ? s.list[threadIdx.x] : kLastRank;
  s.list[threadIdx.x] = sort_ranks(s, mine, sort_size(count));
  return count;
}

/// What is left of a row: s.list [count], best first, or, with count 0, all tokens from `lowest` and `last_id` up.
struct Best {
  int count;
  float lowest;
  int last_id;
  Mass wanted;  // that was looked for
};

/// Narrows the measure to the shortest run of its best tokens whose sum reaches `wanted`. It ends in the bin s.border,
/// before which the sum is s.above.
__device__ void narrow(Shared& s, const Row& row, Measure& measure, Mass wanted) {
  const int border = s.border;
  Mass above = s.above;
  std::uint32_t order = 0;  // its bits that are known
#pragma unroll 1
  for (int shift = 21; shift >= 0; shift = shift == 21 ? 10 : shift - 10) {
    const int bits = shift == 0 ? 10 : 11;
    clear_bins(s);
    visit_row(row, [&](float x, int id) {
      const std::uint32_t here = order_of(x) >> shift;
      if ((bin_of(measure.max - x) != border) | (here >> bits != order)) return;
      const Mass mass = measure.of(x, id);
      if (mass != 0) add_to_bin(s, here & ((1 << bits) - 1), mass, measure.counting);
    });
    find_border(s, wanted - above);
    above += s.above;
    order = order << bits | s.border;
  }
  // Equal logits count the same: so many of them, lowest ids first.
  Measure equal = measure;
  equal.lowest = logit_of(order);
  equal.last_id = equal.lowest == measure.lowest ? measure.last_id : 0x7fffffff;
  equal.only_lowest = true;
  const Mass each = equal.of(equal.lowest, 0);
  equal.counting = true;
  measure.last_id = locate(s, row, equal, (wanted - above + each - 1) / each - 1, false);
  measure.lowest = equal.lowest;
}

/// Looks for the shortest run of best tokens among measure's whose sum reaches `wanted`, or `share` of the whole sum
/// where it counts masses; if there are fewer than it counts, for all. A list may go on behind the run; a rank does
/// not.
__device__ Best find_best(Shared& s, const Row& row, Measure measure, Mass wanted, double share) {
  // Most often the border is near the best token, and the many far ones need no bin. They weigh less than 2^-19.
  float reach = 20.0f / measure.scale;
#pragma unroll 1
  for (;; reach = INFINITY) {
    clear_bins(s);
    Mass sum = 0, whole;
    std::uint32_t far = 0;
    visit_row(row, [&](float x, int id) {
      const float distance = measure.max - x;
      if (distance <= reach) {
        const Mass mass = measure.of(x, id);
        if (mass == 0) return;
        sum += mass;
        add_to_bin(s, bin_of(distance), mass, measure.counting);
      } else if (!measure.counting && measure.has(x, id)) {
        far += static_cast<std::uint32_t>(measure.weight(x) * kWholeMass);
      }
    });
    if (!measure.counting) {
      block_scan(s, sum + far, &whole);
      wanted = max(Mass{1}, min(whole, static_cast<Mass>(__double2ull_ru(share * __ull2double_rn(whole)))));
    }
    find_border(s, wanted);
    if (s.border >= 0 || reach == INFINITY) break;
  }
  const bool fits = !measure.counting || wanted <= kList, all = s.border < 0;
  if (all && !fits) return {0, measure.lowest, measure.last_id, wanted};
  int border = all ? kBins - 1 : s.border;
#pragma unroll 1
  for (;; border = kBins - 1) {
    const int count = fits ? list_tokens(s, row, measure, border) : kList + 1;
    if (count <= kList) return {count, measure.lowest, measure.last_id, wanted};
    narrow(s, row, measure, wanted);
    if (!measure.counting || !fits) return {0, measure.lowest, measure.last_id, wanted};
  }
}

/// Philox4x32-10 (Salmon et al., SC 2011): 53 bits for a position of a request with this seed.
__device__ std::uint64_t draw_bits(std::uint64_t seed, std::uint64_t position) {
  std::uint32_t c[4] = {static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0};
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma unroll 1
  for (int round = 0; round < 10; ++round) {
    const std::uint32_t high0 = __umulhi(0xD2511F53u, c[0]), high1 = __umulhi(0xCD9E8D57u, c[2]);
    const std::uint32_t low0 = 0xD2511F53u * c[0], low1 = 0xCD9E8D57u * c[2];
    c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return (static_cast<std::uint64_t>(c[1]) << 32 | c[0]) >> 11;
}

__device__ float bounded(float logit) {
  return logit == -INFINITY ? logit : fminf(fmaxf(logit, -kLogitBound), kLogitBound);
}

/// Biases, bans and penalties, in this order, on the row itself; what was there before stays in the lists.
__device__ void apply_rules(float* logits, const SampleRules& rules) {
  for (int i = threadIdx.x; i < rules.num_biases; i += kThreads) {
    TokenBias& entry = rules.biases[i];
    entry.raw = logits[entry.token];
    logits[entry.token] = entry.bias <= kBanBias ? -INFINITY : bounded(entry.raw + entry.bias);
  }
  __syncthreads();  // before bans
  if (rules.position < rules.banned_until) {
    for (int i = threadIdx.x; i < rules.num_banned; i += kThreads) logits[rules.banned[i]] = -INFINITY;
  }
  __syncthreads();  // before penalties
  for (int i = threadIdx.x; i < rules.num_counts; i += kThreads) {
    TokenCount& entry = rules.counts[i];
    float logit = logits[entry.token];
    entry.raw = logit;
    if (logit == -INFINITY) continue;
    // CTRL's rule (arXiv:1909.05858 §4.1), with the product for negative logits so that it always lowers them.
    if (rules.repetition_penalty > 0.0f) {
      logit = logit > 0.0f ? __fdiv_rn(logit, rules.repetition_penalty) : __fmul_rn(logit, rules.repetition_penalty);
    }
    if (entry.in_output > 0) {
      const float output = __fmul_rn(rules.frequency_penalty, static_cast<float>(entry.in_output));
      logit = __fsub_rn(logit, __fadd_rn(rules.presence_penalty, output));
    }
    logits[entry.token] = bounded(logit);
  }
  __syncthreads();  // a changed row
}

/// Draws from s.list, of which top_p may keep less: its share of the list if the list is all there is, else `wanted`.
__device__ int draw_from_list(Shared& s, Measure measure, int count, Mass wanted, double share, bool whole,
                              std::uint64_t random) {
  const float least = measure.least;
  measure.least = 0.0f;
  const int mine = threadIdx.x;
  const Rank rank = mine < count ? s.list[mine] : kLastRank;
  const float logit = logit_of(rank);
  Mass mass = mine < count ? measure.of(logit, static_cast<int>(rank)) : 0;
  Mass total;
  const Mass with = block_scan(s, mass, &total);
  if (whole) wanted = __double2ull_ru(share * __ull2double_rn(total));
  const bool keep =
      mine < count && (mine == 0 || (with - mass < wanted && mass != 0 && measure.weight(logit) >= least));
  const int kept = __syncthreads_count(keep);
  const Rank by_id = keep ? rank << 32 | static_cast<Rank>(mine) : kLastRank;
  const Rank sorted = sort_ranks(s, by_id, sort_size(kept));
  mass = 0;
  int id = 0;
  if (mine < kept) {
    id = static_cast<int>(sorted >> 32);
    mass = measure.of(logit_of(s.list[static_cast<std::uint32_t>(sorted)]), id);
  }
  const Mass up_to = block_scan(s, mass, &total);
  const Mass target = __umul64hi(random, total) << 11 | random * total >> 53;
  if (up_to - mass <= target && target < up_to) s.token = id;
  __syncthreads();  // the drawn token
  return s.token;
}

__device__ int draw(Shared& s, const Row& row, const SampleRules& rules, float max) {
  Measure measure{max, fminf(kLog2E / rules.temperature, 3e38f), fminf(rules.min_p, 1.0f)};
  const std::uint64_t random = draw_bits(rules.seed, rules.position);
  const bool top_k = rules.top_k > 0 && rules.top_k < row.vocab, top_p = rules.top_p < 1.0f;
  const double share = top_p ? fmaxf(rules.top_p, 0.0f) : 1.0;
  Best best{0, measure.lowest, measure.last_id, 0};
  bool counted = false;
#pragma unroll 1
  for (int rule = 0; rule < 2 && best.count == 0; ++rule) {
    counted = rule == 0;
    if (counted ? !top_k : !top_p) continue;
    Measure looked_at = measure;
    looked_at.counting = counted;
    looked_at.least = 0.0f;
    looked_at.lowest = best.lowest;
    looked_at.last_id = best.last_id;
    best = find_best(s, row, looked_at, rules.top_k, share);
  }
  measure.lowest = best.lowest;
  measure.last_id = best.last_id;
  if (best.count == 0) return locate(s, row, measure, random, true);
  measure.lowest = -INFINITY;  // the list has its own end
  const int count = counted ? min(best.count, rules.top_k) : best.count;
  return draw_from_list(s, measure, count, best.wanted, share, counted, random);
}

}  // namespace

/// Log-probabilities of the raw row: of the best tokens, and what the drawn one's needs.
extern "C" __global__ void __launch_bounds__(1024, 1) sample_logprobs(const __grid_constant__ SampleParams p) {
  __shared__ Shared s;
  const int slot = p.slots[blockIdx.x];
  const int top = slot < 0 ? -1 : p.rules[slot].top_logprobs;
  if (top < 0) return;
  const Row row{p.logits + blockIdx.x * p.stride, p.vocab, p.vectors != 0};
  bool finite;
  const Rank best = scan_row(s, row, &finite);
  if (!finite) return;
  Measure measure{logit_of(best), kLog2E, 0.0f};
  Mass sum = 0, whole;
  visit_row(row, [&](float x, int) {
    const float w = measure.weight(x);
    sum += w < 0x1p-10f ? static_cast<std::uint32_t>(w * kWholeMass) : Measure::joined(Measure::parts_of(w));
  });
  block_scan(s, sum, &whole);
  const float log_sum = logf(__ull2float_rn(whole) * (1.0f / kWholeMass));
  if (threadIdx.x == 0) p.raw[blockIdx.x] = {measure.max, log_sum};
  if (top == 0) return;
  measure.counting = true;
  const int wanted = min(top, kSampleTopLogprobs);
  const int count = find_best(s, row, measure, wanted, 0.0).count;
  const int mine = threadIdx.x;
  if (mine >= min(count, wanted)) return;
  const Rank rank = s.list[mine];
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * kSampleTopLogprobs + mine;
  p.top_tokens[at] = static_cast<int>(rank);
  p.top_logprobs[at] = logit_of(rank) - measure.max - log_sum;
}

extern "C" __global__ void __launch_bounds__(1024, 1) sample_tokens(const __grid_constant__ SampleParams p) {
  __shared__ Shared s;
  const int slot = p.slots[blockIdx.x];
  if (slot < 0) return;
  SampleRules& rules = p.rules[slot];
  float* logits = p.logits + blockIdx.x * p.stride;
  const Row row{logits, p.vocab, p.vectors != 0};
  const auto end = [&](SampleStatus status, int token) {
    if (threadIdx.x != 0) return;
    p.tokens[blockIdx.x] = token;
    p.status[blockIdx.x] = static_cast<std::int32_t>(status);
  };
  const bool changes = rules.num_biases > 0 || rules.num_banned > 0 || rules.num_counts > 0;
  bool finite;
  Rank best = scan_row(s, row, &finite);
  if (!finite) return end(SampleStatus::not_finite, 0);
  if (changes) {
    apply_rules(logits, rules);
    best = scan_row(s, row, &finite);
  }
  if (static_cast<std::uint32_t>(best) >= static_cast<std::uint32_t>(p.vocab)) return end(SampleStatus::all_banned, 0);
  const int token = rules.temperature > 0.0f ? draw(s, row, rules, logit_of(best)) : static_cast<int>(best);
  end(SampleStatus::token, token);

  if (threadIdx.x == 0) s.raw = logits[token];
  int known = -1;
  __syncthreads();  // raw as the row has it
  const int num_counts = rules.num_counts;
#pragma unroll 1
  for (int i = threadIdx.x; i < num_counts; i += kThreads) {
    if (rules.counts[i].token != token) continue;
    s.raw = rules.counts[i].raw;
    ++rules.counts[i].in_output;
    known = i;
  }
  const bool is_known = __syncthreads_or(known >= 0) != 0;
  for (int i = threadIdx.x; i < rules.num_biases; i += kThreads) {
    if (rules.biases[i].token == token) s.raw = rules.biases[i].raw;
  }
  __syncthreads();  // raw as the lists have it
  if (threadIdx.x != 0) return;
  if (!is_known && num_counts < rules.counts_capacity) {
    rules.counts[num_counts] = {token, 1, 0.0f};
    rules.num_counts = num_counts + 1;
  }
  if (p.logprobs != nullptr && rules.top_logprobs >= 0) {
    p.logprobs[blockIdx.x] = s.raw - p.raw[blockIdx.x].max - p.raw[blockIdx.x].log_sum;
  }
  ++rules.position;
}

}  // namespace inferd::cuda
