// kv_element: the kernel's name of a KV cache type.
#pragma once

#include "kernels/cpu/ops/row_kernels.h"
#include "kernels/tensor.h"

namespace inferd {

/// dtype is f32, f16, bf16 or q8_0.
inline KvElement kv_element(DType dtype) {
  if (dtype == DType::q8_0) return KvElement::q8_0;
  INFERD_CHECK(dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16);
  return dtype == DType::f32 ? KvElement::f32 : dtype == DType::f16 ? KvElement::f16 : KvElement::bf16;
}

/// Units in which offsets into such a cache are counted, of `elements` elements: themselves, or q8_0's bytes.
inline std::int64_t kv_units(KvElement element, std::int64_t elements) {
  return element == KvElement::q8_0 ? static_cast<std::int64_t>(row_bytes(DType::q8_0, elements)) : elements;
}
/// Bytes of a unit.
inline std::int64_t kv_unit_bytes(KvElement element) {
  return element == KvElement::f32 ? 4 : element == KvElement::q8_0 ? 1 : 2;
}

}  // namespace inferd
