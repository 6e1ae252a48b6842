// Scalar decoders of all tensor types. Block layouts: the GGUF format's quantisation types, fields in file order.
#include "kernels/quant_formats.h"

#include <cstring>

#include "base/check.h"
#include "kernels/quant_formats_iq.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

template <typename T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float load_f16(Bytes at) { return f16_to_f32(load<std::uint16_t>(at)); }

/// Q4_0: f16 d, 16 bytes of two 4-bit codes: low nibbles are elements 0-15, high nibbles 16-31.
void decode_q4_0(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 16; ++j) {
    const int code = block[2 + j];
    out[j] = static_cast<float>((code & 15) - 8) * d;
    out[j + 16] = static_cast<float>((code >> 4) - 8) * d;
  }
}

/// Q4_1: f16 d, f16 m, codes as Q4_0 without offset.
void decode_q4_1(Bytes block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  for (int j = 0; j < 16; ++j) {
    const int code = block[4 + j];
    out[j] = static_cast<float>(code & 15) * d + m;
    out[j + 16] = static_cast<float>(code >> 4) * d + m;
  }
}

/// The 5-bit codes shared by Q5_0 and Q5_1: a 32-bit mask of fifth bits, then nibbles.
void unpack_5_bit(Bytes mask, Bytes nibbles, int codes[32]) {
  const auto high = load<std::uint32_t>(mask);
  for (int j = 0; j < 16; ++j) {
    codes[j] = (nibbles[j] & 15) | (static_cast<int>((high >> j) & 1u) << 4);
    codes[j + 16] = (nibbles[j] >> 4) | (static_cast<int>((high >> (j + 16)) & 1u) << 4);
  }
}

void decode_q5_0(Bytes block, float* out) {
  const float d = load_f16(block);
  int codes[32];
  unpack_5_bit(block + 2, block + 6, codes);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(codes[j] - 16) * d;
}

void decode_q5_1(Bytes block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  int codes[32];
  unpack_5_bit(block + 4, block + 8, codes);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(codes[j]) * d + m;
}

void decode_q8_0(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<std::int8_t>(block[2 + j])) * d;
}

/// The 2-bit code of element `e` in the 64-byte planes of Q2_K and Q3_K.
int two_bits(Bytes qs, int e) {
  const int half = e / 128;
  const int shift = 2 * (e % 128 / 32);
  return (qs[32 * half + e % 32] >> shift) & 3;
}

/// Q2_K: 16 bytes of (4-bit scale, 4-bit minimum) per 16 elements, 64 bytes of codes, f16 d, f16 dmin.
void decode_q2_k(Bytes block, float* out) {
  const float d = load_f16(block + 80);
  const float dmin = load_f16(block + 82);
  for (int e = 0; e < 256; ++e) {
    const int scale = block[e / 16];
    const float step = d * static_cast<float>(scale & 15);
    const float offset = dmin * static_cast<float>(scale >> 4);
    out[e] = step * static_cast<float>(two_bits(block + 16, e)) - offset;
  }
}

/// Q3_K: 32-byte mask of third bits, 64 bytes of low bits, 12 bytes of sixteen 6-bit scales, f16 d.
void decode_q3_k(Bytes block, float* out) {
  const Bytes mask = block;
  const Bytes packed = block + 96;
  const float d = load_f16(block + 108);
  float steps[16];
  for (int b = 0; b < 16; ++b) {
    const int low = (packed[b % 8] >> (4 * (b / 8))) & 15;
    const int high = (packed[8 + b % 4] >> (2 * (b / 4))) & 3;
    steps[b] = d * static_cast<float>((low | (high << 4)) - 32);
  }
  for (int e = 0; e < 256; ++e) {
    const bool third = (mask[e % 32] >> (e / 32)) & 1;
    const int code = two_bits(block + 32, e) - (third ? 0 : 4);
    out[e] = steps[e / 16] * static_cast<float>(code);
  }
}

/// Q4_K and Q5_K: f16 d, f16 dmin, 12 bytes of scales, (Q5_K: 32 bytes of fifth bits,) 128 bytes of nibbles.
void decode_q45_k(Bytes block, bool five_bits, float* out) {
  const float d = load_f16(block);
  const float dmin = load_f16(block + 2);
  std::uint8_t scales[8];
  std::uint8_t minima[8];
  unpack_k_scales(block + 4, scales, minima);
  const Bytes high = block + 16;
  const Bytes nibbles = block + (five_bits ? 48 : 16);
  for (int b = 0; b < 8; ++b) {
    const float step = d * static_cast<float>(scales[b]);
    const float offset = dmin * static_cast<float>(minima[b]);
    for (int l = 0; l < 32; ++l) {
      int code = (nibbles[32 * (b / 2) + l] >> (4 * (b % 2))) & 15;
      if (five_bits) code |= ((high[l] >> b) & 1) << 4;
      out[32 * b + l] = step * static_cast<float>(code) - offset;
    }
  }
}

/// Q6_K: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales, f16 d.
void decode_q6_k(Bytes block, float* out) {
  const Bytes upper = block + 128;
  const float d = load_f16(block + 208);
  float steps[16];
  for (int b = 0; b < 16; ++b) steps[b] = d * static_cast<float>(static_cast<std::int8_t>(block[192 + b]));
  for (int e = 0; e < 256; ++e) {
    const int half = e / 128;
    const int quarter = e % 128 / 32;
    const int l = e % 32;
    const int low = (block[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2))) & 15;
    const int high = (upper[32 * half + l] >> (2 * quarter)) & 3;
    out[e] = steps[e / 16] * static_cast<float>((low | (high << 4)) - 32);
  }
}

void decode_iq4_nl(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(kIq4Values[block[2 + j] & 15]);
    out[j + 16] = d * static_cast<float>(kIq4Values[block[2 + j] >> 4]);
  }
}

/// IQ4_XS: f16 d, u16 upper scale bits, 4 bytes of lower scale bits, 128 bytes of codes.
void decode_iq4_xs(Bytes block, float* out) {
  const float d = load_f16(block);
  const int scales_high = load<std::uint16_t>(block + 2);
  for (int b = 0; b < 8; ++b) {
    const int low = (block[4 + b / 2] >> (4 * (b % 2))) & 15;
    const int scale = low | (((scales_high >> (2 * b)) & 3) << 4);
    const float step = d * static_cast<float>(scale - 32);
    for (int j = 0; j < 16; ++j) {
      const int codes = block[8 + 16 * b + j];
      out[32 * b + j] = step * static_cast<float>(kIq4Values[codes & 15]);
      out[32 * b + j + 16] = step * static_cast<float>(kIq4Values[codes >> 4]);
    }
  }
}

void decode_group(GroupFormat format, Bytes block, float* out) {
  const auto scale = load<float>(block);
  const int zero = block[kGroupZeroAt];
  for (int k = 0; k < format.columns; ++k) {
    out[k] = scale * static_cast<float>(read_code(block + kGroupCodesAt, format.bits, k) - zero);
  }
}

void decode_wide_table(const WideTable& table, Bytes block, float* out) {
  const auto scale = load<float>(block);
  for (int k = 0; k < 64; ++k) out[k] = scale * static_cast<float>(table.values[read_code(block + kWideCodesAt, 4, k)]);
}

template <typename T>
void widen(Bytes source, float* out, std::int64_t elements) {
  for (std::int64_t i = 0; i < elements; ++i) {
    out[i] = static_cast<float>(load<T>(source + static_cast<std::size_t>(i) * sizeof(T)));
  }
}

template <typename Decode>
void decode_blocks(DType dtype, Bytes source, float* out, std::int64_t elements, Decode decode) {
  const DTypeInfo& info = dtype_info(dtype);
  for (std::int64_t done = 0; done < elements; done += info.block_elements) {
    decode(source, out + done);
    source += info.block_bytes;
  }
}

void dequantize_plain(DType dtype, Bytes source, float* out, std::int64_t elements) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, source, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case DType::f16:
      for (std::int64_t i = 0; i < elements; ++i) out[i] = load_f16(source + 2 * i);
      return;
    case DType::bf16:
      for (std::int64_t i = 0; i < elements; ++i) out[i] = bf16_to_f32(load<std::uint16_t>(source + 2 * i));
      return;
    case DType::f64:
      return widen<double>(source, out, elements);
    case DType::i8:
      return widen<std::int8_t>(source, out, elements);
    case DType::i16:
      return widen<std::int16_t>(source, out, elements);
    case DType::i32:
      return widen<std::int32_t>(source, out, elements);
    case DType::i64:
      return widen<std::int64_t>(source, out, elements);
    case DType::u8:
      return widen<std::uint8_t>(source, out, elements);
    case DType::f8_e4m3:
      for (std::int64_t i = 0; i < elements; ++i) out[i] = f8_e4m3_to_f32(source[i]);
      return;
    case DType::boolean:
      for (std::int64_t i = 0; i < elements; ++i) out[i] = source[i] != 0 ? 1.0f : 0.0f;
      return;
    default:
      INFERD_CHECK(false);
  }
}

}  // namespace

void dequantize_row(DType dtype, const std::byte* source_bytes, float* out, std::int64_t elements) {
  const Bytes source = reinterpret_cast<Bytes>(source_bytes);
  INFERD_CHECK(elements >= 0 && elements % dtype_info(dtype).block_elements == 0);
  if (elements == 0) return;
  const auto blocks = [&](auto decode) { decode_blocks(dtype, source, out, elements, decode); };
  switch (dtype) {
    case DType::q4_0:
      return blocks(decode_q4_0);
    case DType::q4_1:
      return blocks(decode_q4_1);
    case DType::q5_0:
      return blocks(decode_q5_0);
    case DType::q5_1:
      return blocks(decode_q5_1);
    case DType::q8_0:
      return blocks(decode_q8_0);
    case DType::q2_k:
      return blocks(decode_q2_k);
    case DType::q3_k:
      return blocks(decode_q3_k);
    case DType::q4_k:
      return blocks([](Bytes block, float* to) { decode_q45_k(block, false, to); });
    case DType::q5_k:
      return blocks([](Bytes block, float* to) { decode_q45_k(block, true, to); });
    case DType::q6_k:
      return blocks(decode_q6_k);
    case DType::iq4_nl:
      return blocks(decode_iq4_nl);
    case DType::iq4_xs:
      return blocks(decode_iq4_xs);
    case DType::iq2_xxs:
      return blocks(decode_iq2_xxs);
    case DType::iq2_xs:
      return blocks(decode_iq2_xs);
    case DType::iq2_s:
      return blocks(decode_iq2_s);
    case DType::iq3_xxs:
      return blocks(decode_iq3_xxs);
    case DType::iq3_s:
      return blocks(decode_iq3_s);
    case DType::iq1_s:
      return blocks(decode_iq1_s);
    case DType::iq1_m:
      return blocks(decode_iq1_m);
    case DType::tq1_0:
      return blocks(decode_tq1_0);
    case DType::tq2_0:
      return blocks(decode_tq2_0);
    case DType::mxfp4:
      return blocks(decode_mxfp4);
    case DType::nf4:
    case DType::fp4:
      return blocks([dtype](Bytes block, float* to) { decode_wide_table(wide_table(dtype), block, to); });
    default:
      if (const GroupFormat format = group_format(dtype); format.bits > 0) {
        return blocks([format](Bytes block, float* to) { decode_group(format, block, to); });
      }
      return dequantize_plain(dtype, source, out, elements);
  }
}

}  // namespace inferd
