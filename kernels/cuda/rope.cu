// Rotary tables.
#include "kernels/cuda/dev/rope_params.h"

namespace inferd::cuda {
namespace {

/// cos and sin of an angle of up to 2^30 quarter turns, absolute error below 2e-7. The angle loses its whole quarter
/// turns in f64, where both it and their product with pi / 2 are nearly exact; what is left goes through polynomials.
__device__ float2 cos_sin(float angle) {
  const double quarters = rint(static_cast<double>(angle) * 0.63661977236758134308);
  const float r = static_cast<float>(fma(quarters, -1.57079632679489661923, static_cast<double>(angle)));
  const int quadrant = static_cast<int>(quarters);
  const float s = r * r;
  // Minimax on [-pi / 4, pi / 4] (Cephes, sinf.c).
  const float sine = fmaf(fmaf(fmaf(-1.9515295891e-4f, s, 8.3321608736e-3f), s, -1.6666654611e-1f) * s, r, r);
  const float cosine =
      fmaf(fmaf(fmaf(2.443315711809948e-5f, s, -1.388731625493765e-3f), s, 4.166664568298827e-2f) * s, s,
           fmaf(-0.5f, s, 1.0f));
  const float x = quadrant & 1 ? sine : cosine;
  const float y = quadrant & 1 ? cosine : sine;
  return make_float2((quadrant + 1) & 2 ? -x : x, quadrant & 2 ? -y : y);
}

}  // namespace

extern "C" __global__ void __launch_bounds__(256) rope_table(const __grid_constant__ RopeTableParams p) {
  const std::uint32_t at = blockIdx.x * 256 + threadIdx.x;
  if (at >= p.count) return;
  const std::uint32_t token = at / p.pairs, pair = at % p.pairs;
  const std::uint32_t row = p.rows != nullptr ? p.rows[token] : 0;
  // The angle is rounded to f32, as the published models were trained.
  const float2 turn = cos_sin(static_cast<float>(p.positions[token]) * p.inv_freq[row * p.pairs + pair]);
  *reinterpret_cast<float2*>(p.out + token * p.out_stride + 2 * pair) =
      make_float2(turn.x * p.scaling, turn.y * p.scaling);
}

}  // namespace inferd::cuda
