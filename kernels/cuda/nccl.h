// NCCL as a table of functions: filled from libnccl.so.2 at run time, or by a test; and the GPUs it connects.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/driver.h"

namespace inferd::cuda {

using CommunicatorHandle = struct ncclComm*;

// Values of NCCL's enumerations (NCCL user guide, types).
inline constexpr int kNcclSuccess = 0;
inline constexpr int kNcclInProgress = 7;
inline constexpr int kNcclFloat32 = 7;

/// The entry points that are used (NCCL user guide, API); an int is a ncclResult_t, 0 for success.
struct NcclTable {
  int (*version)(int* version) = nullptr;  // 22809: 2.28.9
  const char* (*error_text)(int result) = nullptr;
  const char* (*last_error)(CommunicatorHandle communicator) = nullptr;
  int (*connect)(CommunicatorHandle* communicators, int count, const int* ordinals) = nullptr;
  int (*destroy)(CommunicatorHandle communicator) = nullptr;
  int (*abort)(CommunicatorHandle communicator) = nullptr;
  int (*async_error)(CommunicatorHandle communicator, int* result) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  int (*all_gather)(const void* send, void* receive, std::size_t count, int type, CommunicatorHandle communicator,
                    StreamHandle stream) = nullptr;
};

/// A loaded NCCL. Copies share the library.
class Nccl {
 public:
  /// Throws ConfigError: no such library, or one without an entry point.
  static Nccl open(const char* library = "libnccl.so.2");
  explicit Nccl(const NcclTable& table) : table_(table) {}

  const NcclTable& table() const { return table_; }
  /// "unhandled system error (2)", and what NCCL says of its last error.
  std::string describe(int result) const;
  /// Returns if `result` is success. Else throws FatalError with ExitCode::gpu_lost: after a failed collective the GPUs
  /// no longer agree on what comes next.
  void check(int result, const char* action) const;

 private:
  std::shared_ptr<void> library_;
  NcclTable table_;
};

/// GPUs of this process that exchange data, rank i being the i-th. One thread at a time.
class Communicators {
 public:
  /// Throws ConfigError if NCCL cannot connect them.
  Communicators(Nccl nccl, const std::vector<int>& ordinals);
  ~Communicators();
  Communicators(const Communicators&) = delete;

  /// Queues on every rank's stream: part r of `count` floats of each rank's buffer becomes rank r's own part r.
  /// buffers: [ranks], each of ranks * count f32 in its rank's memory. Throws as Nccl::check does.
  void all_gather(std::span<float* const> buffers, std::size_t count, std::span<const StreamHandle> streams);
  /// Throws what went wrong since in what was queued, as far as NCCL knows.
  void check_async() const;
  /// Ends all that is queued, and for good: ranks that wait for one that is lost no longer do.
  void abort() noexcept;

 private:
  const Nccl nccl_;
  std::vector<CommunicatorHandle> handles_;  // empty: given up
};

}  // namespace inferd::cuda
