// cuBLASLt as a table of functions: filled from libcublasLt.so at run time, or by a test; and products through it.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/cuda/driver.h"

namespace inferd::cuda {

// Handles and values as cuBLASLt defines them (cuBLAS library documentation, cuBLASLt API).
using BlasHandle = struct cublasLtContext*;
using BlasOperation = struct BlasOperationOpaque*;    // cublasLtMatmulDesc_t
using BlasLayout = struct BlasLayoutOpaque*;          // cublasLtMatrixLayout_t
using BlasPreference = struct BlasPreferenceOpaque*;  // cublasLtMatmulPreference_t

struct BlasAlgorithm {
  std::uint64_t data[8];
};
struct BlasHeuristic {
  BlasAlgorithm algorithm;
  std::size_t workspace_bytes;
  int status;
  float waves;
  int reserved[4];
};

// cublasStatus_t
inline constexpr int kBlasSuccess = 0;
inline constexpr int kBlasAllocFailed = 3;
inline constexpr int kBlasMappingError = 11;
inline constexpr int kBlasExecutionFailed = 13;
inline constexpr int kBlasInternalError = 14;
// cudaDataType_t, cublasComputeType_t, cublasOperation_t, and attributes of descriptors
inline constexpr int kBlasF32 = 0;
inline constexpr int kBlasF16 = 2;
inline constexpr int kBlasBf16 = 14;
inline constexpr int kBlasComputeF32 = 68;
inline constexpr int kBlasTransposed = 1;
inline constexpr int kBlasOperationA = 3;
inline constexpr int kBlasLayoutColumns = 3;
inline constexpr int kBlasMaxWorkspace = 1;
inline constexpr int kBlasAlignmentA = 5;  // then those of B, C and D

/// The entry points that are used; an int is a cublasStatus_t, 0 for success.
struct BlasTable {
  std::size_t (*version)() = nullptr;  // 130100: 13.1.0
  const char* (*status_name)(int status) = nullptr;
  int (*create)(BlasHandle* handle) = nullptr;
  int (*destroy)(BlasHandle handle) = nullptr;
  int (*operation_create)(BlasOperation* operation, int compute_type, int scale_type) = nullptr;
  int (*operation_destroy)(BlasOperation operation) = nullptr;
  int (*operation_set)(BlasOperation operation, int attribute, const void* value, std::size_t bytes) = nullptr;
  int (*layout_create)(BlasLayout* layout, int type, std::uint64_t rows, std::uint64_t columns,
                       std::int64_t leading) = nullptr;
  int (*layout_destroy)(BlasLayout layout) = nullptr;
  int (*layout_set)(BlasLayout layout, int attribute, const void* value, std::size_t bytes) = nullptr;
  int (*preference_create)(BlasPreference* preference) = nullptr;
  int (*preference_destroy)(BlasPreference preference) = nullptr;
  int (*preference_set)(BlasPreference preference, int attribute, const void* value, std::size_t bytes) = nullptr;
  int (*find)(BlasHandle handle, BlasOperation operation, BlasLayout a, BlasLayout b, BlasLayout c, BlasLayout d,
              BlasPreference preference, int wanted, BlasHeuristic* found, int* count) = nullptr;
  int (*examine)(BlasHandle handle, BlasOperation operation, BlasLayout a, BlasLayout b, BlasLayout c, BlasLayout d,
                 const BlasAlgorithm* algorithm, BlasHeuristic* result) = nullptr;
  int (*multiply)(BlasHandle handle, BlasOperation operation, const void* alpha, const void* a, BlasLayout a_layout,
                  const void* b, BlasLayout b_layout, const void* beta, const void* c, BlasLayout c_layout, void* d,
                  BlasLayout d_layout, const BlasAlgorithm* algorithm, void* workspace, std::size_t workspace_bytes,
                  StreamHandle stream) = nullptr;
};

/// A loaded cuBLASLt. Copies share the library.
class BlasLibrary {
 public:
  /// The first of libcublasLt.so.13 and .12 there is. Throws ConfigError: neither, or one without an entry point.
  static BlasLibrary open();
  /// Likewise of one name.
  static BlasLibrary open(const char* library);
  explicit BlasLibrary(const BlasTable& table) : table_(table) {}

  const BlasTable& table() const { return table_; }
  std::string version() const;  // "13.1.0"
  /// Returns if `status` is success. Else throws MemoryError if memory ran out, FatalError otherwise: with
  /// ExitCode::gpu_lost if the GPU failed.
  void check(int status, const char* action) const;

 private:
  std::shared_ptr<void> library_;
  BlasTable table_;
};

/// A product of 16-bit matrices in row-major order, in f32: d[t][r] = sum over k of x[t][k] * w[r][k] (+ c[t][r]).
struct BlasShape {
  bool bf16 = false;  // w and x; else f16
  std::int64_t tokens = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;  // of w and x, which are contiguous
  bool adds = false;         // c is there; it may be d, then with equal strides
  std::int64_t c_stride = 0, d_stride = 0;
  auto operator<=>(const BlasShape&) const = default;
};

/// cuBLASLt on one stream of one GPU, with the algorithms it chose. One thread at a time, which has entered the
/// context.
class Blas {
 public:
  /// Bytes of workspace a product is given.
  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
  /// Address alignment of w, x, c and d that products need.
  static constexpr std::size_t kAlignment = 16;
  /// Token counts that share an algorithm lie between two multiples of this.
  static constexpr std::int64_t kBucket = 128;

  /// Throws ConfigError if cuBLASLt does not start.
  Blas(const BlasLibrary& library, StreamHandle stream);
  ~Blas();
  Blas(const Blas&) = delete;

  std::string version() const { return library_.version(); }

  class Plan;
  /// How to compute a product, valid until the next call; null if cuBLASLt knows no way. The choice is made once for a
  /// shape but for `tokens`, and once for each bucket of those.
  const Plan* plan(const BlasShape& shape);
  /// Queues the product of the plan. c: null unless the shape adds. workspace: kWorkspaceBytes of device memory.
  void multiply(const Plan& plan, const std::uint16_t* w, const std::uint16_t* x, const float* c, float* d,
                void* workspace) const;

 private:
  const Plan* usable(const BlasShape& key, std::int64_t tokens);

  const BlasLibrary library_;
  const StreamHandle stream_;
  BlasHandle handle_ = nullptr;
  std::map<BlasShape, std::unique_ptr<Plan>> plans_;  // tokens: those the algorithm was chosen for
};

}  // namespace inferd::cuda
