// Rope frequencies of every scaling kind against the reference's numbers.
#include <cmath>

#include "engine/weights/config_readers.h"
#include "tests/catch.h"
#include "tests/weights/test_support.h"

namespace inferd {

TEST_CASE("inverse frequencies and attention scaling equal the reference's for every published case") {
  const Json cases = test::read_golden_json("unit/rope/rope_cases.json")["cases"];
  int compared = 0;
  for (const Json& item : cases) {
    const std::string kind = item["rope_scaling"]["rope_type"];
    if (kind == "qwen1_ntk") continue;  // of a family with code of its own
    CAPTURE(item["rope_scaling"].dump());
    ModelConfig config;
    config.model_type = "llama";
    config.num_heads = config.num_kv_heads = 1;
    config.head_dim = item["head_dim"];
    config.max_position_embeddings = item["max_position_embeddings"];
    // Both dialects must give the same.
    const Json old_dialect = {{"rope_theta", item["rope_theta"]}, {"rope_scaling", item["rope_scaling"]}};
    Json parameters = item["rope_scaling"];
    parameters["rope_theta"] = item["rope_theta"];
    const Json new_dialect = {{"rope_parameters", parameters}};
    for (const Json& root : {old_dialect, new_dialect}) {
      ModelConfig read = config;
      read.rope = read_json_rope(root, "config.json", config);
      finish_config(&read, "config.json");
      const std::int64_t length = item["seq_len"].is_null() ? 0 : item["seq_len"].get<std::int64_t>();
      const RopeFrequencies found = rope_frequencies(read.rope, read.max_position_embeddings, length);
      const Json& expected = item["inv_freq"];
      REQUIRE(found.inv_freq.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        REQUIRE(found.inv_freq[i] == Approx(expected[i].get<double>()).epsilon(1e-6));
      }
      REQUIRE(found.attention_scaling == Approx(item["attention_scaling"].get<double>()).epsilon(1e-7));
      ++compared;
    }
  }
  REQUIRE(compared >= 20);
}

TEST_CASE("a GGUF file's divisors equal llama3 scaling computed from config.json") {
  const auto folder = Checkpoint::open(test::golden("models/llama3"));
  const auto gguf = Checkpoint::open(test::golden("gguf/llama3.bf16.gguf"));
  const ModelConfig a = read_model_config(*folder);
  const ModelConfig b = read_model_config(*gguf);
  REQUIRE(a.rope.scaling == "llama3");
  REQUIRE(b.rope.scaling == "default");
  REQUIRE(b.rope.freq_divisors.size() == 8);
  const auto left = rope_frequencies(a.rope, a.max_position_embeddings).inv_freq;
  const auto right = rope_frequencies(b.rope, b.max_position_embeddings).inv_freq;
  REQUIRE(left.size() == right.size());
  for (std::size_t i = 0; i < left.size(); ++i) REQUIRE(left[i] == Approx(right[i]).epsilon(1e-6));
}

TEST_CASE("longrope takes its short factors within the original context and its long ones beyond") {
  RopeConfig rope;
  rope.scaling = "longrope";
  rope.rotary_dim = 4;
  rope.factor = 0.0;
  rope.original_max_position_embeddings = 4096;
  rope.short_factors = {1.0f, 2.0f};
  rope.long_factors = {4.0f, 8.0f};
  const double scaling = std::sqrt(1.0 + std::log(32.0) / std::log(4096.0));
  const RopeFrequencies served_long = rope_frequencies(rope, 131072);
  REQUIRE(served_long.inv_freq == std::vector<float>{0.25f, 0.01f / 8.0f});
  REQUIRE(served_long.attention_scaling == Approx(scaling));
  REQUIRE(rope_frequencies(rope, 131072, 4096).inv_freq == std::vector<float>{1.0f, 0.01f / 2.0f});
  REQUIRE(rope_frequencies(rope, 131072, 4097).inv_freq == served_long.inv_freq);
  REQUIRE(rope_frequencies(rope, 4096).attention_scaling == 1.0f);
}

TEST_CASE("the context grows with linear and yarn factors, and with no other") {
  const auto limit = [](const char* scaling, std::int64_t original, double factor) {
    ModelConfig config;
    config.num_heads = config.num_kv_heads = 1;
    config.head_dim = 64;
    config.max_position_embeddings = 32768;
    config.rope.rotary_dim = 64;
    config.rope.scaling = scaling;
    config.rope.factor = factor;
    config.rope.original_max_position_embeddings = original;
    finish_config(&config, "config.json");
    return config.max_position_embeddings;
  };
  REQUIRE(limit("yarn", 32768, 4.0) == 131072);
  REQUIRE(limit("yarn", 4096, 4.0) == 32768);
  REQUIRE(limit("yarn", 0, 2.0) == 65536);
  REQUIRE(limit("linear", 0, 2.0) == 65536);
  REQUIRE(limit("dynamic", 0, 2.0) == 65536);
  REQUIRE(limit("llama3", 8192, 8.0) == 32768);
  REQUIRE(limit("yarn", 1 << 29, 1e6) == 1 << 30);  // capped, not overflowed
}

}  // namespace inferd
