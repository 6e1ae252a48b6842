// Decoders of one block each of the types in quant_formats_iq.cpp: dequantize_row's, for its table.
#pragma once

#include <cstdint>

namespace inferd {

void decode_iq2_xxs(const std::uint8_t* block, float* out);
void decode_iq2_xs(const std::uint8_t* block, float* out);
void decode_iq2_s(const std::uint8_t* block, float* out);
void decode_iq3_xxs(const std::uint8_t* block, float* out);
void decode_iq3_s(const std::uint8_t* block, float* out);
void decode_iq1_s(const std::uint8_t* block, float* out);
void decode_iq1_m(const std::uint8_t* block, float* out);
void decode_tq1_0(const std::uint8_t* block, float* out);
void decode_tq2_0(const std::uint8_t* block, float* out);
void decode_mxfp4(const std::uint8_t* block, float* out);

}  // namespace inferd
