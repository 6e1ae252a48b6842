// CudaWeights in the interpreter's memory.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_weight.h"
#include "tests/kernels/random_weights.h"
#include "tests/kernels_cuda/sim_launcher.h"

namespace inferd::cuda::test {

class SimWeightMemory final : public WeightMemory {
 public:
  explicit SimWeightMemory(SimLauncher& sim) : sim_(sim) {}

  std::unique_ptr<DeviceBuffer> allocate(std::size_t bytes) override {
    return std::make_unique<Buffer>(sim_.allocate(bytes, "weight"), bytes);
  }
  std::byte* stage(std::size_t bytes) override {
    staged_.assign(bytes, std::byte{0x5a});
    return staged_.data();
  }
  void upload(void* device, const std::byte* staged, std::size_t bytes) override { sim_.write(device, staged, bytes); }

 private:
  class Buffer final : public DeviceBuffer {
   public:
    Buffer(void* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
    void* data() const override { return data_; }
    std::size_t bytes() const override { return bytes_; }

   private:
    void* data_;
    std::size_t bytes_;
  };

  SimLauncher& sim_;
  std::vector<std::byte> staged_;
};

inline CudaWeight sim_weight(SimLauncher& sim, const std::vector<WeightSource>& sources, WeightOptions options = {},
                             ActivationMode mode = ActivationMode::automatic) {
  static ThreadPool pool(1);
  SimWeightMemory memory(sim);
  return CudaWeight(sources, options, mode, sim.arch(), memory, pool);
}

}  // namespace inferd::cuda::test
