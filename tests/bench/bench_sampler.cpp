// Speed of sampling: microseconds per row of logits, by vocabulary and rules. Usage: bench_sampler [vocabulary ...]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "engine/sampler/sampler.h"

using namespace inferd;

namespace {

struct Case {
  const char* name;
  SamplingParams params;
  int top_logprobs;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  const auto add = [&](const char* name, float temperature, int top_k, float top_p, float min_p, int top_logprobs) {
    Case entry{name, {}, top_logprobs};
    entry.params.temperature = temperature;
    entry.params.top_k = top_k;
    entry.params.top_p = top_p;
    entry.params.min_p = min_p;
    out.push_back(entry);
  };
  add("greedy", 0, 0, 1, 0, -1);
  add("greedy, 20 logprobs", 0, 0, 1, 0, 20);
  add("temperature 1", 1, 0, 1, 0, -1);
  add("temperature 1, 5 logprobs", 1, 0, 1, 0, 5);
  add("top_k 40", 0.8f, 40, 1, 0, -1);
  add("top_k 20, top_p 0.8", 0.7f, 20, 0.8f, 0, -1);
  add("top_p 0.95", 0.8f, 0, 0.95f, 0, -1);
  add("top_p 0.999, temperature 2", 2, 0, 0.999f, 0, -1);
  add("min_p 0.05", 1, 0, 1, 0.05f, -1);
  return out;
}

double median_us(Sampler& sampler, const std::vector<std::vector<float>>& rows, const Case& what) {
  std::vector<double> times;
  std::int64_t sum = 0;
  for (std::int64_t i = 0; i < 400; ++i) {
    const auto& row = rows[static_cast<std::size_t>(i) % rows.size()];
    std::copy(row.begin(), row.end(), sampler.row().begin());
    TokenEvent event;
    const auto start = std::chrono::steady_clock::now();
    sampler.sample({.params = what.params, .position = i, .top_logprobs = what.top_logprobs}, &event);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    sum += event.token;
  }
  if (sum < 0) std::puts("");  // the results are used
  std::nth_element(times.begin(), times.begin() + 200, times.end());
  return times[200];
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::size_t> vocabularies;
  for (int i = 1; i < argc; ++i) vocabularies.push_back(static_cast<std::size_t>(std::atoi(argv[i])));
  if (vocabularies.empty()) vocabularies = {49152, 151936};
  for (const std::size_t vocabulary : vocabularies) {
    // Like a language model's: a bell curve of nonsense, and a few tokens far above it.
    std::mt19937 rng(1);
    std::normal_distribution<float> noise(0, 2);
    std::vector<std::vector<float>> rows(8, std::vector<float>(vocabulary));
    for (auto& row : rows) {
      for (float& logit : row) logit = noise(rng);
      for (int i = 0; i < 40; ++i) row[rng() % vocabulary] = 12 + noise(rng) * 1.5f;
    }
    Sampler sampler(static_cast<std::int64_t>(vocabulary));
    std::printf("vocabulary %zu\n", vocabulary);
    for (const Case& what : cases()) std::printf("  %-28s %8.1f us\n", what.name, median_us(sampler, rows, what));
  }
  return 0;
}
