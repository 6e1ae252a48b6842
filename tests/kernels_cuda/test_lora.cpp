// lora on the PTX interpreter: against f64, from every form of activation, and each row by itself.
#include <memory>

#include "kernels/cuda/cuda_low_rank.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/quant_formats.h"
#include "tests/catch.h"
#include "tests/kernels_cuda/linear_check.h"
#include "tests/kernels_cuda/mutants.h"
#include "tests/kernels_cuda/random_rows.h"
#include "tests/kernels_cuda/sim_weight.h"

using namespace inferd;
using namespace inferd::cuda;
using namespace inferd::cuda::test;

namespace {

struct Pair {
  std::int64_t rank, first_row, rows;
  std::vector<float> a, b;
};

struct Update {
  Update(std::vector<std::array<std::int64_t, 3>> shapes, std::int64_t columns, std::uint32_t seed) {
    for (const auto& [rank, first_row, rows] : shapes) {
      pairs.push_back({rank, first_row, rows, normals(static_cast<std::size_t>(rank * columns), ++seed),
                       normals(static_cast<std::size_t>(rank * rows), ++seed)});
    }
  }
  std::unique_ptr<CudaLowRank> load(SimLauncher& sim, std::int64_t rows, std::int64_t columns) const {
    std::vector<LowRankSource> sources;
    for (const Pair& pair : pairs)
      sources.push_back({pair.a.data(), pair.b.data(), pair.rank, pair.first_row, pair.rows});
    SimWeightMemory memory(sim);
    return std::make_unique<CudaLowRank>(sources, rows, columns, memory);
  }
  /// One row's update in f64, and the sum of the magnitudes.
  std::pair<double, double> expected(const float* x, std::int64_t columns, std::int64_t row) const {
    double sum = 0, magnitude = 0;
    for (const Pair& pair : pairs) {
      const std::int64_t at = row - pair.first_row;
      if (at < 0 || at >= pair.rows) continue;
      for (std::int64_t r = 0; r < pair.rank; ++r) {
        for (std::int64_t k = 0; k < columns; ++k) {
          const double term = double{pair.a[static_cast<std::size_t>(r * columns + k)]} * double{x[k]} *
                              double{pair.b[static_cast<std::size_t>(at * pair.rank + r)]};
          sum += term;
          magnitude += std::fabs(term);
        }
      }
    }
    return {sum, magnitude};
  }
  std::vector<Pair> pairs;
};

/// x on the device in one form, and the values that form holds.
Activation put_activation(SimLauncher& sim, std::vector<float>& x, std::int64_t columns, std::uint32_t form) {
  const std::int64_t tokens = static_cast<std::int64_t>(x.size()) / columns;
  std::size_t bytes = 0;
  activation_planes(nullptr, tokens, columns, form, &bytes);
  std::vector<std::byte> host(bytes, std::byte{0xff});
  const ActivationPlanes planes = activation_planes(host.data(), tokens, columns, form);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const float scale = std::ldexp(1.0f, static_cast<int>(t) - 3);
    if (form == kF16Form) planes.f16_scale[t] = scale;
    if (form == kInt8Form) planes.int8_scale[t] = scale * 0.0701f;
    for (std::int64_t k = 0; k < planes.stride; ++k) {
      const std::size_t at = static_cast<std::size_t>(t * planes.stride + k);
      float none = 0;
      float& value = k < columns ? x[static_cast<std::size_t>(t * columns + k)] : none;
      if (form == kF32Form) planes.f32[at] = value;
      if (form == kBf16Form) {
        planes.bf16[at] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
        value = bf16_to_f32(planes.bf16[at]);
      }
      if (form == kF16Form) {  // ten bits of fraction, cut
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
        const int exponent = std::max(static_cast<int>((bits >> 23) & 255) - 112, 0);
        planes.f16[at] = static_cast<std::uint16_t>((bits >> 16 & 0x8000) | static_cast<std::uint32_t>(exponent) << 10 |
                                                    (exponent > 0 ? bits >> 13 & 1023 : 0));
        value = f16_to_f32(planes.f16[at]) * scale;
      }
      if (form == kInt8Form) {
        const int code = std::clamp(static_cast<int>(value * 40), -127, 127);
        planes.int8[at] = static_cast<std::int8_t>(code);
        value = static_cast<float>(code) * planes.int8_scale[t];
      }
    }
  }
  void* device = sim.allocate(bytes, "x");
  sim.write(device, host.data(), bytes);
  return {device, tokens, columns, form};
}

std::vector<float> run(SimLauncher& sim, const Activation& x, const std::vector<std::int32_t>& adapters,
                       const std::vector<const LowRank*>& updates, std::int64_t rows, std::int64_t most_rank) {
  const auto tokens = static_cast<std::int64_t>(adapters.size());
  LoraArgs args;
  args.x = x;
  args.num_tokens = tokens;
  args.adapters = sim.put(adapters, DType::i32, {tokens}, "adapters");
  args.updates = updates.data();
  args.num_updates = static_cast<int>(updates.size());
  args.shrunk = sim.output(DType::f32, {tokens, most_rank}, "shrunk");
  args.out = sim.output(DType::f32, {tokens, rows}, "out");
  lora(sim, args);
  return sim.get<float>(args.out.data, static_cast<std::size_t>(tokens * rows));
}

// Shrinking adds K / 32 products a lane and six more, expanding at most 17, in f32.
double tolerance(std::int64_t columns) { return (static_cast<double>(columns) / 32 + 30) * 0x1p-24; }

}  // namespace

namespace {

/// Rows of three adapters, one without an update, and of none. Empty if right, else what is not.
std::string check_rows(int arch, std::uint32_t form, std::int64_t columns, std::int64_t rows, int schedules) {
  SimLauncher sim(arch, 0, schedules);
  const Update whole({{1, 0, rows}}, columns, 1);
  const Update parts({{9, 0, (rows + 1) / 2}, {8, rows / 3, rows - rows / 3}}, columns, 20);  // they overlap
  const Update more({{4, 0, rows}, {6, 0, rows}, {7, 0, rows}}, columns, 40);
  const auto first = whole.load(sim, rows, columns), second = parts.load(sim, rows, columns),
             third = more.load(sim, rows, columns);
  const int slot = columns == 64 ? 3 : kLoraUpdates;  // of a second launch
  std::vector<const LowRank*> updates(static_cast<std::size_t>(slot) + 1, nullptr);
  updates[0] = first.get();
  updates[2] = second.get();
  updates.back() = third.get();
  const std::vector<std::int32_t> adapters{2, -1, 0, 1, slot, 2, 2, 0};
  std::vector<float> x = normals(adapters.size() * static_cast<std::size_t>(columns), 9);
  const Activation activation = put_activation(sim, x, columns, form);
  const std::vector<float> out = run(sim, activation, adapters, updates, rows, 17);
  std::vector<double> expected, magnitudes;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t token = i / static_cast<std::size_t>(rows);
    const Update* update = adapters[token] == 0   ? &whole
                           : adapters[token] == 2 ? &parts
                           : adapters[token] > 2  ? &more
                                                  : nullptr;
    if (update == nullptr && std::bit_cast<std::uint32_t>(out[i]) != 0x80000000u) return "not -0 without an update";
    const auto [sum, magnitude] = update == nullptr
                                      ? std::pair{0.0, 0.0}
                                      : update->expected(x.data() + token * static_cast<std::size_t>(columns), columns,
                                                         static_cast<std::int64_t>(i) % rows);
    expected.push_back(sum);
    magnitudes.push_back(magnitude);
  }
  return first_difference(out, expected, magnitudes, tolerance(columns));
}

}  // namespace

TEST_CASE("rows of several adapters and of none, from every form") {
  for (const int arch : built_archs()) {
    for (const std::uint32_t form : {kF32Form, kBf16Form, kF16Form, kInt8Form}) {
      for (const std::int64_t columns : {1, 64, 200}) {
        for (const std::int64_t rows : {1, 255, 257}) {
          CAPTURE(arch, form, columns, rows);
          REQUIRE(check_rows(arch, form, columns, rows, rows == 255 ? 6 : 1) == "");
        }
      }
    }
  }
}

TEST_CASE("rows outside every pair of an update become -0") {
  SimLauncher sim(built_archs()[0]);
  const Update update({{2, 3, 4}}, 64, 1);
  const auto loaded = update.load(sim, 10, 64);
  std::vector<float> x = normals(64, 2);
  const std::vector<float> out = run(sim, put_activation(sim, x, 64, kF32Form), {0}, {loaded.get()}, 10, 2);
  for (std::size_t i = 0; i < 10; ++i)
    CHECK((std::bit_cast<std::uint32_t>(out[i]) == 0x80000000u) == (i < 3 || i >= 7));
}

TEST_CASE("a row's bits do not depend on the rows beside it, nor on the adapter's slot") {
  for (const int arch : built_archs()) {
    SimLauncher sim(arch, 0, 1);
    const Update a({{8, 0, 300}}, 200, 1), b({{3, 0, 300}}, 200, 30);
    const auto first = a.load(sim, 300, 200), second = b.load(sim, 300, 200);
    std::vector<float> x = normals(5 * 200, 2), last(x.begin() + 800, x.end());
    const std::vector<float> all =
        run(sim, put_activation(sim, x, 200, kF32Form), {1, 0, -1, 1, 0}, {first.get(), second.get()}, 300, 8);
    std::vector<const LowRank*> many(kLoraUpdates + 3, second.get());
    many[kLoraUpdates + 1] = first.get();  // of the second launch
    const std::vector<float> alone =
        run(sim, put_activation(sim, last, 200, kF32Form), {kLoraUpdates + 1}, many, 300, 9);
    CHECK(std::equal(alone.begin(), alone.end(), all.begin() + 4 * 300));
  }
}

TEST_CASE("rows without an adapter are written once, whatever the number of launches") {
  SimLauncher sim(built_archs()[0]);
  const Update a({{2, 0, 7}}, 64, 1);
  const auto loaded = a.load(sim, 7, 64);
  std::vector<float> x = normals(2 * 64, 2);
  const Activation activation = put_activation(sim, x, 64, kF32Form);
  const std::vector<const LowRank*> none(2 * kLoraUpdates, nullptr);
  for (const float value : run(sim, activation, {-1, kLoraUpdates}, none, 7, 2)) {
    CHECK(std::bit_cast<std::uint32_t>(value) == 0x80000000u);
  }
  for (const float value : run(sim, activation, {-1, -1}, {}, 7, 2)) {
    CHECK(std::bit_cast<std::uint32_t>(value) == 0x80000000u);
  }
}

TEST_CASE("lora was run whole") {
  CHECK(uncovered(Kernel::lora_shrink) == "");
  CHECK(uncovered(Kernel::lora_expand) == "");
}

TEST_CASE("faults in the adapters' kernels are noticed") {
  const auto is_right = [] {
    const int arch = mutant_arch();
    for (const std::uint32_t form : {kF32Form, kBf16Form, kF16Form, kInt8Form}) {
      if (check_rows(arch, form, 200, 257, 1) != "" || check_rows(arch, form, 64, 9, 1) != "") return false;
    }
    return true;
  };
  CHECK(unlisted_mutants("lora", {{Kernel::lora_shrink, is_right}, {Kernel::lora_expand, is_right}}) == "");
}
