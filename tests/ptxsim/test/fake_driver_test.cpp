// The fake driver as the product meets it: a libcuda.so.1 opened at run time. Every case has a process of its own,
// since the library reads its settings once.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>

#include "tests/catch.h"
#include "tests/ptxsim/fake_driver/cuda_api.h"
#include "tests/ptxsim/test/gemm_ptx.h"
#include "tests/ptxsim/test/snippet.h"

using namespace inferd::ptxsim::fake;
using inferd::ptxsim::test::kernel_text;

namespace {

void require(bool ok, const char* what, int line) {
  if (ok) return;
  std::fprintf(stderr, "line %d: %s\n", line, what);
  _exit(1);
}
#define REQUIRE_OK(condition) require(condition, #condition, __LINE__)

class Cuda {
 public:
  Cuda() : library_(dlopen(INFERD_FAKE_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL)) { REQUIRE_OK(library_ != nullptr); }

  template <class... A>
  CUresult operator()(const char* name, A... arguments) {
    using Function = CUresult (*)(A...);
    const auto function = reinterpret_cast<Function>(dlsym(library_, name));
    require(function != nullptr, name, __LINE__);
    return function(arguments...);
  }
  std::string violation() {
    return reinterpret_cast<const char* (*)()>(dlsym(library_, "inferd_fake_cuda_last_violation"))();
  }

  void start(int device = 0) {
    CUcontext context = nullptr;
    REQUIRE_OK((*this)("cuInit", 0u) == kSuccess);
    REQUIRE_OK((*this)("cuDevicePrimaryCtxRetain", &context, device) == kSuccess);
    REQUIRE_OK((*this)("cuCtxSetCurrent", context) == kSuccess);
  }
  CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr p = 0;
    REQUIRE_OK((*this)("cuMemAlloc_v2", &p, bytes) == kSuccess);
    return p;
  }
  CUstream stream() {
    CUstream s = nullptr;
    REQUIRE_OK((*this)("cuStreamCreate", &s, 1u) == kSuccess);
    return s;
  }
  CUevent event() {
    CUevent e = nullptr;
    REQUIRE_OK((*this)("cuEventCreate", &e, 0u) == kSuccess);
    return e;
  }
  CUfunction kernel(const std::string& body) {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    const std::string text = kernel_text(body);
    REQUIRE_OK((*this)("cuModuleLoadData", &module, static_cast<const void*>(text.c_str())) == kSuccess);
    REQUIRE_OK((*this)("cuModuleGetFunction", &function, module, "k") == kSuccess);
    return function;
  }
  CUresult launch(CUfunction function, CUstream stream, CUdeviceptr p0, uint64_t p1 = 0, unsigned shared = 0) {
    uint64_t p2 = 0, p3 = 0;
    void* parameters[] = {&p0, &p1, &p2, &p3};
    return (*this)("cuLaunchKernel", function, 1u, 1u, 1u, 1u, 1u, 1u, shared, stream, static_cast<void**>(parameters),
                   static_cast<void**>(nullptr));
  }
  uint32_t read(CUdeviceptr p) {
    uint32_t value = 0;
    REQUIRE_OK((*this)("cuMemcpyDtoH_v2", static_cast<void*>(&value), p, sizeof value) == kSuccess);
    return value;
  }

 private:
  void* library_;
};

// Runs `body` in a child with these settings; the child's exit status (0: all well, a signal: 128 + it).
int run_with(const std::string& settings, const std::function<void(Cuda&)>& body) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("INFERD_FAKE_CUDA", settings.c_str(), 1);
    for (const int signal : {SIGSEGV, SIGABRT}) std::signal(signal, SIG_DFL);
    Cuda cuda;
    body(cuda);
    std::exit(0);  // through the library's destructors: it writes its profile
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

const std::string kSettings = "arch=90";
// [P0] += P1
const std::string kAdd = "ld.global.u32 %a, [%P0]; cvt.u32.u64 %b, %P1; add.u32 %a, %a, %b; st.global.u32 [%P0], %a;";
// [P0] = 2 * [P0]
const std::string kDouble = "ld.global.u32 %a, [%P0]; shl.b32 %a, %a, 1; st.global.u32 [%P0], %a;";

}  // namespace

TEST_CASE("fake driver: devices and memory") {
  REQUIRE(run_with("devices=2,arch=86,memory=1048576", [](Cuda& cuda) {
            int count = 0, major = 0, minor = 0;
            REQUIRE_OK(cuda("cuDeviceGetCount", &count) == kNotInitialized);
            cuda.start(1);
            REQUIRE_OK(cuda("cuDeviceGetCount", &count) == kSuccess && count == 2);
            cuda("cuDeviceGetAttribute", &major, int{kCapabilityMajor}, 1);
            cuda("cuDeviceGetAttribute", &minor, int{kCapabilityMinor}, 1);
            REQUIRE_OK(major == 8 && minor == 6);
            size_t free = 0, total = 0;
            const CUdeviceptr p = cuda.allocate(1000000);
            REQUIRE_OK(cuda("cuMemGetInfo_v2", &free, &total) == kSuccess && free == 48576 && total == 1048576);
            CUdeviceptr q = 0;
            REQUIRE_OK(cuda("cuMemAlloc_v2", &q, size_t{48577}) == kOutOfMemory);
            REQUIRE_OK(cuda("cuMemFree_v2", p) == kSuccess);
            REQUIRE_OK(cuda("cuMemFree_v2", p) == kInvalidValue);
            REQUIRE_OK(cuda("cuMemAlloc_v2", &q, size_t{48577}) == kSuccess);
            REQUIRE_OK(cuda("cuMemcpyHtoD_v2", q + 48570, static_cast<const void*>("12345678"), size_t{8}) ==
                       kInvalidValue);
          }) == 0);
  REQUIRE(run_with("devices=0", [](Cuda& cuda) { REQUIRE_OK(cuda("cuInit", 0u) == kNoDevice); }) == 0);
  REQUIRE(run_with("colour=blue", [](Cuda& cuda) { cuda("cuInit", 0u); }) == 64);
}

TEST_CASE("fake driver: host code that touches device memory faults") {
  REQUIRE(run_with(kSettings, [](Cuda& cuda) {
            cuda.start();
            const CUdeviceptr p = cuda.allocate(64);
            *reinterpret_cast<volatile char*>(p) = 1;
          }) == 128 + SIGSEGV);
}

TEST_CASE("fake driver: streams run in order, events order them among each other") {
  for (int seed = 1; seed < 9; ++seed) {
    for (const char* eager : {"0", "1"}) {
      REQUIRE(run_with(kSettings + ",seed=" + std::to_string(seed) + ",eager=" + eager, [](Cuda& cuda) {
                cuda.start();
                const CUfunction add = cuda.kernel(kAdd), twice = cuda.kernel(kDouble);
                const CUdeviceptr p = cuda.allocate(4);
                const CUstream one = cuda.stream(), two = cuda.stream();
                const CUevent first = cuda.event(), second = cuda.event();
                cuda("cuMemsetD32Async", p, 1u, size_t{1}, one);
                cuda.launch(add, one, p, 2);  // 3
                cuda("cuEventRecord", first, one);
                cuda("cuStreamWaitEvent", two, first, 0u);
                cuda.launch(twice, two, p);  // 6
                cuda("cuEventRecord", second, two);
                cuda("cuStreamWaitEvent", one, second, 0u);
                cuda.launch(add, one, p, 5);  // 11
                REQUIRE_OK(cuda("cuStreamSynchronize", one) == kSuccess);
                REQUIRE_OK(cuda("cuEventQuery", second) == kSuccess);
                REQUIRE_OK(cuda.read(p) == 11);
              }) == 0);
    }
  }
}

TEST_CASE("fake driver: without an event the order of two streams shows") {
  int results[2] = {};
  for (int seed = 1; seed < 20; ++seed) {
    const int status = run_with(kSettings + ",seed=" + std::to_string(seed), [](Cuda& cuda) {
      cuda.start();
      const CUfunction add = cuda.kernel(kAdd), twice = cuda.kernel(kDouble);
      const CUdeviceptr p = cuda.allocate(4);
      const CUstream one = cuda.stream(), two = cuda.stream();
      cuda("cuMemsetD8_v2", p, static_cast<unsigned char>(0), size_t{4});
      cuda.launch(add, one, p, 3);
      cuda.launch(twice, two, p);
      REQUIRE_OK(cuda("cuCtxSynchronize") == kSuccess);
      std::exit(cuda.read(p) == 6 ? 10 : 11);
    });
    REQUIRE((status == 10 || status == 11));
    ++results[status - 10];
  }
  REQUIRE(results[0] > 0);
  REQUIRE(results[1] > 0);
}

TEST_CASE("fake driver: asynchronous copies read pinned memory late, and freed memory is gone") {
  REQUIRE(run_with(kSettings, [](Cuda& cuda) {
            cuda.start();
            const CUdeviceptr p = cuda.allocate(8);
            const CUstream stream = cuda.stream();
            void* pinned = nullptr;
            REQUIRE_OK(cuda("cuMemHostAlloc", &pinned, size_t{4}, 0u) == kSuccess);
            uint32_t ordinary = 1;
            *static_cast<uint32_t*>(pinned) = 1;
            cuda("cuMemcpyHtoDAsync_v2", p, static_cast<const void*>(pinned), size_t{4}, stream);
            cuda("cuMemcpyHtoDAsync_v2", p + 4, static_cast<const void*>(&ordinary), size_t{4}, stream);
            ordinary = *static_cast<uint32_t*>(pinned) = 2;
            REQUIRE_OK(cuda("cuStreamQuery", stream) == kNotReady);
            REQUIRE_OK(cuda("cuStreamSynchronize", stream) == kSuccess);
            REQUIRE_OK(cuda.read(p) == 2 && cuda.read(p + 4) == 1);
            REQUIRE_OK(cuda.launch(cuda.kernel(kDouble), stream, reinterpret_cast<CUdeviceptr>(pinned)) ==
                       kSuccess);  // zero copy
            cuda("cuStreamSynchronize", stream);
            REQUIRE_OK(*static_cast<uint32_t*>(pinned) == 4);
            cuda("cuMemcpyHtoDAsync_v2", p, static_cast<const void*>(pinned), size_t{4}, stream);
            cuda("cuMemFree_v2", p);
            REQUIRE_OK(cuda("cuStreamSynchronize", stream) == kIllegalAddress);
          }) == 0);
}

TEST_CASE("fake driver: graphs replay what was captured, forks included") {
  for (int seed = 1; seed < 5; ++seed) {
    REQUIRE(run_with(kSettings + ",seed=" + std::to_string(seed), [](Cuda& cuda) {
              cuda.start();
              const CUfunction add = cuda.kernel(kAdd), twice = cuda.kernel(kDouble);
              const CUdeviceptr p = cuda.allocate(4);
              const CUstream one = cuda.stream(), two = cuda.stream();
              const CUevent fork_event = cuda.event(), join = cuda.event();
              cuda("cuMemsetD8_v2", p, static_cast<unsigned char>(0), size_t{4});
              CUgraph graph = nullptr;
              CUgraphExec executable = nullptr;
              REQUIRE_OK(cuda("cuStreamBeginCapture_v2", one, 0) == kSuccess);
              cuda.launch(add, one, p, 1);
              cuda("cuEventRecord", fork_event, one);
              cuda("cuStreamWaitEvent", two, fork_event, 0u);
              cuda.launch(twice, two, p);
              cuda("cuEventRecord", join, two);
              cuda("cuStreamWaitEvent", one, join, 0u);
              cuda.launch(add, one, p, 3);
              REQUIRE_OK(cuda("cuStreamEndCapture", one, &graph) == kSuccess && graph != nullptr);
              size_t nodes = 0;
              REQUIRE_OK(cuda("cuGraphGetNodes", graph, static_cast<void**>(nullptr), &nodes) == kSuccess &&
                         nodes == 3);
              REQUIRE_OK(cuda.read(p) == 0);  // nothing ran
              REQUIRE_OK(cuda("cuGraphInstantiateWithFlags", &executable, graph, 0ull) == kSuccess);
              REQUIRE_OK(cuda("cuGraphLaunch", executable, one) == kSuccess);
              REQUIRE_OK(cuda("cuGraphLaunch", executable, one) == kSuccess);
              REQUIRE_OK(cuda("cuStreamSynchronize", one) == kSuccess);
              REQUIRE_OK(cuda.read(p) == 15);  // ((0 + 1) * 2 + 3 + 1) * 2 + 3
              // A synchronisation or an allocation inside a capture spoils it.
              REQUIRE_OK(cuda("cuStreamBeginCapture_v2", one, 0) == kSuccess);
              CUdeviceptr q = 0;
              REQUIRE_OK(cuda("cuMemAlloc_v2", &q, size_t{4}) == kCaptureUnsupported);
              REQUIRE_OK(cuda("cuStreamEndCapture", one, &graph) == kCaptureInvalidated && graph == nullptr);
            }) == 0);
  }
}

TEST_CASE("fake driver: a kernel's fault sticks") {
  REQUIRE(run_with(kSettings, [](Cuda& cuda) {
            cuda.start();
            const CUdeviceptr p = cuda.allocate(4);
            const CUstream stream = cuda.stream();
            REQUIRE_OK(cuda.launch(cuda.kernel(kAdd), stream, p + 4) == kSuccess);
            REQUIRE_OK(cuda("cuStreamSynchronize", stream) == kIllegalAddress);
            CUdeviceptr q = 0;
            REQUIRE_OK(cuda("cuMemAlloc_v2", &q, size_t{4}) == kIllegalAddress);
            REQUIRE_OK(cuda.violation().find("ld.global.u32") != std::string::npos);
          }) == 0);
}

TEST_CASE("fake driver: injected errors, once or sticky") {
  REQUIRE(run_with(kSettings + ",fail=cuMemAlloc_v2:2:2", [](Cuda& cuda) {
            cuda.start();
            CUdeviceptr p = 0;
            REQUIRE_OK(cuda("cuMemAlloc_v2", &p, size_t{4}) == kSuccess);
            REQUIRE_OK(cuda("cuMemAlloc_v2", &p, size_t{4}) == kOutOfMemory);
            REQUIRE_OK(cuda("cuMemAlloc_v2", &p, size_t{4}) == kSuccess);
          }) == 0);
  REQUIRE(run_with(kSettings + ",fail=cuLaunchKernel:1:719:sticky", [](Cuda& cuda) {
            cuda.start();
            const CUdeviceptr p = cuda.allocate(4);
            REQUIRE_OK(cuda.launch(cuda.kernel(kDouble), nullptr, p) == kLaunchFailed);
            REQUIRE_OK(cuda("cuCtxSynchronize") == kLaunchFailed);
          }) == 0);
}

TEST_CASE("fake driver: modules by manifest, launches that cannot be, shared memory by opting in") {
  char folder[] = "/tmp/inferd-fake-cuda-XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  const std::string base(folder);
  std::string fatbin(16 + 8, '\0');
  const uint32_t magic = 0xba55ed50;
  const uint16_t version = 1, header = 16;
  const uint64_t body = 8;
  std::memcpy(fatbin.data(), &magic, 4);
  std::memcpy(fatbin.data() + 4, &version, 2);
  std::memcpy(fatbin.data() + 6, &header, 2);
  std::memcpy(fatbin.data() + 8, &body, 8);
  std::string for80 = kernel_text(kDouble);
  for80.replace(for80.find("sm_90"), 5, "sm_80");
  std::ofstream(base + "/k.fatbin", std::ios::binary) << fatbin;
  std::ofstream(base + "/80.ptx") << for80;
  std::ofstream(base + "/90.ptx") << kernel_text(kAdd);
  std::ofstream(base + "/manifest") << base + "/k.fatbin 80 " + base + "/80.ptx\n" + base + "/k.fatbin 90 " + base +
                                           "/90.ptx\n";
  for (const int arch : {75, 86, 90}) {
    const std::string profile = base + "/profile" + std::to_string(arch);
    REQUIRE(run_with(
                "arch=" + std::to_string(arch) + ",manifest=" + base + "/manifest,profile=" + profile, [&](Cuda& cuda) {
                  cuda.start();
                  CUmodule module = nullptr;
                  CUfunction function = nullptr;
                  const CUresult loaded = cuda("cuModuleLoadData", &module, static_cast<const void*>(fatbin.data()));
                  REQUIRE_OK(loaded == (arch == 75 ? kNoBinaryForGpu : kSuccess));
                  if (loaded != kSuccess) return;
                  REQUIRE_OK(cuda("cuModuleGetFunction", &function, module, "nothing") == kNotFound);
                  REQUIRE_OK(cuda("cuModuleGetFunction", &function, module, "k") == kSuccess);
                  const CUdeviceptr p = cuda.allocate(4);
                  cuda("cuMemsetD8_v2", p, static_cast<unsigned char>(1), size_t{4});
                  REQUIRE_OK(cuda.launch(function, nullptr, p, 5) == kSuccess);
                  REQUIRE_OK(cuda.read(p) == (arch == 90 ? 0x01010106u : 0x02020202u));
                  REQUIRE_OK(cuda.launch(function, nullptr, p, 0, 64 * 1024) == kInvalidValue);
                  REQUIRE_OK(cuda("cuFuncSetAttribute", function, int{kFuncMaxDynamicShared}, 64 * 1024) == kSuccess);
                  REQUIRE_OK(cuda.launch(function, nullptr, p, 0, 64 * 1024) == kSuccess);
                  REQUIRE_OK(cuda("cuFuncSetAttribute", function, int{kFuncMaxDynamicShared}, 1 << 20) ==
                             kInvalidValue);
                }) == 0);
    std::ifstream in(profile);
    std::string first;
    std::getline(in, first);
    REQUIRE((arch == 75) == first.empty());
  }
  REQUIRE(std::system(("rm -r " + base).c_str()) == 0);
}

TEST_CASE("fake driver: two devices keep their memory apart; copies cross") {
  REQUIRE(run_with("devices=2,arch=90", [](Cuda& cuda) {
            cuda.start(0);
            const CUdeviceptr p = cuda.allocate(4);
            cuda("cuMemsetD8_v2", p, static_cast<unsigned char>(7), size_t{4});
            cuda.start(1);
            const CUdeviceptr q = cuda.allocate(4);
            REQUIRE_OK(cuda("cuMemcpyDtoD_v2", q, p, size_t{4}) == kSuccess);
            REQUIRE_OK(cuda.read(q) == 0x07070707);
            const CUstream stream = cuda.stream();
            REQUIRE_OK(cuda.launch(cuda.kernel(kDouble), stream, p) == kSuccess);  // the other device's memory
            REQUIRE_OK(cuda("cuStreamSynchronize", stream) == kIllegalAddress);
            cuda.start(0);  // device 0 is unharmed
            REQUIRE_OK(cuda.read(p) == 0x07070707);
          }) == 0);
}
