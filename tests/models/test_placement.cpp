// What decoders weigh, and how their layers are divided.
#include "engine/models/placement.h"
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

DecoderFootprint footprint_of(const std::string& name, std::int64_t tokens = 32, std::int64_t rows = 4) {
  const auto checkpoint = Checkpoint::open(golden_dir() / name);
  return measure_decoder(*checkpoint, read_model_config(*checkpoint), DType::f16, tokens, rows);
}

TEST_CASE("every tensor is weighed once, where it belongs") {
  for (const char* name : {"models/llama2", "models/qwen3", "models/qwen1", "models/chatglm2", "models/chatglm1",
                           "models/bloom", "models/qwen2_moe", "gguf/qwen2w.Q4_K_M.gguf", "gguf/qwen2_moe.bf16.gguf"}) {
    INFO(name);
    const auto checkpoint = Checkpoint::open(golden_dir() / name);
    const ModelConfig config = read_model_config(*checkpoint);
    const DecoderFootprint decoder = footprint_of(name);
    const bool tied_twice = config.tie_word_embeddings && checkpoint->find("lm_head.weight") != nullptr;
    CHECK((decoder.weights() == checkpoint->tensor_bytes()) != tied_twice);
    CHECK(decoder.layers.size() == static_cast<std::size_t>(config.num_layers));
    for (const std::size_t bytes : decoder.layers) CHECK(bytes > 0);
    CHECK(decoder.embedding > 0);
    CHECK((decoder.output > 0) == !config.tie_word_embeddings);
    CHECK(decoder.kv_per_token == static_cast<std::size_t>(2 * 2 * config.num_kv_heads * config.head_dim));
  }
}

TEST_CASE("the last layers and the output go to the GPU first, with room for their keys and values") {
  DecoderFootprint decoder;
  decoder.embedding = 1000;
  decoder.output = 1500;
  decoder.shared = 10;
  decoder.layers = {100, 200, 300, 400};
  decoder.kv_per_token = 2;
  decoder.workspace = 50;
  decoder.output_workspace = 5;
  const std::size_t all = 1000 + 1500 + 10 + 1000 + 55;
  CHECK(choose_placement(decoder, all + 4 * 2 * 10, 10).host_layers == 0);
  CHECK(choose_placement(decoder, all + 4 * 2 * 10 - 1, 10).host_layers == 1);
  const std::size_t two = 300 + 400 + 1500 + 10 + 55;
  CHECK(choose_placement(decoder, two + 2 * 2 * 10, 10).host_layers == 2);
  CHECK(choose_placement(decoder, two + 2 * 2 * 10 - 1, 10).host_layers == 3);
  const std::size_t one = 400 + 1500 + 10 + 55;
  CHECK(choose_placement(decoder, one + 20, 10).host_layers == 3);
  CHECK(choose_placement(decoder, one + 19, 10).host_layers == 4);  // the GPU is not used

  const Placement divided = place_layers(decoder, 1);
  CHECK(divided.gpu_bytes == 200 + 300 + 400 + 1500 + 10 + 55);
  CHECK(divided.host_bytes == 100 + 1000 + 50);
  CHECK(place_layers(decoder, 0).gpu_bytes == all);
  CHECK(place_layers(decoder, 0).host_bytes == 0);
  CHECK(place_layers(decoder, 4).host_bytes == all);
  decoder.output = 0;  // tied: both sides hold the matrix
  CHECK(place_layers(decoder, 1).gpu_bytes == 200 + 300 + 400 + 1000 + 10 + 55);
}

}  // namespace
}  // namespace inferd::testing
