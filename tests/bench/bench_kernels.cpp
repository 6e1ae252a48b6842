// Micro-benchmarks of the CPU backend's kernels, by Google Benchmark: GB/s of weights or keys and values, GFLOP/s.
// INFERD_ISA picks the level, THREADS the workers; --benchmark_filter=linear/q4_k picks kernels. Built with
// -DINFERD_BENCH=ON.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_topology.h"
#include "kernels/cpu/peaks.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/random_weights.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

constexpr std::size_t kWorkingSet = std::size_t{96} << 20;  // beyond a large cache's share

int threads() {
  const char* text = std::getenv("THREADS");
  return text != nullptr ? std::atoi(text) : default_thread_count();
}

std::unique_ptr<Backend> make_backend() { return make_cpu_backend({.threads = threads()}); }

void rates(benchmark::State& state, double bytes, double operations) {
  const auto per_second = [&](double amount) {
    return benchmark::Counter(amount * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["GB/s"] = per_second(bytes);
  state.counters["GFLOP/s"] = per_second(operations);
}

std::vector<float> some_floats(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 7919 % 201) - 100) * 0.01f;
  return values;
}

/// One linear layer on copies of the weights that together exceed the caches, as a model's layers do.
void linear(benchmark::State& state, DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t tokens) {
  const auto backend = make_backend();
  const StoredMatrix matrix(dtype, rows, columns, 1);
  const WeightSource source = matrix.source();
  std::vector<std::unique_ptr<Weight>> layers;
  for (std::size_t bytes = 0; bytes < kWorkingSet; bytes += layers.back()->bytes()) {
    layers.push_back(backend->load_weight({&source, 1}, {}));
  }
  const std::uint32_t forms = layers[0]->activation_forms();
  const auto activation = backend->allocate(backend->activation_bytes(tokens, columns, forms));
  const auto out = backend->allocate(static_cast<std::size_t>(tokens * rows) * sizeof(float));
  const Activation x{activation->data(), tokens, columns, forms};
  std::vector<float> values = some_floats(tokens * columns);
  backend->to_activation({.x = Tensor(values.data(), DType::f32, {tokens, columns}), .out = x});
  std::size_t next = 0;
  for (auto _ : state) {
    backend->linear({.x = x,
                     .num_tokens = tokens,
                     .weight = layers[next].get(),
                     .out = Tensor(out->data(), DType::f32, {tokens, rows})});
    next = (next + 1) % layers.size();
  }
  rates(state, static_cast<double>(layers[0]->bytes()), 2.0 * static_cast<double>(rows * columns * tokens));
}

/// Attention of `queries` tokens after `context` others in each of `sequences` sequences; 14 heads on 2, 64 wide.
void attention(benchmark::State& state, DType dtype, std::int64_t sequences, std::int64_t queries,
               std::int64_t context) {
  constexpr int kHeads = 14, kKvHeads = 2, kDim = 64, kBlock = 16;
  const auto backend = make_backend();
  const std::int64_t keys = context + queries, tokens = sequences * queries;
  const std::int64_t blocks = (keys + kBlock - 1) / kBlock;
  backend->reserve_workspace(tokens, kHeads * kDim);
  const std::size_t kv_bytes = row_bytes(dtype, sequences * blocks * kKvHeads * kBlock * kDim);
  const auto k = backend->allocate(kv_bytes), v = backend->allocate(kv_bytes);
  KvLayer kv;
  kv.keys = Tensor(k->data(), dtype, {sequences * blocks, kKvHeads, kBlock, kDim});
  kv.values = Tensor(v->data(), dtype, {sequences * blocks, kKvHeads, kBlock, kDim});
  std::vector<std::int32_t> tables, starts = {0}, lengths;
  for (std::int64_t s = 0; s < sequences; ++s) {
    for (std::int64_t b = 0; b < blocks; ++b) tables.push_back(static_cast<std::int32_t>(s * blocks + b));
    starts.push_back(static_cast<std::int32_t>((s + 1) * queries));
    lengths.push_back(static_cast<std::int32_t>(keys));
  }
  BatchTensors batch;
  batch.query_starts = Tensor(starts.data(), DType::i32, {sequences + 1});
  batch.context_lens = Tensor(lengths.data(), DType::i32, {sequences});
  batch.block_tables = Tensor(tables.data(), DType::i32, {sequences, blocks});
  batch.num_tokens = static_cast<std::int32_t>(tokens);
  batch.num_sequences = static_cast<std::int32_t>(sequences);
  batch.max_query_len = static_cast<std::int32_t>(queries);
  batch.max_context_len = static_cast<std::int32_t>(keys);
  std::vector<float> qkv = some_floats(tokens * (kHeads + 2 * kKvHeads) * kDim);
  std::vector<float> out(static_cast<std::size_t>(tokens * kHeads * kDim));
  for (auto _ : state) {
    backend->attention({.qkv = Tensor(qkv.data(), DType::f32, {tokens, (kHeads + 2 * kKvHeads) * kDim}),
                        .num_heads = kHeads,
                        .num_kv_heads = kKvHeads,
                        .head_dim = kDim,
                        .kv = kv,
                        .batch = &batch,
                        .scale = 0.125f,
                        .out = Tensor(out.data(), DType::f32, {tokens, kHeads * kDim})});
  }
  const double pairs =
      static_cast<double>(tokens) * (static_cast<double>(context) + 0.5 * (1 + static_cast<double>(queries)));
  rates(state, 2.0 * static_cast<double>(kv_bytes), 4.0 * pairs * kHeads * kDim);
}

void norm(benchmark::State& state, std::int64_t tokens, std::int64_t columns) {
  const auto backend = make_backend();
  const auto activation = backend->allocate(backend->activation_bytes(tokens, columns, 2));
  std::vector<float> x = some_floats(tokens * columns), weight = some_floats(columns);
  for (auto _ : state) {
    backend->norm({.kind = NormKind::rms,
                   .x = Tensor(x.data(), DType::f32, {tokens, columns}),
                   .weight = Tensor(weight.data(), DType::f32, {columns}),
                   .activation = {activation->data(), tokens, columns, 2}});
  }
  rates(state, 4.0 * static_cast<double>(tokens * columns), 4.0 * static_cast<double>(tokens * columns));
}

void register_linear() {
  for (DType dtype : kLinearTypes) {
    const std::string name(dtype_info(dtype).name);
    const bool large_blocks = dtype_info(dtype).block_elements == 256;
    const std::int64_t hidden = large_blocks ? 1024 : 896;
    for (const auto& [rows, columns] : {std::pair{std::int64_t{4864}, hidden}, std::pair{hidden, std::int64_t{4864}}}) {
      for (std::int64_t tokens : {1, 4, 16, 512}) {
        const std::string full = "linear/" + name + "/" + std::to_string(rows) + "x" + std::to_string(columns) +
                                 "/tokens:" + std::to_string(tokens);
        benchmark::RegisterBenchmark(full.c_str(), [dtype, r = rows, c = columns, tokens](benchmark::State& state) {
          linear(state, dtype, r, c, tokens);
        })->UseRealTime();
      }
    }
  }
}

void register_attention() {
  struct Shape {
    std::int64_t sequences, queries, context;
  };
  for (DType dtype : {DType::f16, DType::f32}) {
    for (const Shape& shape :
         {Shape{1, 512, 0}, Shape{1, 512, 7680}, Shape{1, 1, 128}, Shape{1, 1, 8192}, Shape{16, 1, 512}}) {
      const std::string full =
          "attention/" + std::string(dtype_info(dtype).name) + "/sequences:" + std::to_string(shape.sequences) +
          "/queries:" + std::to_string(shape.queries) + "/context:" + std::to_string(shape.context);
      benchmark::RegisterBenchmark(full.c_str(), [dtype, shape](benchmark::State& state) {
        attention(state, dtype, shape.sequences, shape.queries, shape.context);
      })->UseRealTime();
    }
  }
}

void print_peaks() {
  const CpuLevel level = choose_cpu_level("auto");
  std::printf("%s: reads %.1f GB/s, int8 %.0f Gop/s, f32 %.0f GFLOP/s at most\n", make_backend()->name().c_str(),
              measure_read_bandwidth(threads()) * 1e-9, measure_int8_ops(level, threads()) * 1e-9,
              measure_f32_flops(level, threads()) * 1e-9);
}

}  // namespace

int main(int argc, char** argv) {
  register_linear();
  register_attention();
  for (std::int64_t tokens : {1, 16, 512}) {
    benchmark::RegisterBenchmark(("norm/rms/tokens:" + std::to_string(tokens)).c_str(), [tokens](
                                                                                            benchmark::State& state) {
      norm(state, tokens, 896);
    })->UseRealTime();
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  print_peaks();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
