// The CUDA driver API as a table of functions: filled from libcuda.so.1 at run time, or by a test.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace inferd::cuda {

// Handles as the driver defines them.
using DevicePointer = unsigned long long;
using ContextHandle = struct CUctx_st*;
using StreamHandle = struct CUstream_st*;
using EventHandle = struct CUevent_st*;
using ModuleHandle = struct CUmod_st*;
using FunctionHandle = struct CUfunc_st*;
using GraphHandle = struct CUgraph_st*;
using GraphExecHandle = struct CUgraphExec_st*;

/// The driver's entry points (CUDA Driver API reference); all return a CUresult, 0 for success. Those below
/// device_attribute are null in tests that do not need them.
struct DriverTable {
  int (*init)(unsigned flags) = nullptr;
  int (*driver_version)(int* version) = nullptr;  // 13000: CUDA 13.0
  int (*error_name)(int status, const char** name) = nullptr;
  int (*device_count)(int* count) = nullptr;
  int (*device_get)(int* device, int ordinal) = nullptr;
  int (*device_name)(char* name, int bytes, int device) = nullptr;
  int (*device_memory)(std::size_t* bytes, int device) = nullptr;
  int (*device_attribute)(int* value, int attribute, int device) = nullptr;

  int (*context_retain)(ContextHandle* context, int device) = nullptr;  // the device's primary context
  int (*context_release)(int device) = nullptr;
  int (*context_set)(ContextHandle context) = nullptr;  // of the calling thread
  int (*memory_info)(std::size_t* free, std::size_t* total) = nullptr;
  int (*memory_alloc)(DevicePointer* pointer, std::size_t bytes) = nullptr;
  int (*memory_free)(DevicePointer pointer) = nullptr;
  int (*pinned_alloc)(void** pointer, std::size_t bytes, unsigned flags) = nullptr;
  int (*pinned_free)(void* pointer) = nullptr;
  int (*copy_to_device)(DevicePointer to, const void* from, std::size_t bytes, StreamHandle stream) = nullptr;
  int (*copy_to_host)(void* to, DevicePointer from, std::size_t bytes, StreamHandle stream) = nullptr;
  int (*fill)(DevicePointer to, unsigned char value, std::size_t bytes, StreamHandle stream) = nullptr;
  int (*stream_create)(StreamHandle* stream, unsigned flags) = nullptr;
  int (*stream_destroy)(StreamHandle stream) = nullptr;
  int (*stream_synchronize)(StreamHandle stream) = nullptr;
  int (*stream_query)(StreamHandle stream) = nullptr;
  int (*event_create)(EventHandle* event, unsigned flags) = nullptr;
  int (*event_destroy)(EventHandle event) = nullptr;
  int (*event_record)(EventHandle event, StreamHandle stream) = nullptr;
  int (*event_synchronize)(EventHandle event) = nullptr;
  int (*module_load)(ModuleHandle* module, const void* image) = nullptr;
  int (*module_unload)(ModuleHandle module) = nullptr;
  int (*module_function)(FunctionHandle* function, ModuleHandle module, const char* name) = nullptr;
  int (*function_attribute)(int* value, int attribute, FunctionHandle function) = nullptr;
  int (*function_set_attribute)(FunctionHandle function, int attribute, int value) = nullptr;
  int (*launch)(FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                unsigned block_y, unsigned block_z, unsigned shared_bytes, StreamHandle stream, void** parameters,
                void** extra) = nullptr;
  int (*capture_begin)(StreamHandle stream, int mode) = nullptr;
  int (*capture_end)(StreamHandle stream, GraphHandle* graph) = nullptr;
  int (*graph_instantiate)(GraphExecHandle* executable, GraphHandle graph, unsigned long long flags) = nullptr;
  int (*graph_launch)(GraphExecHandle executable, StreamHandle stream) = nullptr;
  int (*graph_exec_destroy)(GraphExecHandle executable) = nullptr;
  int (*graph_destroy)(GraphHandle graph) = nullptr;
};

struct DeviceInfo {
  std::string name;
  std::size_t memory_bytes = 0;
  int compute_major = 0;
  int compute_minor = 0;
  int multiprocessors = 0;
  int shared_bytes = 0;  // the most a block can be given
  int arch() const { return compute_major * 10 + compute_minor; }
};

/// A driver that has started. Creates no context. Copies share the library.
class Driver {
 public:
  /// The first driver branch that is supported, and the CUDA version it reports.
  static constexpr int kLeastBranch = 580;
  static constexpr int kLeastVersion = 13000;

  /// Loads `library` and starts it. Throws ConfigError: no driver, entry points missing, no GPU, or it does not start.
  static Driver open(const char* library = "libcuda.so.1");
  /// Starts the driver behind a filled table. Throws as `open` does.
  explicit Driver(const DriverTable& table);

  int version() const { return version_; }
  /// Empty if this driver is new enough, else one line with the version needed and the version found.
  std::string version_problem() const;
  /// Every GPU in the driver's order, never none. Throws what `check` throws, and ConfigError if there is none.
  std::vector<DeviceInfo> devices() const;

  const DriverTable& table() const { return table_; }

  /// Returns if status is 0. Else throws: MemoryError if the device's memory ran out, FatalError with
  /// ExitCode::gpu_lost if the context or the GPU is beyond use, FatalError with ExitCode::internal otherwise.
  /// `action` says what was being done: "list GPUs".
  void check(int status, const std::string& action) const;

 private:
  std::string describe(int status) const;  // "CUDA_ERROR_ILLEGAL_ADDRESS (700)"

  std::shared_ptr<void> library_;
  DriverTable table_;
  int version_ = 0;
};

/// True for errors after which every call fails until the process is started anew (CUDA Driver API reference,
/// CUresult).
bool is_sticky(int status);

}  // namespace inferd::cuda
