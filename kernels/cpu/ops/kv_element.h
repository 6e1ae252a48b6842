// kv_element: the kernel's name of a KV cache type.
#pragma once

#include "kernels/cpu/ops/row_kernels.h"
#include "kernels/tensor.h"

namespace inferd {

/// dtype is f32, f16 or bf16.
inline KvElement kv_element(DType dtype) {
  INFERD_CHECK(dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16);
  return dtype == DType::f32 ? KvElement::f32 : dtype == DType::f16 ? KvElement::f16 : KvElement::bf16;
}

}  // namespace inferd
