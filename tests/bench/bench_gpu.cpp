// Times the CUDA kernels through the Backend: one JSON line a case. Buffers take turns so that none is found in the L2
// cache. With --smoke every case runs once, and small, to see that it runs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/errors.h"
#include "kernels/backend.h"
#include "kernels/quant_formats.h"

namespace inferd {
namespace {

/// How large cases are, and how often they run.
struct Effort {
  int repetitions = 50;
  int burst = 8;            // calls queued together, so that the time of a launch hides behind the one before
  std::int64_t shrink = 1;  // sizes are divided by this
  std::size_t beyond_l2 = std::size_t{256} << 20;  // bytes of weights that take turns
  std::int64_t size(std::int64_t full, std::int64_t least) const {
    return std::max(full / shrink, std::min(full, least));
  }
};

constexpr Effort kSmoke{.repetitions = 1, .burst = 1, .shrink = 64, .beyond_l2 = 1};

/// Median microseconds of one call; `run(i)` queues call i.
double median_us(Backend& backend, const Effort& effort, const std::function<void(int)>& run) {
  for (int i = 0; i < effort.burst; ++i) run(i);
  backend.synchronize();
  std::vector<double> times;
  for (int repetition = 0; repetition < effort.repetitions; ++repetition) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < effort.burst; ++i) run(repetition * effort.burst + i);
    backend.synchronize();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    times.push_back(took.count() / effort.burst);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// `bytes`: memory the call must move; `flops`: multiplications and additions it must do.
void report(const std::string& kernel, const std::string& shape, double us, double bytes, double flops) {
  std::printf("{\"kernel\": \"%s\", \"shape\": \"%s\", \"us\": %.2f, \"gb_s\": %.1f, \"tflop_s\": %.2f}\n",
              kernel.c_str(), shape.c_str(), us, bytes / us / 1e3, flops / us / 1e6);
  std::fflush(stdout);
}

/// Random bytes whose 16-bit words are small finite numbers in every 16-bit format, and codes in the others.
std::vector<std::byte> random_weights(std::size_t bytes) {
  std::vector<std::byte> out(bytes);
  std::mt19937 engine(1);
  for (std::size_t i = 0; i + 1 < bytes; i += 2) {
    const unsigned word = engine();
    out[i] = static_cast<std::byte>(word & 255);
    out[i + 1] = static_cast<std::byte>((word >> 8 & 0x83) | 0x28);
  }
  return out;
}

/// Makes blocks of G8_128 those of rows with one scale and no zero.
void give_one_scale(std::vector<std::byte>& blocks) {
  const auto bytes = static_cast<std::size_t>(dtype_info(DType::g8_128).block_bytes);
  constexpr float kScale = 0x1p-10f;
  for (std::size_t at = 0; at < blocks.size(); at += bytes) {
    std::memcpy(blocks.data() + at, &kScale, sizeof kScale);
    blocks[at + kGroupZeroAt] = std::byte{128};
  }
}

class Bench {
 public:
  Bench(Backend& backend, const Effort& effort) : backend_(backend), effort_(effort) {
    backend.reserve_workspace(effort.size(4096, 1), effort.size(16384, 256));
  }

  void norms() {
    for (const std::int64_t full_rows : {1, 64, 4096}) {
      const std::int64_t rows = effort_.size(full_rows, 1), columns = effort_.size(4096, 64);
      const auto x = buffer(static_cast<std::size_t>(rows * columns) * 4);
      const auto out = buffer(static_cast<std::size_t>(rows * columns) * 4);
      const auto weight = buffer(static_cast<std::size_t>(columns) * 4);
      NormArgs args;
      args.x = Tensor(x->data(), DType::f32, {rows, columns});
      args.weight = Tensor(weight->data(), DType::f32, {columns});
      args.out = Tensor(out->data(), DType::f32, {rows, columns});
      const double us = median_us(backend_, effort_, [&](int) { backend_.norm(args); });
      report("norm", std::to_string(rows) + "x" + std::to_string(columns), us,
             8.0 * static_cast<double>(rows * columns), 0);
    }
  }

  /// name: of the rows in the report. int8: of g8_128, with int8 activations.
  void linears(DType dtype, std::int64_t rows, std::int64_t columns, const std::vector<std::int64_t>& tokens,
               const std::string& name = "linear", bool int8 = false) {
    rows = effort_.size(rows, 64);
    columns = effort_.size(columns, 256);
    const std::size_t bytes = row_bytes(dtype, columns) * static_cast<std::size_t>(rows);
    std::vector<std::byte> stored = random_weights(bytes);
    if (int8) give_one_scale(stored);
    const WeightSource source{stored.data(), dtype, rows, columns, nullptr, int8};
    std::vector<std::unique_ptr<Weight>> copies;
    for (std::size_t total = 0; total < effort_.beyond_l2; total += bytes) {
      copies.push_back(backend_.load_weight({&source, 1}, {}));
    }
    for (const std::int64_t full : tokens) {
      const std::int64_t m = effort_.size(full, 1);
      const std::uint32_t forms = copies[0]->activation_forms();
      const auto x = buffer(static_cast<std::size_t>(m * columns) * 4);
      const auto memory = buffer(backend_.activation_bytes(m, columns, forms));
      const auto out = buffer(static_cast<std::size_t>(m * rows) * 4);
      const Activation activation{memory->data(), m, columns, forms};
      backend_.to_activation({.x = Tensor(x->data(), DType::f32, {m, columns}), .out = activation});
      LinearArgs args;
      args.x = activation;
      args.num_tokens = m;
      args.out = Tensor(out->data(), DType::f32, {m, rows});
      const double us = median_us(backend_, effort_, [&](int i) {
        args.weight = copies[static_cast<std::size_t>(i) % copies.size()].get();
        backend_.linear(args);
      });
      const auto shape = std::to_string(m) + "x" + std::to_string(rows) + "x" + std::to_string(columns);
      const double moved =
          static_cast<double>(copies[0]->bytes()) + static_cast<double>(m) * (2.0 * columns + 4.0 * rows);
      report(name + " " + std::string(int8 ? "W8A8" : dtype_info(dtype).name), shape, us, moved,
             2.0 * static_cast<double>(m) * static_cast<double>(rows) * static_cast<double>(columns));
    }
  }

  /// `sequences` of `context` tokens, the last `queries` of each asked.
  void attention(int sequences, int queries, int context, int heads, int kv_heads, int head_dim,
                 DType cache = DType::f16) {
    sequences = static_cast<int>(effort_.size(sequences, 1));
    context = static_cast<int>(effort_.size(context, 64));
    queries = std::min(context, static_cast<int>(effort_.size(queries, 1)));
    const std::int64_t blocks_each = (context + 15) / 16, blocks = blocks_each * sequences;
    const auto tokens = static_cast<std::int64_t>(sequences) * queries;
    const std::size_t half = kv_bytes(cache, blocks * kv_heads * 16, head_dim);
    const auto keys = buffer(half), values = buffer(half);
    const std::int64_t width = static_cast<std::int64_t>(heads + 2 * kv_heads) * head_dim;
    const auto qkv = buffer(static_cast<std::size_t>(tokens * width) * 4);
    const auto out = buffer(static_cast<std::size_t>(tokens * heads * head_dim) * 4);
    std::vector<std::int32_t> starts(1), lens, tables;
    for (int s = 0; s < sequences; ++s) {
      starts.push_back((s + 1) * queries);
      lens.push_back(context);
      for (std::int64_t b = 0; b < blocks_each; ++b) tables.push_back(static_cast<std::int32_t>(b * sequences + s));
    }
    const auto d_starts = ints(starts), d_lens = ints(lens), d_tables = ints(tables);
    BatchTensors batch;
    batch.query_starts = Tensor(d_starts->data(), DType::i32, {sequences + 1});
    batch.context_lens = Tensor(d_lens->data(), DType::i32, {sequences});
    batch.block_tables = Tensor(d_tables->data(), DType::i32, {sequences, blocks_each});
    batch.num_tokens = static_cast<std::int32_t>(tokens);
    batch.num_sequences = sequences;
    batch.max_query_len = queries;
    batch.max_context_len = context;
    AttentionArgs args;
    args.qkv = Tensor(qkv->data(), DType::f32, {tokens, width});
    args.num_heads = heads;
    args.num_kv_heads = kv_heads;
    args.head_dim = head_dim;
    args.kv.keys = Tensor(keys->data(), cache, {blocks, kv_heads, 16, head_dim});
    args.kv.values = Tensor(values->data(), cache, {blocks, kv_heads, 16, head_dim});
    args.batch = &batch;
    args.scale = 0.1f;
    args.out = Tensor(out->data(), DType::f32, {tokens, static_cast<std::int64_t>(heads) * head_dim});
    const double us = median_us(backend_, effort_, [&](int) { backend_.attention(args); });
    const double seen = static_cast<double>(context) - (queries - 1) / 2.0;  // keys of the mean query
    report(queries == 1 ? "decode attention" : "prefill attention",
           std::to_string(sequences) + " sequences, " + std::to_string(queries) + " of " + std::to_string(context) +
               ", heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + " of " + std::to_string(head_dim) +
               (cache == DType::f16    ? ""
                : cache == DType::q8_0 ? ", q8_0"
                                       : ", fp8"),
           us, 2.0 * static_cast<double>(half), 4.0 * static_cast<double>(tokens) * heads * head_dim * seen);
  }

 private:
  std::unique_ptr<DeviceBuffer> buffer(std::size_t bytes) { return backend_.allocate(bytes); }
  std::unique_ptr<DeviceBuffer> ints(const std::vector<std::int32_t>& values) {
    auto out = backend_.allocate(values.size() * 4);
    backend_.upload(out->data(), values.data(), values.size() * 4);
    return out;
  }

  Backend& backend_;
  const Effort effort_;
};

/// The same products through cuBLASLt, whatever their number of tokens, where it is installed.
void run_cublaslt(const Effort& effort) {
  if (const BlasInfo blas = find_cublaslt(); !blas.problem.empty()) {
    std::fprintf(stderr, "bench_gpu: no cuBLASLt: %s\n", blas.problem.c_str());
    return;
  }
  const std::unique_ptr<Backend> backend =
      make_cuda_backend({.batch_invariant = false, .panels = {.dense_tokens = 1, .quantized_tokens = 1}});
  std::fprintf(stderr, "bench_gpu: %s\n", backend->name().c_str());
  Bench bench(*backend, effort);
  const std::vector<std::int64_t> many = {64, 128, 256, 512, 1024, 2048, 4096};
  for (const DType dtype : {DType::bf16, DType::f16, DType::q4_k, DType::q8_0}) {
    bench.linears(dtype, 14336, 4096, many, "cublaslt linear");
  }
  for (const DType dtype : {DType::bf16, DType::q4_k}) bench.linears(dtype, 4096, 14336, many, "cublaslt linear");
}

int run(const Effort& effort) {
  std::unique_ptr<Backend> backend;
  try {
    backend = make_cuda_backend({});
  } catch (const ConfigError& error) {
    std::fprintf(stderr, "bench_gpu: no benchmarks: %s\n", error.what());
    return 0;
  }
  std::fprintf(stderr, "bench_gpu: %s\n", backend->name().c_str());
  Bench bench(*backend, effort);
  bench.norms();
  const std::vector<std::int64_t> few = {1, 4, 8, 16, 32, 64}, many = {1, 8, 64, 128, 256, 512, 1024, 2048, 4096};
  for (const DType dtype : {DType::bf16, DType::f16, DType::q4_k, DType::q8_0}) bench.linears(dtype, 14336, 4096, many);
  for (const DType dtype : {DType::bf16, DType::q4_k}) bench.linears(dtype, 4096, 14336, many);
  for (const DType dtype : {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k, DType::q3_k, DType::q5_k,
                            DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::g4_128, DType::g4_32, DType::g8_128}) {
    bench.linears(dtype, 14336, 4096, few);
  }
  bench.linears(DType::g8_128, 14336, 4096, many, "linear", true);
  bench.linears(DType::g8_128, 4096, 14336, many, "linear", true);
  bench.linears(DType::bf16, 1152, 896, few);  // the q, k, v of a 0.5B model
  bench.linears(DType::bf16, 151936, 896, few);
  for (const int context : {512, 4096, 32768}) bench.attention(1, 1, context, 32, 8, 128);
  for (const int context : {512, 4096}) bench.attention(64, 1, context, 32, 8, 128);
  bench.attention(32, 1, 4096, 14, 2, 64);
  bench.attention(16, 1, 4096, 32, 32, 128);
  for (const int prompt : {512, 2048, 4096}) bench.attention(1, prompt, prompt, 32, 8, 128);
  bench.attention(1, 512, 8192, 32, 8, 128);
  for (const DType cache : {DType::q8_0, DType::fp8}) {
    for (const int context : {4096, 32768}) bench.attention(1, 1, context, 32, 8, 128, cache);
    bench.attention(64, 1, 4096, 32, 8, 128, cache);
    bench.attention(1, 4096, 4096, 32, 8, 128, cache);
  }
  run_cublaslt(effort);
  return 0;
}

}  // namespace
}  // namespace inferd

int main(int argc, char** argv) {
  const bool smoke = argc == 2 && std::string(argv[1]) == "--smoke";
  if (argc > 1 && !smoke) {
    std::fprintf(stderr, "usage: bench_gpu [--smoke]\n");
    return static_cast<int>(inferd::ExitCode::usage);
  }
  try {
    return inferd::run(smoke ? inferd::kSmoke : inferd::Effort{});
  } catch (const inferd::FatalError& error) {
    std::fprintf(stderr, "bench_gpu: %s\n", error.what());
    return static_cast<int>(error.code);
  }
}
