// The int8 linear kernels on the PTX interpreter: against fp64 of the same codes, their bits against each other, and
// what a profiler would say of them.
#include "kernels/cuda/linear_i8.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "kernels/cuda/dev/linear_i8_params.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_reference.h"
#include "tests/kernels_cuda/mutants.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::StoredMatrix;

namespace {

constexpr Kernel kI8Kernels[] = {Kernel::linear_i8_8, Kernel::linear_i8_16, Kernel::linear_i8_32, Kernel::linear_i8_64,
                                 Kernel::linear_i8_prefill};

// One weight and one activation in a launcher; each product is a new tensor.
struct Layer {
  Layer(int arch, std::int64_t row_count, std::int64_t columns, const std::vector<float>& inputs, int schedules = 1,
        bool gated = false)
      : rows(row_count), tokens(static_cast<std::int64_t>(inputs.size()) / columns), sim(arch, 0, schedules) {
    // A gated weight of two sources, any other of one.
    for (int i = 0; i <= (gated ? 1 : 0); ++i) {
      stored.emplace_back(DType::g8_32, gated ? rows / 2 : rows, columns, static_cast<std::uint32_t>(rows + i));
      stored.back().give_rows_one_scale();
    }
    take(inputs, gated);
  }
  Layer(int arch, std::int64_t row_count, std::int64_t columns, std::int64_t token_count, int schedules = 1,
        bool gated = false)
      : Layer(arch, row_count, columns, random_rows(token_count, columns, 7), schedules, gated) {}
  Layer(int arch, StoredMatrix matrix, const std::vector<float>& inputs)
      : rows(matrix.rows), tokens(static_cast<std::int64_t>(inputs.size()) / matrix.columns), sim(arch, 0, 1) {
    stored.push_back(std::move(matrix));
    take(inputs, false);
  }

  void take(const std::vector<float>& inputs, bool gated) {
    std::vector<WeightSource> sources;
    for (const StoredMatrix& matrix : stored) {
      sources.push_back(matrix.source());
    }
    weight = std::make_unique<CudaWeight>(sim_weight(sim, sources, {.gated = gated}));
    x = std::make_unique<SimActivation>(sim, inputs, tokens, weight->columns(), weight->activation_forms());
  }

  const CudaWeight::Part& part() const { return weight->parts()[0]; }

  /// Of the codes as they are: an integer, which f32 rounds, times two scales, rounded twice.
  Product expected() {
    const std::int64_t columns = weight->columns();
    const auto codes = sim.get<std::int8_t>(x->planes.int8, static_cast<std::size_t>(tokens * x->planes.stride));
    const auto x_scales = sim.get<float>(x->planes.int8_scale, static_cast<std::size_t>(tokens));
    Product product;
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (const StoredMatrix& matrix : stored) {
        const int block = dtype_info(matrix.dtype).block_elements, bytes = dtype_info(matrix.dtype).block_bytes;
        const std::byte* at = matrix.memory.data() + 1;
        for (std::int64_t r = 0; r < matrix.rows; ++r) {
          float scale = 0;
          std::memcpy(&scale, at, sizeof scale);
          std::int64_t sum = 0;
          for (std::int64_t k = 0; k < columns; ++k) {
            if (k > 0 && k % block == 0) at += bytes;
            sum += (static_cast<int>(at[kGroupCodesAt + k % block]) - 128) *
                   std::int64_t{codes[static_cast<std::size_t>(t * x->planes.stride + k)]};
          }
          at += bytes;
          product.sums.push_back(static_cast<double>(sum) * double{scale} *
                                 double{x_scales[static_cast<std::size_t>(t)]});
          product.error.push_back(std::fabs(product.sums.back()) * 0x1p-22);
        }
      }
    }
    return product;
  }

  /// Products of `count` tokens from the given one on.
  std::vector<float> run(std::int64_t count, int tile, std::int64_t first = 0) {
    ActivationPlanes planes = x->planes;
    planes.int8 += first * planes.stride;
    planes.int8_scale += first;
    const Tensor out = sim.output(DType::f32, {count, rows}, "out");
    EpilogueParams epilogue{};
    epilogue.out = out.as<float>();
    epilogue.out_stride = rows;
    linear_i8(sim, part(), planes, count, epilogue, tile);
    return sim.get<float>(out.data, static_cast<std::size_t>(count * rows));
  }

  std::int64_t rows, tokens;
  SimLauncher sim;
  std::vector<StoredMatrix> stored;
  std::unique_ptr<CudaWeight> weight;
  std::unique_ptr<SimActivation> x;
};

std::string difference(const std::vector<float>& y, const Product& expected) {
  return first_difference(y, expected.sums, expected.error, 1);
}

bool same_bits(const std::vector<float>& few, const std::vector<float>& all, std::int64_t first = 0) {
  return std::memcmp(few.data(), all.data() + first, few.size() * sizeof(float)) == 0;
}

/// Products with an epilogue in every kernel or one; empty if right.
std::string check_epilogue(Layer& layer, ActivationFunction function, bool gated, bool inputs, int tile) {
  const std::int64_t tokens = layer.tokens, rows = layer.rows, outs = gated ? rows / 2 : rows;
  EpilogueReference reference;
  reference.gated = gated;
  reference.function = function;
  Tensor out = layer.sim.output(DType::f32, {tokens, outs}, "out");
  EpilogueParams epilogue{};
  if (inputs) {
    reference.addend = random_rows(tokens, rows, 1);
    reference.bias = random_rows(1, rows, 2);
    reference.residual = random_rows(tokens, outs, 3);
    out = layer.sim.put(reference.residual, DType::f32, {tokens, outs}, "out");
    epilogue.addend = layer.sim.put(reference.addend, DType::f32, {tokens, rows}, "addend").as<float>();
    epilogue.addend_stride = rows;
    epilogue.bias = layer.sim.put(reference.bias, DType::f32, {rows}, "bias").as<float>();
    epilogue.residual = out.as<float>();
    epilogue.residual_stride = outs;
  }
  epilogue.out = out.as<float>();
  epilogue.out_stride = outs;
  epilogue.function = function;
  epilogue.half = gated ? static_cast<std::int32_t>(outs) : 0;
  linear_i8(layer.sim, layer.part(), layer.x->planes, tokens, epilogue, tile);
  const Product expected = reference(layer.expected(), static_cast<std::size_t>(rows));
  return difference(layer.sim.get<float>(out.data, expected.sums.size()), expected);
}

/// Of which every place of the loop over tiles of columns is the last once, and of more rows and tokens than a block's.
Suspect int8_products(int tile) {
  struct Case {
    Case(std::int64_t rows, std::int64_t k_tiles, std::int64_t tokens, int schedules)
        : layer(mutant_arch(), rows, kColumnTile * k_tiles, tokens, schedules), expected(layer.expected()) {}
    Layer layer;
    Product expected;
  };
  const LinearI8Tile shape = linear_i8_tile(tile);
  const int slices = shape.slices();
  std::vector<std::shared_ptr<Case>> cases;
  for (const int k_tiles :
       {1, slices, std::max(1, 2 * slices - 2), 2 * slices, 3 * slices, 4 * slices, 5 * slices + 1, 7 * slices + 1}) {
    const bool first = cases.empty();  // with an even number of tokens: prefill stores them in pairs
    const std::int64_t rows = first ? 2 * shape.block_rows() - 3 : shape.block_rows() + 5;
    const std::int64_t tokens = shape.tokens + (first ? 2 : 3);
    cases.push_back(std::make_shared<Case>(rows, k_tiles, tokens, k_tiles == 4 * slices ? 6 : 1));
  }
  const auto gated = std::make_shared<Layer>(mutant_arch(), 38, 96, 5, 1, true);
  return {kI8Kernels[tile], [=] {
            return check_epilogue(*gated, ActivationFunction::silu, true, true, tile) == "" &&
                   std::all_of(cases.begin(), cases.end(), [=](const std::shared_ptr<Case>& each) {
                     return difference(each->layer.run(each->layer.tokens, tile), each->expected) == "";
                   });
          }};
}

}  // namespace

TEST_CASE("int8 products are those of their codes, for rows and columns of every remainder, in every tile") {
  for (const int arch : built_archs()) {
    const auto check = [&](std::int64_t rows, std::int64_t columns) {
      Layer layer(arch, rows, columns, 9);
      const Product expected = layer.expected();
      for (int tile = 0; tile < (columns > 1536 ? 4 : kNumLinearI8Tiles); ++tile) {  // the last has one slice
        CAPTURE(arch, rows, columns, tile);
        REQUIRE(difference(layer.run(9, tile), expected) == "");
      }
    };
    for (const std::int64_t rows : {1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257}) {
      check(rows, 96);
    }
    // Tiles of columns: fewer than slices, as many, and several turns of what is under way.
    for (const std::int64_t columns : {32, 64, 128, 160, 448, 480, 512, 544, 576, 1024, 1056, 1536, 2080, 2592, 4128}) {
      check(24, columns);
    }
  }
}

TEST_CASE("a token's int8 products depend on nothing but itself") {
  for (const int arch : built_archs()) {
    Layer layer(arch, 50, 224, 129);
    const std::vector<float> all = layer.run(129, 0);
    REQUIRE(difference(all, layer.expected()) == "");
    const bool all_counts = arch == built_archs().back();
    for (std::int64_t tokens = 1; tokens <= 129; ++tokens) {
      if (!all_counts && tokens % 8 > 1 && tokens % 8 < 7) continue;
      CAPTURE(arch, tokens);
      const std::int64_t first = (129 - tokens) / 2;
      REQUIRE(same_bits(layer.run(tokens, -1, first), all, first * layer.rows));
      if (tokens % 32 > 1) continue;
      for (int tile = 1; tile < kNumLinearI8Tiles; ++tile) {
        CAPTURE(tile);
        REQUIRE(same_bits(layer.run(tokens, tile, first), all, first * layer.rows));
      }
    }
  }
}

TEST_CASE("no schedule of warps and copies gives other int8 products") {
  for (const int arch : built_archs()) {
    for (int tile = 0; tile < kNumLinearI8Tiles; ++tile) {
      CAPTURE(arch, tile);
      const std::int64_t tokens = linear_i8_tile(tile).tokens / 2 + 1;
      Layer layer(arch, 33, 1312, tokens, 6);
      REQUIRE(difference(layer.run(tokens, tile), layer.expected()) == "");
    }
  }
}

TEST_CASE("addend, bias, function and residual of int8 products, gated or not, in every kernel") {
  using F = ActivationFunction;
  for (const int arch : built_archs()) {
    for (const bool gated : {false, true}) {
      Layer layer(arch, gated ? 34 : 19, 96, 5, 1, gated);
      for (int tile = 0; tile < kNumLinearI8Tiles; ++tile) {
        for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
          CAPTURE(arch, gated, tile, static_cast<int>(function));
          REQUIRE(check_epilogue(layer, function, gated, function != F::silu, tile) == "");
        }
      }
    }
  }
}

TEST_CASE("the largest sums fit") {
  for (const int arch : built_archs()) {
    StoredMatrix matrix = StoredMatrix(DType::g8_128, 2, kMostI8Columns, 1).give_rows_one_scale();
    std::byte* block = matrix.memory.data() + 1;
    for (std::int64_t b = 0; b < 2 * kMostI8Columns / 128; ++b, block += 133) {
      std::memset(block + kGroupCodesAt, b < kMostI8Columns / 128 ? 0 : 255, 128);  // -128 and 127
    }
    Layer layer(arch, std::move(matrix), std::vector<float>(kMostI8Columns, -3.0f));
    CHECK(difference(layer.run(1, 0), layer.expected()) == "");
  }
}

TEST_CASE("rows of zeros give zeros, and rows that are not finite NaN, beside others") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const int arch : built_archs()) {
    std::vector<float> x = random_rows(5, 96, 3);
    std::fill(x.begin() + 96, x.begin() + 192, 0.0f);
    x[2 * 96 + 95] = nan;
    x[3 * 96] = -inf;
    Layer layer(arch, 19, 96, x);
    for (int tile = 0; tile < kNumLinearI8Tiles; ++tile) {
      CAPTURE(arch, tile);
      const std::vector<float> y = layer.run(5, tile);
      const Product expected = layer.expected();
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t token = i / 19;
        if (token == 2 || token == 3) {
          REQUIRE(std::isnan(y[i]));
        } else {
          REQUIRE(std::fabs(double{y[i]} - expected.sums[i]) <= expected.error[i]);
        }
        if (token == 1) REQUIRE(y[i] == 0.0f);
      }
    }
  }
}

TEST_CASE("faults in the int8 kernels are noticed") {
  std::vector<Suspect> suspects;
  for (int tile = 0; tile < kNumLinearI8Tiles; ++tile) suspects.push_back(int8_products(tile));
  CHECK(unlisted_mutants("linear_i8", suspects, "epilogue.cuh") == "");
}

TEST_CASE("no bank conflicts, whole sectors, and few instructions a byte of int8 weights") {
  // A twentieth above what is, for 8, 32, 64 and 128 tokens; a card's own budget is its instructions a second over its
  // bytes (docs/gpu/linear.md).
  const int tiles[] = {0, 2, 3, 4};
  const double most_per_byte[] = {0.075, 0.103, 0.137, 0.129};
  const int arch = built_archs().back();
  Layer layer(arch, 256, 4096, 128);
  for (std::size_t i = 0; i < 4; ++i) {
    const Kernel kernel = kI8Kernels[tiles[i]];
    const auto before = report(kernel, arch).instructions;
    layer.run(linear_i8_tile(tiles[i]).tokens, tiles[i]);
    const ptxsim::KernelReport found = report(kernel, arch);
    const double per_byte =
        static_cast<double>(found.instructions - before) / static_cast<double>(layer.weight->bytes());
    CAPTURE(found.kernel, found.conflicts, found.wasted_sectors, per_byte);
    if (std::getenv("INFERD_PRINT_LINT") != nullptr) {
      std::printf("%s: %.4f instructions a byte, wavefronts x%.3f, sectors %.3f\n", found.kernel.c_str(), per_byte,
                  static_cast<double>(found.shared_wavefronts) / static_cast<double>(found.shared_requests),
                  found.sector_use);
    }
    CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
    CHECK(found.sector_use >= 0.95);
    CHECK(per_byte <= most_per_byte[i]);
  }
}

TEST_CASE("the int8 kernels were run whole") {
  for (const Kernel kernel : kI8Kernels) CHECK(uncovered(kernel) == "");
}
