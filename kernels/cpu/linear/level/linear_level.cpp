// Linear layers of one instruction level: picks the tile kernels, walks units and tokens.
#include "kernels/cpu/level.h"
#include "kernels/cpu/linear/level/epilogue.h"
#include "kernels/cpu/linear/level/spread_groups.h"
#if INFERD_LEVEL_RANK == 1 || INFERD_LEVEL_RANK == 2
#include "kernels/cpu/linear/level/prepared_tile.h"
#elif INFERD_LEVEL_RANK == 3
#include "kernels/cpu/linear/level/amx_tile.h"
#endif

namespace inferd {
namespace {

/// Splits `tokens` (at most kMostStepTokens, from a multiple of kRowAlign) into passes whose accumulators fit the
/// registers.
template <int kMost, template <int> class Pass, typename... Args>
INFERD_ALWAYS_INLINE void for_passes(int tokens, const Args&... args) {
  int done = 0;
  for (; tokens - done >= kMost; done += kMost) Pass<kMost>::run(done, args...);
  if constexpr (kMost > 8) {
    if (tokens - done >= 8) {
      Pass<8>::run(done, args...);
      done += 8;
    }
  }
  if constexpr (kMost > 4) {
    if (tokens - done >= 4) {
      Pass<4>::run(done, args...);
      done += 4;
    }
  }
  switch (tokens - done) {
    case 1:
      return Pass<1>::run(done, args...);
    case 2:
      return Pass<2>::run(done, args...);
    case 3:
      return Pass<3>::run(done, args...);
    default:
      return;
  }
}

PassInput input_from(const PassInput& chunk, int done) {
  PassInput x = chunk;
  x.token += done;
  if (x.f32 != nullptr) x.f32 += done * x.f32_stride;
  return x;
}

template <DType kType, bool kMore>
struct Quantized {
  template <int kTokens>
  struct Pass {
    static void run(int done, const std::byte* tile, std::int64_t kblocks, const PassInput& chunk, float* raw) {
      quantized_pass<kType, kMore, kTokens>(tile, kblocks, input_from(chunk, done), raw + done * kRawStride);
    }
  };
};

template <typename Elements, int kTiles>
struct Plain {
  template <int kTokens>
  struct Pass {
    static void run(int done, const std::byte* const* tiles, std::int64_t columns, const PassInput& chunk, float* raw) {
      plain_pass<Elements, kTokens, kTiles>(tiles, columns, input_from(chunk, done), raw + done * kRawStride);
    }
  };
};

#if INFERD_LEVEL_RANK == 1 || INFERD_LEVEL_RANK == 2

template <DType kType>
struct FromPanel {
  template <int kTokens>
  struct Pass {
    static void run(int done, const std::byte* panel, int blocks, const PassInput& chunk, Ahead* ahead, float* raw) {
      prepared_pass<kType, kTokens>(panel, blocks, blocks_of(chunk, done), ahead, raw + done * kRawStride);
    }
  };
};

/// Unpacks the tile once for all tokens.
template <DType kType, bool kMore>
void prepared_tile(const std::byte* tile, std::int64_t kblocks, int tokens, const PassInput& chunk, float* raw) {
  using P = Prepared<kType>;
  alignas(64) std::byte panel[P::kBlocks * P::kBytes];
  for (int t = 0; t < tokens && !kMore; ++t) std::memset(raw + t * kRawStride, 0, kTileRows * sizeof(float));
  PassInput x = chunk;
  for (std::int64_t begin = 0; begin < kblocks; begin += P::kBlocks, x.blocks += P::kBlocks * kActivationGroup) {
    const std::int64_t left = kblocks - begin;
    const int blocks = left < P::kBlocks ? static_cast<int>(left) : P::kBlocks;
    prepare_panel<kType>(tile, begin, blocks, kblocks, panel);
    // Tiles lie in the order they are read.
    constexpr int kGroupBytes = P::F::kPacked.group_bytes(kGroupBlocks);
    const std::byte* next = tile + (begin + blocks) / kGroupBlocks * kGroupBytes;
    Ahead ahead{next, next + static_cast<std::int64_t>(blocks) * kGroupBytes / kGroupBlocks + 64};
    for_passes<4, FromPanel<kType>::template Pass>(tokens, panel, blocks, x, &ahead, raw);
  }
}

/// From how many tokens on unpacking a tile apart pays.
constexpr int kPreparedTokens = 5;

#endif

/// `kblocks` blocks of a tile times the chunk's; with kMore added to raw.
template <DType kType, bool kMore>
void quantized_blocks(const std::byte* tile, std::int64_t kblocks, int tokens, const PassInput& chunk, float* raw) {
#if INFERD_LEVEL_RANK == 1 || INFERD_LEVEL_RANK == 2
  if (tokens >= kPreparedTokens) return prepared_tile<kType, kMore>(tile, kblocks, tokens, chunk, raw);
#elif INFERD_LEVEL_RANK == 3
  constexpr int kFewest = Format<kType>::kHalves ? kFewestMatrixTokensOfHalves : kFewestMatrixTokens;
  if (chunk.matrix_unit && tokens >= kFewest) {
    return amx_tile<kType, kMore>(tile, kblocks, tokens, chunk, raw);
  }
#endif
  for_passes<kMaxPassTokens, Quantized<kType, kMore>::template Pass>(tokens, tile, kblocks, chunk, raw);
}

template <DType kType>
void quantized_tile(const std::byte* tile, int tokens, const PassInput& chunk, float* raw) {
  quantized_blocks<kType, false>(tile, chunk.kblocks, tokens, chunk, raw);
}

/// kTiles plain tiles whose lanes stand side by side in raw.
template <int kTiles>
void plain_tiles(DType dtype, const std::byte* const* tiles, std::int64_t columns, int tokens, const PassInput& chunk,
                 float* raw) {
  switch (dtype) {
    case DType::f16:
      return for_passes<kMaxPlainTokens, Plain<F16Elements, kTiles>::template Pass>(tokens, tiles, columns, chunk, raw);
    case DType::bf16:
      return for_passes<kMaxPlainTokens, Plain<Bf16Elements, kTiles>::template Pass>(tokens, tiles, columns, chunk,
                                                                                     raw);
    default:
      return for_passes<kMaxPlainTokens, Plain<F32Elements, kTiles>::template Pass>(tokens, tiles, columns, chunk, raw);
  }
}

/// kStepTokens, or what the matrix unit makes of it.
#if INFERD_LEVEL_RANK == 3
constexpr int kMostStepTokens = kMatrixTokens;
#else
constexpr int kMostStepTokens = kStepTokens;
#endif

constexpr bool is_plain(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

/// The tokens from `token` on, a multiple of kRowAlign.
PassInput chunk_at(const ActivationView& x, std::int64_t token, bool matrix_unit) {
  PassInput chunk;
  chunk.matrix_unit = matrix_unit;
  chunk.token = token;
  chunk.kblocks = x.kblocks;
  chunk.f32_stride = x.f32_stride;
  chunk.blocks = x.blocks;
  if (x.f32 != nullptr) chunk.f32 = x.f32 + token * x.f32_stride;
  return chunk;
}

/// Tiles that are kept as stored: those of a unit are spread once for all tokens of a call.
class SpreadTiles {
 public:
  SpreadTiles(float* scratch, bool one_step) : memory_(reinterpret_cast<std::byte*>(scratch)), one_step_(one_step) {}

  /// One tile times a chunk of tokens.
  template <DType kType>
  void run(const LinearJob& job, const TilePiece& piece, int tokens, const PassInput& chunk, float* raw) {
    if (one_step_) return run_groups<kType>(job, piece, tokens, chunk, raw);
    quantized_tile<kType>(find(job, piece), tokens, chunk, raw);
  }

 private:
  static constexpr int kTiles = 4;
  static constexpr int kGroups = 2;  // that a first-level cache holds beside the activations

  /// A few groups of columns at a time, which nobody else needs.
  template <DType kType>
  void run_groups(const LinearJob& job, const TilePiece& piece, int tokens, const PassInput& chunk, float* raw) {
    const std::int64_t groups = chunk.kblocks / kGroupBlocks;
    PassInput x = chunk;
    for (std::int64_t group = 0; group < groups; group += kGroups) {
      const std::int64_t count = groups - group < kGroups ? groups - group : kGroups;
      spread_groups(piece.dtype, piece.tile, job.in_columns, group, count, memory_);
      const std::int64_t blocks = count * kGroupBlocks;
      if (group == 0) {
        quantized_blocks<kType, false>(memory_, blocks, tokens, x, raw);
      } else {
        quantized_blocks<kType, true>(memory_, blocks, tokens, x, raw);
      }
      x.blocks += blocks * kActivationGroup;
    }
  }

  const std::byte* find(const LinearJob& job, const TilePiece& piece) {
    for (int i = 0; i < kTiles; ++i) {
      if (tiles_[i] == piece.tile) return place(job, i);
    }
    const int at = next_;
    next_ = (next_ + 1) % kTiles;
    tiles_[at] = piece.tile;
    spread_groups(piece.dtype, piece.tile, job.in_columns, 0, job.in_columns / kGroupColumns, place(job, at));
    return place(job, at);
  }
  std::byte* place(const LinearJob& job, int index) const {
    return memory_ + index * spread_tile_bytes(kSpread16, job.in_columns);
  }

  std::byte* memory_;
  bool one_step_;
  const std::byte* tiles_[kTiles] = {};
  int next_ = 0;
};
static_assert(4 * spread_tile_bytes(kSpread16, 256) <= kScratchFloats * 256 * std::int64_t{sizeof(float)});

/// One packed tile times a chunk of tokens.
void run_tile(const LinearJob& job, const TilePiece& piece, int tokens, const PassInput& natural, float* raw,
              float* decode_scratch, SpreadTiles* spread) {
  const PassInput chunk =
      piece.order == 0 ? natural : chunk_at(job.reordered[piece.order - 1], natural.token, natural.matrix_unit);
  const std::byte* tile = piece.tile;
  const std::int64_t columns = job.in_columns;
  if (is_plain(piece.dtype)) return plain_tiles<1>(piece.dtype, &tile, columns, tokens, chunk, raw);
  if (job.exact) {
    job.decode_tile(piece.dtype, tile, columns, decode_scratch);
    tile = reinterpret_cast<const std::byte*>(decode_scratch);
    return plain_tiles<1>(DType::f32, &tile, columns, tokens, chunk, raw);
  }
  if (is_kept_as_stored(piece.dtype)) {
    if (spread_type(piece.dtype) == kSpread16) return spread->run<kSpread16>(job, piece, tokens, chunk, raw);
    return spread->run<kSpread32>(job, piece, tokens, chunk, raw);
  }
  switch (piece.dtype) {
    case DType::q4_0:
      return quantized_tile<DType::q4_0>(tile, tokens, chunk, raw);
    case DType::q4_1:
      return quantized_tile<DType::q4_1>(tile, tokens, chunk, raw);
    case DType::q5_0:
      return quantized_tile<DType::q5_0>(tile, tokens, chunk, raw);
    case DType::q5_1:
      return quantized_tile<DType::q5_1>(tile, tokens, chunk, raw);
    case DType::q8_0:
      return quantized_tile<DType::q8_0>(tile, tokens, chunk, raw);
    case DType::q2_k:
      return quantized_tile<DType::q2_k>(tile, tokens, chunk, raw);
    case DType::q3_k:
      return quantized_tile<DType::q3_k>(tile, tokens, chunk, raw);
    case DType::q4_k:
      return quantized_tile<DType::q4_k>(tile, tokens, chunk, raw);
    case DType::q5_k:
      return quantized_tile<DType::q5_k>(tile, tokens, chunk, raw);
    case DType::q6_k:
      return quantized_tile<DType::q6_k>(tile, tokens, chunk, raw);
    case DType::iq4_nl:
      return quantized_tile<DType::iq4_nl>(tile, tokens, chunk, raw);
    case DType::iq4_xs:
      return quantized_tile<DType::iq4_xs>(tile, tokens, chunk, raw);
    case DType::tq2_0:
      return quantized_tile<DType::tq2_0>(tile, tokens, chunk, raw);
    case DType::mxfp4:
      return quantized_tile<DType::mxfp4>(tile, tokens, chunk, raw);
    case DType::g2_32:
      return quantized_tile<DType::g2_32>(tile, tokens, chunk, raw);
    case DType::g2_128:
      return quantized_tile<DType::g2_128>(tile, tokens, chunk, raw);
    case DType::g3_32:
      return quantized_tile<DType::g3_32>(tile, tokens, chunk, raw);
    case DType::g3_128:
      return quantized_tile<DType::g3_128>(tile, tokens, chunk, raw);
    case DType::g4_32:
      return quantized_tile<DType::g4_32>(tile, tokens, chunk, raw);
    case DType::g4_64:
      return quantized_tile<DType::g4_64>(tile, tokens, chunk, raw);
    case DType::g4_128:
      return quantized_tile<DType::g4_128>(tile, tokens, chunk, raw);
    case DType::g8_32:
      return quantized_tile<DType::g8_32>(tile, tokens, chunk, raw);
    case DType::g8_128:
      return quantized_tile<DType::g8_128>(tile, tokens, chunk, raw);
    case DType::nf4:
      return quantized_tile<DType::nf4>(tile, tokens, chunk, raw);
    case DType::fp4:
      return quantized_tile<DType::fp4>(tile, tokens, chunk, raw);
    default:
      return;  // load_weight accepts no other type
  }
}

/// The 16 columns of an output tile, from all pieces that provide lanes of it; to raw[t * kRawStride + lane].
void run_output_tile(const LinearJob& job, std::int64_t output_tile, int tokens, const PassInput& chunk, float* raw,
                     float* decode_scratch, SpreadTiles* spread) {
  const std::uint32_t begin = job.piece_starts[output_tile];
  const std::uint32_t end = job.piece_starts[output_tile + 1];
  if (end - begin == 1) return run_tile(job, job.pieces[begin], tokens, chunk, raw, decode_scratch, spread);
  alignas(64) float lanes[kMostStepTokens * kRawStride];
  for (std::uint32_t p = begin; p < end; ++p) {
    const TilePiece& piece = job.pieces[p];
    run_tile(job, piece, tokens, chunk, lanes, decode_scratch, spread);
    for (int t = 0; t < tokens; ++t) {
      for (int lane = piece.first_lane; lane < piece.last_lane; ++lane) {
        raw[t * kRawStride + lane] = lanes[t * kRawStride + lane];
      }
    }
  }
}

/// The first `tiles` (1 or 2) tiles of a unit, from output tile `tile` on.
void run_unit_tiles(const LinearJob& job, std::int64_t tile, int tiles, int tokens, const PassInput& chunk, float* raw,
                    float* decode_scratch, SpreadTiles* spread) {
  const std::uint32_t first = job.piece_starts[tile];
  // With 512-bit vectors a plain tile is one vector: two tiles at a time share the activations.
  if (kParts == 1 && tiles == 2 && job.piece_starts[tile + 2] - first == 2) {
    const TilePiece* pieces = job.pieces + first;
    if (is_plain(pieces[0].dtype) && pieces[0].dtype == pieces[1].dtype) {
      const std::byte* const both[2] = {pieces[0].tile, pieces[1].tile};
      return plain_tiles<2>(pieces[0].dtype, both, job.in_columns, tokens, chunk, raw);
    }
  }
  for (int i = 0; i < tiles; ++i) {
    run_output_tile(job, tile + i, tokens, chunk, raw + i * kTileRows, decode_scratch, spread);
  }
}

void walk_units(const LinearJob& job, std::int64_t unit_begin, std::int64_t unit_end, std::int64_t token_begin,
                std::int64_t token_end, float* decode_scratch, bool matrix_unit) {
  const int step_tokens = matrix_unit ? kMostStepTokens : kStepTokens;
  const bool gated = is_gated(job.epilogue);
  SpreadTiles spread(decode_scratch, token_end - token_begin <= step_tokens);
  alignas(64) float raw[kMostStepTokens * kRawStride];
  alignas(64) float raw_up[kMostStepTokens * kRawStride];
  for (std::int64_t unit = unit_begin; unit < unit_end; ++unit) {
    const std::int64_t tile = unit * 2;
    const int tiles = job.out_columns - unit * kUnitColumns > kTileRows ? 2 : 1;
    for (std::int64_t token = token_begin; token < token_end; token += step_tokens) {
      const int tokens = token_end - token < step_tokens ? static_cast<int>(token_end - token) : step_tokens;
      const PassInput chunk = chunk_at(job.x, token, matrix_unit);
      run_unit_tiles(job, tile, tiles, tokens, chunk, raw, decode_scratch, &spread);
      if (gated) run_unit_tiles(job, tile + job.up_tiles, tiles, tokens, chunk, raw_up, decode_scratch, &spread);
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

void run_units(const LinearJob& job, std::int64_t unit_begin, std::int64_t unit_end, std::int64_t token_begin,
               std::int64_t token_end, float* decode_scratch) {
  walk_units(job, unit_begin, unit_end, token_begin, token_end, decode_scratch, false);
}

#if INFERD_LEVEL_RANK == 3

void run_units_on_matrix_unit(const LinearJob& job, std::int64_t unit_begin, std::int64_t unit_end,
                              std::int64_t token_begin, std::int64_t token_end, float* decode_scratch) {
  const bool wanted = job.x.blocks != nullptr && token_end - token_begin >= kFewestMatrixTokens;
  const MatrixUnit unit(wanted ? &kBlockTiles : nullptr);
  walk_units(job, unit_begin, unit_end, token_begin, token_end, decode_scratch, wanted);
}

#endif

}  // namespace

namespace INFERD_LEVEL {
extern const LinearKernels kLinearKernels;
const LinearKernels kLinearKernels = {&run_units, &store_row};
#if INFERD_LEVEL_RANK == 3
extern const LinearKernels kAmxLinearKernels;
const LinearKernels kAmxLinearKernels = {&run_units_on_matrix_unit, &store_row};
#endif
}  // namespace INFERD_LEVEL

}  // namespace inferd
