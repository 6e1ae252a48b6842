// Codes and scales of stored blocks. Layouts: quant_formats.cpp and quant_formats_iq.cpp.
#include "kernels/cuda/stored_codes.h"

#include <bit>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/linear/stored_blocks.h"
#include "kernels/quant_formats.h"

namespace inferd::cuda {
namespace {

using Bytes = const std::uint8_t*;

constexpr int kMostBlockBytes = 128;  // of the widened types
constexpr std::uint16_t kHalfOne = 0x3c00;

constexpr std::int8_t kIq2Table[16] = {0, 8, 25, 43, -8, -25, -43};
constexpr std::int8_t kIq3XxsTable[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
constexpr std::int8_t kIq3STable[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
constexpr std::int8_t kIq1Table[16] = {-9, -7, -1, 1, 7, 9};  // eighths

template <typename T>
T load(Bytes at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

int signed_byte(std::uint8_t bits) { return (bits ^ 0x80) - 0x80; }

int nibble(Bytes bytes, int index) { return (bytes[index / 2] >> (4 * (index % 2))) & 15; }

/// The factor between d and the scale of columns 16 part …, such that a value is scale * an integer of the table.
float widened_factor(DType dtype, Bytes block, int part) {
  const auto quarters = [](int code) { return (0.5f + static_cast<float>(code)) * 0.25f; };
  switch (dtype) {
    case DType::iq2_xxs:
      return quarters(static_cast<int>(load<std::uint32_t>(block + 6 + 8 * (part / 2)) >> 28));
    case DType::iq2_xs:
      return quarters(nibble(block + 66, part));
    case DType::iq2_s:
      return quarters(nibble(block + 74, part));
    case DType::iq3_xxs:
      return quarters(static_cast<int>(load<std::uint32_t>(block + 66 + 4 * (part / 2)) >> 28)) * 2.0f;
    case DType::iq3_s:
      return static_cast<float>(1 + 2 * nibble(block + 106, part / 2));
    case DType::iq1_s:
      return static_cast<float>(2 * ((load<std::uint16_t>(block + 34 + 2 * (part / 2)) >> 12) & 7) + 1) * 0.125f;
    case DType::iq1_m:
      return static_cast<float>(2 * ((load<std::uint16_t>(block + 48 + 2 * (part / 4)) >> (3 * (part % 4))) & 7) + 1) *
             0.125f;
    default:
      return 1.0f;
  }
}

/// Byte of a block at which d lies, or -1.
int d_at(DType dtype) {
  switch (dtype) {
    case DType::tq1_0:
      return 52;
    case DType::tq2_0:
      return 64;
    case DType::iq1_m:
    case DType::mxfp4:
      return -1;
    default:
      return 0;
  }
}

/// d of a block, which becomes 1.
float take_d(DType dtype, std::uint8_t* block) {
  if (dtype == DType::mxfp4) {
    const std::uint32_t e = block[0];
    block[0] = 128;
    return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  }
  std::uint16_t d = 0;
  if (dtype == DType::iq1_m) {  // in the upper nibbles of four words
    for (int i = 0; i < 4; ++i) {
      std::uint8_t& upper = block[49 + 2 * i];
      d = static_cast<std::uint16_t>(d | (upper >> 4) << (4 * i));
      upper = static_cast<std::uint8_t>((upper & 15) | ((kHalfOne >> (4 * i)) & 15) << 4);
    }
  } else {
    std::uint8_t* at = block + d_at(dtype);
    d = load<std::uint16_t>(at);
    std::memcpy(at, &kHalfOne, sizeof kHalfOne);
  }
  return f16_to_f32(d);
}

/// Decodes the block with d = 1 and divides by the scales: the integers are exact, and so is d times a scale.
void read_widened(DType dtype, Bytes stored, StoredCodes (&parts)[kMostParts]) {
  std::uint8_t block[kMostBlockBytes];
  const DTypeInfo& info = dtype_info(dtype);
  INFERD_CHECK(info.block_bytes <= kMostBlockBytes);
  std::memcpy(block, stored, static_cast<std::size_t>(info.block_bytes));
  const float d = take_d(dtype, block);
  float values[256];
  dequantize_row(dtype, reinterpret_cast<const std::byte*>(block), values, info.block_elements);
  const bool ternary = dtype == DType::tq1_0 || dtype == DType::tq2_0;
  constexpr int kNoCode = 255;
  std::uint8_t code_of[256];  // by the low byte of the integer
  std::memset(code_of, kNoCode, sizeof code_of);
  for (int code = 15; code >= 0; --code) {
    const int value = ternary ? code - 1 : code_table(dtype)[code];
    code_of[value & 255] = static_cast<std::uint8_t>(code);
  }
  for (int part = 0; part < info.block_elements / 32; ++part) {
    StoredCodes& to = parts[part];
    to.zero = ternary ? 1 : 0;
    for (int half = 0; half < 2; ++half) {
      const float factor = widened_factor(dtype, block, 2 * part + half);
      to.f32_scales[half] = d * factor;
      for (int k = 16 * half; k < 16 * half + 16; ++k) {
        to.codes[k] = code_of[static_cast<int>(values[32 * part + k] / factor) & 255];
        INFERD_CHECK(to.codes[k] != kNoCode);
      }
    }
  }
}

void read_scales(DType dtype, Bytes block, int sub, StoredCodes& result) {
  // As lane 0 of a tile of the CPU's, which takes the file's packed scales apart.
  std::uint8_t header[128] = {};
  std::uint8_t entry[128];
  write_scales(dtype, block, sub, 0, header, entry);
  const auto two_scales = [&](int a, int b) {
    result.scales[0] = a;
    result.scales[1] = b;
  };
  switch (packed_format(dtype).scheme) {
    case ScaleScheme::d:
      result.d = load<std::uint16_t>(entry);
      return;
    case ScaleScheme::dm:
      result.d = load<std::uint16_t>(entry);
      result.d_min = load<std::uint16_t>(entry + 32);
      return;
    case ScaleScheme::k: {
      const SixBits both = read_six_bits(header, entry, sub, 0);
      result.d = load<std::uint16_t>(header);
      result.d_min = load<std::uint16_t>(header + 32);
      result.scales[0] = both.scale;
      result.minima[0] = both.minimum;
      return;
    }
    case ScaleScheme::k16s:
      result.d = load<std::uint16_t>(header);
      return two_scales(signed_byte(entry[0]), signed_byte(entry[16]));
    case ScaleScheme::k16dm:
      result.d = load<std::uint16_t>(header);
      result.d_min = load<std::uint16_t>(header + 32);
      result.minima[0] = entry[0] >> 4;
      result.minima[1] = entry[16] >> 4;
      return two_scales(entry[0] & 15, entry[16] & 15);
    case ScaleScheme::k32s:
      result.d = load<std::uint16_t>(header);
      result.scales[0] = signed_byte(entry[0]);
      return;
    case ScaleScheme::dz:
      result.f32_scales[0] = load<float>(entry);
      result.zero = entry[64];
      return;
    case ScaleScheme::s:
      result.f32_scales[0] = load<float>(entry);
      return;
    case ScaleScheme::s16:
    case ScaleScheme::e8:
    case ScaleScheme::super_d:
    case ScaleScheme::none:
      INFERD_CHECK(false);
  }
}

}  // namespace

bool is_widened(DType dtype) { return is_kept_as_stored(dtype) || dtype == DType::tq2_0 || dtype == DType::mxfp4; }

const std::int8_t* code_table(DType dtype) {
  switch (dtype) {
    case DType::iq4_nl:
    case DType::iq4_xs:
      return kIq4Values;
    case DType::iq2_xxs:
    case DType::iq2_xs:
    case DType::iq2_s:
      return kIq2Table;
    case DType::iq3_xxs:
      return kIq3XxsTable;
    case DType::iq3_s:
      return kIq3STable;
    case DType::iq1_s:
    case DType::iq1_m:
      return kIq1Table;
    case DType::mxfp4:
      return kMxfp4Values;
    default:
      INFERD_CHECK(false);
      return nullptr;
  }
}

void read_stored(DType dtype, const std::uint8_t* block, StoredCodes (&parts)[kMostParts]) {
  if (is_widened(dtype)) return read_widened(dtype, block, parts);
  const bool is_signed = packed_format(dtype).bits == 8;
  for (int part = 0; part < dtype_info(dtype).block_elements / 32; ++part) {
    read_codes(dtype, block, part, parts[part].codes);
    if (is_signed) {
      for (std::uint8_t& code : parts[part].codes) code ^= 0x80;
    }
    read_scales(dtype, block, part, parts[part]);
  }
}

}  // namespace inferd::cuda
