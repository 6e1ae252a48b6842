// A linear layer on tensor cores in a simulator's memory.
#pragma once

#include <memory>
#include <vector>

#include "kernels/cuda/dev/linear_mma_params.h"
#include "kernels/cuda/linear_mma.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/linear_reference.h"

namespace inferd::cuda::test {

/// One type for each packed format.
inline constexpr DType kMmaTypes[] = {
    DType::f16,    DType::bf16,   DType::q8_0,  DType::q4_0,   DType::q4_1,  DType::q5_0,   DType::q5_1,
    DType::q2_k,   DType::q3_k,   DType::q4_k,  DType::q5_k,   DType::q6_k,  DType::iq4_nl, DType::iq4_xs,
    DType::g2_32,  DType::g2_128, DType::g3_32, DType::g3_128, DType::g4_32, DType::g4_128, DType::g8_32,
    DType::g8_128, DType::iq2_xs, DType::iq1_s, DType::nf4,    DType::fp4};

/// One weight and one activation in a launcher; each product is a new tensor.
struct MmaLayer {
  MmaLayer(int arch, DType dtype, std::int64_t row_count, std::int64_t columns, std::int64_t tokens, int schedules = 1,
           bool gated = false)
      : rows(row_count), sim(arch, 0, schedules) {
    // A gated weight of two sources, any other of one.
    for (int i = 0; i <= (gated ? 1 : 0); ++i) {
      stored.emplace_back(dtype, gated ? rows / 2 : rows, columns, static_cast<std::uint32_t>(rows + columns + i));
      const std::vector<float> widened = stored.back().widened();
      w.insert(w.end(), widened.begin(), widened.end());
    }
    std::vector<WeightSource> sources;
    for (const inferd::testing::StoredMatrix& matrix : stored) sources.push_back(matrix.source());
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

  /// The epilogue of `tokens` tokens that `reference` computes, its inputs in memory; a residual is the output itself.
  EpilogueParams epilogue(const EpilogueReference& reference, std::int64_t tokens) {
    const std::int64_t outs = reference.gated ? rows / 2 : rows;
    EpilogueParams params{};
    params.function = reference.function;
    params.half = reference.gated ? static_cast<std::int32_t>(outs) : 0;
    params.out_stride = params.residual_stride = outs;
    if (reference.residual.empty()) {
      params.out = sim.output(DType::f32, {tokens, outs}, "out").as<float>();
    } else {
      params.out = sim.put(reference.residual, DType::f32, {tokens, outs}, "out").as<float>();
      params.residual = params.out;
    }
    if (!reference.addend.empty()) {
      params.addend = sim.put(reference.addend, DType::f32, {tokens, rows}, "addend").as<float>();
      params.addend_stride = rows;
    }
    if (!reference.bias.empty()) params.bias = sim.put(reference.bias, DType::f32, {rows}, "bias").as<float>();
    return params;
  }

  std::int64_t rows;
  SimLauncher sim;
  std::vector<inferd::testing::StoredMatrix> stored;
  std::vector<float> w;  // [rows, columns]
  std::unique_ptr<CudaWeight> weight;
  std::unique_ptr<SimActivation> x;
};

}  // namespace inferd::cuda::test
