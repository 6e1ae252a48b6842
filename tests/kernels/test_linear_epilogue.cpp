// What follows the product: bias, activation functions, gating, residuals, and outputs as activations.
#include <limits>

#include "tests/catch.h"
#include "tests/kernels/linear_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

double gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }
double gelu_by_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
}
double silu(double x) { return x / (1 + std::exp(-x)); }

double expected_value(Epilogue epilogue, double x, double up) {
  switch (epilogue) {
    case Epilogue::none:
      return x;
    case Epilogue::gelu_erf:
      return gelu(x);
    case Epilogue::gelu_tanh:
      return gelu_by_tanh(x);
    case Epilogue::silu_gated:
      return silu(x) * up;
    case Epilogue::gelu_tanh_gated:
      return gelu_by_tanh(x) * up;
    case Epilogue::gelu_erf_gated:
      return gelu(x) * up;
    case Epilogue::tanh:
      return std::tanh(x);
  }
  return 0;
}

constexpr Epilogue kEpilogues[] = {Epilogue::none,       Epilogue::gelu_erf,        Epilogue::gelu_tanh,
                                   Epilogue::silu_gated, Epilogue::gelu_tanh_gated, Epilogue::gelu_erf_gated,
                                   Epilogue::tanh};

/// A layer of two matrices of `half` rows each, as gated or plain stack; both give the same products.
struct TwoHalves {
  TwoHalves(Backend& backend, DType first, DType second, std::int64_t half_rows, std::int64_t columns)
      : half(half_rows), gate(first, half, columns, 21), up(second, half, columns, 22) {
    const WeightSource sources[] = {gate.source(), up.source()};
    stacked = backend.load_weight(sources, {});
    gated = backend.load_weight(sources, {.gated = true});
  }
  std::int64_t half;
  StoredMatrix gate;
  StoredMatrix up;
  std::unique_ptr<Weight> stacked;
  std::unique_ptr<Weight> gated;
};

void check_epilogue(Backend& backend, const TwoHalves& layer, Epilogue epilogue, bool with_bias, bool with_residual) {
  const std::int64_t tokens = 5;
  const std::int64_t columns = layer.stacked->columns();
  const std::vector<float> x = random_rows(tokens, columns, 31);
  const std::int64_t rows = 2 * layer.half;
  std::vector<float> raw = run_linear(backend, *layer.stacked, x, tokens);
  std::vector<float> bias = random_rows(1, rows, 32);
  const std::int64_t width = is_gated(epilogue) ? layer.half : rows;
  std::vector<float> residual = random_rows(tokens, width, 33);
  LinearArgs args;
  args.epilogue = epilogue;
  if (with_bias) args.bias = Tensor(bias.data(), DType::f32, {rows});
  if (with_residual) args.residual = rows_of(residual, tokens, width);
  const Weight& weight = is_gated(epilogue) ? *layer.gated : *layer.stacked;
  const std::vector<float> out = run_linear(backend, weight, x, tokens, args);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < width; ++c) {
      double value = raw[t * rows + c] + (with_bias ? bias[c] : 0.0f);
      double up = is_gated(epilogue) ? raw[t * rows + layer.half + c] + (with_bias ? bias[layer.half + c] : 0.0f) : 0;
      double expected = expected_value(epilogue, value, up);
      if (with_residual) expected += residual[t * width + c];
      CHECK(static_cast<double>(out[t * width + c]) == Approx(expected).epsilon(2e-6).margin(2e-6));
    }
  }
}

}  // namespace

TEST_CASE("every epilogue, with and without bias and residual") {
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 2);
    for (std::int64_t half : {1, 16, 24, 33, 64, 100}) {
      const TwoHalves layer(*backend, DType::q4_0, DType::f16, half, 32);
      for (Epilogue epilogue : kEpilogues) {
        INFO(isa << " half " << half << " epilogue " << static_cast<int>(epilogue));
        for (int options = 0; options < 4; ++options) {
          check_epilogue(*backend, layer, epilogue, (options & 1) != 0, (options & 2) != 0);
        }
      }
    }
  }
}

TEST_CASE("activation functions are accurate over the whole range") {
  // An identity matrix and one input per row: the epilogue's own error.
  std::vector<float> identity(32 * 32);
  for (int i = 0; i < 32; ++i) identity[i * 33] = 1;
  const WeightSource source{reinterpret_cast<const std::byte*>(identity.data()), DType::f32, 32, 32};
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 1);
    const auto weight = backend->load_weight({&source, 1}, {});
    const std::int64_t tokens = 500;
    std::vector<float> x(tokens * 32);
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = -12.0f + 24.0f * static_cast<float>(i) / static_cast<float>(x.size());
    x[0] = -1e30f;
    x[1] = 1e30f;
    x[2] = -90.0f;
    x[3] = 90.0f;
    x[4] = 0.0f;
    x[5] = 1e-20f;
    for (Epilogue epilogue : {Epilogue::gelu_erf, Epilogue::gelu_tanh, Epilogue::tanh}) {
      const std::vector<float> out = run_linear(*backend, *weight, x, tokens, {.epilogue = epilogue});
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = expected_value(epilogue, x[i], 0);
        INFO(isa << " x " << x[i] << " got " << out[i] << " expected " << expected);
        REQUIRE(std::abs(out[i] - expected) <= 4e-7 * std::abs(expected) + 3e-7);
      }
    }
  }
}

TEST_CASE("an output activation holds exactly what to_activation makes of the output") {
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 2);
    for (std::int64_t half : {5, 32, 48, 100}) {
      const TwoHalves layer(*backend, DType::q5_1, DType::q4_1, half, 64);
      for (Epilogue epilogue : kEpilogues) {
        const Weight& weight = is_gated(epilogue) ? *layer.gated : *layer.stacked;
        const std::int64_t width = is_gated(epilogue) ? half : 2 * half;
        const std::int64_t tokens = 7;
        const std::vector<float> x = random_rows(tokens, 64, 41);
        const std::uint32_t forms = kFormF32 | kFormQ8;
        PoisonedActivation direct(*backend, tokens, width, forms);
        PoisonedActivation through(*backend, tokens, width, forms);
        LinearArgs args{.epilogue = epilogue, .out_activation = direct.view};
        std::vector<float> out = run_linear(*backend, weight, x, tokens, args);
        backend->to_activation({.x = rows_of(out, tokens, width), .out = through.view});
        INFO(isa << " half " << half << " epilogue " << static_cast<int>(epilogue));
        for (std::int64_t t = 0; t < tokens; ++t) {
          CHECK(read_activation_row(direct.view, t) == read_activation_row(through.view, t));
        }
        CHECK(std::memcmp(direct.view.data, through.view.data, direct.buffer->bytes()) == 0);
      }
    }
  }
}

TEST_CASE("quantised activations are the nearest of 255 steps") {
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 1);
    const std::int64_t columns = 100;  // the last block is partial
    std::vector<float> x = random_rows(9, columns, 51);
    for (int k = 0; k < 32; ++k) x[k] = 0.0f;
    PoisonedActivation activation(*backend, 9, columns, kFormQ8);
    backend->to_activation({.x = rows_of(x, 9, columns), .out = activation.view});
    for (std::int64_t t = 0; t < 9; ++t) {
      const std::vector<float> seen = read_activation_row(activation.view, t);
      for (std::int64_t begin = 0; begin < columns; begin += 32) {
        float largest = 0;
        const std::int64_t end = std::min<std::int64_t>(begin + 32, columns);
        for (std::int64_t k = begin; k < end; ++k) largest = std::max(largest, std::abs(x[t * columns + k]));
        for (std::int64_t k = begin; k < end; ++k) {
          CHECK(std::abs(seen[k] - x[t * columns + k]) <= largest / 254 * 1.0001f);
        }
      }
    }
  }
}

TEST_CASE("infinities and NaNs spoil their own row and no other") {
  const StoredMatrix matrix(DType::q4_k, 33, 256, 6);
  const WeightSource source = matrix.source();
  for (ActivationMode mode : {ActivationMode::automatic, ActivationMode::f32}) {
    for (const std::string& isa : available_levels()) {
      const auto backend = cpu(isa, 1, mode);
      const auto weight = backend->load_weight({&source, 1}, {});
      std::vector<float> x = random_rows(5, 256, 61);
      const std::vector<float> clean = run_linear(*backend, *weight, x, 5);
      x[256 + 40] = std::numeric_limits<float>::infinity();
      x[3 * 256 + 255] = std::numeric_limits<float>::quiet_NaN();
      const std::vector<float> out = run_linear(*backend, *weight, x, 5);
      for (std::int64_t t = 0; t < 5; ++t) {
        for (std::int64_t r = 0; r < 33; ++r) {
          INFO(isa << " token " << t << " row " << r);
          if (t == 1 || t == 3) {
            CHECK(!std::isfinite(out[t * 33 + r]));
          } else {
            CHECK(out[t * 33 + r] == clean[t * 33 + r]);
          }
        }
      }
    }
  }
}

TEST_CASE("strided outputs and residuals leave what is between the rows alone") {
  const StoredMatrix matrix(DType::q8_0, 40, 64, 6);
  const WeightSource source = matrix.source();
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 2);
    const auto weight = backend->load_weight({&source, 1}, {});
    std::vector<float> x = random_rows(6, 64, 71);
    const std::vector<float> plain = run_linear(*backend, *weight, x, 6);
    std::vector<float> wide(6 * 50, 7.0f);
    PoisonedActivation activation(*backend, 6, 64, weight->activation_forms());
    backend->to_activation({.x = rows_of(x, 6, 64), .out = activation.view});
    Tensor out(wide.data(), DType::f32, {6, 40});
    out.row_stride = 50;
    backend->linear({.x = activation.view, .num_tokens = 6, .weight = weight.get(), .residual = out, .out = out});
    for (std::int64_t t = 0; t < 6; ++t) {
      for (std::int64_t c = 0; c < 50; ++c) CHECK(wide[t * 50 + c] == (c < 40 ? plain[t * 40 + c] + 7.0f : 7.0f));
    }
  }
}
