// What a profiler would say of the tensor-core linear kernels: bank conflicts, wasted sectors, instructions a byte.
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/dev/linear_mma_params.h"
#include "kernels/cuda/linear_mma.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_reference.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::StoredMatrix;

namespace {

struct Lint {
  DType dtype;
  Kernel kernels[3];        // for 8, 32 and 64 tokens
  double most_per_byte[3];  // warp instructions a byte of packed weights
};

// A twentieth above what is; a card's own budget is its instructions a second over its bytes (docs/gpu/linear.md).
const Lint kLints[] = {
    {DType::f16, {Kernel::linear_f16_8, Kernel::linear_f16_32, Kernel::linear_f16_64}, {0.066, 0.142, 0.204}},
    {DType::q8_0, {Kernel::linear_q8_0_8, Kernel::linear_q8_0_32, Kernel::linear_q8_0_64}, {0.187, 0.38, 0.58}},
    {DType::q4_0, {Kernel::linear_q4_0_8, Kernel::linear_q4_0_32, Kernel::linear_q4_0_64}, {0.295, 0.74, 1.13}},
    {DType::q4_k, {Kernel::linear_q4_k_8, Kernel::linear_q4_k_32, Kernel::linear_q4_k_64}, {0.45, 1.16, 1.88}},
    {DType::q6_k, {Kernel::linear_q6_k_8, Kernel::linear_q6_k_32, Kernel::linear_q6_k_64}, {0.355, 0.8, 1.25}},
    {DType::g4_128, {Kernel::linear_g4_64_8, Kernel::linear_g4_64_32, Kernel::linear_g4_64_64}, {0.34, 0.78, 1.08}},
};

}  // namespace

TEST_CASE("no bank conflicts, whole sectors, and few instructions a byte of weights") {
  const int arch = built_archs().back();
  for (const Lint& lint : kLints) {
    const std::int64_t rows = 64, columns = 4096;
    SimLauncher sim(arch, 0, 1);
    const StoredMatrix stored(lint.dtype, rows, columns, 1);
    const CudaWeight weight = sim_weight(sim, {stored.source()});
    const SimActivation x(sim, random_rows(64, columns, 7), 64, columns, weight.activation_forms());
    const Tensor out = sim.output(DType::f32, {64, rows}, "out");
    EpilogueParams epilogue{};
    epilogue.out = out.as<float>();
    epilogue.out_stride = rows;
    for (int i = 0; i < 3; ++i) {
      const int tokens = i == 0 ? 8 : 32 * i;
      linear_mma(sim, weight.parts()[0], x.planes, tokens, epilogue);
      const ptxsim::KernelReport found = report(lint.kernels[i], arch);
      const double per_byte = static_cast<double>(found.instructions) / static_cast<double>(weight.bytes());
      CAPTURE(found.kernel, found.conflicts, found.wasted_sectors, per_byte);
      if (std::getenv("INFERD_PRINT_LINT") != nullptr) {
        std::printf("%s: %.3f instructions a byte, wavefronts x%.3f, sectors %.3f\n", found.kernel.c_str(), per_byte,
                    static_cast<double>(found.shared_wavefronts) / static_cast<double>(found.shared_requests),
                    found.sector_use);
      }
      CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
      CHECK(found.sector_use >= 0.95);
      CHECK(per_byte <= lint.most_per_byte[i]);
    }
  }
}
