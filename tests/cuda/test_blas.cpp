// Linear layers through a cuBLASLt that computes on the fake GPU, against fp64 products of what the weights stand for.
#include <dlfcn.h>

#include <cmath>

#include "tests/catch.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/errors.h"
#include "tests/kernels/random_weights.h"

namespace inferd::testing {
namespace {

constexpr PanelLimits kAlways{.dense_tokens = 1, .quantized_tokens = 1};

/// What the fake says of itself. On a real GPU NVIDIA's library stands in its place, and only results are looked at.
struct FakeBlas {
  template <typename Function>
  static Function* symbol(const char* name) {
    void* library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
  }
  static bool there() { return symbol<std::uint64_t()>("fakeCublasLtProducts") != nullptr; }
  static std::uint64_t products() { return there() ? symbol<std::uint64_t()>("fakeCublasLtProducts")() : 0; }
  static std::uint64_t chosen() { return symbol<std::uint64_t()>("fakeCublasLtChosen")(); }
  static void refuse(bool on) { symbol<void(int)>("fakeCublasLtRefuse")(on); }
};

/// Whether the fake computed so many products.
bool is(std::uint64_t products, std::uint64_t expected) { return !FakeBlas::there() || products == expected; }

std::unique_ptr<Backend> gpu(const PanelLimits& limits = kAlways) {
  cuda::test::use_fake_gpu("devices=2,seed=3");
  return make_cuda_backend({.batch_invariant = false, .panels = limits});
}

/// One for all cases that need no limits of their own: loading its kernels takes longer than they do.
Backend& shared_gpu() {
  static const std::unique_ptr<Backend> backend = gpu();
  return *backend;
}

/// A layer of stacked matrices and what it must give.
struct Layer {
  Layer(Backend& on, std::vector<StoredMatrix> stored, Epilogue function, std::int64_t most_tokens,
        const std::int32_t* order = nullptr)
      : backend(on), matrices(std::move(stored)), epilogue(function), columns(matrices[0].columns) {
    std::vector<WeightSource> sources;
    for (const StoredMatrix& matrix : matrices) {
      sources.push_back(matrix.source());
      sources.back().column_order = order;
      rows += matrix.rows;
      const std::vector<float> values = matrix.widened();
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t wide = static_cast<std::size_t>(columns), at = w.size() / wide * wide;
        if (i % wide == 0) w.resize(at + wide);
        w[at - (i % wide == 0 ? 0 : wide) + (order == nullptr ? i % wide : static_cast<std::size_t>(order[i % wide]))] =
            values[i];
      }
    }
    weight = on.load_weight(sources, {.gated = is_gated(epilogue)});
    on.reserve_workspace(most_tokens, std::max(columns, outputs()));
  }
  std::int64_t outputs() const { return is_gated(epilogue) ? rows / 2 : rows; }

  struct Inputs {
    std::vector<float> addend, bias, residual;
  };
  /// Runs it, into the residual if there is one.
  std::vector<float> run(const std::vector<float>& x, std::int64_t tokens, const Inputs& inputs = {}) const {
    const Array in(backend, tokens, columns, x), out(backend, tokens, outputs());
    const auto memory = backend.allocate(backend.activation_bytes(tokens, columns, weight->activation_forms()));
    const Activation activation{memory->data(), tokens, columns, weight->activation_forms()};
    std::vector<std::unique_ptr<Array>> more;
    const auto tensor = [&](const std::vector<float>& values, std::int64_t height, std::int64_t width) {
      if (values.empty()) return Tensor();
      more.push_back(std::make_unique<Array>(backend, height, width, values));
      return more.back()->tensor;
    };
    LinearArgs args;
    args.x = activation;
    args.num_tokens = tokens;
    args.weight = weight.get();
    args.addend = tensor(inputs.addend, tokens, rows);
    args.bias = tensor(inputs.bias, 1, rows);
    args.epilogue = epilogue;
    args.out = out.tensor;
    if (!inputs.residual.empty()) {
      out.set(inputs.residual);
      args.residual = args.out;
    }
    backend.to_activation({.x = in.tensor, .out = activation});
    backend.linear(args);
    return out.get();
  }

  /// The first output that is further from fp64 than the roundings to 16 bits explain; or empty.
  std::string difference(const std::vector<float>& found, const std::vector<float>& x, std::int64_t tokens,
                         const Inputs& inputs = {}) const {
    const std::int64_t half = rows / 2;
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::vector<double> sum(static_cast<std::size_t>(rows)), error(static_cast<std::size_t>(rows));
      for (std::int64_t r = 0; r < rows; ++r) product(x, t, r, inputs, sum, error);
      for (std::int64_t c = 0; c < outputs(); ++c) {
        const auto at = static_cast<std::size_t>(c), up = static_cast<std::size_t>(c + half);
        double value = sum[at], wrong = error[at];
        if (is_gated(epilogue)) {
          value = sum[at] / (1 + std::exp(-sum[at]));
          wrong = 1.2 * wrong * (std::fabs(sum[up]) + error[up]) + error[up] * std::fabs(value);
          value *= sum[up];
        } else if (epilogue == Epilogue::gelu_erf) {
          value = 0.5 * value * (1 + std::erf(value / std::sqrt(2.0)));
          wrong *= 1.2;
        }
        const auto place = static_cast<std::size_t>(t * outputs() + c);
        if (!inputs.residual.empty()) value += double{inputs.residual[place]};
        if (std::fabs(double{found[place]} - value) <= wrong + 1e-5 * (1 + std::fabs(value))) continue;
        return "token " + std::to_string(t) + ", output " + std::to_string(c) + ": expected " + std::to_string(value) +
               " to " + std::to_string(wrong) + ", found " + std::to_string(found[place]);
      }
    }
    return "";
  }

  Backend& backend;
  std::vector<StoredMatrix> matrices;
  Epilogue epilogue;
  std::int64_t columns, rows = 0;
  std::vector<float> w;  // [rows, columns], columns in the input's order
  std::unique_ptr<Weight> weight;

 private:
  void product(const std::vector<float>& x, std::int64_t t, std::int64_t r, const Inputs& inputs,
               std::vector<double>& sum, std::vector<double>& error) const {
    const auto at = static_cast<std::size_t>(r);
    double sizes = 0, inputs_alone = 0;
    for (std::int64_t k = 0; k < columns; ++k) {
      const double a = double{w[static_cast<std::size_t>(r * columns + k)]};
      const double b = double{x[static_cast<std::size_t>(t * columns + k)]};
      sum[at] += a * b;
      sizes += std::fabs(a * b);
      inputs_alone += std::fabs(b);
    }
    // bf16: x is rounded to 8 bits. f16: x and w to 11, w below 2^-14 to multiples of 2^-24.
    const bool bf16 = matrix_of(r).dtype == DType::bf16;
    error[at] = bf16 ? sizes * 0x1p-8 : sizes * 0x1.1p-10 + inputs_alone * 0x1p-24;
    if (!inputs.addend.empty()) sum[at] += double{inputs.addend[static_cast<std::size_t>(t * rows + r)]};
    if (!inputs.bias.empty()) sum[at] += double{inputs.bias[at]};
  }
  const StoredMatrix& matrix_of(std::int64_t row) const {
    for (const StoredMatrix& matrix : matrices) {
      if (row < matrix.rows) return matrix;
      row -= matrix.rows;
    }
    return matrices.back();
  }
};

std::vector<StoredMatrix> matrices(std::initializer_list<std::pair<DType, std::int64_t>> list, std::int64_t columns) {
  std::vector<StoredMatrix> out;
  for (const auto& [type, rows] : list) {
    out.emplace_back(type, rows, columns, static_cast<std::uint32_t>(out.size() + 1));
  }
  return out;
}

/// Checks a layer on `tokens` random rows; the products that cuBLASLt was given for it.
std::uint64_t check(const Layer& layer, std::int64_t tokens, bool all_inputs = false) {
  CAPTURE(dtype_info(layer.matrices[0].dtype).name, layer.rows, layer.columns, tokens, all_inputs);
  const std::vector<float> x = normals(tokens * layer.columns, 7);
  Layer::Inputs inputs;
  if (all_inputs) {
    inputs.addend = normals(tokens * layer.rows, 8);
    inputs.bias = normals(layer.rows, 9);
    inputs.residual = normals(tokens * layer.outputs(), 10);
  }
  const std::uint64_t before = FakeBlas::products();
  CHECK(layer.difference(layer.run(x, tokens, inputs), x, tokens, inputs) == "");
  return FakeBlas::products() - before;
}

}  // namespace

TEST_CASE("every format of weights is multiplied by cuBLASLt, to the precision of 16 bits") {
  Backend* const backend = &shared_gpu();
  if (FakeBlas::there()) CHECK(backend->name() == "cuda (GPU 0, Simulated GPU 0 (sm_80), sm_80, cuBLASLt 13.1.0)");
  for (const DType type : kLinearTypes) {
    const std::uint64_t products = check(Layer(*backend, matrices({{type, 41}}, 256), Epilogue::none, 5), 5);
    CHECK(is(products, type == DType::f32 ? 0 : 1));  // f32 weights stay f32
  }
}

TEST_CASE("every epilogue behind cuBLASLt, with and without its inputs") {
  Backend* const backend = &shared_gpu();
  for (const DType type : {DType::bf16, DType::f16, DType::q4_k}) {
    for (const bool inputs : {false, true}) {
      for (const Epilogue epilogue : {Epilogue::none, Epilogue::gelu_erf}) {
        CHECK(is(check(Layer(*backend, matrices({{type, 40}, {type, 3}}, 256), epilogue, 3), 3, inputs), 1));
      }
      CHECK(is(check(Layer(*backend, matrices({{type, 20}, {type, 20}}, 256), Epilogue::silu_gated, 3), 3, inputs), 1));
      CHECK(
          is(check(Layer(*backend, matrices({{type, 20}, {DType::q8_0, 20}}, 256), Epilogue::silu_gated, 3), 3, inputs),
             2));  // halves that are no one part
    }
  }
}

TEST_CASE("a residual is added by cuBLASLt where nothing else is to be done") {
  Backend* const backend = &shared_gpu();
  for (const std::int64_t rows : {40, 41}) {  // rows of outputs that are aligned, and not
    const Layer layer(*backend, matrices({{DType::bf16, rows}}, 128), Epilogue::none, 6);
    const std::vector<float> x = normals(6 * 128, 3);
    const Layer::Inputs inputs{{}, {}, normals(6 * rows, 4)};
    CHECK(layer.difference(layer.run(x, 6, inputs), x, 6, inputs) == "");
  }
}

TEST_CASE("stacked matrices of several types, and columns in an order of their own") {
  Backend* const backend = &shared_gpu();
  const auto stacked = [] { return matrices({{DType::q4_k, 33}, {DType::f16, 16}, {DType::bf16, 20}}, 256); };
  CHECK(is(check(Layer(*backend, stacked(), Epilogue::none, 4), 4), 3));
  std::vector<std::int32_t> order(320);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>((i * 37 + 5) % order.size());
  CHECK(is(check(Layer(*backend, matrices({{DType::g4_32, 33}}, 320), Epilogue::none, 4, order.data()), 4), 1));
}

TEST_CASE("a product is divided into panels that its limits allow, and is the same") {
  // A panel of 2 row tiles of 256 columns; then as many as products of 5 tokens may take.
  for (const PanelLimits& limits : {PanelLimits{1, 1, 2 * 16 * 256 * 2, 1 << 20}, PanelLimits{1, 1, 1 << 20, 700}}) {
    Backend* const whole = &shared_gpu();
    const auto divided = gpu(limits);
    for (const DType type : {DType::bf16, DType::q6_k}) {
      for (const bool gated : {false, true}) {
        const Epilogue epilogue = gated ? Epilogue::silu_gated : Epilogue::none;
        const auto stored = [&] {
          return gated ? matrices({{type, 37}, {type, 37}}, 256) : matrices({{type, 74}}, 256);
        };
        const Layer one(*whole, stored(), epilogue, 5), many(*divided, stored(), epilogue, 5);
        CHECK(is(check(one, 5), 1));
        CHECK(is(check(many, 5), 3));  // of 5 row tiles
        const std::vector<float> x = normals(5 * 256, 7);
        if (FakeBlas::there()) CHECK(one.run(x, 5) == many.run(x, 5));
      }
    }
  }
}

TEST_CASE("few tokens stay with own kernels") {
  const auto backend = gpu({.dense_tokens = 9, .quantized_tokens = 5});
  const Layer dense(*backend, matrices({{DType::bf16, 32}}, 64), Epilogue::none, 9);
  const Layer quantized(*backend, matrices({{DType::q8_0, 32}}, 64), Epilogue::none, 9);
  CHECK(is(check(dense, 8), 0));
  CHECK(is(check(dense, 9), 1));
  CHECK(is(check(quantized, 4), 0));
  CHECK(is(check(quantized, 5), 1));
}

TEST_CASE("an algorithm is chosen once for a shape and a bucket of tokens") {
  if (!FakeBlas::there()) return;
  Backend* const backend = &shared_gpu();
  const Layer layer(*backend, matrices({{DType::f16, 16}}, 64), Epilogue::none, 300);
  const auto choices = [&](std::int64_t tokens) {
    const std::uint64_t before = FakeBlas::chosen();
    CHECK(is(check(layer, tokens), 1));
    return FakeBlas::chosen() - before;
  };
  CHECK(choices(128) == 1);
  CHECK(choices(100) == 0);  // the same bucket
  CHECK(choices(129) == 1);
  CHECK(choices(256) == 0);
  CHECK(choices(10) == 1);  // the bucket's algorithm cannot do so few
  CHECK(choices(10) == 0);
}

TEST_CASE("where cuBLASLt knows no way own kernels do it") {
  if (!FakeBlas::there()) return;
  Backend* const backend = &shared_gpu();
  FakeBlas::refuse(true);
  CHECK(is(check(Layer(*backend, matrices({{DType::q4_0, 32}}, 64), Epilogue::none, 4), 4), 0));
  FakeBlas::refuse(false);
  CHECK(is(check(Layer(*backend, matrices({{DType::q4_0, 48}}, 64), Epilogue::none, 4), 4), 1));
}

TEST_CASE("a larger step than was reserved for stays with own kernels") {
  const auto backend = gpu({.dense_tokens = 8, .quantized_tokens = 8});
  backend->reserve_workspace(7, 256);  // below what pays
  const Layer layer(*backend, matrices({{DType::q4_0, 32}}, 64), Epilogue::none, 7);
  CHECK(is(check(layer, 8), 0));
}

TEST_CASE("products are captured and replayed with what their buffers then hold") {
  Backend* const backend = &shared_gpu();
  const Layer layer(*backend, matrices({{DType::q4_k, 40}}, 256), Epilogue::none, 3);
  const Array in(*backend, 3, 256), out(*backend, 3, 40);
  const std::uint32_t forms = layer.weight->activation_forms();
  const auto memory = backend->allocate(backend->activation_bytes(3, 256, forms));
  const Activation activation{memory->data(), 3, 256, forms};
  const std::uint64_t before = FakeBlas::products();
  for (std::uint32_t round = 0; round < 3; ++round) {
    const std::vector<float> x = normals(3 * 256, round);
    in.set(x);
    backend->captured(1, [&] {
      backend->to_activation({.x = in.tensor, .out = activation});
      backend->linear({.x = activation, .num_tokens = 3, .weight = layer.weight.get(), .out = out.tensor});
    });
    CHECK(layer.difference(out.get(), x, 3) == "");
  }
  CHECK(is(FakeBlas::products() - before, 1));  // the other two are replays
}

TEST_CASE("the workspace is there from the start, and counted") {
  cuda::test::use_fake_gpu("devices=2,seed=3");
  const auto plain = make_cuda_backend({}), blas = make_cuda_backend({.batch_invariant = false});
  const auto taken = [](Backend& backend, std::int64_t tokens) {
    const std::size_t before = backend.available_bytes();
    backend.reserve_workspace(tokens, 4096);
    return before - backend.available_bytes();
  };
  CHECK(plain->name().find("cuBLASLt") == std::string::npos);
  CHECK(taken(*blas, 255) == taken(*plain, 255));  // nothing goes through it
  // 64 MiB of panels, products of 8192 rows, 32 MiB of cuBLASLt's own.
  constexpr std::size_t kMore = std::size_t{64 + 16 + 32} << 20;
  CHECK(blas->extra_workspace_bytes(512, 4096) == kMore);
  CHECK(plain->extra_workspace_bytes(512, 4096) == 0);
  CHECK(taken(*blas, 512) >= kMore / 10 * 9);  // some of it was there for attention
}

TEST_CASE("two GPUs multiply their parts with a cuBLASLt each", "[fake]") {
  if (!FakeBlas::there()) return;
  cuda::test::use_fake_gpu("devices=2,seed=3");
  const auto backend = make_tensor_parallel_backend({.ordinals = {1, 0}, .batch_invariant = false, .panels = kAlways});
  CHECK(backend->name() ==
        "cuda (2 GPUs: GPU 1, Simulated GPU 1 (sm_80); GPU 0, Simulated GPU 0 (sm_80), sm_80, cuBLASLt 13.1.0)");
  CHECK(is(check(Layer(*backend, matrices({{DType::q8_0, 48}}, 256), Epilogue::none, 5), 5), 2));
}

}  // namespace inferd::testing
