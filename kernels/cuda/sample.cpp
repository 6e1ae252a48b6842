// Drawing tokens.
#include "kernels/cuda/alignment.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/dev/sample_params.h"

namespace inferd::cuda {

std::size_t sample_workspace_bytes(std::int64_t rows) { return static_cast<std::size_t>(rows) * sizeof(RawScale); }

void sample(Launcher& launcher, const SampleArgs& args) {
  const std::int64_t rows = args.logits.dim(0), vocab = args.logits.dim(1);
  INFERD_CHECK(vocab > 0 && vocab <= kMaxSampleVocab && sample_workspace_bytes(rows) <= launcher.workspace_bytes());
  if (rows == 0) return;
  SampleParams params{};
  params.logits = args.logits.as<float>();
  params.slots = args.slots.as<std::int32_t>();
  params.rules = args.rules;
  params.tokens = args.tokens.as<std::int32_t>();
  params.status = args.status.as<std::int32_t>();
  params.logprobs = args.logprobs.as<float>();
  params.top_tokens = args.top_tokens.as<std::int32_t>();
  params.top_logprobs = args.top_logprobs.as<float>();
  params.raw = reinterpret_cast<RawScale*>(launcher.workspace());
  params.stride = args.logits.row_stride;
  params.vocab = static_cast<std::int32_t>(vocab);
  params.vectors = aligned_rows(args.logits.data, args.logits.row_stride);
  const Grid grid{static_cast<unsigned>(rows)};
  if (args.logprobs) launcher.run(Kernel::sample_logprobs, grid, params);
  launcher.run(Kernel::sample_tokens, grid, params);
}

}  // namespace inferd::cuda
