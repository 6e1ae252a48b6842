// y = x W^T of int8 weights and int8 activations on tensor cores: weights are the mma's A operand, straight from global
// memory in the order of its fragments; tokens are its 8 columns, through shared memory. Sums are exact integers.
#pragma once

#include "kernels/cuda/dev/epilogue.cuh"
#include "kernels/cuda/dev/linear_i8_params.h"
#include "kernels/cuda/dev/ptx.cuh"

namespace inferd::cuda {

template <LinearI8Tile T>
struct LinearI8 {
  static constexpr int kTileBytes = weight_layout(WeightFormat::i8).tile_bytes();
  static constexpr int kTokenTiles = T.tokens / 8;
  static constexpr int kSlices = T.slices();
  static constexpr int kXBytes = T.x_bytes();
  static constexpr int kBlockRowTiles = T.block_row_tiles();
  static constexpr int kFoldStride = T.fold_stride();
  static constexpr bool kOwnX = T.row_warps == 1;  // no other warp reads this warp's x
  // 16-byte pieces of x that a thread copies for a step.
  static constexpr int kXThreads = kOwnX ? 32 : kLinearI8Threads;
  static constexpr int kXCopies = (kOwnX ? 1 : kSlices) * kXBytes / 16 / kXThreads;

  const LinearI8Params& p;
  std::byte* shared;
  const int lane = threadIdx.x % 32;
  const int row_warp = threadIdx.x / 32 % T.row_warps;
  const int slice = threadIdx.x / 32 / T.row_warps;
  const int first_token = blockIdx.x * T.tokens;
  const int first_row_tile = blockIdx.y * kBlockRowTiles + row_warp * T.row_tiles;

  const std::byte* weight_at[T.row_tiles];  // of the next tile
  unsigned x_at[kXCopies];                  // of the next pieces, bytes from p.x
  int next_weights = 0, next_x = 0;         // their steps
  uint4 weights[T.depth][T.row_tiles][2];
  int sums[T.row_tiles][kTokenTiles][4] = {};  // of this warp's k tiles

  __device__ LinearI8(const LinearI8Params& params, std::byte* memory) : p(params), shared(memory) {
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
      const std::int64_t row_tile = min(first_row_tile + r, p.row_tiles - 1);
      weight_at[r] = p.weight.data + row_tile * p.weight.row_tile_bytes + slice * kTileBytes + 16 * lane;
    }
#pragma unroll
    for (int i = 0; i < kXCopies; ++i) {
      const Piece piece = piece_of(i);
      const int token = min(first_token + piece.token, p.num_tokens - 1);  // behind the last: the last again
      x_at[i] = static_cast<unsigned>(token) * static_cast<unsigned>(p.x_stride) + piece.slice * kColumnTile +
                16 * piece.chunk;
    }
  }

  /// The i-th piece of x that this thread copies.
  struct Piece {
    int slice, token, chunk;
  };
  __device__ Piece piece_of(int i) const {
    const int piece = i * kXThreads + (kOwnX ? lane : static_cast<int>(threadIdx.x));
    const int row = piece / 4;
    return {kOwnX ? slice : row / T.tokens, row % T.tokens, piece % 4};
  }

  __device__ std::byte* x_tile(int stage, int of_slice) const {
    return shared + (stage * kSlices + of_slice) * kXBytes;
  }

  /// Starts to copy the next tiles of x. Rows are of 64 bytes, the 16-byte chunk c of row r at c ^ r / 2 % 4.
  __device__ void copy_x(int stage) {
#pragma unroll
    for (int i = 0; i < kXCopies; ++i) {
      const Piece piece = piece_of(i);
      if (next_x * kSlices + piece.slice < p.weight.k_tiles) {
        std::byte* to = x_tile(stage, piece.slice) + 64 * piece.token + 16 * (piece.chunk ^ (piece.token / 2 % 4));
        ptx::copy_16_async(to, p.x + x_at[i]);
      }
      x_at[i] += kSlices * kColumnTile;
    }
    ptx::copies_commit();
    ++next_x;
  }

  __device__ void load_weights(uint4 (&to)[T.row_tiles][2]) {
    const bool inside = next_weights * kSlices + slice < p.weight.k_tiles;
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
      if (inside) {
        to[r][0] = ptx::load_weights_16(weight_at[r]);
        to[r][1] = ptx::load_weights_16(weight_at[r] + 512);
      }
      weight_at[r] += kSlices * kTileBytes;
    }
    ++next_weights;
  }

  /// Adds the product of one k tile.
  __device__ void multiply(const uint4 (&w)[T.row_tiles][2], const std::byte* x) {
    const std::byte* chunks = x + 64 * (lane % 8) + 16 * ((lane / 8) ^ (lane % 8 / 2));
#pragma unroll
    for (int n = 0; n < kTokenTiles; ++n) {
      std::uint32_t b[4];
      ptx::load_matrix_x4(b, chunks + 512 * n);
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const std::uint32_t b_step[2] = {b[2 * s], b[2 * s + 1]};
#pragma unroll
        for (int r = 0; r < T.row_tiles; ++r) {
          const std::uint32_t a[4] = {w[r][s].x, w[r][s].y, w[r][s].z, w[r][s].w};
          ptx::mma_s8(sums[r][n], a, b_step);
        }
      }
    }
  }

  /// Stores the sums of rows `row` and row + 8 of the block for one token.
  __device__ void store_pair(int row, int token, int lower_sum, int upper_sum) const {
    token += first_token;
    const int row_tile = blockIdx.y * kBlockRowTiles + row / kRowTile, g = row % kRowTile;
    if (token >= p.num_tokens || row_tile >= p.row_tiles) return;
    const std::byte* scales_at = p.weight.data + row_tile * p.weight.row_tile_bytes +
                                 static_cast<std::int64_t>(p.weight.k_tiles) * kTileBytes;
    const float2 scales = __ldg(reinterpret_cast<const float2*>(scales_at) + g);
    const float x_scale = p.x_scale[token];
    const float lower = __fmul_rn(__fmul_rn(__int2float_rn(lower_sum), scales.x), x_scale);
    const float upper = __fmul_rn(__fmul_rn(__int2float_rn(upper_sum), scales.y), x_scale);
    if (p.interleaved) {
      const int column = 8 * row_tile + g;
      if (column < p.rows / 2) store_gated(p.epilogue, token, p.first_row + column, lower, upper);
      return;
    }
    const int at = row_tile * kRowTile + g;
    if (at < p.rows) store_output(p.epilogue, token, p.first_row + at, lower);
    if (at + 8 < p.rows) store_output(p.epilogue, token, p.first_row + at + 8, upper);
  }

  /// Rows r and r + 8 of the block, and the token, of a pair of outputs. A warp's 32 pairs are spread so that its loads
  /// of their sums meet no bank twice.
  __device__ static void place_of(int pair, int& row, int& token) {
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

  /// Adds the slices' sums, through shared memory, and stores the outputs.
  __device__ void fold_and_store() {
    int* fold = reinterpret_cast<int*>(shared);
#pragma unroll
    for (int r = 0; r < T.row_tiles; ++r) {
#pragma unroll
      for (int n = 0; n < kTokenTiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int token = 8 * n + 2 * (lane % 4) + i % 2;
          const int row = (row_warp * T.row_tiles + r) * kRowTile + lane / 4 + i / 2 * 8;
          fold[(slice * T.tokens + token) * kFoldStride + row] = sums[r][n][i];
        }
      }
    }
    __syncthreads();
#pragma unroll 1
    for (int pair = threadIdx.x; pair < kBlockRowTiles * 8 * T.tokens; pair += kLinearI8Threads) {
      int row = 0, token = 0;
      place_of(pair, row, token);
      int lower = 0, upper = 0;
#pragma unroll
      for (int s = 0; s < kSlices; ++s) {
        const int* at = fold + (s * T.tokens + token) * kFoldStride + row;
        lower += at[0];
        upper += at[8];
      }
      store_pair(row, token, lower, upper);
    }
  }

  /// Of a block of one slice: each thread stores its own sums, in rounds through shared memory, so that the loop need
  /// not be unrolled.
  __device__ void store_own() {
    constexpr int kFragments = T.row_tiles * kTokenTiles, kKept = LinearI8Tile::kKept;
    int4* own = reinterpret_cast<int4*>(shared) + threadIdx.x;
#pragma unroll 1
    for (int first = 0; first < kFragments; first += kKept) {
#pragma unroll
      for (int f = 0; f < kFragments; ++f) {
        const int(&sum)[4] = sums[f / kTokenTiles][f % kTokenTiles];
        if (f / kKept * kKept == first) {
          own[f % kKept * kLinearI8Threads] = make_int4(sum[0], sum[1], sum[2], sum[3]);
        }
      }
#pragma unroll 1
      for (int i = 0; i < kKept; ++i) {
        const int4 sum = own[i * kLinearI8Threads];
        const int row = (row_warp * T.row_tiles + (first + i) / kTokenTiles) * kRowTile + lane / 4;
        const int token = (first + i) % kTokenTiles * 8 + 2 * (lane % 4);
        store_pair(row, token, sum.x, sum.z);
        store_pair(row, token + 1, sum.y, sum.w);
      }
    }
  }

  __device__ void run() {
    const int steps = (p.weight.k_tiles + kSlices - 1) / kSlices;
#pragma unroll
    for (int d = 0; d < T.depth; ++d) load_weights(weights[d]);
#pragma unroll
    for (int s = 0; s < T.stages - 1; ++s) copy_x(s);
    int stage = 0;
#pragma unroll 1
    for (int step = 0; step < steps; step += T.depth) {
#pragma unroll
      for (int d = 0; d < T.depth; ++d) {
        ptx::copies_wait<T.stages - 2>();
        if constexpr (kOwnX) {
          __syncwarp();
        } else {
          __syncthreads();
        }
        copy_x(stage == 0 ? T.stages - 1 : stage - 1);
        if ((step + d) * kSlices + slice < p.weight.k_tiles) multiply(weights[d], x_tile(stage, slice));
        load_weights(weights[d]);
        stage = stage + 1 == T.stages ? 0 : stage + 1;
      }
    }
    __syncthreads();  // x makes room
    if constexpr (kSlices == 1) {
      store_own();
    } else {
      fold_and_store();
    }
  }
};

template <int tile>
inline constexpr LinearI8Tile kLinearI8Tile = linear_i8_tile(tile);

}  // namespace inferd::cuda

#define INFERD_LINEAR_I8_KERNEL(tokens, tile)                                              \
  extern "C" __global__ void __launch_bounds__(kLinearI8Threads, tile < 3 ? 2 : 1)         \
      linear_i8_##tokens(const __grid_constant__ LinearI8Params p) {                       \
    extern __shared__ __align__(128) std::byte linear_i8_shared[];                         \
    LinearI8<kLinearI8Tile<tile>>(p, linear_i8_shared).run();                             \
  }
