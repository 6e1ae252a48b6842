// Routing of a mixture of experts, rows on their way to experts, and the sums of what comes back.
#include "kernels/cuda/dev/experts_params.h"

namespace inferd::cuda {
namespace {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarps = 32;  // of route_rows
constexpr int kPerLane = kMostExperts / 32;

/// Sums of v over the lanes up to this one.
__device__ int scan_lanes(int v, int lane) {
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const int before = __shfl_up_sync(kAllLanes, v, step);
    if (lane >= step) v += before;
  }
  return v;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(128) route_tokens(const __grid_constant__ RouteTokensParams p) {
  const int token = static_cast<int>(blockIdx.x) * 4 + static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (token >= p.num_tokens) return;
  const float* logits = p.logits + token * p.logits_stride;
  float values[kPerLane];
  float largest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = 32 * i + lane;
    values[i] = expert < p.num_experts ? logits[expert] : -INFINITY;
    largest = fmaxf(largest, values[i]);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, step));
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    if (32 * i + lane >= p.num_experts) {
      values[i] = -1.0f;
      continue;
    }
    const float value = expf(values[i] - largest);
    sum += value;
    values[i] = value >= 0.0f ? value : 0.0f;  // NaN: any expert will do, the sum shows it
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  // Lane j keeps pick j.
  int own_expert = 0;
  float own_weight = 0.0f, picked = 0.0f;
#pragma unroll 1
  for (int j = 0; j < p.top_k; ++j) {
    float best = -1.0f;
    int at = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (values[i] > best) {
        best = values[i];
        at = 32 * i + lane;
      }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(kAllLanes, best, step);
      const int other_at = __shfl_xor_sync(kAllLanes, at, step);
      if (other > best || (other == best && other_at < at)) {
        best = other;
        at = other_at;
      }
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (32 * i + lane == at) values[i] = -1.0f;
    }
    const float weight = best / sum;
    picked += weight;
    if (lane == j) {
      own_expert = at;
      own_weight = weight;
    }
  }
  int rank = 0;
#pragma unroll 1
  for (int j = 0; j < p.top_k; ++j) rank += __shfl_sync(kAllLanes, own_expert, j) < own_expert;
  if (lane >= p.top_k) return;
  p.experts[token * p.top_k + rank] = own_expert;
  p.weights[token * p.top_k + rank] = p.normalize ? own_weight / picked : own_weight;
}

extern "C" __global__ void __launch_bounds__(1024) route_rows(const __grid_constant__ RouteRowsParams p) {
  __shared__ int counts[kMostExperts], starts[kMostExperts], first_tiles[kMostExperts];
  __shared__ int all_rows, all_tiles;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  for (int expert = warp; expert < p.num_experts; expert += kWarps) {  // its picks
    int count = 0, first = 0;
#pragma unroll 1
    do {
      const bool mine = first + lane < p.picks && p.experts[first + lane] == expert;
      count += __popc(__ballot_sync(kAllLanes, mine));
      first += 32;
    } while (first < p.picks);
    if (lane == 0) counts[expert] = count;
  }
  __syncthreads();
  if (warp == 0) {
    int rows = 0, tiles = 0;
#pragma unroll 1
    for (int first = 0; first < p.num_experts; first += 32) {
      const int expert = first + lane;
      const int count = expert < p.num_experts ? counts[expert] : 0;
      const int padded = (count + kExpertRowStep - 1) / kExpertRowStep * kExpertRowStep;
      const int covers = (count + p.tile_rows - 1) / p.tile_rows;
      const int rows_to = scan_lanes(padded, lane), tiles_to = scan_lanes(covers, lane);
      if (expert < p.num_experts) {
        starts[expert] = rows + rows_to - padded;
        first_tiles[expert] = tiles + tiles_to - covers;
      }
      rows += __shfl_sync(kAllLanes, rows_to, 31);
      tiles += __shfl_sync(kAllLanes, tiles_to, 31);
    }
    if (lane == 0) {
      all_rows = rows;
      all_tiles = tiles;
    }
  }
  __syncthreads();
  for (int expert = warp; expert < p.num_experts; expert += kWarps) {
    const int start = starts[expert], count = counts[expert], end = start + count;
    if (lane == 0) {
      p.starts[expert] = start;
      p.counts[expert] = count;
    }
#pragma unroll 1
    for (int tile = lane; tile * p.tile_rows < count; tile += 32) {
      p.tiles[first_tiles[expert] + tile] = {expert, start + tile * p.tile_rows, end, 0};
    }
    int row = start;
#pragma unroll 1
    for (int first = 0; row < end; first += 32) {
      const bool mine = first + lane < p.picks && p.experts[first + lane] == expert;
      const unsigned all = __ballot_sync(kAllLanes, mine);
      if (mine) {
        const int at = row + __popc(all & ((1u << lane) - 1));
        p.places[first + lane] = at;
        p.tokens[at] = (first + lane) / p.top_k;
      }
      row += __popc(all);
    }
    const int gap = (kExpertRowStep - count % kExpertRowStep) % kExpertRowStep;
    if (lane < gap) p.tokens[end + lane] = -1;
  }
#pragma unroll 1
  for (int row = all_rows + thread; row < p.rows; row += 1024) p.tokens[row] = -1;
#pragma unroll 1
  for (int tile = all_tiles + thread; tile < p.num_tiles; tile += 1024) p.tiles[tile] = {-1, 0, 0, 0};
}

namespace {

/// Copies a row of a plane that both have; `bytes` is a multiple of 16.
__device__ void copy_row(void* to, const void* from, std::int64_t to_row, std::int64_t from_row, std::int64_t bytes) {
  if (to == nullptr) return;
  const auto* source = reinterpret_cast<const uint4*>(static_cast<const std::byte*>(from) + from_row * bytes);
  auto* target = reinterpret_cast<uint4*>(static_cast<std::byte*>(to) + to_row * bytes);
  const int words = static_cast<int>(bytes / 16);
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < words; i += 128) target[i] = source[i];
}
__device__ void copy_scale(float* to, const float* from, std::int64_t to_row, std::int64_t from_row) {
  if (to != nullptr && threadIdx.x == 0) to[to_row] = from[from_row];
}

}  // namespace

extern "C" __global__ void __launch_bounds__(128) gather_activation(const __grid_constant__ GatherActivationParams p) {
  const std::int64_t row = blockIdx.x, from = p.rows[row], stride = p.out.stride;
  if (from < 0) return;
  copy_row(p.out.f32, p.x.f32, row, from, 4 * stride);
  copy_row(p.out.bf16, p.x.bf16, row, from, 2 * stride);
  copy_row(p.out.f16, p.x.f16, row, from, 2 * stride);
  copy_scale(p.out.f16_scale, p.x.f16_scale, row, from);
  copy_row(p.out.f16_sums, p.x.f16_sums, row, from, stride / 4);
  copy_row(p.out.int8, p.x.int8, row, from, stride);
  copy_scale(p.out.int8_scale, p.x.int8_scale, row, from);
}

extern "C" __global__ void __launch_bounds__(256) combine_experts(const __grid_constant__ CombineExpertsParams p) {
  const std::int64_t token = blockIdx.x;
  const std::int32_t* places = p.places + token * p.top_k;
  const float* weights = p.weights + token * p.top_k;
  const float shared_weight = p.shared == nullptr ? 0.0f : 1.0f / (1.0f + expf(-p.gate[token * p.gate_stride]));
#pragma unroll 1
  for (int column = static_cast<int>(threadIdx.x); column < p.columns; column += 256) {
    float sum = 0.0f;
    int j = 0;
#pragma unroll 1
    do {
      sum = fmaf(weights[j], p.product[places[j] * p.product_stride + column], sum);
    } while (++j < p.top_k);
    if (p.shared != nullptr) sum = fmaf(shared_weight, p.shared[token * p.shared_stride + column], sum);
    p.x[token * p.x_stride + column] += sum;
  }
}

}  // namespace inferd::cuda
