// Parameters of the kernels of embedding.cu.
#pragma once

#include "kernels/cuda/weight_format.h"

namespace inferd::cuda {

/// out[t] (+)= row ids[t] of one part of a weight, widened; one block a token. Tokens whose rows are elsewhere are
/// left alone.
struct EmbeddingParams {
  WeightPlanes weight;
  const std::int32_t* column_order;  // [padded columns] or null, see CudaWeight::Part
  const std::int32_t* ids;           // [T]
  float* out;                        // [T, columns]
  std::int64_t out_stride;           // elements
  std::int32_t columns;
  std::int32_t first_row;
  std::int32_t rows;
  bool accumulate;
  bool pairs;  // columns can be written two at a time: they are in order and rows aligned
};

}  // namespace inferd::cuda
