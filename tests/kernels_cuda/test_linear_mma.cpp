// The tensor-core linear kernels on the PTX interpreter: every format and tile against fp64, and their bits against
// each other.
#include "kernels/cuda/linear_mma.h"

#include <cstdlib>
#include <random>

#include "kernels/cuda/dev/linear_mma_params.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_reference.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;
using inferd::testing::StoredMatrix;

namespace {

std::vector<float> random_rows(std::int64_t rows, std::int64_t columns, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = normal(random) * std::ldexp(1.0f, static_cast<int>(i / static_cast<std::size_t>(columns) % 5) - 2);
  }
  return x;
}

// One weight and one activation in a launcher; each product is a new tensor.
struct Layer {
  Layer(int arch, DType dtype, std::int64_t rows_, std::int64_t columns_, std::int64_t tokens, int schedules)
      : rows(rows_),
        columns(columns_),
        sim(arch, 0, schedules),
        stored(dtype, rows_, columns_, static_cast<unsigned>(rows_ + columns_)),
        weight(sim_weight(sim, {stored.source()})),
        x(sim, random_rows(tokens, columns_, 7), tokens, columns_, weight.activation_forms()) {}

  std::vector<float> run(std::int64_t tokens, int tile, std::int64_t first_token = 0) {
    EpilogueParams epilogue{};
    const Tensor out = sim.output(DType::f32, {tokens, rows}, "out");
    epilogue.out = out.as<float>();
    epilogue.out_stride = rows;
    ActivationPlanes planes = x.planes;
    planes.bf16 = planes.bf16 == nullptr ? nullptr : planes.bf16 + first_token * planes.stride;
    if (planes.f16 != nullptr) {
      planes.f16 += first_token * planes.stride;
      planes.f16_scale += first_token;
      planes.f16_sums += first_token * planes.stride / 16;
    }
    linear_mma(sim, weight.parts()[0], planes, tokens, epilogue, tile);
    return sim.get<float>(out.data, static_cast<std::size_t>(tokens * rows));
  }

  std::int64_t rows, columns;
  SimLauncher sim;
  StoredMatrix stored;
  CudaWeight weight;
  SimActivation x;
};

void check_product(Layer& layer, const std::vector<float>& y) {
  const Product expected = multiply(layer.stored.widened(), values_of(layer.sim, layer.x.view, layer.weight.parts()[0].form),
                                    layer.rows, layer.columns);
  for (std::size_t i = 0; i < y.size(); ++i) {
    CAPTURE(i, y[i], expected.y[i], expected.error[i]);
    if (!(std::fabs(static_cast<double>(y[i]) - expected.y[i]) <= expected.error[i])) FAIL();
  }
}

bool same_bits(const std::vector<float>& few, const std::vector<float>& all, std::size_t first = 0) {
  return std::memcmp(few.data(), all.data() + first, few.size() * sizeof(float)) == 0;
}

const DType kTypes[] = {DType::f16,    DType::bf16,   DType::q8_0,  DType::q4_0,   DType::q4_1,    DType::q5_0,
                        DType::q5_1,   DType::q2_k,   DType::q3_k,  DType::q4_k,   DType::q5_k,    DType::q6_k,
                        DType::iq4_nl, DType::iq4_xs, DType::g2_32, DType::g2_128, DType::g3_32,   DType::g3_128,
                        DType::g4_32,  DType::g4_64,  DType::g4_128, DType::g8_32, DType::g8_128, DType::tq1_0,
                        DType::mxfp4};

bool wanted(DType dtype) {
  const char* only = std::getenv("ONLY");
  return only == nullptr || dtype_info(dtype).name == only;
}

}  // namespace

TEST_CASE("Every format is multiplied as its widened weights are, alike in every tile") {
  for (const int arch : built_archs()) {
    for (const DType dtype : kTypes) {
      if (!wanted(dtype)) continue;
      const std::int64_t columns = dtype_info(dtype).block_elements == 256 ? 768 : 640;
      CAPTURE(arch, dtype_info(dtype).name);
      Layer layer(arch, dtype, 37, columns, 65, 1);
      const std::vector<float> y = layer.run(65, 3);
      check_product(layer, y);
      for (int tile = 0; tile < kNumLinearTiles; ++tile) {
        CAPTURE(tile);
        const std::int64_t tokens = tile == 4 ? 65 : linear_tile(tile, {}).tokens / 2 + 1;
        REQUIRE(same_bits(layer.run(tokens, tile), y));
      }
    }
  }
}
