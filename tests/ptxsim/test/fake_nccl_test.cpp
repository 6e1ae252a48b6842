// The fake NCCL as NCCL's callers meet it: what it gathers and when, and the misuse it refuses.
#include <cstdlib>
#include <vector>

#include "tests/catch.h"
#include "tests/ptxsim/fake_driver/cuda_api.h"

using namespace inferd::ptxsim::fake;

struct ncclComm;
extern "C" {
int cuInit(unsigned);
int cuDevicePrimaryCtxRetain(CUcontext*, int);
int cuCtxSetCurrent(CUcontext);
int cuMemAlloc_v2(CUdeviceptr*, size_t);
int cuMemsetD32Async(CUdeviceptr, unsigned, size_t, CUstream);
int cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, size_t, CUstream);
int cuStreamCreate(CUstream*, unsigned);
int cuStreamQuery(CUstream);
int cuStreamSynchronize(CUstream);
int cuStreamBeginCapture_v2(CUstream, int);
int cuStreamEndCapture(CUstream, CUgraph*);
int cuGraphInstantiateWithFlags(CUgraphExec*, CUgraph, unsigned long long);
int cuGraphLaunch(CUgraphExec, CUstream);
int ncclCommInitAll(ncclComm**, int, const int*);
int ncclCommDestroy(ncclComm*);
int ncclCommAbort(ncclComm*);
int ncclGroupStart();
int ncclGroupEnd();
int ncclAllGather(const void*, void*, size_t, int, ncclComm*, CUstream);
}

namespace {

constexpr int kOk = 0, kInvalidArgument = 4, kInvalidUsage = 5;  // ncclResult_t
constexpr int kInt32 = 2, kFloat32 = 7;                          // ncclDataType_t
constexpr size_t kCount = 5;
constexpr int kRanks = 3;

/// Three devices, each with a stream and room for every rank's part.
struct Machine {
  Machine() {
    ::setenv("INFERD_FAKE_CUDA", "devices=3,seed=9", 0);
    REQUIRE(cuInit(0) == 0);
    for (int i = 0; i < kRanks; ++i) {
      REQUIRE(cuDevicePrimaryCtxRetain(&contexts[i], i) == 0);
      REQUIRE(cuCtxSetCurrent(contexts[i]) == 0);
      REQUIRE(cuStreamCreate(&streams[i], 1) == 0);
      REQUIRE(cuMemAlloc_v2(&memory[i], kRanks * kCount * 4) == 0);
    }
    REQUIRE(ncclCommInitAll(comms, kRanks, nullptr) == kOk);
  }
  void set(int rank, unsigned value) {
    cuCtxSetCurrent(contexts[rank]);
    REQUIRE(cuMemsetD32Async(memory[rank] + rank * kCount * 4, value, kCount, streams[rank]) == 0);
  }
  int gather(int rank, size_t count = kCount, int type = kInt32) {
    const CUdeviceptr at = memory[rank];
    return ncclAllGather(reinterpret_cast<void*>(at + rank * count * 4), reinterpret_cast<void*>(at), count, type,
                         comms[rank], streams[rank]);
  }
  void check(int rank, unsigned base) {
    std::vector<unsigned> found(kRanks * kCount);
    cuCtxSetCurrent(contexts[rank]);
    REQUIRE(cuMemcpyDtoHAsync_v2(found.data(), memory[rank], found.size() * 4, streams[rank]) == 0);
    REQUIRE(cuStreamSynchronize(streams[rank]) == 0);
    for (size_t i = 0; i < found.size(); ++i) CHECK(found[i] == base + i / kCount);
  }
  CUcontext contexts[kRanks];
  CUstream streams[kRanks];
  CUdeviceptr memory[kRanks];
  ncclComm* comms[kRanks];
};

}  // namespace

TEST_CASE("fake NCCL: every rank gets every part, after all that was queued before") {
  Machine machine;
  for (unsigned round = 0; round < 4; ++round) {
    REQUIRE(ncclGroupStart() == kOk);
    for (int rank = 0; rank < kRanks; ++rank) {
      machine.set(rank, 100 * round + rank);
      REQUIRE(machine.gather(rank) == kOk);
    }
    REQUIRE(ncclGroupEnd() == kOk);
    // What follows may write over a rank's own part, since all have it by then.
    if (round % 2 == 0) {
      for (int rank = 0; rank < kRanks; ++rank) machine.check((rank + 1) % kRanks, 100 * round);
    }
  }
  for (int rank = 0; rank < kRanks; ++rank) machine.check(rank, 300);
  for (ncclComm* comm : machine.comms) CHECK(ncclCommDestroy(comm) == kOk);
}

TEST_CASE("fake NCCL: captured on every stream, replays meet one another") {
  Machine machine;
  for (const CUstream stream : machine.streams) REQUIRE(cuStreamBeginCapture_v2(stream, 1) == 0);
  REQUIRE(ncclGroupStart() == kOk);
  for (int rank = 0; rank < kRanks; ++rank) REQUIRE(machine.gather(rank) == kOk);
  REQUIRE(ncclGroupEnd() == kOk);
  CUgraphExec executables[kRanks];
  for (int rank = 0; rank < kRanks; ++rank) {
    CUgraph graph = nullptr;
    REQUIRE(cuStreamEndCapture(machine.streams[rank], &graph) == 0);
    REQUIRE(cuGraphInstantiateWithFlags(&executables[rank], graph, 0) == 0);
  }
  for (unsigned round = 1; round < 4; ++round) {
    for (int rank = kRanks - 1; rank >= 0; --rank) {
      machine.set(rank, 10 * round + rank);
      REQUIRE(cuGraphLaunch(executables[rank], machine.streams[rank]) == 0);
    }
  }
  for (int rank = 0; rank < kRanks; ++rank) machine.check(rank, 30);
  // A rank whose others do not come waits until it is given up.
  REQUIRE(cuCtxSetCurrent(machine.contexts[0]) == 0);
  REQUIRE(cuGraphLaunch(executables[0], machine.streams[0]) == 0);
  for (int i = 0; i < 10; ++i) CHECK(cuStreamQuery(machine.streams[0]) == kNotReady);
  CHECK(ncclCommAbort(machine.comms[0]) == kOk);
  CHECK(cuStreamSynchronize(machine.streams[0]) == 0);
}

TEST_CASE("fake NCCL: what would hang or read rubbish is refused") {
  Machine machine;
  const auto group = [&](auto&& calls) {
    REQUIRE(ncclGroupStart() == kOk);
    calls();
    return ncclGroupEnd();
  };
  CHECK(machine.gather(0) == kInvalidUsage);  // outside a group
  CHECK(group([&] { CHECK(machine.gather(0) == kOk); }) == kInvalidUsage);
  CHECK(group([&] {
          for (int rank = 0; rank < kRanks; ++rank) CHECK(machine.gather(rank, rank == 1 ? 2 : 1) == kOk);
        }) == kInvalidUsage);
  CHECK(group([&] {
          for (int rank = 0; rank < kRanks; ++rank) {
            CHECK(machine.gather(rank, 1, rank == 1 ? kFloat32 : kInt32) == kOk);
          }
        }) == kInvalidUsage);
  const auto alone = [&](size_t count, int type) {  // the call's own answer
    int result = kOk;
    CHECK(group([&] { result = machine.gather(0, count, type); }) == kOk);
    return result;
  };
  std::swap(machine.streams[0], machine.streams[1]);
  CHECK(alone(kCount, kInt32) == kInvalidArgument);
  std::swap(machine.streams[0], machine.streams[1]);
  std::swap(machine.memory[0], machine.memory[1]);
  CHECK(alone(kCount, kInt32) == kInvalidArgument);
  std::swap(machine.memory[0], machine.memory[1]);
  CHECK(alone(kCount + 1, kInt32) == kInvalidArgument);
  CHECK(alone(kCount, 99) == kInvalidArgument);
  CHECK(ncclGroupEnd() == kInvalidUsage);
  const int twice[] = {1, 1}, beyond[] = {0, 3};
  ncclComm* comms[2];
  CHECK(ncclCommInitAll(comms, 2, twice) == kInvalidUsage);
  CHECK(ncclCommInitAll(comms, 2, beyond) == kInvalidArgument);
  CHECK(group([] {}) == kOk);
}
