// Parameters of the kernels of sample.cu.
#pragma once

#include <cstdint>

#include "kernels/sample_rules.h"

namespace inferd::cuda {

/// What sample_logprobs leaves for sample_tokens: log softmax of a raw logit x is x - max - log_sum.
struct RawScale {
  float max;
  float log_sum;
};

/// SampleArgs; one block a row.
struct SampleParams {
  float* logits;
  const std::int32_t* slots;
  SampleRules* rules;
  std::int32_t* tokens;
  std::int32_t* status;
  float* logprobs;           // null: nobody wants any
  std::int32_t* top_tokens;  // [R, kSampleTopLogprobs]
  float* top_logprobs;       // likewise
  RawScale* raw;             // [R]
  std::int64_t stride;       // elements between rows of logits
  std::int32_t vocab;
  std::int32_t vectors;  // rows are 16-byte aligned
};

}  // namespace inferd::cuda
