// The table of tensor types, and the names of all GGUF type ids.
#include "kernels/dtype.h"

#include <array>

#include "base/check.h"

namespace inferd {
namespace {

constexpr std::array<DTypeInfo, kDTypeCount> kTypes{{
    {DType::f32, "F32", 0, 1, 4, false},
    {DType::f16, "F16", 1, 1, 2, false},
    {DType::bf16, "BF16", 30, 1, 2, false},
    {DType::f64, "F64", 28, 1, 8, false},
    {DType::i8, "I8", 24, 1, 1, false},
    {DType::i16, "I16", 25, 1, 2, false},
    {DType::i32, "I32", 26, 1, 4, false},
    {DType::i64, "I64", 27, 1, 8, false},
    {DType::u8, "U8", -1, 1, 1, false},
    {DType::boolean, "BOOL", -1, 1, 1, false},
    {DType::q4_0, "Q4_0", 2, 32, 18, true},
    {DType::q4_1, "Q4_1", 3, 32, 20, true},
    {DType::q5_0, "Q5_0", 6, 32, 22, true},
    {DType::q5_1, "Q5_1", 7, 32, 24, true},
    {DType::q8_0, "Q8_0", 8, 32, 34, true},
    {DType::q2_k, "Q2_K", 10, 256, 84, true},
    {DType::q3_k, "Q3_K", 11, 256, 110, true},
    {DType::q4_k, "Q4_K", 12, 256, 144, true},
    {DType::q5_k, "Q5_K", 13, 256, 176, true},
    {DType::q6_k, "Q6_K", 14, 256, 210, true},
    {DType::iq4_nl, "IQ4_NL", 20, 32, 18, true},
    {DType::iq4_xs, "IQ4_XS", 23, 256, 136, true},
    {DType::iq2_xxs, "IQ2_XXS", 16, 256, 66, true},
    {DType::iq2_xs, "IQ2_XS", 17, 256, 74, true},
    {DType::iq2_s, "IQ2_S", 22, 256, 82, true},
    {DType::iq3_xxs, "IQ3_XXS", 18, 256, 98, true},
    {DType::iq3_s, "IQ3_S", 21, 256, 110, true},
    {DType::iq1_s, "IQ1_S", 19, 256, 50, true},
    {DType::iq1_m, "IQ1_M", 29, 256, 56, true},
    {DType::tq1_0, "TQ1_0", 34, 256, 54, true},
    {DType::tq2_0, "TQ2_0", 35, 256, 66, true},
    {DType::mxfp4, "MXFP4", 39, 32, 17, true},
    {DType::g2_32, "G2_32", -1, 32, 13, true},
    {DType::g2_128, "G2_128", -1, 128, 37, true},
    {DType::g3_32, "G3_32", -1, 32, 17, true},
    {DType::g3_128, "G3_128", -1, 128, 53, true},
    {DType::g4_32, "G4_32", -1, 32, 21, true},
    {DType::g4_64, "G4_64", -1, 64, 37, true},
    {DType::g4_128, "G4_128", -1, 128, 69, true},
    {DType::g8_32, "G8_32", -1, 32, 37, true},
    {DType::g8_128, "G8_128", -1, 128, 133, true},
    {DType::nf4, "NF4", -1, 64, 36, true},
    {DType::fp4, "FP4", -1, 64, 36, true},
    {DType::fp8, "FP8", -1, 1, 1, true},
    {DType::f8_e4m3, "F8_E4M3", -1, 1, 1, false},
}};

// Ids 4, 5, 31 to 33 and 36 to 38 were retired by the format; the names stay so that old files are refused by name.
constexpr std::array<std::string_view, 42> kGgmlNames{
    "F32",        "F16",        "Q4_0",       "Q4_1",  "Q4_2",     "Q4_3",     "Q5_0",     "Q5_1",    "Q8_0",
    "Q8_1",       "Q2_K",       "Q3_K",       "Q4_K",  "Q5_K",     "Q6_K",     "Q8_K",     "IQ2_XXS", "IQ2_XS",
    "IQ3_XXS",    "IQ1_S",      "IQ4_NL",     "IQ3_S", "IQ2_S",    "IQ4_XS",   "I8",       "I16",     "I32",
    "I64",        "F64",        "IQ1_M",      "BF16",  "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",   "TQ2_0",
    "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4",    "Q1_0"};

constexpr bool table_is_in_order() {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<std::size_t>(kTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(table_is_in_order(), "kTypes is indexed by DType");

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  INFERD_CHECK(index < kTypes.size());
  return kTypes[index];
}

std::optional<DType> dtype_from_ggml(std::uint32_t ggml_type) {
  for (const DTypeInfo& info : kTypes) {
    if (info.ggml_type >= 0 && static_cast<std::uint32_t>(info.ggml_type) == ggml_type) return info.dtype;
  }
  return std::nullopt;
}

std::string_view ggml_type_name(std::uint32_t ggml_type) {
  return ggml_type < kGgmlNames.size() ? kGgmlNames[ggml_type] : "unknown type";
}

}  // namespace inferd
