// Speed of linear layers: microseconds, weight bytes and operations per second, by type, shape and batch.
// Usage: bench_linear [threads] [isa] [type ...]; built with -DINFERD_BENCH=ON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/random_weights.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

constexpr int kPasses = 5;
constexpr std::size_t kWorkingSet = std::size_t{192} << 20;  // several times a large cache

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds per layer, the fastest twentieth of calls on copies of the layer that together exceed every cache: what the
/// machine does when nothing else runs.
double measure(Backend& backend, const std::vector<std::unique_ptr<Weight>>& layers, std::int64_t tokens) {
  const std::int64_t columns = layers[0]->columns();
  const std::int64_t rows = layers[0]->rows();
  const std::uint32_t forms = layers[0]->activation_forms();
  const auto activation = backend.allocate(backend.activation_bytes(tokens, columns, forms));
  const auto out = backend.allocate(static_cast<std::size_t>(tokens * rows) * sizeof(float));
  const Activation x{activation->data(), tokens, columns, forms};
  std::vector<float> values(static_cast<std::size_t>(tokens * columns));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(static_cast<int>(i * 7919 % 201) - 100) * 0.01f;
  backend.to_activation({.x = Tensor(values.data(), DType::f32, {tokens, columns}), .out = x});
  const std::size_t calls = tokens > 16 ? std::min<std::size_t>(layers.size(), 16) : layers.size();
  std::vector<double> times;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (std::size_t i = 0; i < calls; ++i) {
      const double begin = seconds_now();
      backend.linear({.x = x,
                      .num_tokens = tokens,
                      .weight = layers[i].get(),
                      .out = Tensor(out->data(), DType::f32, {tokens, rows})});
      times.push_back(seconds_now() - begin);
    }
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 20];
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 0;
  const std::string isa = argc > 2 ? argv[2] : "auto";
  const std::vector<std::string> wanted(argv + std::min(argc, 3), argv + argc);
  const auto backend = make_cpu_backend({.threads = threads, .isa = isa});
  std::printf("%s\n", backend->name().c_str());
  for (DType dtype : kLinearTypes) {
    const std::string name(dtype_info(dtype).name);
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
    const std::pair<int, int> k_shapes[] = {{4864, 1024}, {1024, 4864}};
    const std::pair<int, int> other_shapes[] = {{1536, 576}, {4864, 896}, {896, 4864}};
    const bool large_blocks = dtype_info(dtype).block_elements == 256;
    for (int s = 0; s < (large_blocks ? 2 : 3); ++s) {
      const auto [rows, columns] = large_blocks ? k_shapes[s] : other_shapes[s];
      const StoredMatrix matrix(dtype, rows, columns, 1);
      const WeightSource source = matrix.source();
      std::vector<std::unique_ptr<Weight>> layers;
      for (std::size_t bytes = 0; bytes < kWorkingSet; bytes += layers.back()->bytes()) {
        layers.push_back(backend->load_weight({&source, 1}, {}));
      }
      for (std::int64_t tokens : {1, 4, 16, 256}) {
        const double time = measure(*backend, layers, tokens);
        std::printf("%-7s N=%5d K=%5d M=%4d %10.1f us %7.1f GB/s %8.1f GFLOP/s\n", name.c_str(), rows, columns,
                    static_cast<int>(tokens), time * 1e6, static_cast<double>(layers[0]->bytes()) / time * 1e-9,
                    2.0 * rows * columns * static_cast<double>(tokens) / time * 1e-9);
      }
    }
  }
}
