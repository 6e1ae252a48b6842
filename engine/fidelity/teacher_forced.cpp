// Running texts through a decoder outside of any engine.
#include "engine/fidelity/teacher_forced.h"

#include <algorithm>

#include "base/check.h"

namespace inferd {

namespace {
constexpr std::int64_t kBlocks = kMaxTeacherTokens / kKvBlockTokens;
}

TeacherForced::TeacherForced(Model& model, Backend& backend, DType kv_dtype)
    : model_(model),
      backend_(backend),
      cache_(backend, model.kv_spec(), kv_dtype, KvPlan{.num_blocks = kBlocks}),
      batch_(backend, BatchLimits{kTeacherChunk, 1, kBlocks, kTeacherChunk, model.has_places()}),
      row_(static_cast<std::size_t>(model.info().vocab_size)) {
  for (std::int32_t i = 0; i < kBlocks; ++i) blocks_.push_back(i);
}

void TeacherForced::run(std::span<const TokenId> tokens, const Visit& visit) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  INFERD_CHECK(length <= kMaxTeacherTokens && model_.longest_context() == 0);
  const PromptTraits traits = model_.prompt_traits(tokens);
  for (std::int64_t start = 0; start < length; start += kTeacherChunk) {
    const std::int64_t count = std::min(kTeacherChunk, length - start);
    batch_.clear();
    batch_.append(tokens.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(count)), start, blocks_);
    if (model_.has_places()) batch_.apply_places(model_, traits);
    batch_.want_logits(count);
    const BatchTensors tensors = batch_.upload();
    const Tensor logits = model_.forward(tensors, cache_.layers(), batch_.logit_rows(), [](int) {});
    backend_.synchronize();
    for (std::int64_t i = 0; i < count; ++i) {
      backend_.download(row_.data(), logits.as<float>() + i * logits.row_stride, row_.size() * sizeof(float));
      visit(static_cast<std::size_t>(start + i), row_);
    }
  }
}

}  // namespace inferd
