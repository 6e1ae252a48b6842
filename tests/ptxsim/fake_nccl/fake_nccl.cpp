// A fake libnccl.so.2 on the fake CUDA driver's streams: communicators of one process, group calls, all-gathers. What
// real ranks would wait for until the end of time, or read as rubbish, is an error here.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "tests/ptxsim/fake_driver/driver_state.h"

using namespace inferd::ptxsim::fake;

namespace {

// ncclResult_t, ncclDataType_t as NVIDIA documents them for nccl.h
enum : int { kOk = 0, kUnhandledCudaError = 1, kInvalidArgument = 4, kInvalidUsage = 5 };
constexpr int kVersion = 22809;

struct NcclFailure {
  int code;
  const char* text;
};

thread_local const char* last_error = "";

/// One collective of one rank.
struct Call {
  uint64_t send = 0, receive = 0;
  size_t count = 0;
  int type = 0;
  bool matches(const Call& other) const { return count == other.count && type == other.type; }
};

/// What a rank's stream has come to.
struct Member {
  Device* device = nullptr;
  uint64_t arrived = 0, done = 0;  // collectives
  Call now;                        // the one it is in
};

struct Clique {
  std::vector<Member> members;
  bool aborted = false;  // nobody waits any more, nothing is copied
};

size_t type_bytes(int type) {
  constexpr size_t kBytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
  if (type < 0 || size_t(type) >= std::size(kBytes)) throw NcclFailure{kInvalidArgument, "unknown data type"};
  return kBytes[type];
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  size_t rank = 0;
};

namespace {

struct Pending {
  ncclComm* comm;
  Call call;
  Stream* stream;
};

thread_local int group_depth = 0;
thread_local std::vector<Pending> group_calls;

template <class F>
int nccl(const char* name, F&& body) {
  Driver& d = driver();
  const std::lock_guard<std::mutex> lock(d.mutex);
  try {
    d.begin_call(name);
    body(d);
    return kOk;
  } catch (const NcclFailure& failure) {
    std::fprintf(stderr, "fake NCCL: %s: %s\n", name, failure.text);
    last_error = failure.text;
    return failure.code;
  } catch (const ApiFailure& failure) {
    last_error = "a call of the CUDA driver failed";
    return failure.code <= 7 ? failure.code : kUnhandledCudaError;  // small ones: injected
  }
}

void fail_device(Driver& d, Device& device, const char* why) {
  d.last_violation = why;
  std::fprintf(stderr, "fake NCCL: %s\n", why);
  device.sticky = kLaunchFailed;
}

/// Takes every rank's part over into `self`, whose turn it is.
void gather(Driver& d, Clique& clique, Member& self) {
  if (clique.aborted) return;
  const size_t bytes = self.now.count * type_bytes(self.now.type);
  for (size_t rank = 0; rank < clique.members.size(); ++rank) {
    const Call& from = clique.members[rank].now;
    if (!from.matches(self.now)) return fail_device(d, *self.device, "ranks are in different collectives");
    const uint8_t* source = d.storage(from.send, bytes);
    uint8_t* target = d.storage(self.now.receive + rank * bytes, bytes);
    if (source == nullptr || target == nullptr) return fail_device(d, *self.device, "a collective left its buffers");
    std::copy(source, source + bytes, target);
  }
}

bool all_reached(const Clique& clique, uint64_t Member::*counter, uint64_t number) {
  return clique.aborted || std::all_of(clique.members.begin(), clique.members.end(),
                                       [&](const Member& member) { return member.*counter >= number; });
}

/// A rank waits for all to have arrived, takes what it wants, and waits until all have: its own part may be written
/// over then. The numbers count what streams do, so that a replayed graph meets the other ranks' replays.
void enqueue(Driver& d, const Pending& pending) {
  const std::shared_ptr<Clique> clique = pending.comm->clique;
  Member& self = clique->members[pending.comm->rank];
  d.submit(*pending.stream, [clique, &self, call = pending.call] {
    self.now = call;
    ++self.arrived;
  });
  d.submit(
      *pending.stream,
      [&d, clique, &self] {
        gather(d, *clique, self);
        ++self.done;
      },
      [clique, &self] { return all_reached(*clique, &Member::arrived, self.arrived); });
  d.submit(
      *pending.stream, [] {}, [clique, &self] { return all_reached(*clique, &Member::done, self.done); });
}

/// Every rank of every communicator of the group must have asked for the same, in the same order.
void check_group(const std::vector<Pending>& all) {
  for (const Pending& one : all) {
    const auto calls_of = [&](size_t rank) {
      std::vector<Call> calls;
      for (const Pending& other : all) {
        if (other.comm->clique == one.comm->clique && other.comm->rank == rank) calls.push_back(other.call);
      }
      return calls;
    };
    const std::vector<Call> first = calls_of(0);
    for (size_t rank = 1; rank < one.comm->clique->members.size(); ++rank) {
      const std::vector<Call> calls = calls_of(rank);
      if (calls.size() != first.size()) throw NcclFailure{kInvalidUsage, "a rank is missing from the group"};
      for (size_t i = 0; i < calls.size(); ++i) {
        if (!calls[i].matches(first[i])) throw NcclFailure{kInvalidUsage, "ranks differ in count or data type"};
      }
    }
  }
}

void require_memory(Device& device, uint64_t address, size_t bytes) {
  const inferd::ptxsim::Region* region = device.memory.find(address);
  if (region == nullptr || !region->contains(address, bytes)) {
    throw NcclFailure{kInvalidArgument, "a buffer is not memory of its rank's device"};
  }
}

void destroy(ncclComm* comm) {
  if (comm == nullptr) throw NcclFailure{kInvalidArgument, "no communicator"};
  delete comm;
}

}  // namespace

extern "C" {

int ncclGetVersion(int* version) {
  *version = kVersion;
  return kOk;
}

const char* ncclGetErrorString(int result) {
  switch (result) {
    case kOk:
      return "no error";
    case kUnhandledCudaError:
      return "unhandled cuda error";
    case kInvalidArgument:
      return "invalid argument";
    case kInvalidUsage:
      return "invalid usage";
    default:
      return "unhandled system error";
  }
}

const char* ncclGetLastError(ncclComm*) { return last_error; }

int ncclCommInitAll(ncclComm** comms, int count, const int* ordinals) {
  return nccl("ncclCommInitAll", [&](Driver& d) {
    if (comms == nullptr || count <= 0) throw NcclFailure{kInvalidArgument, "no communicators asked for"};
    const auto clique = std::make_shared<Clique>();
    for (int rank = 0; rank < count; ++rank) {
      const int ordinal = ordinals == nullptr ? rank : ordinals[rank];
      if (ordinal < 0 || size_t(ordinal) >= d.devices.size()) throw NcclFailure{kInvalidArgument, "no such device"};
      Device* device = d.devices[size_t(ordinal)].get();
      for (const Member& member : clique->members) {
        if (member.device == device) throw NcclFailure{kInvalidUsage, "a device twice"};
      }
      clique->members.push_back({device, 0, 0, {}});
    }
    for (int rank = 0; rank < count; ++rank) comms[rank] = new ncclComm{clique, size_t(rank)};
  });
}

int ncclCommDestroy(ncclComm* comm) {
  return nccl("ncclCommDestroy", [&](Driver&) { destroy(comm); });
}

int ncclCommAbort(ncclComm* comm) {
  return nccl("ncclCommAbort", [&](Driver&) {
    if (comm != nullptr) comm->clique->aborted = true;
    destroy(comm);
  });
}

int ncclCommGetAsyncError(ncclComm* comm, int* result) {
  return nccl("ncclCommGetAsyncError", [&](Driver&) {
    if (comm == nullptr) throw NcclFailure{kInvalidArgument, "no communicator"};
    *result = kOk;
  });
}

int ncclGroupStart() {
  ++group_depth;
  return kOk;
}

int ncclGroupEnd() {
  return nccl("ncclGroupEnd", [](Driver& d) {
    if (group_depth == 0) throw NcclFailure{kInvalidUsage, "no group was started"};
    if (--group_depth > 0) return;
    const std::vector<Pending> calls = std::exchange(group_calls, {});
    check_group(calls);
    for (const Pending& call : calls) enqueue(d, call);
  });
}

int ncclAllGather(const void* send, void* receive, size_t count, int type, ncclComm* comm, CUstream stream) {
  return nccl("ncclAllGather", [&](Driver& d) {
    if (comm == nullptr) throw NcclFailure{kInvalidArgument, "no communicator"};
    const std::vector<Member>& members = comm->clique->members;
    if (group_depth == 0 && members.size() > 1) {
      throw NcclFailure{kInvalidUsage, "one thread's calls for several ranks stand in a group"};
    }
    Device& device = *members[comm->rank].device;
    if (stream == nullptr || d.stream(stream).device != &device) {
      throw NcclFailure{kInvalidArgument, "a stream is not of its rank's device"};
    }
    const Call call{reinterpret_cast<uint64_t>(send), reinterpret_cast<uint64_t>(receive), count, type};
    const size_t bytes = count * type_bytes(type);
    require_memory(device, call.send, bytes);
    require_memory(device, call.receive, bytes * members.size());
    if (group_depth == 0) return enqueue(d, {comm, call, &d.stream(stream)});
    group_calls.push_back({comm, call, &d.stream(stream)});
  });
}

}  // extern "C"
