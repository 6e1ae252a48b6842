// The tensor-core linear kernels on the PTX interpreter: every format and tile against fp64, and their bits against
// each other.
#include "tests/catch.h"
#include "tests/kernels_cuda/mma_layer.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;

namespace {

std::string difference(const std::vector<float>& y, const Product& expected) {
  return first_difference(y, expected.sums, expected.error, 1);
}

bool same_bits(const std::vector<float>& few, const std::vector<float>& all, std::int64_t first = 0) {
  return std::memcmp(few.data(), all.data() + first, few.size() * sizeof(float)) == 0;
}

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
  for (const DType dtype : kMmaTypes) {
    for (const int arch : archs_of(dtype)) {
      CAPTURE(arch, dtype_info(dtype).name);
      const auto check = [&](std::int64_t columns, std::initializer_list<int> tiles) {
        MmaLayer layer(arch, dtype, 19, columns, 9);
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
        MmaLayer layer(arch, dtype, rows, columns, 9);
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
      MmaLayer layer(arch, dtype, 50, 768, 129);
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
        MmaLayer layer(arch, dtype, 33, 1280, tokens, 6);
        REQUIRE(difference(layer.run(tokens, tile), layer.expected()) == "");
      }
    }
  }
}

TEST_CASE("addend, bias, function and residual, gated or not, in every kernel") {
  using F = ActivationFunction;
  for (const DType dtype : kMmaTypes) {
    for (const int arch : archs_of(dtype)) {
      for (const bool gated : {false, true}) {
        const std::int64_t columns = std::max(64, dtype_info(dtype).block_elements), tokens = 5;
        MmaLayer layer(arch, dtype, gated ? 34 : 19, columns, tokens, 1, gated);
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
            const EpilogueParams epilogue = layer.epilogue(reference, tokens);
            linear_mma(layer.sim, layer.part(), layer.x->planes, tokens, epilogue, tile);
            const Product expected = reference(product, static_cast<std::size_t>(rows));
            REQUIRE(difference(layer.sim.get<float>(epilogue.out, expected.sums.size()), expected) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("the tensor-core kernels were run whole") {
  for (int k = 0; k < kNumKernels; ++k) {
    const std::string entry = kKernels[k].entry, file = kKernels[k].file;
    if (file.rfind("linear_mma_", 0) != 0 || entry.rfind("experts_", 0) == 0) continue;  // test_experts.cpp runs those
    const bool not_on_75 = entry.find("_bf16_") != entry.npos || entry.find("_prefill") != entry.npos;
    if (built_archs()[0] < 80 && not_on_75) continue;
    CHECK(uncovered(static_cast<Kernel>(k)) == "");
  }
}
