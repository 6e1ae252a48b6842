// Linear layers of one instruction level: picks the tile kernels, walks units and tokens.
#include "kernels/cpu/level.h"
#include "kernels/cpu/linear/level/epilogue.h"

namespace inferd {
namespace {

/// Splits `tokens` (at most kTokenChunk, from a multiple of 4) into passes whose accumulators fit the registers.
template <template <int> class Pass, typename... Args>
INFERD_ALWAYS_INLINE void for_passes(int tokens, const Args&... args) {
  int done = 0;
  while (tokens - done >= kMaxPassTokens) {
    Pass<kMaxPassTokens>::run(done, args...);
    done += kMaxPassTokens;
  }
  if constexpr (kMaxPassTokens > 8) {
    if (tokens - done >= 8) {
      Pass<8>::run(done, args...);
      done += 8;
    }
  }
  if constexpr (kMaxPassTokens > 4) {
    if (tokens - done >= 4) {
      Pass<4>::run(done, args...);
      done += 4;
    }
  }
  switch (tokens - done) {
    case 1: return Pass<1>::run(done, args...);
    case 2: return Pass<2>::run(done, args...);
    case 3: return Pass<3>::run(done, args...);
    default: return;
  }
}

PassInput input_from(const PassInput& chunk, int done) {
  PassInput x = chunk;
  if (x.blocks != nullptr) x.blocks += done / kActivationGroup * x.kblocks * kActivationGroup;
  if (x.f32 != nullptr) x.f32 += done * x.f32_stride;
  return x;
}

template <DType kType>
struct Quantized {
  template <int kTokens>
  struct Pass {
    static void run(int done, const std::byte* tile, const PassInput& chunk, float* raw) {
      quantized_pass<kType, kTokens>(tile, input_from(chunk, done), raw + done * kRawStride);
    }
  };
};

template <typename Elements>
struct Plain {
  template <int kTokens>
  struct Pass {
    static void run(int done, const std::byte* tile, std::int64_t columns, const PassInput& chunk, float* raw) {
      if constexpr (kTokens > 8) {  // two vectors of weights leave room for eight tokens
        Pass<8>::run(done, tile, columns, chunk, raw);
        Pass<kTokens - 8>::run(done + 8, tile, columns, chunk, raw);
      } else {
        plain_pass<Elements, kTokens>(tile, columns, input_from(chunk, done), raw + done * kRawStride);
      }
    }
  };
};

template <DType kType>
void quantized_tile(const std::byte* tile, int tokens, const PassInput& chunk, float* raw) {
  for_passes<Quantized<kType>::template Pass>(tokens, tile, chunk, raw);
}

template <typename Elements>
void plain_tile(const std::byte* tile, std::int64_t columns, int tokens, const PassInput& chunk, float* raw) {
  for_passes<Plain<Elements>::template Pass>(tokens, tile, columns, chunk, raw);
}

/// One packed tile times a chunk of tokens.
void run_tile(const LinearJob& job, const TilePiece& piece, int tokens, const PassInput& chunk, float* raw,
              float* decode_scratch) {
  const std::byte* tile = piece.tile;
  const std::int64_t columns = job.in_columns;
  switch (piece.dtype) {
    case DType::f32: return plain_tile<F32Elements>(tile, columns, tokens, chunk, raw);
    case DType::f16: return plain_tile<F16Elements>(tile, columns, tokens, chunk, raw);
    case DType::bf16: return plain_tile<Bf16Elements>(tile, columns, tokens, chunk, raw);
    default: break;
  }
  if (job.exact) {
    job.decode_tile(piece.dtype, tile, columns, decode_scratch);
    return plain_tile<F32Elements>(reinterpret_cast<const std::byte*>(decode_scratch), columns, tokens, chunk, raw);
  }
  switch (piece.dtype) {
    case DType::q4_0: return quantized_tile<DType::q4_0>(tile, tokens, chunk, raw);
    case DType::q4_1: return quantized_tile<DType::q4_1>(tile, tokens, chunk, raw);
    case DType::q5_0: return quantized_tile<DType::q5_0>(tile, tokens, chunk, raw);
    case DType::q5_1: return quantized_tile<DType::q5_1>(tile, tokens, chunk, raw);
    case DType::q8_0: return quantized_tile<DType::q8_0>(tile, tokens, chunk, raw);
    case DType::q2_k: return quantized_tile<DType::q2_k>(tile, tokens, chunk, raw);
    case DType::q3_k: return quantized_tile<DType::q3_k>(tile, tokens, chunk, raw);
    case DType::q4_k: return quantized_tile<DType::q4_k>(tile, tokens, chunk, raw);
    case DType::q5_k: return quantized_tile<DType::q5_k>(tile, tokens, chunk, raw);
    case DType::q6_k: return quantized_tile<DType::q6_k>(tile, tokens, chunk, raw);
    case DType::iq4_nl: return quantized_tile<DType::iq4_nl>(tile, tokens, chunk, raw);
    case DType::iq4_xs: return quantized_tile<DType::iq4_xs>(tile, tokens, chunk, raw);
    default: return;  // load_weight accepts no other type
  }
}

/// The 16 columns of an output tile, from all pieces that provide lanes of it; to raw[t * kRawStride + lane].
void run_output_tile(const LinearJob& job, std::int64_t output_tile, int tokens, const PassInput& chunk, float* raw,
                     float* decode_scratch) {
  const std::uint32_t begin = job.piece_starts[output_tile];
  const std::uint32_t end = job.piece_starts[output_tile + 1];
  if (end - begin == 1) return run_tile(job, job.pieces[begin], tokens, chunk, raw, decode_scratch);
  alignas(64) float lanes[kTokenChunk * kRawStride];
  for (std::uint32_t p = begin; p < end; ++p) {
    const TilePiece& piece = job.pieces[p];
    run_tile(job, piece, tokens, chunk, lanes, decode_scratch);
    for (int t = 0; t < tokens; ++t) {
      for (int lane = piece.first_lane; lane < piece.last_lane; ++lane) {
        raw[t * kRawStride + lane] = lanes[t * kRawStride + lane];
      }
    }
  }
}

void run_units(const LinearJob& job, std::int64_t unit_begin, std::int64_t unit_end, std::int64_t token_begin,
               std::int64_t token_end, float* decode_scratch) {
  const bool gated = job.epilogue == Epilogue::silu_gated || job.epilogue == Epilogue::gelu_tanh_gated;
  alignas(64) float raw[kTokenChunk * kRawStride];
  alignas(64) float raw_up[kTokenChunk * kRawStride];
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t tile = unit * 2;
    const int tiles = job.out_columns - unit * kUnitColumns > kTileRows ? 2 : 1;
    for (std::int64_t token = token_begin; token < token_end; token += kTokenChunk) {
      const int tokens = token_end - token < kTokenChunk ? static_cast<int>(token_end - token) : kTokenChunk;
      PassInput chunk;
      chunk.kblocks = job.x.kblocks;
      chunk.f32_stride = job.x.f32_stride;
      if (job.x.blocks != nullptr) chunk.blocks = job.x.blocks + token * job.x.kblocks;
      if (job.x.f32 != nullptr) chunk.f32 = job.x.f32 + token * job.x.f32_stride;
      for (int i = 0; i < tiles; ++i) {
        run_output_tile(job, tile + i, tokens, chunk, raw + i * kTileRows, decode_scratch);
        if (gated) {
          run_output_tile(job, tile + i + job.up_tiles, tokens, chunk, raw_up + i * kTileRows, decode_scratch);
        }
      }
      if (tiles == 1) {  // the missing half is beyond the last column, but is read
        for (int t = 0; t < tokens; ++t) {
          std::memset(raw + t * kRawStride + kTileRows, 0, kTileRows * sizeof(float));
          std::memset(raw_up + t * kRawStride + kTileRows, 0, kTileRows * sizeof(float));
        }
      }
      finish_unit(job, unit, token, tokens, raw, raw_up);
    }
  }
}

}  // namespace

namespace INFERD_LEVEL {
extern const LinearKernels kLinearKernels;
const LinearKernels kLinearKernels = {&run_units, &store_row};
}  // namespace INFERD_LEVEL

}  // namespace inferd
