// The tensor-core linear kernels on the PTX interpreter: every format and tile against fp64, and their bits against
// each other.
#include "kernels/cuda/linear_mma.h"

#include "kernels/cuda/dev/linear_mma_params.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/linear_reference.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::StoredMatrix;

namespace {

// One weight and one activation in a launcher; each product is a new tensor.
struct Layer {
  Layer(int arch, DType dtype, std::int64_t row_count, std::int64_t columns, std::int64_t tokens, int schedules = 1,
        bool gated = false)
      : rows(row_count), sim(arch, 0, schedules) {
    // A gated weight of two sources, any other of one.
    for (int i = 0; i <= (gated ? 1 : 0); ++i) {
      stored.emplace_back(dtype, gated ? rows / 2 : rows, columns, static_cast<std::uint32_t>(rows + columns + i));
      const std::vector<float> widened = stored.back().widened();
      w.insert(w.end(), widened.begin(), widened.end());
    }
    std::vector<WeightSource> sources;
    for (const StoredMatrix& matrix : stored) sources.push_back(matrix.source());
    weight = std::make_unique<CudaWeight>(sim_weight(sim, sources, {.gated = gated}));
    x = std::make_unique<SimActivation>(sim, random_rows(tokens, columns, 7), tokens, columns,
                                        weight->activation_forms());
  }

  const CudaWeight::Part& part() const { return weight->parts()[0]; }

  Product expected() {
    return multiply(w, values_of(sim, x->view, part().form), static_cast<std::size_t>(weight->columns()));
  }

  /// Products of `tokens` tokens from the given one on.
  std::vector<float> run(std::int64_t tokens, int tile, std::int64_t first = 0) {
    ActivationPlanes planes = x->planes;
    if (planes.bf16 != nullptr) planes.bf16 += first * planes.stride;
    if (planes.f16 != nullptr) {
      planes.f16 += first * planes.stride;
      planes.f16_scale += first;
      planes.f16_sums += first * planes.stride / 16;
    }
    const Tensor out = sim.output(DType::f32, {tokens, rows}, "out");
    EpilogueParams epilogue{};
    epilogue.out = out.as<float>();
    epilogue.out_stride = rows;
    linear_mma(sim, part(), planes, tokens, epilogue, tile);
    return sim.get<float>(out.data, static_cast<std::size_t>(tokens * rows));
  }

  std::int64_t rows;
  SimLauncher sim;
  std::vector<StoredMatrix> stored;
  std::vector<float> w;  // [rows, columns]
  std::unique_ptr<CudaWeight> weight;
  std::unique_ptr<SimActivation> x;
};

std::string difference(const std::vector<float>& y, const Product& expected) {
  return first_difference(y, expected.sums, expected.error, 1);
}

bool same_bits(const std::vector<float>& few, const std::vector<float>& all, std::int64_t first = 0) {
  return std::memcmp(few.data(), all.data() + first, few.size() * sizeof(float)) == 0;
}

// One type for each packed format.
const DType kTypes[] = {DType::f16,    DType::bf16,   DType::q8_0,  DType::q4_0,   DType::q4_1,   DType::q5_0,
                        DType::q5_1,   DType::q2_k,   DType::q3_k,  DType::q4_k,   DType::q5_k,   DType::q6_k,
                        DType::iq4_nl, DType::iq4_xs, DType::g2_32, DType::g2_128, DType::g3_32,  DType::g3_128,
                        DType::g4_32,  DType::g4_128, DType::g8_32, DType::g8_128, DType::iq2_xs, DType::iq1_s,
                        DType::nf4,    DType::fp4};

/// Built architectures whose kernels of the type are not empty.
std::vector<int> archs_of(DType dtype) {
  std::vector<int> archs;
  for (const int arch : built_archs()) {
    if (dtype != DType::bf16 || arch >= 80) archs.push_back(arch);
  }
  return archs;
}

/// Kernels take the largest tile from sm_80 on.
int num_tiles(int arch) { return arch >= 80 ? kNumLinearTiles : kNumLinearTiles - 1; }

}  // namespace

TEST_CASE("every format is multiplied as its widened weights are, alike in every tile") {
  for (const DType dtype : kTypes) {
    for (const int arch : archs_of(dtype)) {
      CAPTURE(arch, dtype_info(dtype).name);
      const auto check = [&](std::int64_t columns, std::initializer_list<int> tiles) {
        Layer layer(arch, dtype, 19, columns, 9);
        const std::vector<float> y = layer.run(9, 2);
        REQUIRE(difference(y, layer.expected()) == "");
        for (const int tile : tiles) {
          CAPTURE(columns, tile);
          if (tile < num_tiles(arch)) REQUIRE(same_bits(layer.run(std::min(9, linear_tile(tile, {}).tokens), tile), y));
        }
      };
      check(1280, {3, 4});
      check(3840, {0, 1});  // slices longer than twice the tiles a warp has under way
    }
  }
}

TEST_CASE("rows and columns of every remainder") {
  for (const DType dtype : {DType::f16, DType::q4_1, DType::g8_128}) {
    for (const int arch : archs_of(dtype)) {
      int turn = 0;
      const auto check = [&](std::int64_t rows, std::int64_t columns) {
        CAPTURE(arch, dtype_info(dtype).name, rows, columns);
        Layer layer(arch, dtype, rows, columns, 9);
        const int tile = turn++ % num_tiles(arch);
        CAPTURE(tile);
        REQUIRE(difference(layer.run(9, tile), layer.expected()) == "");
      };
      const std::int64_t least = dtype == DType::g8_128 ? 128 : 32;
      for (std::int64_t rows = 1; rows <= 17; ++rows) check(rows, least);
      for (const std::int64_t rows : {63, 64, 65, 127, 129, 257}) {
        for (int i = 0; i < num_tiles(arch); ++i) check(rows, least);
      }
      for (std::int64_t columns = least; columns <= 1300; columns += columns < 640 ? least : 320) {
        if (columns % least != 0) continue;
        for (int i = 0; i < num_tiles(arch); ++i) check(24, columns);
      }
    }
  }
}

TEST_CASE("a token's bits depend on nothing but itself") {
  for (const DType dtype : {DType::f16, DType::q4_k, DType::g4_128}) {
    for (const int arch : archs_of(dtype)) {
      CAPTURE(arch, dtype_info(dtype).name);
      Layer layer(arch, dtype, 50, 768, 129);
      const std::vector<float> all = layer.run(129, 0);
      REQUIRE(difference(all, layer.expected()) == "");
      for (const std::int64_t tokens : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129}) {
        CAPTURE(tokens);
        const std::int64_t first = (129 - tokens) / 2;
        REQUIRE(same_bits(layer.run(tokens, -1, first), all, first * layer.rows));
        if (arch >= 80 && tokens > 32) REQUIRE(same_bits(layer.run(tokens, 4, first), all, first * layer.rows));
      }
    }
  }
}

TEST_CASE("no schedule of warps and copies gives other bits") {
  for (const DType dtype : {DType::bf16, DType::q4_k, DType::q6_k}) {
    for (const int arch : archs_of(dtype)) {
      for (int tile = 0; tile < num_tiles(arch); ++tile) {
        if (built_archs()[static_cast<std::size_t>(tile) % built_archs().size()] != arch) continue;
        CAPTURE(arch, dtype_info(dtype).name, tile);
        const std::int64_t tokens = linear_tile(tile, {}).tokens / 2 + 1;
        Layer layer(arch, dtype, 33, 1280, tokens, 6);
        REQUIRE(difference(layer.run(tokens, tile), layer.expected()) == "");
      }
    }
  }
}

TEST_CASE("addend, bias, function and residual, gated or not, in every kernel") {
  using F = ActivationFunction;
  for (const DType dtype : kTypes) {
    for (const int arch : archs_of(dtype)) {
      for (const bool gated : {false, true}) {
        const std::int64_t columns = std::max(64, dtype_info(dtype).block_elements), tokens = 5;
        Layer layer(arch, dtype, gated ? 34 : 19, columns, tokens, 1, gated);
        const auto rows = layer.rows, outs = gated ? rows / 2 : rows;
        const Product product = layer.expected();
        EpilogueReference reference;
        reference.gated = gated;
        for (int tile = 0; tile < num_tiles(arch); ++tile) {
          for (const F function : {F::none, F::gelu_erf, F::gelu_tanh, F::silu, F::tanh}) {
            CAPTURE(arch, dtype_info(dtype).name, gated, tile, static_cast<int>(function));
            const bool plain = function == F::silu;
            reference.function = function;
            reference.addend = plain ? std::vector<float>() : random_rows(tokens, rows, 1);
            reference.bias = plain ? std::vector<float>() : random_rows(1, rows, 2);
            reference.residual = plain ? std::vector<float>() : random_rows(tokens, outs, 3);
            const Tensor out = plain ? layer.sim.output(DType::f32, {tokens, outs}, "out")
                                     : layer.sim.put(reference.residual, DType::f32, {tokens, outs}, "out");
            EpilogueParams epilogue{};
            epilogue.out = out.as<float>();
            epilogue.out_stride = outs;
            epilogue.function = function;
            epilogue.half = gated ? static_cast<std::int32_t>(outs) : 0;
            if (!plain) {
              epilogue.addend = layer.sim.put(reference.addend, DType::f32, {tokens, rows}, "addend").as<float>();
              epilogue.addend_stride = rows;
              epilogue.bias = layer.sim.put(reference.bias, DType::f32, {rows}, "bias").as<float>();
              epilogue.residual = epilogue.out;
              epilogue.residual_stride = outs;
            }
            linear_mma(layer.sim, layer.part(), layer.x->planes, tokens, epilogue, tile);
            const Product expected = reference(product, static_cast<std::size_t>(rows));
            REQUIRE(difference(layer.sim.get<float>(out.data, expected.sums.size()), expected) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("the tensor-core kernels were run whole") {
  for (int k = 0; k < kNumKernels; ++k) {
    const std::string entry = kKernels[k].entry, file = kKernels[k].file;
    if (file.rfind("linear_mma_", 0) != 0) continue;
    const bool not_on_75 = entry.find("_bf16_") != entry.npos || entry.find("_prefill") != entry.npos;
    if (built_archs()[0] < 80 && not_on_75) continue;
    CHECK(uncovered(static_cast<Kernel>(k)) == "");
  }
}
