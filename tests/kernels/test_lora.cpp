// Low-rank updates: against fp64, independent of the other rows, and added before a layer's bias and activation.
#include "kernels/cpu/linear/cpu_low_rank.h"
#include "tests/catch.h"
#include "tests/kernels/linear_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

/// One pair of factors.
struct Factors {
  Factors(std::int64_t rank, std::int64_t first_row, std::int64_t rows, std::int64_t columns, unsigned seed)
      : a(random_rows(rank, columns, seed)), b(random_rows(rows, rank, seed + 1)) {
    source = {a.data(), b.data(), rank, first_row, rows};
  }
  std::vector<float> a, b;
  LowRankSource source;
};

struct Update {
  std::vector<Factors> factors;
  std::unique_ptr<LowRank> low_rank;

  Update(Backend& backend, std::vector<Factors> parts, std::int64_t rows, std::int64_t columns)
      : factors(std::move(parts)) {
    std::vector<LowRankSource> sources;
    for (const Factors& each : factors) {
      sources.push_back({each.a.data(), each.b.data(), each.source.rank, each.source.first_row, each.source.rows});
    }
    low_rank = backend.load_low_rank(sources, rows, columns);
  }
  double expected(const float* x, std::int64_t row, std::int64_t columns) const {
    double sum = 0;
    for (const Factors& each : factors) {
      const std::int64_t at = row - each.source.first_row;
      if (at < 0 || at >= each.source.rows) continue;
      for (std::int64_t r = 0; r < each.source.rank; ++r) {
        double dot = 0;
        for (std::int64_t k = 0; k < columns; ++k) dot += static_cast<double>(each.a[r * columns + k]) * x[k];
        sum += dot * each.b[at * each.source.rank + r];
      }
    }
    return sum;
  }
};

std::vector<float> run_lora(Backend& backend, const std::vector<float>& x, std::int64_t columns, std::int64_t rows,
                            std::vector<std::int32_t> adapters, const std::vector<const LowRank*>& updates,
                            std::uint32_t forms, std::vector<float>* seen = nullptr) {
  const auto tokens = static_cast<std::int64_t>(adapters.size());
  std::vector<float> input = x;
  PoisonedActivation activation(backend, tokens, columns, forms);
  backend.to_activation({.x = rows_of(input, tokens, columns), .out = activation.view});
  std::vector<float> shrunk(tokens * 64, NAN), out(tokens * rows, NAN);
  backend.lora({.x = activation.view,
                .num_tokens = tokens,
                .adapters = Tensor(adapters.data(), DType::i32, {tokens}),
                .updates = updates.data(),
                .num_updates = static_cast<int>(updates.size()),
                .shrunk = rows_of(shrunk, tokens, 64),
                .out = rows_of(out, tokens, rows)});
  if (seen != nullptr) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::vector<float> row = read_activation_row(activation.view, t);
      seen->insert(seen->end(), row.begin(), row.end());
    }
  }
  return out;
}

}  // namespace

TEST_CASE("updates agree with fp64 on every level, whatever rows stand beside them") {
  const std::int64_t columns = 104, rows = 2100;  // no multiple of any vector, several stretches
  const std::vector<std::int32_t> adapters = {0, -1, 1, 2, 0, 1, -1};
  const auto tokens = static_cast<std::int64_t>(adapters.size());
  const std::vector<float> x = random_rows(tokens, columns, 5);
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 3);
    std::vector<Factors> three;
    three.emplace_back(8, 0, 1000, columns, 11);
    three.emplace_back(5, 1000, 37, columns, 13);
    three.emplace_back(1, 2000, 100, columns, 15);
    const Update first(*backend, std::move(three), rows, columns);
    std::vector<Factors> one;
    one.emplace_back(32, 0, rows, columns, 17);
    const Update second(*backend, std::move(one), rows, columns);
    CHECK(first.low_rank->rank() == 14);
    const std::vector<const LowRank*> updates = {first.low_rank.get(), second.low_rank.get(), nullptr};
    for (const std::uint32_t forms : {kFormF32, kFormQ8, kFormF32 | kFormQ8}) {
      std::vector<float> seen;
      const auto out = run_lora(*backend, x, columns, rows, adapters, updates, forms, &seen);
      if (forms == (kFormF32 | kFormQ8)) seen = x;  // the exact form is taken where there is one
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int32_t adapter = adapters[static_cast<std::size_t>(t)];
        const Update* update = adapter == 0 ? &first : adapter == 1 ? &second : nullptr;
        INFO(isa << " forms " << forms << " row " << t);
        bool close = true, neutral = true;
        for (std::int64_t row = 0; row < rows; ++row) {
          const float got = out[t * rows + row];
          if (update == nullptr) {
            neutral = neutral && got == 0.0f && std::signbit(got);
          } else {
            close = close && std::abs(got - update->expected(seen.data() + t * columns, row, columns)) <= 1e-4;
          }
        }
        CHECK(close);
        CHECK(neutral);
        const std::vector<float> alone_x(x.begin() + t * columns, x.begin() + (t + 1) * columns);
        const auto alone = run_lora(*backend, alone_x, columns, rows, {adapter}, updates, forms);
        CHECK(std::memcmp(alone.data(), out.data() + t * rows, alone.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("an addend goes before bias and activation, and -0 leaves every bit alone") {
  for (const std::string& isa : available_levels()) {
    const auto backend = cpu(isa, 2);
    const std::int64_t half = 50, columns = 64, tokens = 5;
    const StoredMatrix gate(DType::q4_0, half, columns, 21), up(DType::f16, half, columns, 22);
    const WeightSource sources[] = {gate.source(), up.source()};
    const auto gated = backend->load_weight(sources, {.gated = true});
    const auto stacked = backend->load_weight(sources, {});
    const std::vector<float> x = random_rows(tokens, columns, 31);
    std::vector<float> bias = random_rows(1, 2 * half, 32), addend = random_rows(tokens, 2 * half, 33);
    std::fill(addend.begin() + 2 * 2 * half, addend.begin() + 3 * 2 * half, -0.0f);
    LinearArgs args;
    args.bias = Tensor(bias.data(), DType::f32, {2 * half});
    const auto plain = run_linear(*backend, *stacked, x, tokens, args);
    const auto plain_gated = [&] {
      LinearArgs with = args;
      with.epilogue = Epilogue::silu_gated;
      return run_linear(*backend, *gated, x, tokens, with);
    }();
    args.addend = rows_of(addend, tokens, 2 * half);
    const auto summed = run_linear(*backend, *stacked, x, tokens, args);
    args.epilogue = Epilogue::silu_gated;
    const auto summed_gated = run_linear(*backend, *gated, x, tokens, args);
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < 2 * half; ++i) {
        CHECK(summed[t * 2 * half + i] == Approx(plain[t * 2 * half + i] + addend[t * 2 * half + i]).margin(1e-5));
      }
      for (std::int64_t i = 0; i < half; ++i) {
        const double g = summed[t * 2 * half + i], u = summed[t * 2 * half + half + i];
        CHECK(summed_gated[t * half + i] == Approx(g / (1 + std::exp(-g)) * u).epsilon(1e-5).margin(1e-6));
      }
    }
    CHECK(std::memcmp(&summed[2 * 2 * half], &plain[2 * 2 * half], 2 * half * sizeof(float)) == 0);
    CHECK(std::memcmp(&summed_gated[2 * half], &plain_gated[2 * half], half * sizeof(float)) == 0);
  }
}
