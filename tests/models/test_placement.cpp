// What decoders weigh, and how their layers are divided.
#include "engine/models/placement.h"

#include "engine/models/families.h"
#include "engine/models/rank_config.h"
#include "tests/catch.h"
#include "tests/errors.h"
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

TEST_CASE("matrices of 4 bits are weighed as they are loaded, widened ones too") {
  // Four matrices of attention and three of the MLP: a scale of four bytes to 64 codes, or four bytes a value.
  const auto check_layer = [](const std::string& name, std::size_t bytes_of_64) {
    INFO(name);
    const auto checkpoint = Checkpoint::open(golden_dir() / "models" / name);
    const ModelConfig config = read_model_config(*checkpoint);
    const auto wide = static_cast<std::size_t>(config.hidden_size);
    const auto heads = static_cast<std::size_t>(config.num_heads * config.head_dim);
    const auto kv = static_cast<std::size_t>(config.num_kv_heads * config.head_dim);
    const std::size_t values = wide * (2 * heads + 2 * kv + 3 * static_cast<std::size_t>(config.intermediate_size));
    std::size_t vectors = 0;
    for (const StoredTensor& tensor : checkpoint->tensors()) {
      if (tensor.name.starts_with("model.layers.0.") &&
          (tensor.name.ends_with("norm.weight") || tensor.name.ends_with("bias"))) {
        vectors += tensor.bytes;
      }
    }
    CHECK(vectors > 0);
    CHECK(footprint_of("models/" + name).layers.at(0) - vectors == values / 64 * bytes_of_64);
  };
  check_layer("qwen2_nf4", 32 + 4);
  check_layer("llama3_fp4", 32 + 4);
  check_layer("qwen2_nf4_narrow", 64 * 4);
  const auto backend = test_backend();
  const TestModel narrow(*backend, golden_dir() / "models/qwen2_nf4_narrow");
  CHECK(footprint_of("models/qwen2_nf4_narrow").weights() <= narrow.loaded.decoder->info().resident_bytes);
  CHECK(narrow.loaded.decoder->info().resident_bytes <= footprint_of("models/qwen2_nf4_narrow").weights() * 11 / 10);
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

TEST_CASE("one of several GPUs has its part of the matrices, keys and values, and all of the rest") {
  const auto checkpoint = Checkpoint::open(golden_dir() / "models/llama2");
  const ModelConfig config = read_model_config(*checkpoint);
  const DecoderFootprint all = footprint_of("models/llama2");
  for (const int ranks : {2, 4}) {
    const DecoderFootprint own = measure_decoder(*checkpoint, config, DType::f16, 32, 4, ranks);
    // F16: q, k, v and o of 64 x 64, three of 64 x 128; two norms of 64.
    const std::size_t matrices = 2 * (4 * 64 * 64 + 3 * 64 * 128), norms = 2 * 2 * 64;
    for (const std::size_t bytes : own.layers) CHECK(bytes == matrices / static_cast<std::size_t>(ranks) + norms);
    CHECK(own.output == all.output / static_cast<std::size_t>(ranks));
    CHECK(own.embedding == all.embedding);
    CHECK(own.shared == all.shared);
    CHECK(own.kv_per_token == all.kv_per_token / static_cast<std::size_t>(ranks));
    // 32 tokens: 3 x 64 of the residual stream, 4 x 64 / ranks of q, k, v, 3 x 128 / ranks of the MLP; products of all
    // ranks.
    const std::size_t width = 3 * 64 + (4 * 64 + 3 * 128) / static_cast<std::size_t>(ranks);
    CHECK(own.workspace == 32 * 4 * (width + static_cast<std::size_t>(ranks) * 64));
    CHECK(own.output_workspace == 4 * 4 * (2 * 576 + 2 * 64));
  }
}

TEST_CASE("what cannot be divided between GPUs is refused before anything is loaded") {
  const auto refusal = [](const std::string& name, int ranks) -> std::string {
    const auto checkpoint = Checkpoint::open(golden_dir() / name);
    const FatalError error = error_of([&] { check_ranks(*checkpoint, read_model_config(*checkpoint), ranks); });
    if (error.code == ExitCode::ok) return "";
    CHECK(error.code == ExitCode::bad_config);
    return error.what();
  };
  for (const char* name : {"bert", "bloom", "chatglm1", "qwen2_moe", "qwen3_moe"}) {
    INFO(name);
    CHECK(has(refusal(std::string("models/") + name, 2), "expected a model of family llama, mistral, qwen2, qwen3"));
    CHECK(has(refusal(std::string("models/") + name, 2), std::string("found ") + name));
    CHECK(refusal(std::string("models/") + name, 1).empty());
  }
  CHECK(has(refusal("models/qwen2", 3), "its 4 attention heads cannot be divided between 3 GPUs"));
  CHECK(has(refusal("models/qwen2", 4), "its 2 key-value heads cannot be divided between 4 GPUs"));
  CHECK(has(refusal("models/llama3_gptq4_actorder", 2), "stored in an order of their own"));
  const auto checkpoint =
      Checkpoint::open(golden_dir() / "gguf/qwen2w.Q4_K_M.gguf");  // whose one key-value head is said first
  const FatalError blocks = error_of([&] { check_column_shards(*checkpoint, read_model_config(*checkpoint), 2); });
  CHECK(
      std::string(blocks.what()) ==
      "tensor_parallel: a Q4_K matrix of 256 x 256 cannot be divided between 2 GPUs by its columns: its blocks of 256 "
      "columns do not end where a part of 128 does");
  for (const char* name : {"models/llama2", "models/qwen1", "models/glm4", "models/chatglm3", "models/llama3_awq",
                           "gguf/llama2.Q4_0.gguf", "gguf/qwen2.Q8_0.gguf"}) {
    INFO(name);
    CHECK(refusal(name, 2).empty());
  }
}

}  // namespace
}  // namespace inferd::testing
