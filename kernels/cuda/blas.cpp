// Loads cuBLASLt, keeps descriptors and algorithms by shape, and turns its error codes into our errors.
#include "kernels/cuda/blas.h"

#include <dlfcn.h>

#include <utility>

#include "base/check.h"
#include "base/errors.h"

namespace inferd::cuda {
namespace {

constexpr const char* kLibraries[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

std::shared_ptr<void> load(const char* library) {
  // NODELETE: it registers kernels with the driver, which may outlive whoever opened it.
  return {dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE), [](void* loaded) {
            if (loaded != nullptr) dlclose(loaded);
          }};
}

template <typename Function>
void bind(void* library, const char* name, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, name));
  if (*out == nullptr) {
    throw ConfigError(std::string("cuBLASLt is too old: expected version 12 or 13, found one without ") + name);
  }
}

BlasTable bind_all(void* library) {
  BlasTable table;
  bind(library, "cublasLtGetVersion", &table.version);
  bind(library, "cublasLtGetStatusName", &table.status_name);
  bind(library, "cublasLtCreate", &table.create);
  bind(library, "cublasLtDestroy", &table.destroy);
  bind(library, "cublasLtMatmulDescCreate", &table.operation_create);
  bind(library, "cublasLtMatmulDescDestroy", &table.operation_destroy);
  bind(library, "cublasLtMatmulDescSetAttribute", &table.operation_set);
  bind(library, "cublasLtMatrixLayoutCreate", &table.layout_create);
  bind(library, "cublasLtMatrixLayoutDestroy", &table.layout_destroy);
  bind(library, "cublasLtMatrixLayoutSetAttribute", &table.layout_set);
  bind(library, "cublasLtMatmulPreferenceCreate", &table.preference_create);
  bind(library, "cublasLtMatmulPreferenceDestroy", &table.preference_destroy);
  bind(library, "cublasLtMatmulPreferenceSetAttribute", &table.preference_set);
  bind(library, "cublasLtMatmulAlgoGetHeuristic", &table.find);
  bind(library, "cublasLtMatmulAlgoCheck", &table.examine);
  bind(library, "cublasLtMatmul", &table.multiply);
  return table;
}

[[noreturn]] void refuse(const std::string& names) {
  throw ConfigError("batch_invariant: false needs cuBLASLt (" + names +
                    " not found: install it, add its folder to LD_LIBRARY_PATH, or leave batch_invariant at true)");
}

}  // namespace

BlasLibrary BlasLibrary::open(const char* library) {
  const std::shared_ptr<void> handle = load(library);
  if (!handle) refuse(library);
  BlasLibrary blas(bind_all(handle.get()));
  blas.library_ = handle;
  return blas;
}

BlasLibrary BlasLibrary::open() {
  std::string names;
  for (const char* library : kLibraries) {
    if (load(library)) return open(library);
    names += (names.empty() ? "" : ", ") + std::string(library);
  }
  refuse(names);
}

std::string BlasLibrary::version() const {
  const std::size_t number = table_.version();
  return std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." + std::to_string(number % 100);
}

void BlasLibrary::check(int status, const char* action) const {
  if (status == kBlasSuccess) return;
  const char* name = table_.status_name(status);
  const std::string text = std::string("cuBLASLt cannot ") + action + ": " + (name != nullptr ? name : "error") + " (" +
                           std::to_string(status) + ")";
  if (status == kBlasAllocFailed) throw MemoryError(text);
  const bool lost = status == kBlasMappingError || status == kBlasExecutionFailed || status == kBlasInternalError;
  throw FatalError(lost ? ExitCode::gpu_lost : ExitCode::internal, text);
}

/// Descriptors of one shape, and the algorithm chosen for it. To cuBLASLt, whose matrices are column-major, a product
/// of tokens by rows is one of rows by tokens: A is w, transposed, B is x, C and D are c and d.
class Blas::Plan {
 public:
  Plan(const BlasLibrary& library, const BlasShape& shape) : library_(library), adds_(shape.adds) {
    try {
      describe(shape);
    } catch (...) {
      release();
      throw;
    }
  }
  ~Plan() { release(); }
  Plan(const Plan&) = delete;

  void choose(BlasHandle handle);
  /// Makes it one for so many tokens; false if the algorithm cannot do that.
  bool resize(BlasHandle handle, std::int64_t tokens);
  void multiply(BlasHandle handle, const std::uint16_t* w, const std::uint16_t* x, const float* c, float* d,
                void* workspace, StreamHandle stream) const;

 private:
  void describe(const BlasShape& shape);
  void release() noexcept;

  const BlasLibrary& library_;
  const bool adds_;
  BlasOperation operation_ = nullptr;
  BlasLayout w_ = nullptr, x_ = nullptr, c_ = nullptr, d_ = nullptr;
  BlasAlgorithm algorithm_{};
  bool found_ = false;
};

void Blas::Plan::describe(const BlasShape& shape) {
  const BlasTable& api = library_.table();
  const auto check = [&](int status) { library_.check(status, "describe a product"); };
  const auto rows = static_cast<std::uint64_t>(shape.rows), columns = static_cast<std::uint64_t>(shape.columns),
             tokens = static_cast<std::uint64_t>(shape.tokens);
  const int type = shape.bf16 ? kBlasBf16 : kBlasF16;
  check(api.operation_create(&operation_, kBlasComputeF32, kBlasF32));
  const std::int32_t transposed = kBlasTransposed;
  check(api.operation_set(operation_, kBlasOperationA, &transposed, sizeof transposed));
  check(api.layout_create(&w_, type, columns, rows, shape.columns));
  check(api.layout_create(&x_, type, columns, tokens, shape.columns));
  check(api.layout_create(&c_, kBlasF32, rows, tokens, shape.adds ? shape.c_stride : shape.d_stride));
  check(api.layout_create(&d_, kBlasF32, rows, tokens, shape.d_stride));
}

void Blas::Plan::release() noexcept {
  const BlasTable& api = library_.table();
  for (const BlasLayout layout : {w_, x_, c_, d_}) {
    if (layout != nullptr) api.layout_destroy(layout);
  }
  if (operation_ != nullptr) api.operation_destroy(operation_);
}

void Blas::Plan::choose(BlasHandle handle) {
  const BlasTable& api = library_.table();
  BlasPreference preference = nullptr;
  library_.check(api.preference_create(&preference), "describe a product");
  const std::uint64_t workspace = kWorkspaceBytes;
  const std::uint32_t alignment = kAlignment;
  int status = api.preference_set(preference, kBlasMaxWorkspace, &workspace, sizeof workspace);
  for (int matrix = 0; matrix < 4 && status == kBlasSuccess; ++matrix) {
    status = api.preference_set(preference, kBlasAlignmentA + matrix, &alignment, sizeof alignment);
  }
  BlasHeuristic best{};
  int count = 0;
  // A failure to find one is an answer: then the product goes another way.
  const int found =
      status != kBlasSuccess ? status : api.find(handle, operation_, w_, x_, c_, d_, preference, 1, &best, &count);
  api.preference_destroy(preference);
  library_.check(status, "describe a product");
  found_ = found == kBlasSuccess && count > 0 && best.status == kBlasSuccess && best.workspace_bytes <= kWorkspaceBytes;
  algorithm_ = best.algorithm;
}

bool Blas::Plan::resize(BlasHandle handle, std::int64_t tokens) {
  if (!found_) return false;
  const BlasTable& api = library_.table();
  const auto columns = static_cast<std::uint64_t>(tokens);
  for (const BlasLayout layout : {x_, c_, d_}) {
    library_.check(api.layout_set(layout, kBlasLayoutColumns, &columns, sizeof columns), "describe a product");
  }
  BlasHeuristic result{};
  return api.examine(handle, operation_, w_, x_, c_, d_, &algorithm_, &result) == kBlasSuccess &&
         result.workspace_bytes <= kWorkspaceBytes;
}

void Blas::Plan::multiply(BlasHandle handle, const std::uint16_t* w, const std::uint16_t* x, const float* c, float* d,
                          void* workspace, StreamHandle stream) const {
  const float one = 1.0f, beta = adds_ ? 1.0f : 0.0f;
  library_.check(library_.table().multiply(handle, operation_, &one, w, w_, x, x_, &beta, adds_ ? c : d, c_, d, d_,
                                           &algorithm_, workspace, kWorkspaceBytes, stream),
                 "multiply");
}

Blas::Blas(const BlasLibrary& library, StreamHandle stream) : library_(library), stream_(stream) {
  const int status = library_.table().create(&handle_);
  if (status == kBlasSuccess) return;
  const char* name = library_.table().status_name(status);
  throw ConfigError("batch_invariant: false needs cuBLASLt, which does not start: " +
                    std::string(name != nullptr ? name : "error") + " (" + std::to_string(status) + ")");
}

Blas::~Blas() {
  plans_.clear();
  library_.table().destroy(handle_);
}

const Blas::Plan* Blas::usable(const BlasShape& key, std::int64_t tokens) {
  std::unique_ptr<Plan>& plan = plans_[key];
  if (!plan) {
    auto made = std::make_unique<Plan>(library_, key);
    made->choose(handle_);
    plan = std::move(made);
  }
  return plan->resize(handle_, tokens) ? plan.get() : nullptr;
}

const Blas::Plan* Blas::plan(const BlasShape& shape) {
  INFERD_CHECK(shape.tokens > 0 && shape.rows > 0 && shape.columns > 0 && shape.d_stride >= shape.rows);
  BlasShape bucket = shape;
  bucket.tokens = (shape.tokens + kBucket - 1) / kBucket * kBucket;
  const Plan* plan = usable(bucket, shape.tokens);
  // What is best for the most tokens of a bucket may not do fewer.
  return plan != nullptr || bucket.tokens == shape.tokens ? plan : usable(shape, shape.tokens);
}

void Blas::multiply(const Plan& plan, const std::uint16_t* w, const std::uint16_t* x, const float* c, float* d,
                    void* workspace) const {
  plan.multiply(handle_, w, x, c, d, workspace, stream_);
}

}  // namespace inferd::cuda
