// Routing of a mixture of experts, and the sums of what its experts give, on the CPU.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/ops/for_rows.h"
#include "kernels/cpu/ops/level_table.h"

namespace inferd {
namespace {

/// The token's best experts, rising, and what they count. `row`: scratch of as many floats as there are experts.
void pick(const float* logits, std::int64_t count, std::int64_t top_k, bool normalize, float* row,
          std::int32_t* experts, float* weights) {
  const float maximum = *std::max_element(logits, logits + count);
  float sum = 0.0f;
  for (std::int64_t i = 0; i < count; ++i) sum += row[i] = std::exp(logits[i] - maximum);
  float picked = 0.0f;
  for (std::int64_t k = 0; k < top_k; ++k) {
    float* top = std::max_element(row, row + count);
    experts[k] = static_cast<std::int32_t>(top - row);
    picked += *top / sum;
    *top = -1.0f;  // below every exponential; after NaN any expert will do, the sum shows it
  }
  std::sort(experts, experts + top_k);
  for (std::int64_t k = 0; k < top_k; ++k) {
    weights[k] = std::exp(logits[experts[k]] - maximum) / sum;
    if (normalize) weights[k] /= picked;
  }
}

/// Gives every expert its rows, token by token.
void place_rows(const ExpertPlan& plan, std::int64_t picks, std::int64_t top_k) {
  const std::int64_t count = plan.starts.dim(0), rows = plan.tokens.dim(0);
  auto* starts = plan.starts.as<std::int32_t>();
  auto* counts = plan.counts.as<std::int32_t>();
  auto* tokens = plan.tokens.as<std::int32_t>();
  auto* places = plan.places.as<std::int32_t>();
  const auto* experts = plan.experts.as<const std::int32_t>();
  std::fill_n(counts, count, 0);
  for (std::int64_t i = 0; i < picks; ++i) ++counts[experts[i]];
  std::int64_t row = 0;
  for (std::int64_t e = 0; e < count; ++e) {
    starts[e] = static_cast<std::int32_t>(row);
    row += (counts[e] + kExpertRowAlign - 1) / kExpertRowAlign * kExpertRowAlign;
  }
  std::fill_n(tokens, rows, -1);
  std::fill_n(counts, count, 0);
  for (std::int64_t i = 0; i < picks; ++i) {
    places[i] = starts[experts[i]] + counts[experts[i]]++;
    tokens[places[i]] = static_cast<std::int32_t>(i / top_k);
  }
}

}  // namespace

void cpu_route(CpuContext& context, const RouteArgs& args) {
  const std::int64_t tokens = args.logits.dim(0), count = args.logits.dim(1), top_k = args.plan.experts.dim(1);
  INFERD_CHECK(count <= kMaxExperts && top_k <= std::min<std::int64_t>(count, kMaxExpertsPerToken));
  INFERD_CHECK(args.plan.starts.dim(0) == count && args.plan.experts.dim(0) == tokens);
  INFERD_CHECK(args.plan.tokens.dim(0) == expert_rows(tokens, top_k, count));
  for_rows(context.pool, tokens, [&](std::int64_t token, int worker) {
    pick(args.logits.as<const float>() + token * args.logits.row_stride, count, top_k, args.normalize,
         context.scratch(worker), args.plan.experts.as<std::int32_t>() + token * top_k,
         args.plan.weights.as<float>() + token * top_k);
  });
  place_rows(args.plan, tokens * top_k, top_k);
}

void cpu_combine_experts(CpuContext& context, const CombineExpertsArgs& args) {
  const std::int64_t top_k = args.plan->places.dim(1);
  INFERD_CHECK(top_k <= kMaxExpertsPerToken);
  const auto row_of = [](const Tensor& tensor, std::int64_t row) {
    return tensor.as<const float>() + row * tensor.row_stride;
  };
  const auto add_weighted = row_kernels(context.level).add_weighted;
  for_rows(context.pool, args.x.dim(0), [&](std::int64_t token, int) {
    const float* rows[kMaxExpertsPerToken + 1];
    float weights[kMaxExpertsPerToken + 1];
    int count = 0;
    for (std::int64_t k = token * top_k; k < (token + 1) * top_k; ++k, ++count) {
      rows[count] = row_of(args.product, args.plan->places.as<const std::int32_t>()[k]);
      weights[count] = args.plan->weights.as<const float>()[k];
    }
    if (args.shared) {
      rows[count] = row_of(args.shared, token);
      weights[count++] = 1.0f / (1.0f + std::exp(-*row_of(args.gate, token)));
    }
    add_weighted(rows, weights, count, args.x.dim(1), args.x.as<float>() + token * args.x.row_stride);
  });
}

}  // namespace inferd
