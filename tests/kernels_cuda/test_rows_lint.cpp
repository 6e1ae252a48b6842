// What the row kernels do to memory at the shapes of real models: bank conflicts, sectors, instructions per byte.
// "[.figures]" prints the table of docs/gpu/rows.md.
#include <cstdio>

#include "kernels/cuda/activation.h"
#include "kernels/cuda/cuda_ops.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_launcher.h"

using namespace inferd;
using namespace inferd::cuda::test;

namespace {

void run_rope(SimLauncher& sim) {
  RopeTableArgs args;
  args.positions = sim.put(std::vector<int>(64, 1000), DType::i32, {64}, "positions");
  args.inv_freq = sim.put(std::vector<float>(64, 0.01f), DType::f32, {64}, "inv_freq");
  args.out = sim.output(DType::f32, {64, 64, 2}, "out");
  cuda::rope_table(sim, args);
}

void run_qkv_post(SimLauncher& sim, int head_dim) {
  const int tokens = 8, heads = 32, kv_heads = 8, all = heads + 2 * kv_heads;
  QkvPostArgs args;
  args.qkv = sim.put(normals(static_cast<std::size_t>(tokens * all * head_dim), 1), DType::f32,
                     {tokens, all * head_dim}, "qkv");
  args.num_heads = heads;
  args.num_kv_heads = kv_heads;
  args.head_dim = args.rotary_dim = head_dim;
  args.q_norm = args.k_norm = sim.put(normals(static_cast<std::size_t>(head_dim), 2), DType::f32, {head_dim}, "norm");
  args.rope =
      sim.put(normals(static_cast<std::size_t>(tokens * head_dim), 3), DType::f32, {tokens, head_dim / 2, 2}, "rope");
  args.kv.keys = sim.output(DType::f16, {1, kv_heads, 16, head_dim}, "keys");
  args.kv.values = sim.output(DType::f16, {1, kv_heads, 16, head_dim}, "values");
  args.slots = sim.put(std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7}, DType::i32, {tokens}, "slots");
  cuda::qkv_post(sim, args);
}

void run_norm(SimLauncher& sim, int columns) {
  NormArgs args;
  args.x = sim.put(normals(static_cast<std::size_t>(4 * columns), 1), DType::f32, {4, columns}, "x");
  args.weight = sim.put(normals(static_cast<std::size_t>(columns), 2), DType::f32, {columns}, "weight");
  std::size_t bytes = 0;
  cuda::activation_planes(nullptr, 4, columns, cuda::kF16Form, &bytes);
  args.activation = {sim.allocate(bytes, "activation"), 4, columns, cuda::kF16Form};
  cuda::norm(sim, args);
}

void run_pool(SimLauncher& sim) {
  BatchTensors batch;
  batch.query_starts = sim.put(std::vector<int>{0, 128, 256}, DType::i32, {3}, "query_starts");
  batch.num_sequences = 2;
  PoolArgs args;
  args.x = sim.put(normals(256 * 768, 1), DType::f32, {256, 768}, "x");
  args.batch = &batch;
  args.normalize = true;
  args.out = sim.output(DType::f32, {2, 768}, "out");
  cuda::pool(sim, args);
}

void run_sample(SimLauncher& sim) {
  const int vocab = 151936;
  SampleRules rules;
  rules.temperature = 0.7f;
  rules.top_k = 20;
  rules.top_p = 0.8f;
  rules.top_logprobs = 20;
  SampleArgs args;
  // Like a language model's: few tokens stand out.
  std::vector<float> logits = normals(static_cast<std::size_t>(vocab), 1, 2.0f);
  for (std::size_t i = 0; i < 40; ++i) logits[i * 3001] += 12.0f;
  args.logits = sim.put(logits, DType::f32, {1, vocab}, "logits");
  args.slots = sim.put(std::vector<int>{0}, DType::i32, {1}, "slots");
  args.rules = sim.put(std::vector<SampleRules>{rules}, DType::f32, {1}, "rules").as<SampleRules>();
  args.tokens = sim.output(DType::i32, {1}, "tokens");
  args.status = sim.output(DType::i32, {1}, "status");
  args.logprobs = sim.output(DType::f32, {1}, "logprobs");
  args.top_tokens = sim.output(DType::i32, {1, kSampleTopLogprobs}, "top_tokens");
  args.top_logprobs = sim.output(DType::f32, {1, kSampleTopLogprobs}, "top_logprobs");
  cuda::sample(sim, args);
}

constexpr cuda::Kernel kKernels[] = {
    cuda::Kernel::rope_table, cuda::Kernel::qkv_post_4,     cuda::Kernel::qkv_post_2,      cuda::Kernel::norm_1024,
    cuda::Kernel::norm_2048,  cuda::Kernel::norm_4096,      cuda::Kernel::norm_8192,       cuda::Kernel::norm_wide,
    cuda::Kernel::pool,       cuda::Kernel::normalize_rows, cuda::Kernel::sample_logprobs, cuda::Kernel::sample_tokens};

std::vector<ptxsim::KernelReport> reports(int arch) {
  static std::map<int, bool> ran;
  if (!ran[arch]) {
    SimLauncher sim(arch, cuda::sample_workspace_bytes(1), 1);
    run_rope(sim);
    run_qkv_post(sim, 128);
    run_qkv_post(sim, 64);
    for (const int columns : {1024, 2048, 4096, 8192, 16384}) run_norm(sim, columns);
    run_pool(sim);
    run_sample(sim);
    ran[arch] = true;
  }
  std::vector<ptxsim::KernelReport> all;
  for (const cuda::Kernel kernel : kKernels) all.push_back(report(kernel, arch));
  return all;
}

}  // namespace

TEST_CASE("row kernels use the banks and sectors they move") {
  for (const int arch : built_archs()) {
    for (const ptxsim::KernelReport& each : reports(arch)) {
      CAPTURE(arch, each.kernel);
      // Tokens of one warp may fall into one bin.
      const double conflicts = each.kernel.starts_with("sample") ? 1.25 : 1.05;
      CHECK(static_cast<double>(each.shared_wavefronts) <= conflicts * static_cast<double>(each.shared_requests));
      // A lane of a norm takes 8 columns in two accesses, the second of which finds its sectors in L1.
      CHECK(each.sector_use >= (each.kernel.starts_with("norm_") ? 0.5 : 0.95));
    }
  }
}

TEST_CASE("figures", "[.figures]") { std::puts(ptxsim::format_report(reports(built_archs().back())).c_str()); }
