// Element and block types of tensors: one row per type, shared by every reader and kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace inferd {

/// What the elements of a tensor are. Block types divide each row into blocks of `block_elements`.
enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  iq1_s,
  iq1_m,
  tq1_0,
  tq2_0,
  mxfp4,
  // inferd's own, of matrices quantised by groups of columns: bits of a code, columns of a group (quant_formats.h).
  g2_32,
  g2_128,
  g3_32,
  g3_128,
  g4_32,
  g4_64,
  g4_128,
  g8_32,
  g8_128,
  // likewise, of bitsandbytes' 4-bit codes (quant_formats.h)
  nf4,
  fp4,
  fp8,      // of KV caches only: e4m3, one f16 scale for a token's keys (or values) of a head; see kv_bytes
  f8_e4m3,  // of folders: sign, four bits of exponent, three of fraction
};

inline constexpr int kDTypeCount = static_cast<int>(DType::f8_e4m3) + 1;

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // as printed: "F16", "Q4_K"
  int ggml_type;          // id in GGUF files, -1 if none
  int block_elements;     // 1 for plain types
  int block_bytes;
  bool quantized;
};

/// The row of `dtype`.
const DTypeInfo& dtype_info(DType dtype);

/// The type with this GGUF id, if inferd can compute with it.
std::optional<DType> dtype_from_ggml(std::uint32_t ggml_type);

/// GGUF's name of a type id, also of those that inferd cannot load ("IQ2_XXS"); "unknown type" for other ids.
std::string_view ggml_type_name(std::uint32_t ggml_type);

/// Bytes of one row of `elements`, a multiple of block_elements.
inline std::size_t row_bytes(DType dtype, std::int64_t elements) {
  const DTypeInfo& info = dtype_info(dtype);
  return static_cast<std::size_t>(elements / info.block_elements) * static_cast<std::size_t>(info.block_bytes);
}

/// Bytes of the keys (or values) of `tokens` tokens and one head in a KV cache of this type. Those of fp8 are the codes
/// and, behind them, a scale for each token.
inline std::size_t kv_bytes(DType dtype, std::int64_t tokens, std::int64_t head_dim) {
  const std::size_t scales = dtype == DType::fp8 ? 2 * static_cast<std::size_t>(tokens) : 0;
  return row_bytes(dtype, tokens * head_dim) + scales;
}

}  // namespace inferd
