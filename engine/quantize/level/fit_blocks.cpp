// The block search of one instruction level: plain loops over lanes that the compiler vectorises.
#include "engine/quantize/fit_blocks.h"

#include "kernels/cpu/level.h"

namespace inferd::INFERD_LEVEL {
namespace {

constexpr float kRounding = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
// Parts of the range cut off at its ends before the first assignment: outliers cost less than a coarse grid.
constexpr float kCuts[] = {0.0f, 0.05f, 0.1f};
constexpr int kRounds = 2;  // of assigning codes, then solving for step and low

inline float smaller(float a, float b) { return a < b ? a : b; }
inline float larger(float a, float b) { return a > b ? a : b; }

struct Fit {
  float step[kFitLanes], low[kFitLanes];
};

/// What least squares needs of one assignment of codes, and its error.
struct Sums {
  float code[kFitLanes], square[kFitLanes], product[kFitLanes], error[kFitLanes];
};

void assign(const float* x, const Fit& fit, Sums& sums) {
  float inverse[kFitLanes];
  for (int l = 0; l < kFitLanes; ++l) {
    inverse[l] = fit.step[l] > 0.0f ? 1.0f / fit.step[l] : 0.0f;
    sums.code[l] = sums.square[l] = sums.product[l] = sums.error[l] = 0.0f;
  }
  for (int i = 0; i < kFitElements; ++i, x += kFitLanes) {
    for (int l = 0; l < kFitLanes; ++l) {
      const float at = smaller(larger((x[l] - fit.low[l]) * inverse[l], 0.0f), kFitTop);
      const float code = (at + kRounding) - kRounding;
      const float miss = x[l] - (fit.step[l] * code + fit.low[l]);
      sums.code[l] += code;
      sums.square[l] += code * code;
      sums.product[l] += x[l] * code;
      sums.error[l] += miss * miss;
    }
  }
}

/// The step and low that lie nearest with these codes; as they were where no line can be laid through.
void solve(const Sums& sums, const float* total, Fit& fit) {
  constexpr float kCount = kFitElements;
  for (int l = 0; l < kFitLanes; ++l) {
    const float spread = kCount * sums.square[l] - sums.code[l] * sums.code[l];
    const float slope = kCount * sums.product[l] - sums.code[l] * total[l];
    const bool usable = spread > 0.0f && slope > 0.0f;
    const float step = slope / (usable ? spread : 1.0f);
    fit.step[l] = usable ? step : fit.step[l];
    fit.low[l] = usable ? (total[l] - step * sums.code[l]) / kCount : fit.low[l];
  }
}

void fit(const float* x, float* step, float* low) {
  float least[kFitLanes], most[kFitLanes], total[kFitLanes], best_error[kFitLanes];
  for (int l = 0; l < kFitLanes; ++l) {
    least[l] = most[l] = x[l];
    total[l] = 0.0f;
  }
  for (int i = 0; i < kFitElements; ++i) {
    for (int l = 0; l < kFitLanes; ++l) {
      const float value = x[i * kFitLanes + l];
      least[l] = smaller(least[l], value);
      most[l] = larger(most[l], value);
      total[l] += value;
    }
  }
  for (int l = 0; l < kFitLanes; ++l) {  // equal weights: this is exact, and nothing below is better
    step[l] = 0.0f;
    low[l] = least[l];
    best_error[l] = __builtin_huge_valf();
  }
  for (const float below : kCuts) {
    for (const float above : kCuts) {
      Fit trial;
      Sums sums;
      for (int l = 0; l < kFitLanes; ++l) {
        const float range = most[l] - least[l];
        trial.step[l] = range * (1.0f - below - above) / kFitTop;
        trial.low[l] = least[l] + range * below;
      }
      for (int round = 0; round <= kRounds; ++round) {
        assign(x, trial, sums);
        for (int l = 0; l < kFitLanes; ++l) {
          const bool better = trial.step[l] > 0.0f && sums.error[l] < best_error[l];
          best_error[l] = better ? sums.error[l] : best_error[l];
          step[l] = better ? trial.step[l] : step[l];
          low[l] = better ? trial.low[l] : low[l];
        }
        if (round < kRounds) solve(sums, total, trial);
      }
    }
  }
}

}  // namespace

extern const FitBlocks kFitBlocks;
const FitBlocks kFitBlocks = &fit;

}  // namespace inferd::INFERD_LEVEL
