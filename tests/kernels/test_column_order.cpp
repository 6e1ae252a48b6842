// Weights whose columns are stored in an order of their own: the same bits as permuting the inputs beforehand.
#include <algorithm>
#include <numeric>

#include "base/errors.h"
#include "tests/catch.h"
#include "tests/kernels/linear_harness.h"

using namespace inferd;
using namespace inferd::testing;

namespace {

constexpr std::int64_t kColumns = 384;
constexpr std::int64_t kTokens = 21;

std::vector<std::int32_t> shuffled(std::uint32_t seed) {
  std::vector<std::int32_t> order(kColumns);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

std::vector<float> permuted(const std::vector<float>& x, const std::vector<std::int32_t>& order) {
  std::vector<float> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i / kColumns * kColumns + order[i % kColumns]];
  return out;
}

}  // namespace

TEST_CASE("parts in orders of their own give what each gives on permuted inputs, in any batch") {
  const std::vector<float> x = random_rows(kTokens, kColumns, 5);
  const std::vector<std::int32_t> first = shuffled(1), second = shuffled(2);
  const StoredMatrix parts[] = {{DType::g4_128, 40, kColumns, 1},
                                {DType::g3_32, 9, kColumns, 2},
                                {DType::g8_128, 30, kColumns, 3},
                                {DType::f16, 5, kColumns, 4}};
  const std::vector<std::int32_t>* orders[] = {&first, &second, &first, nullptr};
  for (ActivationMode mode : {ActivationMode::automatic, ActivationMode::f32}) {
    for (const std::string& isa : available_levels()) {
      INFO(isa);
      const auto backend = cpu(isa, 2, mode);
      backend->reserve_workspace(kTokens, kColumns);
      std::vector<WeightSource> sources;
      for (int i = 0; i < 4; ++i) {
        sources.push_back(parts[i].source());
        if (orders[i] != nullptr) sources.back().column_order = orders[i]->data();
      }
      const auto stacked = backend->load_weight(sources, {});
      const std::vector<float> out = run_linear(*backend, *stacked, x, kTokens);
      std::int64_t at = 0;
      for (int i = 0; i < 4; ++i) {
        const WeightSource plain = parts[i].source();
        const std::vector<float> input = orders[i] != nullptr ? permuted(x, *orders[i]) : x;
        const std::vector<float> alone = run_linear(*backend, *backend->load_weight({&plain, 1}, {}), input, kTokens);
        for (std::int64_t t = 0; t < kTokens; ++t) {
          CHECK(std::memcmp(&out[t * stacked->rows() + at], &alone[t * plain.rows], plain.rows * sizeof(float)) == 0);
        }
        at += plain.rows;
      }
      const std::vector<float> one = run_linear(*backend, *stacked, x, 1);
      CHECK(same_bits(one, out, one.size()));
    }
  }
}

TEST_CASE("an order that is no permutation is refused") {
  const auto backend = cpu("portable", 1);
  const StoredMatrix matrix(DType::g4_32, 3, kColumns, 1);
  for (const auto& [at, value] : {std::pair<int, int>{0, 1}, {7, -1}, {3, kColumns}}) {
    std::vector<std::int32_t> order(kColumns);
    std::iota(order.begin(), order.end(), 0);
    order[at] = value;
    WeightSource source = matrix.source();
    source.column_order = order.data();
    CHECK_THROWS_AS(backend->load_weight({&source, 1}, {}), CheckpointError);
  }
}
