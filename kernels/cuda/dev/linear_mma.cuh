// y = x W^T on tensor cores, for every format of weights: weights are the mma's A operand, straight from global memory in
// the order of its fragments; tokens are its 8 columns, through shared memory.
#pragma once

#include "kernels/cuda/dev/epilogue.cuh"
#include "kernels/cuda/dev/experts_params.h"
#include "kernels/cuda/dev/linear_mma_params.h"
#include "kernels/cuda/dev/ptx.cuh"
#include "kernels/cuda/dev/weight_formats.cuh"

namespace inferd::cuda {

// The order of additions of one output, the same in every tile: K is cut into kLinearSlices slices of whole k tiles; in
// a slice the k16 steps follow each other, the steps of one scale group in accumulators of their own; the slices' sums
// are added one after another.

/// First k tile of a slice.
inline __device__ int slice_begin(int k_tiles, int slice) {
  return static_cast<int>(static_cast<unsigned>(k_tiles * slice) / kLinearSlices);
}

template <WeightFormat F>
inline __device__ void linear_step(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (F == WeightFormat::bf16) {
    ptx::mma_bf16(d, a, b);
    return;
  }
#endif
  ptx::mma_f16(d, a, b);
}

/// `experts`: without addend, bias and residual; the function is SiLU if gated, else none.
template <WeightFormat F, LinearTile T, bool experts = false>
struct LinearMma {
  using Weights = WeightTile<F>;
  static constexpr bool kSums = Weights::kHasMin;
  static constexpr int kTokenTiles = T.tokens / 8;
  static constexpr int kSliceWarps = T.slice_warps();
  static constexpr int kPhases = kLinearSlices / kSliceWarps;
  static constexpr int kXBytes = T.x_bytes(kSums);
  static constexpr int kBlockRowTiles = T.block_row_tiles();
  static constexpr int kBlockRows = T.block_rows();
  static constexpr int kFoldedSlices = T.folded_slices();
  static constexpr int kFoldStride = T.fold_stride();
  static constexpr bool kOwnX = T.row_warps == 1;  // no other warp reads this warp's x
  static constexpr int kUnit = Weights::kGroup == 64 ? 64 : 32;  // columns whose fragments are in registers at once
  // Token tiles that take turns.
  static constexpr int kBlock =
      kTokenTiles <= 2 ? kTokenTiles : !Weights::kQuantized ? 4 / T.row_tiles : Weights::kGroup == 16 ? 1 : 2;
  // Outputs of a thread when slices are folded through shared memory: pairs of rows g and g + 8.
  static constexpr int kPairs = T.block_rows() / 2 * T.tokens;
  static constexpr int kOwnPairs = kSliceWarps == 1 ? 1 : (kPairs + kLinearThreads - 1) / kLinearThreads;
  static constexpr int kRounds = kSliceWarps == 1 ? 0 : kSliceWarps / T.folded_slices();

  const LinearMmaParams& p;
  std::byte* shared;
  const unsigned stride = static_cast<unsigned>(p.x_stride);
  const int lane = threadIdx.x % 32;
  const int row_warp = threadIdx.x / 32 % T.row_warps;
  const int slice_warp = threadIdx.x / 32 / T.row_warps;
  const int first_token;
  const int first_row_tile = blockIdx.y * kBlockRowTiles + row_warp * T.row_tiles;

  Weights weights[T.depth][T.row_tiles];
  float sums[T.row_tiles][kTokenTiles][4];  // of this warp's slice
  float totals[kOwnPairs][2];

  __device__ LinearMma(const LinearMmaParams& params, int first, std::byte* memory)
      : p(params), shared(memory), first_token(first) {}

  __device__ std::byte* x_tile(int stage, int slice) const { return shared + (stage * kSliceWarps + slice) * kXBytes; }
  __device__ float* fold() const {
    return reinterpret_cast<float*>(shared + T.stages * kSliceWarps * kXBytes);
  }

  /// Steps of a phase: enough for its longest slice, a multiple of depth.
  __device__ int phase_steps() const {
    const int longest = (p.weight.k_tiles + kLinearSlices - 1) / kLinearSlices;
    return (longest + T.depth - 1) / T.depth * T.depth;
  }
  /// A place in the sequence of steps: that of phase 0, then of phase 1, …
  struct Place {
    int phase, step;
    __device__ void next(int steps) {
      ++step;
      if (kPhases > 1 && step == steps) {
        step = 0;
        ++phase;
      }
    }
  };
  /// The k tile there for the slice warp; -1 behind the end of its slice.
  __device__ int k_tile_of(const Place& place, int slice) const {
    slice += place.phase * kSliceWarps;
    const int k_tile = slice_begin(p.weight.k_tiles, slice) + place.step;
    const bool inside = k_tile < slice_begin(p.weight.k_tiles, slice + 1);
    return inside && (kPhases == 1 || place.phase < kPhases) ? k_tile : -1;
  }

  /// Starts to copy the tiles of x of a step; token rows behind the last repeat it. Values lie in 128-byte rows, the
  /// 16-byte chunk c of row r at c ^ r % 8.
  __device__ void copy_x(const Place& place, int stage) {
    constexpr int kThreads = kOwnX ? 32 : kLinearThreads;
    constexpr int kRows = kOwnX ? T.tokens : T.tokens * kSliceWarps;  // of all slices
    constexpr int kStep = kThreads / 8;
    const int thread = kOwnX ? lane : static_cast<int>(threadIdx.x);
    const int chunk = thread % 8;
#pragma unroll
    for (int i = 0; i < kRows / kStep; ++i) {
      const int row = i * kStep + thread / 8;
      const int slice = kOwnX ? slice_warp : row / T.tokens;
      const int k_tile = k_tile_of(place, slice);
      if (k_tile < 0) continue;
      const std::uint16_t* from = p.x + token_of(row) * stride + k_tile * kColumnTile + 8 * chunk;
      ptx::copy_16_async(x_tile(stage, slice) + 128 * (row % T.tokens) + 16 * (chunk ^ (row % 8)), from);
    }
    if constexpr (kSums) {
      static_assert(kRows <= kThreads);
      const int slice = kOwnX ? slice_warp : thread / T.tokens;
      const int k_tile = thread < kRows ? k_tile_of(place, slice) : -1;
      if (k_tile >= 0) {
        const float* from = p.x_sums + (token_of(thread) * stride + k_tile * kColumnTile) / 16;
        ptx::copy_16_async(x_tile(stage, slice) + 128 * T.tokens + 16 * (thread % T.tokens), from);
      }
    }
    ptx::copies_commit();
  }
  /// The token of a row of x, the last one's behind it.
  __device__ unsigned token_of(int row) const {
    return static_cast<unsigned>(min(first_token + row % T.tokens, p.num_tokens - 1));
  }

  __device__ void load_weights(const Place& place, Weights (&to)[T.row_tiles]) {
    const int k_tile = k_tile_of(place, slice_warp);
    if (k_tile < 0) return;
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
      to[r].load(p.weight, min(first_row_tile + r, p.row_tiles - 1), k_tile, lane);
    }
  }

  /// sums += scale * partial - minimum * (sum of x), then partial = 0, for one group of columns.
  __device__ void add_group(const Weights (&w)[T.row_tiles], const std::byte* x, int group, int first,
                            float (&partial)[T.row_tiles][kBlock][4]) {
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
      const float scale[2] = {w[r].scale(group, false), w[r].scale(group, true)};
#pragma unroll
      for (int n = 0; n < kBlock; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sums[r][first + n][i] = fmaf(scale[i / 2], partial[r][n][i], sums[r][first + n][i]);
          partial[r][n][i] = 0.0f;
        }
      }
    }
    if constexpr (kSums) {
      constexpr int kSixteens = Weights::kGroup / 16;
#pragma unroll
      for (int n = 0; n < kBlock; ++n) {
        float of_x[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float* at = reinterpret_cast<const float*>(x + 128 * T.tokens) +
                            4 * (8 * (first + n) + 2 * (lane % 4) + i) + group * kSixteens;
          of_x[i] = at[0];
#pragma unroll
          for (int j = 1; j < kSixteens; ++j) of_x[i] += at[j];
        }
#pragma unroll
        for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[r][first + n][i] = fmaf(-w[r].minimum(group, i / 2), of_x[i % 2], sums[r][first + n][i]);
          }
        }
      }
    }
  }

  /// Adds the product of one k tile.
  __device__ void multiply(const Weights (&w)[T.row_tiles], const std::byte* x) {
    const std::byte* chunks[2];  // of the two halves of the columns
    chunks[0] = x + 128 * (lane % 8) + 16 * ((lane / 8) ^ (lane % 8));
    chunks[1] = x + 128 * (lane % 8) + 16 * ((lane / 8 + 4) ^ (lane % 8));
#pragma unroll
    for (int unit = 0; unit < kColumnTile / kUnit; ++unit) {
      constexpr int kSteps = kUnit / 16;
      std::uint32_t a[T.row_tiles][kSteps][4];
#pragma unroll
      for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
        for (int s = 0; s < kSteps; ++s) w[r].fragment(unit * kSteps + s, a[r][s]);
      }
#pragma unroll
      for (int first = 0; first < kTokenTiles; first += kBlock) {
        float partial[T.row_tiles][kBlock][4] = {};
#pragma unroll
        for (int half = 0; half < kSteps / 2; ++half) {
          std::uint32_t b[kBlock][4];
#pragma unroll
          for (int n = 0; n < kBlock; ++n) {
            ptx::load_matrix_x4(b[n], chunks[unit * kUnit / 32 + half] + 1024 * (first + n));
          }
#pragma unroll
          for (int s = 0; s < 2; ++s) {
#pragma unroll
            for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
              for (int n = 0; n < kBlock; ++n) {
                const std::uint32_t b_step[2] = {b[n][2 * s], b[n][2 * s + 1]};
                if constexpr (Weights::kQuantized) {
                  linear_step<F>(partial[r][n], a[r][2 * half + s], b_step);
                } else {
                  linear_step<F>(sums[r][first + n], a[r][2 * half + s], b_step);
                }
              }
            }
            if constexpr (Weights::kGroup == 16) add_group(w, x, 2 * unit + s, first, partial);
          }
        }
        if constexpr (Weights::kGroup >= 32) add_group(w, x, unit, first, partial);
      }
    }
  }

  /// Where the thread's pair i is: rows r and r + 8 of the block, and its token there. A warp's 32 pairs are spread so
  /// that its loads from fold() meet no bank twice.
  __device__ static void place_of(int i, int thread, int& row, int& token) {
    const int pair = i * kLinearThreads + thread;
    const int at = pair / 32, g = pair % 8, bit = pair / 8 % 4;
    if constexpr (kBlockRowTiles == 1) {
      row = g;
      token = at / 2 * 8 + at % 2 + 2 * bit;
    } else {
      constexpr int kTilePairs = kBlockRowTiles / 2;
      row = (at % kTilePairs * 2 + bit % 2) * kRowTile + g;
      token = at / kTilePairs / 2 * 4 + at / kTilePairs % 2 + 2 * (bit / 2);
    }
  }

  /// Adds the sums of a phase's slices to the totals, in order, and clears them.
  __device__ void fold_phase(bool first_phase) {
    if constexpr (kSliceWarps == 1) {
      // Each thread keeps its own totals.
#pragma unroll
      for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
        for (int n = 0; n < kTokenTiles; ++n) {
          float(&sum)[4] = sums[r][n];
          float4* at = reinterpret_cast<float4*>(fold()) + (r * kTokenTiles + n) * kLinearThreads + threadIdx.x;
          float4 total = make_float4(sum[0], sum[1], sum[2], sum[3]);
          if (!first_phase) {
            const float4 before = *at;
            total = make_float4(before.x + sum[0], before.y + sum[1], before.z + sum[2], before.w + sum[3]);
          }
          *at = total;
          sum[0] = sum[1] = sum[2] = sum[3] = 0.0f;
        }
      }
    } else {
      fold_rounds(first_phase);
    }
  }

  /// Likewise through shared memory, kFoldedSlices at a time.
  __device__ void fold_rounds(bool first_phase) {
    // Addresses are not worth registers from one phase to the next.
    const int thread = ptx::recomputed(threadIdx.x);
    const int own_row = thread % 32 / 4, own_token = thread % 4 * 2;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
      if (!(first_phase && round == 0)) __syncthreads();
      const int place = slice_warp - round * kFoldedSlices;
      if (place >= 0 && place < kFoldedSlices) {
#pragma unroll
        for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
          for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const int token = 8 * n + own_token + i % 2;
              const int row = (row_warp * T.row_tiles + r) * kRowTile + own_row + i / 2 * 8;
              fold()[(place * T.tokens + token) * kFoldStride + row] = sums[r][n][i];
              sums[r][n][i] = 0.0f;
            }
          }
        }
      }
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kOwnPairs; ++i) {
        int row = 0, token = 0;
        place_of(i, thread, row, token);
        if (kPairs % kLinearThreads != 0 && thread >= kPairs) break;
#pragma unroll
        for (int s = 0; s < kFoldedSlices; ++s) {
          const float* at = fold() + (s * T.tokens + token) * kFoldStride + row;
          const bool starts = first_phase && round == 0 && s == 0;
          totals[i][0] = starts ? at[0] : totals[i][0] + at[0];
          totals[i][1] = starts ? at[8] : totals[i][1] + at[8];
        }
      }
    }
  }

  /// The epilogue, of which experts leave out what they never have.
  template <ActivationFunction of_experts>
  __device__ EpilogueParams epilogue() const {
    EpilogueParams params = p.epilogue;
    if constexpr (experts) {
      params.addend = params.bias = params.residual = nullptr;
      params.function = of_experts;
    }
    return params;
  }

  /// Stores the totals of rows `row` and row + 8 of the block for one token.
  __device__ void store_pair(int row, int token, float lower, float upper) {
    token += first_token;
    if (token >= p.num_tokens) return;
    if constexpr (F != WeightFormat::bf16) {
      lower *= p.x_scale[token];
      upper *= p.x_scale[token];
    }
    row += blockIdx.y * kBlockRows;
    if (p.interleaved) {
      const int column = row / kRowTile * 8 + row % 8;
      if (column < p.rows / 2) store_gated(epilogue<ActivationFunction::silu>(), token, p.first_row + column, lower, upper);
      return;
    }
    if (row < p.rows) store_output(epilogue<ActivationFunction::none>(), token, p.first_row + row, lower);
    if (row + 8 < p.rows) store_output(epilogue<ActivationFunction::none>(), token, p.first_row + row + 8, upper);
  }

  __device__ void store() {
    if constexpr (kSliceWarps == 1) {
#pragma unroll 1
      for (int i = 0; i < T.row_tiles * kTokenTiles; ++i) {
        const float4 total = reinterpret_cast<const float4*>(fold())[i * kLinearThreads + threadIdx.x];
        const int row = (row_warp * T.row_tiles + i / kTokenTiles) * kRowTile + lane / 4;
        const int token = i % kTokenTiles * 8 + 2 * (lane % 4);
        store_pair(row, token, total.x, total.z);
        store_pair(row, token + 1, total.y, total.w);
      }
    } else {
      // Through shared memory, each thread for itself, so that the loop need not be unrolled.
      const int own = kPairs % kLinearThreads != 0 && static_cast<int>(threadIdx.x) >= kPairs ? 0 : kOwnPairs;
      int row = 0, token = 0;
#pragma unroll
      for (int i = 0; i < kOwnPairs; ++i) {
        if (i >= own) break;
        place_of(i, static_cast<int>(threadIdx.x), row, token);
        fold()[token * kFoldStride + row] = totals[i][0];
        fold()[token * kFoldStride + row + 8] = totals[i][1];
      }
#pragma unroll 1
      for (int i = 0; i < own; ++i) {
        place_of(i, static_cast<int>(threadIdx.x), row, token);
        const float* at = fold() + token * kFoldStride + row;
        store_pair(row, token, at[0], at[8]);
      }
    }
  }

  __device__ void run() {
    const int steps = phase_steps();
    Place next_weights{0, 0}, next_x{0, 0};
#pragma unroll
    for (int d = 0; d < T.depth; ++d) {
      load_weights(next_weights, weights[d]);
      next_weights.next(steps);
    }
#pragma unroll
    for (int s = 0; s < T.stages - 1; ++s) {
      copy_x(next_x, s);
      next_x.next(steps);
    }
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][n][i] = 0.0f;
      }
    }
    int stage = 0;
#pragma unroll 1
    for (int phase = 0; phase < kPhases; ++phase) {
#pragma unroll 1
      for (int i = 0; i < steps; i += T.depth) {
#pragma unroll
        for (int d = 0; d < T.depth; ++d) {
          ptx::copies_wait<T.stages - 2>();
          if constexpr (kOwnX) {
            __syncwarp();
          } else {
            __syncthreads();
          }
          copy_x(next_x, stage == 0 ? T.stages - 1 : stage - 1);
          next_x.next(steps);
          if (k_tile_of({phase, i + d}, slice_warp) >= 0) multiply(weights[d], x_tile(stage, slice_warp));
          load_weights(next_weights, weights[d]);
          next_weights.next(steps);
          stage = stage + 1 == T.stages ? 0 : stage + 1;
        }
      }
      fold_phase(phase == 0);
    }
    store();
  }
};

template <WeightFormat F, int tile>
inline constexpr LinearTile kLinearTile = linear_tile(tile, weight_layout(F));

/// The body of a kernel. sm_75 has no bf16 mma: its bf16 weights go through linear_exact.
template <WeightFormat F, int tile>
inline __device__ void linear_mma(const LinearMmaParams& p) {
  extern __shared__ __align__(128) std::byte linear_shared[];
#if __CUDA_ARCH__ < 800
  if constexpr (F == WeightFormat::bf16) __trap();
#endif
  LinearMma<F, kLinearTile<F, tile>>(p, blockIdx.x * kLinearTile<F, tile>.tokens, linear_shared).run();
}

/// Likewise, of the rows of one expert; a gated part's function is SiLU.
template <WeightFormat F, int tile>
inline __device__ void expert_mma(const ExpertMmaParams& experts) {
  extern __shared__ __align__(128) std::byte linear_shared[];
#if __CUDA_ARCH__ < 800
  if constexpr (F == WeightFormat::bf16) __trap();
#endif
  const ExpertTile at = experts.tiles[blockIdx.x];
  if (at.expert < 0) return;
  LinearMmaParams p = experts.linear;
  p.weight.data = experts.data[at.expert];
  p.num_tokens = at.end;
  LinearMma<F, kLinearTile<F, tile>, true>(p, at.first, linear_shared).run();
}

}  // namespace inferd::cuda

/// The kernels of one format, fewest tokens first.
#define INFERD_LINEAR_KERNEL(format, tokens, tile)                                                     \
  extern "C" __global__ void __launch_bounds__(kLinearThreads, tile < 2 ? 2 : 1) linear_##format##_##tokens(             \
      const __grid_constant__ LinearMmaParams p) {                                                     \
    linear_mma<WeightFormat::format, tile>(p);                                                         \
  }
#define INFERD_EXPERT_KERNEL(format, tokens, tile)                                                              \
  extern "C" __global__ void __launch_bounds__(kLinearThreads, tile < 2 ? 2 : 1) experts_##format##_##tokens( \
      const __grid_constant__ ExpertMmaParams p) {                                                              \
    expert_mma<WeightFormat::format, tile>(p);                                                                  \
  }
#define INFERD_LINEAR_KERNELS(format)    \
  INFERD_LINEAR_KERNEL(format, 8, 0)     \
  INFERD_LINEAR_KERNEL(format, 16, 1)    \
  INFERD_LINEAR_KERNEL(format, 32, 2)    \
  INFERD_LINEAR_KERNEL(format, 64, 3)    \
  INFERD_LINEAR_KERNEL(format, prefill, 4) \
  INFERD_EXPERT_KERNEL(format, 8, 0)     \
  INFERD_EXPERT_KERNEL(format, 32, 2)
