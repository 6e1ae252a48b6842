// Scalar decoders of lattice-coded (IQ1, IQ2, IQ3), ternary (TQ) and microscaling (MXFP4) blocks.
#include "kernels/quant_formats_iq.h"

#include <bit>
#include <cstring>

#include "kernels/quant_formats.h"
#include "kernels/quant_grids.h"

namespace inferd {
namespace {

using Bytes = const std::uint8_t*;

constexpr float kIq2Values[4] = {8, 25, 43, 0};
constexpr float kIq3XxsValues[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kIq3SValues[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr float kIq1Delta = 0.125f;

template <typename T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float load_f16(Bytes at) { return f16_to_f32(load<std::uint16_t>(at)); }

/// Seven sign bits and an eighth that makes the number of set ones even.
int with_parity(int seven) { return seven | (std::popcount(static_cast<unsigned>(seven)) % 2 << 7); }

/// Eight values of a 2-bit lattice; bit i of `signs` negates value i.
void write_iq2(int point, int signs, float scale, float* out) {
  for (int i = 0; i < 8; ++i) {
    const float value = scale * kIq2Values[(point >> (2 * i)) & 3];
    out[i] = (signs >> i) & 1 ? -value : value;
  }
}

/// Four values of a 3-bit lattice.
void write_iq3(int point, int signs, const float* values, float scale, float* out) {
  for (int i = 0; i < 4; ++i) {
    const float value = scale * values[(point >> (3 * i)) & 7];
    out[i] = (signs >> i) & 1 ? -value : value;
  }
}

/// Eight of -1, 0, 1, all moved by delta.
void write_iq1(int point, float delta, float scale, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * (static_cast<float>(((point >> (2 * i)) & 3) - 1) + delta);
}

}  // namespace

/// f16 d; for each 32: four 8-bit points, u32 of four 7-bit signs and a 4-bit scale.
void decode_iq2_xxs(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int b = 0; b < 8; ++b) {
    const Bytes points = block + 2 + 8 * b;
    const auto packed = load<std::uint32_t>(points + 4);
    const float scale = d * (0.5f + static_cast<float>(packed >> 28)) * 0.25f;
    for (int i = 0; i < 4; ++i) {
      const int signs = with_parity(static_cast<int>((packed >> (7 * i)) & 127));
      write_iq2(kIq2XxsGrid[points[i]], signs, scale, out + 32 * b + 8 * i);
    }
  }
}

/// f16 d; 32 u16 of a 9-bit point and a 7-bit sign; 8 bytes of 4-bit scales, one for each 16.
void decode_iq2_xs(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) {
    const int packed = load<std::uint16_t>(block + 2 + 2 * i);
    const int nibble = (block[66 + i / 4] >> (4 * (i / 2 % 2))) & 15;
    const float scale = d * (0.5f + static_cast<float>(nibble)) * 0.25f;
    write_iq2(kIq2XsGrid[packed & 511], with_parity(packed >> 9), scale, out + 8 * i);
  }
}

/// f16 d; 32 bytes of points, 32 of signs, 8 of the points' upper two bits, 8 of 4-bit scales, one for each 16.
void decode_iq2_s(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) {
    const int point = block[2 + i] | (((block[66 + i / 4] >> (2 * (i % 4))) & 3) << 8);
    const int nibble = (block[74 + i / 4] >> (4 * (i / 2 % 2))) & 15;
    const float scale = d * (0.5f + static_cast<float>(nibble)) * 0.25f;
    write_iq2(kIq2SGrid[point], block[34 + i], scale, out + 8 * i);
  }
}

/// f16 d; 64 bytes of points; for each 32 a u32 of four 7-bit signs and a 4-bit scale.
void decode_iq3_xxs(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 64; ++i) {
    const auto packed = load<std::uint32_t>(block + 66 + 4 * (i / 8));
    const float scale = d * (0.5f + static_cast<float>(packed >> 28)) * 0.5f;
    const int signs = with_parity(static_cast<int>((packed >> (7 * (i / 2 % 4))) & 127));
    write_iq3(kIq3XxsGrid[block[2 + i]], signs >> (4 * (i % 2)), kIq3XxsValues, scale, out + 4 * i);
  }
}

/// f16 d; 64 bytes of points, 8 of their ninth bits, 32 of signs, 4 of 4-bit scales, one for each 32.
void decode_iq3_s(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 64; ++i) {
    const int point = block[2 + i] | (((block[66 + i / 8] >> (i % 8)) & 1) << 8);
    const int nibble = (block[106 + i / 16] >> (4 * (i / 8 % 2))) & 15;
    const float scale = d * static_cast<float>(1 + 2 * nibble);
    write_iq3(kIq3SGrid[point], block[74 + i / 2] >> (4 * (i % 2)), kIq3SValues, scale, out + 4 * i);
  }
}

/// f16 d; 32 bytes of points; for each 32 a u16 of four upper three bits, a 3-bit scale and the sign of delta.
void decode_iq1_s(Bytes block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) {
    const int high = load<std::uint16_t>(block + 34 + 2 * (i / 4));
    const float scale = d * static_cast<float>(2 * ((high >> 12) & 7) + 1);
    const int point = block[2 + i] | (((high >> (3 * (i % 4))) & 7) << 8);
    write_iq1(kIq1Grid[point], high & 0x8000 ? -kIq1Delta : kIq1Delta, scale, out + 8 * i);
  }
}

/// 32 bytes of points; for each 8 a nibble of upper three bits and the sign of delta; four u16 of four 3-bit scales,
/// one for each 16, whose upper nibbles together are an f16 d.
void decode_iq1_m(Bytes block, float* out) {
  int scales[4];
  int half = 0;
  for (int i = 0; i < 4; ++i) {
    scales[i] = load<std::uint16_t>(block + 48 + 2 * i);
    half |= (scales[i] >> 12) << (4 * i);
  }
  const float d = f16_to_f32(static_cast<std::uint16_t>(half));
  for (int i = 0; i < 32; ++i) {
    const int nibble = (block[32 + i / 2] >> (4 * (i % 2))) & 15;
    const float scale = d * static_cast<float>(2 * ((scales[i / 8] >> (3 * (i / 2 % 4))) & 7) + 1);
    write_iq1(kIq1Grid[block[i] | ((nibble & 7) << 8)], nibble & 8 ? -kIq1Delta : kIq1Delta, scale, out + 8 * i);
  }
}

/// 52 bytes of base-3 digits, five to a byte (the last 4 bytes: four), as fractions of 256; f16 d.
void decode_tq1_0(Bytes block, float* out) {
  const float d = load_f16(block + 52);
  const auto planes = [&](int at, int width, int digits) {
    int power = 1;
    for (int n = 0; n < digits; ++n, power *= 3) {
      for (int j = 0; j < width; ++j) {
        const int digit = (((block[at + j] * power) & 255) * 3) >> 8;
        *out++ = d * static_cast<float>(digit - 1);
      }
    }
  };
  planes(0, 32, 5);
  planes(32, 16, 5);
  planes(48, 4, 4);
}

/// 64 bytes of 2-bit codes as in Q2_K; f16 d.
void decode_tq2_0(Bytes block, float* out) {
  const float d = load_f16(block + 64);
  for (int e = 0; e < 256; ++e) {
    const int code = (block[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3;
    out[e] = d * static_cast<float>(code - 1);
  }
}

/// u8 exponent (2^(e - 127)), 16 bytes of two e2m1 codes: low nibbles are elements 0-15.
void decode_mxfp4(Bytes block, float* out) {
  const float half_scale = half_of_e8m0(block[0]);
  for (int j = 0; j < 16; ++j) {
    out[j] = half_scale * static_cast<float>(kMxfp4Values[block[1 + j] & 15]);
    out[j + 16] = half_scale * static_cast<float>(kMxfp4Values[block[1 + j] >> 4]);
  }
}

}  // namespace inferd
