// A GPU for tests: the fake driver over the PTX interpreter, set up before anything opens it.
#pragma once

#include <cstdlib>
#include <string>

namespace inferd::cuda::test {

/// Settings of the fake driver for this process (tests/ptxsim/fake_driver); the first call counts. The driver is found
/// as libcuda.so.1 by the run-time path of the test program.
inline void use_fake_gpu(const std::string& more = "") {
  const std::string settings = "manifest=" INFERD_CUDA_MANIFEST + (more.empty() ? "" : "," + more);
  ::setenv("INFERD_FAKE_CUDA", settings.c_str(), 0);
}

}  // namespace inferd::cuda::test
