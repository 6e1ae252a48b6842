// The cuBLASLt seam over a table that the test fills: what is called, and what each error becomes; and NVIDIA's header.
#include "kernels/cuda/blas.h"

#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/errors.h"

#ifdef INFERD_CUBLASLT_HEADER
#include <cublasLt.h>

#include <cstddef>
#endif

namespace inferd::cuda {
namespace {

using inferd::testing::error_of;
using inferd::testing::has;

#ifdef INFERD_CUBLASLT_HEADER
// Our declarations stand for these: enumerations go as ints, handles as pointers.
static_assert(sizeof(cublasStatus_t) == sizeof(int) && sizeof(cudaDataType_t) == sizeof(int));
static_assert(sizeof(cublasComputeType_t) == sizeof(int) && sizeof(cublasOperation_t) == sizeof(std::int32_t));
static_assert(CUBLAS_STATUS_SUCCESS == kBlasSuccess && CUBLAS_STATUS_ALLOC_FAILED == kBlasAllocFailed);
static_assert(CUBLAS_STATUS_MAPPING_ERROR == kBlasMappingError);
static_assert(CUBLAS_STATUS_EXECUTION_FAILED == kBlasExecutionFailed);
static_assert(CUBLAS_STATUS_INTERNAL_ERROR == kBlasInternalError);
static_assert(CUDA_R_32F == kBlasF32 && CUDA_R_16F == kBlasF16 && CUDA_R_16BF == kBlasBf16);
static_assert(CUBLAS_COMPUTE_32F == kBlasComputeF32 && CUBLAS_OP_T == kBlasTransposed);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == kBlasOperationA && CUBLASLT_MATRIX_LAYOUT_COLS == kBlasLayoutColumns);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == kBlasMaxWorkspace);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == kBlasAlignmentA);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES == kBlasAlignmentA + 1);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES == kBlasAlignmentA + 2);
static_assert(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == kBlasAlignmentA + 3);
static_assert(sizeof(cublasLtHandle_t) == sizeof(BlasHandle));
static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(BlasAlgorithm));
using TheirResult = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(TheirResult) == sizeof(BlasHeuristic));
static_assert(offsetof(TheirResult, workspaceSize) == offsetof(BlasHeuristic, workspace_bytes));
static_assert(offsetof(TheirResult, state) == offsetof(BlasHeuristic, status));
static_assert(offsetof(TheirResult, wavesCount) == offsetof(BlasHeuristic, waves));
static_assert(std::is_same_v<decltype(cublasLtGetVersion), std::size_t()>);
static_assert(std::is_same_v<decltype(cublasLtGetStatusName), const char*(cublasStatus_t)>);
static_assert(std::is_same_v<decltype(cublasLtCreate), cublasStatus_t(cublasLtHandle_t*)>);
static_assert(std::is_same_v<decltype(cublasLtDestroy), cublasStatus_t(cublasLtHandle_t)>);
static_assert(std::is_same_v<decltype(cublasLtMatmulDescCreate),
                             cublasStatus_t(cublasLtMatmulDesc_t*, cublasComputeType_t, cudaDataType_t)>);
static_assert(
    std::is_same_v<decltype(cublasLtMatmulDescSetAttribute),
                   cublasStatus_t(cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void*, std::size_t)>);
static_assert(
    std::is_same_v<decltype(cublasLtMatrixLayoutCreate),
                   cublasStatus_t(cublasLtMatrixLayout_t*, cudaDataType, std::uint64_t, std::uint64_t, std::int64_t)>);
static_assert(
    std::is_same_v<decltype(cublasLtMatrixLayoutSetAttribute),
                   cublasStatus_t(cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t, const void*, std::size_t)>);
static_assert(std::is_same_v<decltype(cublasLtMatmulPreferenceSetAttribute),
                             cublasStatus_t(cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
                                            const void*, std::size_t)>);
static_assert(std::is_same_v<decltype(cublasLtMatmulAlgoGetHeuristic),
                             cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                            cublasLtMatmulPreference_t, int, TheirResult*, int*)>);
static_assert(std::is_same_v<decltype(cublasLtMatmulAlgoCheck),
                             cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                            cublasLtMatrixLayout_t, cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                            const cublasLtMatmulAlgo_t*, TheirResult*)>);
static_assert(std::is_same_v<decltype(cublasLtMatmul),
                             cublasStatus_t(cublasLtHandle_t, cublasLtMatmulDesc_t, const void*, const void*,
                                            cublasLtMatrixLayout_t, const void*, cublasLtMatrixLayout_t, const void*,
                                            const void*, cublasLtMatrixLayout_t, void*, cublasLtMatrixLayout_t,
                                            const cublasLtMatmulAlgo_t*, void*, std::size_t, cudaStream_t)>);
#endif

// What the table's functions answer and were told; they are plain functions, so the state is the file's.
struct State {
  int create = 0, find = 0, examine = 0, multiply = 0, describe = 0, count = 1, status = 0;
  std::size_t workspace = 0;
  int open = 0;  // handles and descriptors that are not destroyed
  int finds = 0;
  float beta = -1;
  const void *c = nullptr, *d = nullptr;
};
State state;

template <typename Handle>
int make(Handle* out) {
  if (state.describe != 0) return state.describe;
  ++state.open;
  *out = reinterpret_cast<Handle>(&state);
  return 0;
}

int end_one() { return --state.open, 0; }

BlasTable make_table() {
  state = {};
  BlasTable table;
  table.version = [] { return std::size_t{120906}; };
  table.status_name = [](int status) { return status == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_OTHER"; };
  table.create = [](BlasHandle* out) { return state.create != 0 ? state.create : make(out); };
  table.destroy = [](BlasHandle) { return end_one(); };
  table.operation_create = [](BlasOperation* out, int, int) { return make(out); };
  table.operation_destroy = [](BlasOperation) { return end_one(); };
  table.operation_set = [](BlasOperation, int, const void*, std::size_t) { return 0; };
  table.layout_create = [](BlasLayout* out, int, std::uint64_t, std::uint64_t, std::int64_t) { return make(out); };
  table.layout_destroy = [](BlasLayout) { return end_one(); };
  table.layout_set = [](BlasLayout, int, const void*, std::size_t) { return 0; };
  table.preference_create = [](BlasPreference* out) { return make(out); };
  table.preference_destroy = [](BlasPreference) { return end_one(); };
  table.preference_set = [](BlasPreference, int, const void*, std::size_t) { return 0; };
  table.find = [](BlasHandle, BlasOperation, BlasLayout, BlasLayout, BlasLayout, BlasLayout, BlasPreference, int,
                  BlasHeuristic* found, int* count) {
    ++state.finds;
    *found = {};
    found->status = state.status;
    found->workspace_bytes = state.workspace;
    *count = state.count;
    return state.find;
  };
  table.examine = [](BlasHandle, BlasOperation, BlasLayout, BlasLayout, BlasLayout, BlasLayout, const BlasAlgorithm*,
                     BlasHeuristic* result) {
    result->workspace_bytes = state.workspace;
    return state.examine;
  };
  table.multiply = [](BlasHandle, BlasOperation, const void*, const void*, BlasLayout, const void*, BlasLayout,
                      const void* beta, const void* c, BlasLayout, void* d, BlasLayout, const BlasAlgorithm*, void*,
                      std::size_t, StreamHandle) {
    state.beta = *static_cast<const float*>(beta);
    state.c = c;
    state.d = d;
    return state.multiply;
  };
  return table;
}

BlasShape shape(std::int64_t tokens, bool adds = false) {
  return {.bf16 = true, .tokens = tokens, .rows = 16, .columns = 64, .adds = adds, .c_stride = 16, .d_stride = 16};
}

float memory[4];

}  // namespace

TEST_CASE("A missing or foreign cuBLASLt is named, with the way out") {
  const FatalError missing = error_of([] { BlasLibrary::open("libnowhere.so.13"); });
  CHECK(missing.code == ExitCode::bad_config);
  CHECK(std::string(missing.what()) ==
        "batch_invariant: false needs cuBLASLt (libnowhere.so.13 not found: install it, add its folder to "
        "LD_LIBRARY_PATH, or leave batch_invariant at true)");
  const FatalError empty = error_of([] { BlasLibrary::open(INFERD_EMPTY_DRIVER); });
  CHECK(empty.code == ExitCode::bad_config);
  CHECK(has(empty.what(), "expected version 12 or 13, found one without cublasLtGetVersion"));
}

TEST_CASE("A cuBLASLt that does not start is a matter of configuration") {
  const BlasLibrary library(make_table());
  CHECK(library.version() == "12.9.6");
  state.create = 1;
  const FatalError error = error_of([&] { const Blas blas(library, nullptr); });
  CHECK(error.code == ExitCode::bad_config);
  CHECK(has(error.what(), "which does not start: CUBLAS_STATUS_OTHER (1)"));
  CHECK(state.open == 0);
}

TEST_CASE("Products add what is there only if asked, and descriptors end with their owner") {
  {
    Blas blas(BlasLibrary(make_table()), nullptr);
    const Blas::Plan* plan = blas.plan(shape(128));
    REQUIRE(plan != nullptr);
    blas.multiply(*plan, nullptr, nullptr, nullptr, memory, nullptr);
    CHECK(state.beta == 0.0f);
    CHECK(state.c == memory);  // it must be some matrix
    const Blas::Plan* adding = blas.plan(shape(128, true));
    REQUIRE(adding != nullptr);
    CHECK(adding != plan);
    blas.multiply(*adding, nullptr, nullptr, memory + 1, memory, nullptr);
    CHECK(state.beta == 1.0f);
    CHECK(state.c == memory + 1);
    CHECK(state.d == memory);
    CHECK(state.finds == 2);
  }
  CHECK(state.open == 0);
}

TEST_CASE("What cuBLASLt cannot do is asked once") {
  const auto plans = [](void (*spoil)()) {
    Blas blas(BlasLibrary(make_table()), nullptr);
    spoil();
    const bool any = blas.plan(shape(128)) != nullptr || blas.plan(shape(128)) != nullptr;
    CHECK(state.finds == 1);
    return any;
  };
  CHECK(plans([] {}));
  CHECK_FALSE(plans([] { state.find = 15; }));
  CHECK_FALSE(plans([] { state.count = 0; }));
  CHECK_FALSE(plans([] { state.status = 15; }));
  CHECK_FALSE(plans([] { state.workspace = Blas::kWorkspaceBytes + 1; }));
  CHECK_FALSE(plans([] { state.examine = 15; }));
}

TEST_CASE("cuBLASLt's errors are told with its words") {
  Blas blas(BlasLibrary(make_table()), nullptr);
  const Blas::Plan* plan = blas.plan(shape(128));
  REQUIRE(plan != nullptr);
  const auto code_of = [&](int status) {
    state.multiply = status;
    return error_of([&] { blas.multiply(*plan, nullptr, nullptr, nullptr, memory, nullptr); }).code;
  };
  CHECK(code_of(3) == ExitCode::no_memory);
  CHECK(code_of(13) == ExitCode::gpu_lost);
  CHECK(code_of(14) == ExitCode::gpu_lost);
  CHECK(code_of(7) == ExitCode::internal);
  state.multiply = 15;
  CHECK(std::string(error_of([&] { blas.multiply(*plan, nullptr, nullptr, nullptr, memory, nullptr); }).what()) ==
        "cuBLASLt cannot multiply: CUBLAS_STATUS_NOT_SUPPORTED (15)");
  const int open = state.open;
  state.describe = 3;
  CHECK(error_of([&] { blas.plan(shape(300)); }).code == ExitCode::no_memory);
  CHECK(state.open == open);
  state.describe = 0;
  CHECK(blas.plan(shape(300)) != nullptr);
}

}  // namespace inferd::cuda
