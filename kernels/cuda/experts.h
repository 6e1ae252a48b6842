// What the host knows of a mixture's kernels: groups of experts' weights, and tiles of a plan.
#pragma once

#include <memory>
#include <span>

#include "kernels/cuda/cuda_weight.h"
#include "kernels/cuda/launcher.h"
#include "kernels/ops.h"

namespace inferd::cuda {

/// Weights of one format and shape for tensor cores.
class CudaExpertGroup final : public ExpertGroup {
 public:
  CudaExpertGroup(const CudaWeight& first, std::unique_ptr<DeviceBuffer> data)
      : first_(first), data_(std::move(data)) {}
  const CudaWeight& first() const { return first_; }  // like all others, but for where it lies
  const std::byte* const* data() const { return static_cast<const std::byte* const*>(data_->data()); }

 private:
  const CudaWeight& first_;
  std::unique_ptr<DeviceBuffer> data_;  // [experts] pointers
};

/// Null unless all are one part each, alike, and read by linear_mma in the order of the input's columns.
std::unique_ptr<CudaExpertGroup> group_experts(std::span<const Weight* const> experts, WeightMemory& memory);

/// The tile of an expert's rows in a plan: an index for linear_tile().
int expert_tile(const ExpertPlan& plan);

// Ops, as in cuda_ops.h.
void route(Launcher& launcher, const RouteArgs& args);
void gather_activation(Launcher& launcher, const GatherActivationArgs& args);
void expert_linear(Launcher& launcher, const ExpertLinearArgs& args);
void combine_experts(Launcher& launcher, const CombineExpertsArgs& args);

}  // namespace inferd::cuda
