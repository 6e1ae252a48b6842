// Checks of a decoder against a golden expected.json, on any backend.
#pragma once

#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {

/// How near to the reference a backend must come, and how much of it is looked at.
struct GoldenBar {
  double error = 2e-3;               // relative error of a row of logits
  double gap = 1e-3;                 // a greedy choice closer than this may go either way
  std::size_t positions = SIZE_MAX;  // prompt and output tokens of one case
  std::size_t cases = SIZE_MAX;      // first cases of the file
  std::size_t steps = SIZE_MAX;      // greedy steps of a case
  DType kv = DType::f32;             // of the cache
};

inline float largest(const std::vector<float>& row) {
  float out = 0;
  for (float x : row) out = std::max(out, std::fabs(x));
  return out;
}

/// Prompt in one piece, then greedy steps, teacher-forced where the reference's gap is below the tolerance.
inline void check_case(Sequences& sequences, int id, const Json& expected, std::size_t vocab,
                       const GoldenBar& bar = {}) {
  const std::vector<std::int32_t> prompt = ids_of(expected["input_ids"]);
  std::vector<float> row = sequences.step({{id, prompt}}).at(0);
  REQUIRE(row.size() == vocab);
  double scale = 0;
  for (const Json& top : expected["top5"]) scale = std::max(scale, std::fabs(top[1].get<double>()));
  const std::vector<float> first = expected["last_logits_first32"].get<std::vector<float>>();
  for (float x : first) scale = std::max<double>(scale, std::fabs(x));
  CHECK(relative_error(row.data(), first, scale) <= bar.error);
  for (const Json& top : expected["top5"]) {
    CHECK(std::fabs(row.at(top[0].get<std::size_t>()) - top[1].get<double>()) <= bar.error * scale);
  }
  double sum = 0, square = 0;
  for (float x : row) {
    sum += x;
    square += static_cast<double>(x) * x;
  }
  CHECK(std::sqrt(square) == Approx(expected["logits_l2"].get<double>()).epsilon(bar.error / 2));
  CHECK(std::fabs(sum - expected["logits_sum"].get<double>()) <=
        bar.error * scale * std::sqrt(static_cast<double>(vocab)));
  if (expected["gap_top1_top2"].get<double>() > bar.gap) CHECK(argmax(row) == expected["argmax"].get<std::int32_t>());
  const std::vector<std::int32_t> greedy = ids_of(expected["greedy"]);
  for (std::size_t i = 0; i < std::min(greedy.size(), bar.steps); ++i) {
    INFO("greedy step " << i);
    if (expected["greedy_gaps"][i].get<double>() > bar.gap) REQUIRE(argmax(row) == greedy[i]);
    if (prompt.size() + i + 1 > bar.positions) break;
    if (i + 1 < greedy.size()) row = sequences.step({{id, {greedy[i]}}}).at(0);
  }
}

/// The cases of one expected.json whose prompts fit into the bar, and its full logits.
inline void check_golden_decoder(Backend& backend, const std::filesystem::path& model_path,
                                 const std::filesystem::path& expected_path, const GoldenBar& bar = {}) {
  INFO(model_path.string() << " against " << expected_path.filename().string());
  TestModel model(backend, model_path, 512);
  REQUIRE(model.loaded.decoder != nullptr);
  const Json expected = read_golden(expected_path);
  const std::size_t vocab = static_cast<std::size_t>(model.loaded.decoder->info().vocab_size);
  Sequences sequences(backend, *model.loaded.decoder, bar.kv);
  int id = 0;
  for (const Json& one : expected["cases"]) {
    if (one["input_ids"].size() > bar.positions) continue;
    if (static_cast<std::size_t>(id) == bar.cases) break;
    INFO("case " << id);
    check_case(sequences, id, one, vocab, bar);
    sequences.drop(id++);
  }
  REQUIRE(id > 0);
  if (!expected.contains("full_logits")) return;
  const Json& full = expected["full_logits"];
  const NpyMatrix matrix(expected_path.parent_path() / full["file"].get<std::string>());
  const Json& one = expected["cases"][full["case"].get<std::size_t>()];
  const auto rows = sequences.step({{1000, ids_of(one["input_ids"]), true}});
  const std::size_t begin = full["rows"][0].get<std::size_t>();
  REQUIRE(matrix.columns == vocab);
  for (std::size_t r = 0; r < matrix.rows; ++r) {
    const std::vector<float> reference(matrix.values.begin() + static_cast<std::ptrdiff_t>(r * vocab),
                                       matrix.values.begin() + static_cast<std::ptrdiff_t>((r + 1) * vocab));
    CHECK(relative_error(rows.at(begin + r).data(), reference, largest(reference)) <= bar.error);
    if (bar.error <= 2e-3) CHECK(argmax(rows[begin + r]) == argmax(reference));
  }
}

/// Golden decoders whose heads are whole runs of q8_0, with such a cache. Half a step is 1/254 of a run's largest
/// element: 2^-8, as if keys and values were bf16 numbers near it. Random weights amplify that.
inline void check_q8_goldens(Backend& backend, GoldenBar bar = {}) {
  bar.kv = DType::q8_0;
  bar.error = std::max(bar.error, 5e-2);
  bar.gap = std::max(bar.gap, 1.0);
  const auto folder = golden_dir();
  check_golden_decoder(backend, folder / "models/qwen3_moe", folder / "models/qwen3_moe/expected.json", bar);
  for (const char* name : {"llamaw.MIXED", "qwen2w.Q6_K"}) {
    const auto stem = folder / "gguf" / name;
    check_golden_decoder(backend, stem.string() + ".gguf", stem.string() + ".expected.json", bar);
  }
}

/// Likewise with a cache of fp8, heads of any size. Half a step of e4m3 is up to 2^-4 of the element itself: sixteen
/// times q8_0's bound, but of each element, of which a row's largest ones are the largest share; in the root mean
/// square of normal rows 2.6% against 0.54%, so 4.8 times q8_0's bar.
inline void check_fp8_goldens(Backend& backend, GoldenBar bar = {}) {
  bar.kv = DType::fp8;
  bar.error = std::max(bar.error, 0.24);
  bar.gap = std::max(bar.gap, 4.8);
  const auto folder = golden_dir();
  for (const char* name : {"qwen3_moe", "glm4", "chatglm2", "bloom"}) {
    check_golden_decoder(backend, folder / "models" / name, folder / "models" / name / "expected.json", bar);
  }
  for (const char* name : {"llamaw.MIXED", "qwen2w.Q6_K"}) {
    const auto stem = folder / "gguf" / name;
    check_golden_decoder(backend, stem.string() + ".gguf", stem.string() + ".expected.json", bar);
  }
}

}  // namespace inferd::testing
