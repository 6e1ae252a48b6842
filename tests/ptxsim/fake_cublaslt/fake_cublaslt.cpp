// A fake libcublasLt.so.13 on the fake CUDA driver's streams: products of 16-bit matrices, in doubles. It takes what
// the real one documents and nothing more lenient: sizes of attributes, promised alignments, algorithms it chose
// itself.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "tests/ptxsim/fake_driver/driver_state.h"
#include "tests/ptxsim/float_formats.h"

using namespace inferd::ptxsim;
using namespace inferd::ptxsim::fake;

namespace {

// cublasStatus_t, cudaDataType_t, cublasComputeType_t, cublasOperation_t and attributes as NVIDIA documents them
enum : int {
  kOk = 0,
  kNotStarted = 1,
  kInvalid = 7,
  kExecutionFailed = 13,
  kNotSupported = 15,
};
enum : int { kReal32 = 0, kReal16 = 2, kRealB16 = 14, kCompute32 = 68, kNormal = 0, kTransposed = 1 };
constexpr size_t kVersion = 130100;
constexpr uint64_t kMagic = 0x6661'6b65'4c74ull;
constexpr size_t kSplitBytes = size_t{1} << 20;  // workspace of an algorithm, where it is allowed as much

// For tests: what was asked of it, and what it is to answer.
uint64_t chosen = 0, products = 0;
bool refuses = false;  // knows no algorithm

struct BlasFailure {
  int code;
  const char* text;
};

[[noreturn]] void invalid(const char* text) { throw BlasFailure{kInvalid, text}; }

}  // namespace

// What the handles of the interface point to.
struct cublasLtContext {
  Device* device;
};
struct FakeOperation {
  int compute, scale, a = kNormal, b = kNormal;
};
struct FakeLayout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  size_t element() const { return type == kReal32 ? 4 : 2; }
  size_t bytes() const { return ((columns - 1) * uint64_t(leading) + rows) * element(); }
  bool same(const FakeLayout& other) const {
    return type == other.type && rows == other.rows && columns == other.columns && leading == other.leading;
  }
};
struct FakePreference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
struct FakeAlgorithm {
  uint64_t magic, rows, inner, most_columns, types, workspace, leading, alignments;
};
struct FakeHeuristic {
  FakeAlgorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

namespace {

template <class F>
int blas(const char* name, F&& body) {
  Driver& d = driver();
  const std::lock_guard<std::mutex> lock(d.mutex);
  try {
    d.begin_call(name);
    body(d);
    return kOk;
  } catch (const BlasFailure& failure) {
    if (failure.code != kNotSupported) std::fprintf(stderr, "fake cuBLASLt: %s: %s\n", name, failure.text);
    return failure.code;
  } catch (const ApiFailure& failure) {
    return failure.code <= 16 ? failure.code : kExecutionFailed;  // small ones: injected
  }
}

template <class T>
void take(T& out, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) invalid("an attribute is not of its size");
  std::memcpy(&out, value, sizeof(T));
}

struct Product {
  const FakeOperation& operation;
  const FakeLayout &a, &b, &c, &d;
  uint64_t rows() const { return d.rows; }
  uint64_t columns() const { return d.columns; }
  uint64_t inner() const { return a.rows; }  // A is transposed
};

/// Throws unless the descriptors fit one another and are of the kind that is supported.
void check_product(const Product& p) {
  if (p.operation.compute != kCompute32 || p.operation.scale != kReal32) {
    throw BlasFailure{kNotSupported, "only f32 is computed in"};
  }
  if (p.operation.a != kTransposed || p.operation.b != kNormal) {
    throw BlasFailure{kNotSupported, "only A is transposed here"};
  }
  if ((p.a.type != kReal16 && p.a.type != kRealB16) || p.b.type != p.a.type || p.c.type != kReal32 ||
      p.d.type != kReal32) {
    throw BlasFailure{kNotSupported, "these types do not go together"};
  }
  for (const FakeLayout* layout : {&p.a, &p.b, &p.c, &p.d}) {
    if (layout->rows == 0 || layout->columns == 0 || layout->leading < int64_t(layout->rows)) {
      invalid("a leading dimension is less than the rows");
    }
  }
  const bool fits = p.a.columns == p.d.rows && p.b.rows == p.a.rows && p.b.columns == p.d.columns &&
                    p.c.rows == p.d.rows && p.c.columns == p.d.columns;
  if (!fits) invalid("the matrices do not fit one another");
}

uint64_t pack_alignments(const uint32_t (&alignment)[4]) {
  uint64_t packed = 0;
  for (int i = 0; i < 4; ++i) packed |= uint64_t(alignment[i]) << (16 * i);
  return packed;
}

/// No algorithm reads columns that begin elsewhere than their matrix may.
bool columns_aligned(const Product& p, const FakePreference& preference) {
  const FakeLayout* layouts[] = {&p.a, &p.b, &p.c, &p.d};
  for (int i = 0; i < 4; ++i) {
    const uint32_t least = std::min<uint32_t>(preference.alignment[i], 16);
    if (uint64_t(layouts[i]->leading) * layouts[i]->element() % least != 0) return false;
  }
  return true;
}

/// An algorithm does its own shape with as many columns as it was chosen for, or up to half fewer.
void check_algorithm(const Product& p, const FakeAlgorithm& algorithm) {
  if (algorithm.magic != kMagic) invalid("that algorithm was not chosen here");
  if (algorithm.rows != p.rows() || algorithm.inner != p.inner() || algorithm.types != uint64_t(p.a.type) ||
      algorithm.leading != uint64_t(p.d.leading)) {
    invalid("the algorithm is another product's");
  }
  if (p.columns() > algorithm.most_columns || 2 * p.columns() < algorithm.most_columns) {
    throw BlasFailure{kNotSupported, "the algorithm was chosen for other columns"};
  }
}

void require_memory(Device& device, const void* at, size_t bytes, uint64_t alignment, const char* what) {
  const auto address = reinterpret_cast<uint64_t>(at);
  const Region* region = device.memory.find(address);
  if (region == nullptr || !region->contains(address, bytes)) invalid(what);
  if (address % alignment != 0) invalid("a matrix is less aligned than was promised");
}

double element(const uint8_t* storage, const FakeLayout& layout, uint64_t row, uint64_t column) {
  const uint8_t* at = storage + (column * uint64_t(layout.leading) + row) * layout.element();
  if (layout.type == kReal32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return double(value);
  }
  uint16_t half;
  std::memcpy(&half, at, sizeof half);
  return layout.type == kReal16 ? double(f16_to_float(half)) : double(bf16_to_float(half));
}

/// A matrix as doubles, column after column.
std::vector<double> widened(const uint8_t* storage, const FakeLayout& layout) {
  std::vector<double> values(layout.rows * layout.columns);
  for (uint64_t column = 0; column < layout.columns; ++column) {
    for (uint64_t row = 0; row < layout.rows; ++row) {
      values[column * layout.rows + row] = element(storage, layout, row, column);
    }
  }
  return values;
}

/// What a product needs when its turn comes.
struct Queued {
  FakeLayout a, b, c, d;
  uint64_t a_at, b_at, c_at, d_at, workspace_at;
  size_t workspace;
  double alpha, beta;
};

void fail_device(Driver& driver, Device& device, const char* why) {
  driver.last_violation = why;
  std::fprintf(stderr, "fake cuBLASLt: %s\n", why);
  device.sticky = kIllegalAddress;
}

void compute(Driver& driver, Device& device, const Queued& q) {
  uint8_t* workspace = driver.storage(q.workspace_at, q.workspace);
  const uint8_t* a = driver.storage(q.a_at, q.a.bytes());
  const uint8_t* b = driver.storage(q.b_at, q.b.bytes());
  const uint8_t* c = driver.storage(q.c_at, q.c.bytes());
  uint8_t* d = driver.storage(q.d_at, q.d.bytes());
  if (!workspace || !a || !b || !c || !d)
    return fail_device(driver, device, "a product ran after its memory was freed");
  std::fill_n(workspace, q.workspace, uint8_t{0xff});  // first, so that a matrix in it is seen
  const std::vector<double> left = widened(a, q.a), right = widened(b, q.b);
  for (uint64_t column = 0; column < q.d.columns; ++column) {
    for (uint64_t row = 0; row < q.d.rows; ++row) {
      const double *x = left.data() + row * q.a.rows, *y = right.data() + column * q.b.rows;
      double sum = 0;
      for (uint64_t k = 0; k < q.a.rows; ++k) sum += x[k] * y[k];
      sum *= q.alpha;
      if (q.beta != 0) sum += q.beta * element(c, q.c, row, column);
      const auto value = float(sum);
      std::memcpy(d + (column * uint64_t(q.d.leading) + row) * 4, &value, 4);
    }
  }
}

template <class T>
T& deref(T* pointer) {
  if (pointer == nullptr) invalid("a handle is null");
  return *pointer;
}

}  // namespace

extern "C" {

size_t cublasLtGetVersion() { return kVersion; }

const char* cublasLtGetStatusName(int status) {
  switch (status) {
    case kOk:
      return "CUBLAS_STATUS_SUCCESS";
    case kNotStarted:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case kInvalid:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case kExecutionFailed:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case kNotSupported:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "unknown";
  }
}

int cublasLtCreate(cublasLtContext** handle) {
  return blas("cublasLtCreate", [&](Driver& d) { *handle = new cublasLtContext{&d.current()}; });
}

int cublasLtDestroy(cublasLtContext* handle) {
  return blas("cublasLtDestroy", [&](Driver&) { delete &deref(handle); });
}

int cublasLtMatmulDescCreate(FakeOperation** operation, int compute_type, int scale_type) {
  return blas("cublasLtMatmulDescCreate", [&](Driver&) { *operation = new FakeOperation{compute_type, scale_type}; });
}

int cublasLtMatmulDescDestroy(FakeOperation* operation) {
  return blas("cublasLtMatmulDescDestroy", [&](Driver&) { delete &deref(operation); });
}

int cublasLtMatmulDescSetAttribute(FakeOperation* operation, int attribute, const void* value, size_t bytes) {
  return blas("cublasLtMatmulDescSetAttribute", [&](Driver&) {
    if (attribute == 3) {
      take(deref(operation).a, value, bytes);
    } else if (attribute == 4) {
      take(deref(operation).b, value, bytes);
    } else {
      throw BlasFailure{kNotSupported, "that attribute of operations is not here"};
    }
  });
}

int cublasLtMatrixLayoutCreate(FakeLayout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  return blas("cublasLtMatrixLayoutCreate", [&](Driver&) { *layout = new FakeLayout{type, rows, columns, leading}; });
}

int cublasLtMatrixLayoutDestroy(FakeLayout* layout) {
  return blas("cublasLtMatrixLayoutDestroy", [&](Driver&) { delete &deref(layout); });
}

int cublasLtMatrixLayoutSetAttribute(FakeLayout* layout, int attribute, const void* value, size_t bytes) {
  return blas("cublasLtMatrixLayoutSetAttribute", [&](Driver&) {
    if (attribute != 3) throw BlasFailure{kNotSupported, "that attribute of layouts is not here"};
    take(deref(layout).columns, value, bytes);
  });
}

int cublasLtMatmulPreferenceCreate(FakePreference** preference) {
  return blas("cublasLtMatmulPreferenceCreate", [&](Driver&) { *preference = new FakePreference; });
}

int cublasLtMatmulPreferenceDestroy(FakePreference* preference) {
  return blas("cublasLtMatmulPreferenceDestroy", [&](Driver&) { delete &deref(preference); });
}

int cublasLtMatmulPreferenceSetAttribute(FakePreference* preference, int attribute, const void* value, size_t bytes) {
  return blas("cublasLtMatmulPreferenceSetAttribute", [&](Driver&) {
    if (attribute == 1) {
      take(deref(preference).workspace, value, bytes);
    } else if (attribute >= 5 && attribute <= 8) {
      take(deref(preference).alignment[attribute - 5], value, bytes);
    } else {
      throw BlasFailure{kNotSupported, "that preference is not here"};
    }
  });
}

int cublasLtMatmulAlgoGetHeuristic(cublasLtContext* handle, FakeOperation* operation, FakeLayout* a, FakeLayout* b,
                                   FakeLayout* c, FakeLayout* d, FakePreference* preference, int wanted,
                                   FakeHeuristic* found, int* count) {
  return blas("cublasLtMatmulAlgoGetHeuristic", [&](Driver&) {
    deref(handle);
    const Product product{deref(operation), deref(a), deref(b), deref(c), deref(d)};
    if (wanted <= 0 || found == nullptr || count == nullptr) invalid("no algorithms are asked for");
    *count = 0;
    check_product(product);
    const FakePreference& limits = deref(preference);
    ++chosen;
    if (refuses) throw BlasFailure{kNotSupported, "no algorithm, as asked"};
    if (!columns_aligned(product, limits)) throw BlasFailure{kNotSupported, "no algorithm for such leading dimensions"};
    const uint64_t workspace = limits.workspace >= kSplitBytes ? kSplitBytes : 0;
    *found = {{kMagic, product.rows(), product.inner(), product.columns(), uint64_t(product.a.type), workspace,
               uint64_t(product.d.leading), pack_alignments(limits.alignment)},
              workspace,
              kOk,
              1.0f,
              {}};
    *count = 1;
  });
}

int cublasLtMatmulAlgoCheck(cublasLtContext* handle, FakeOperation* operation, FakeLayout* a, FakeLayout* b,
                            FakeLayout* c, FakeLayout* d, const FakeAlgorithm* algorithm, FakeHeuristic* result) {
  return blas("cublasLtMatmulAlgoCheck", [&](Driver&) {
    deref(handle);
    const Product product{deref(operation), deref(a), deref(b), deref(c), deref(d)};
    check_product(product);
    check_algorithm(product, deref(algorithm));
    deref(result).workspace = algorithm->workspace;  // the algorithm in it stays as it is
    result->state = kOk;
  });
}

int cublasLtMatmul(cublasLtContext* handle, FakeOperation* operation, const void* alpha, const void* a,
                   FakeLayout* a_layout, const void* b, FakeLayout* b_layout, const void* beta, const void* c,
                   FakeLayout* c_layout, void* d, FakeLayout* d_layout, const FakeAlgorithm* algorithm, void* workspace,
                   size_t workspace_bytes, CUstream stream) {
  return blas("cublasLtMatmul", [&](Driver& driver) {
    Device& device = *deref(handle).device;
    Stream& on = driver.stream(stream);
    if (on.device != &device || &driver.current() != &device) invalid("the stream is another GPU's");
    const Product product{deref(operation), deref(a_layout), deref(b_layout), deref(c_layout), deref(d_layout)};
    check_product(product);
    check_algorithm(product, deref(algorithm));
    if (workspace_bytes < algorithm->workspace) invalid("the workspace is smaller than the algorithm's");
    if (c == d && !product.c.same(product.d)) invalid("C is D, but lies otherwise");
    const auto alignment = [&](int i) { return algorithm->alignments >> (16 * i) & 0xffff; };
    require_memory(device, a, product.a.bytes(), alignment(0), "A is not memory of the GPU");
    require_memory(device, b, product.b.bytes(), alignment(1), "B is not memory of the GPU");
    require_memory(device, c, product.c.bytes(), alignment(2), "C is not memory of the GPU");
    require_memory(device, d, product.d.bytes(), alignment(3), "D is not memory of the GPU");
    require_memory(device, workspace, workspace_bytes, 256, "the workspace is not memory of the GPU");
    float scale = 0, addend = 0;
    take(scale, alpha, sizeof scale);
    take(addend, beta, sizeof addend);
    const auto address = [](const void* at) { return reinterpret_cast<uint64_t>(at); };
    const Queued queued{product.a,  product.b,  product.c,          product.d,       address(a),    address(b),
                        address(c), address(d), address(workspace), workspace_bytes, double(scale), double(addend)};
    driver.submit(on, [&driver, &device, queued] { compute(driver, device, queued); });
    ++products;
  });
}

// Not cuBLASLt's.
uint64_t fakeCublasLtChosen() { return chosen; }
uint64_t fakeCublasLtProducts() { return products; }
void fakeCublasLtRefuse(int on) { refuses = on != 0; }

}  // extern "C"
