// The NCCL seam over a table that the test fills: what is called, and what each error becomes; and NVIDIA's header.
#include "kernels/cuda/nccl.h"

#include <array>
#include <string>

#include "tests/catch.h"
#include "tests/errors.h"

#ifdef INFERD_NCCL_HEADER
#include <nccl.h>
#endif

namespace inferd::cuda {
namespace {

using inferd::testing::error_of;
using inferd::testing::has;

#ifdef INFERD_NCCL_HEADER
// Our declarations stand for these: enumerations go as ints, handles as pointers.
static_assert(sizeof(ncclResult_t) == sizeof(int) && sizeof(ncclDataType_t) == sizeof(int));
static_assert(ncclSuccess == kNcclSuccess && ncclInProgress == kNcclInProgress && ncclFloat32 == kNcclFloat32);
static_assert(std::is_same_v<decltype(ncclGetVersion), ncclResult_t(int*)>);
static_assert(std::is_same_v<decltype(ncclGetErrorString), const char*(ncclResult_t)>);
static_assert(std::is_same_v<decltype(ncclGetLastError), const char*(ncclComm_t)>);
static_assert(std::is_same_v<decltype(ncclCommInitAll), ncclResult_t(ncclComm_t*, int, const int*)>);
static_assert(std::is_same_v<decltype(ncclCommDestroy), ncclResult_t(ncclComm_t)>);
static_assert(std::is_same_v<decltype(ncclCommAbort), ncclResult_t(ncclComm_t)>);
static_assert(std::is_same_v<decltype(ncclCommGetAsyncError), ncclResult_t(ncclComm_t, ncclResult_t*)>);
static_assert(std::is_same_v<decltype(ncclGroupStart), ncclResult_t()>);
static_assert(std::is_same_v<decltype(ncclGroupEnd), ncclResult_t()>);
static_assert(std::is_same_v<decltype(ncclAllGather),
                             ncclResult_t(const void*, void*, std::size_t, ncclDataType_t, ncclComm_t, cudaStream_t)>);
#endif

// What the table's functions answer and were told; they are plain functions, so the state is the file's.
struct Gather {
  const void* send;
  void* receive;
  std::size_t count;
  int type;
  CommunicatorHandle communicator;
};
struct State {
  int connect = 0, gather = 0, group_end = 0, async = 0;
  std::vector<int> ordinals;
  std::vector<Gather> gathers;
  int open_groups = 0, destroyed = 0, aborted = 0;
  const char* last = "";
};
State state;

CommunicatorHandle handle(std::size_t rank) { return reinterpret_cast<CommunicatorHandle>(0x100 * (rank + 1)); }

NcclTable make_table() {
  state = {};
  NcclTable table;
  table.error_text = [](int result) { return result == 2 ? "unhandled system error" : "something else"; };
  table.last_error = [](CommunicatorHandle) { return state.last; };
  table.connect = [](CommunicatorHandle* out, int count, const int* ordinals) {
    state.ordinals.assign(ordinals, ordinals + count);
    for (int i = 0; i < count; ++i) out[i] = handle(static_cast<std::size_t>(i));
    return state.connect;
  };
  table.destroy = [](CommunicatorHandle) { return ++state.destroyed, 0; };
  table.abort = [](CommunicatorHandle) { return ++state.aborted, 0; };
  table.async_error = [](CommunicatorHandle, int* result) { return *result = state.async, 0; };
  table.group_start = [] { return ++state.open_groups, 0; };
  table.group_end = [] { return --state.open_groups, state.group_end; };
  table.all_gather = [](const void* send, void* receive, std::size_t count, int type, CommunicatorHandle communicator,
                        StreamHandle) {
    state.gathers.push_back({send, receive, count, type, communicator});
    return state.gather;
  };
  return table;
}

std::array<float, 12> buffers[2];
const std::array<float*, 2> kBuffers = {buffers[0].data(), buffers[1].data()};
constexpr std::array<StreamHandle, 2> kStreams = {};

}  // namespace

TEST_CASE("A missing or foreign NCCL is named") {
  const FatalError missing = error_of([] { Nccl::open("libnowhere.so.2"); });
  CHECK(missing.code == ExitCode::bad_config);
  CHECK(has(missing.what(), "several GPUs need NCCL (libnowhere.so.2 not found"));
  const FatalError empty = error_of([] { Nccl::open(INFERD_EMPTY_DRIVER); });
  CHECK(empty.code == ExitCode::bad_config);
  CHECK(has(empty.what(), "expected 2.13 or newer, found one without ncclGetVersion"));
}

TEST_CASE("Every rank gathers in place, in one group") {
  Communicators ranks(Nccl(make_table()), {5, 3});
  CHECK(state.ordinals == std::vector<int>{5, 3});
  ranks.all_gather(kBuffers, 6, kStreams);
  CHECK(state.open_groups == 0);
  REQUIRE(state.gathers.size() == 2);
  for (std::size_t r = 0; r < 2; ++r) {
    CHECK(state.gathers[r].send == kBuffers[r] + 6 * r);
    CHECK(state.gathers[r].receive == kBuffers[r]);
    CHECK(state.gathers[r].count == 6);
    CHECK(state.gathers[r].type == 7);
    CHECK(state.gathers[r].communicator == handle(r));
  }
}

TEST_CASE("NCCL's errors are told with its words") {
  const NcclTable table = make_table();
  state.connect = 2;
  state.last = "no route";
  const FatalError apart = error_of([&] { Communicators(Nccl(table), {0, 1}); });
  CHECK(apart.code == ExitCode::bad_config);
  CHECK(std::string(apart.what()) ==
        "NCCL cannot connect GPUs 0, 1: unhandled system error (2), no route; NCCL_DEBUG=INFO says more");
  CHECK(state.destroyed == 0);

  Communicators ranks(Nccl(make_table()), {0, 1});
  state.gather = 2;
  const FatalError failed = error_of([&] { ranks.all_gather(kBuffers, 1, kStreams); });
  CHECK(failed.code == ExitCode::gpu_lost);
  CHECK(std::string(failed.what()) == "NCCL cannot gather what the GPUs computed: unhandled system error (2)");
  CHECK(state.open_groups == 0);
  state.gather = 0;
  state.group_end = 3;
  CHECK(error_of([&] { ranks.all_gather(kBuffers, 1, kStreams); }).code == ExitCode::gpu_lost);
  state.async = kNcclInProgress;
  CHECK(error_of([&] { ranks.check_async(); }).code == ExitCode::ok);
  state.async = 6;
  CHECK(error_of([&] { ranks.check_async(); }).code == ExitCode::gpu_lost);
}

TEST_CASE("Communicators end once: destroyed, or given up") {
  { const Communicators ranks(Nccl(make_table()), {0, 1}); }
  CHECK(state.destroyed == 2);
  {
    Communicators ranks(Nccl(make_table()), {0, 1, 2});
    ranks.abort();
    ranks.abort();
    CHECK(error_of([&] { ranks.all_gather(kBuffers, 1, kStreams); }).code == ExitCode::gpu_lost);
  }
  CHECK(state.aborted == 3);
  CHECK(state.destroyed == 0);
}

}  // namespace inferd::cuda
