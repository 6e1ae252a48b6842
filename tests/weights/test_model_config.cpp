// Configurations: golden folders and files, both dialects, and fields that are missing or absurd.
#include "engine/weights/model_config.h"

#include <cmath>

#include "tests/catch.h"
#include "tests/weights/gguf_builder.h"
#include "tests/weights/memory_checkpoint.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::golden;
using test::MemoryCheckpoint;
using test::refusal;
using Files = std::map<std::string, std::string>;

constexpr const char* kSmallLlama =
    R"({"model_type":"llama","vocab_size":100,"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,)"
    R"("num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":128,"rms_norm_eps":1e-5})";

/// kSmallLlama with members of `changes` put over it; null removes.
Json changed(const char* changes) {
  Json config = parse_json(kSmallLlama);
  const Json members = parse_json(changes);
  for (const auto& [key, value] : members.items()) config[key] = value;
  return config;
}

ModelConfig read_changed(const char* changes, const std::string& generation = "{}") {
  return read_model_config(
      MemoryCheckpoint({{"config.json", dump_json(changed(changes))}, {"generation_config.json", generation}}));
}

std::string refused(const char* changes, const std::string& generation = "{}") {
  return refusal([&] { read_changed(changes, generation); });
}

}  // namespace

TEST_CASE("golden folders and GGUF files of the same model give the same sizes") {
  const std::pair<const char*, const char*> pairs[] = {{"models/llama2", "gguf/llama2.F16.gguf"},
                                                       {"models/llama3", "gguf/llama3.bf16.gguf"},
                                                       {"models/qwen2", "gguf/qwen2.F16.gguf"},
                                                       {"models/qwen3", "gguf/qwen3.bf16.gguf"},
                                                       {"models/glm4", "gguf/glm4.bf16.gguf"},
                                                       {"models/chatglm3", "gguf_fused/chatglm3.F16.gguf"},
                                                       {"models/glm4_tiktoken", "gguf_fused/glm4_tiktoken.BF16.gguf"},
                                                       {"models/bert", "gguf/bert.f16.gguf"}};
  for (const auto& [folder, file] : pairs) {
    CAPTURE(folder);
    const ModelConfig a = read_model_config(*Checkpoint::open(golden(folder)));
    const ModelConfig b = read_model_config(*Checkpoint::open(golden(file)));
    REQUIRE(a.model_type == b.model_type);
    REQUIRE(a.vocab_size == b.vocab_size);
    REQUIRE(a.hidden_size == b.hidden_size);
    REQUIRE(a.intermediate_size == b.intermediate_size);
    REQUIRE(a.num_layers == b.num_layers);
    REQUIRE(a.num_heads == b.num_heads);
    REQUIRE(a.num_kv_heads == b.num_kv_heads);
    REQUIRE(a.head_dim == b.head_dim);
    REQUIRE(a.norm_eps == Approx(b.norm_eps).epsilon(1e-6));
    REQUIRE(a.max_position_embeddings == b.max_position_embeddings);
    REQUIRE(a.attention_bias == b.attention_bias);
    REQUIRE(a.rope.theta == b.rope.theta);
    REQUIRE(a.rope.rotary_dim == b.rope.rotary_dim);
    if (a.model_type != "bert") REQUIRE(a.tie_word_embeddings == b.tie_word_embeddings);
  }
}

TEST_CASE("qwen3's new dialect: explicit head size, rope_parameters, no bias, union of stop ids") {
  const ModelConfig config = read_model_config(*Checkpoint::open(golden("models/qwen3")));
  REQUIRE(config.head_dim == 24);
  REQUIRE(config.rope.rotary_dim == 24);
  REQUIRE(config.rope.theta == 1e6);
  REQUIRE_FALSE(config.attention_bias);
  REQUIRE(config.eos_token_ids == std::vector<std::int32_t>{384, 386});
  REQUIRE(config.pad_token_id == 384);
  REQUIRE(config.name == "qwen3");
  const GenerationDefaults defaults = read_generation_defaults(*Checkpoint::open(golden("models/qwen3")));
  REQUIRE(defaults.temperature == 0.7f);
  REQUIRE(defaults.top_p == 0.8f);
  REQUIRE(defaults.top_k == 20);
  REQUIRE(defaults.repetition_penalty == 1.05f);
  REQUIRE_FALSE(defaults.min_p);
}

TEST_CASE("variants of golden configurations") {
  const auto variant = [](const char* model, const char* file) {
    return read_model_config(
        MemoryCheckpoint({{"config.json", test::read_text(golden(std::string("models/") + model + "/" + file))}}));
  };
  const ModelConfig yarn = variant("qwen2", "config.yarn.json");
  REQUIRE(yarn.rope.scaling == "yarn");
  REQUIRE(yarn.rope.factor == 4.0);
  REQUIRE(yarn.max_position_embeddings == 128);
  REQUIRE(yarn.sliding_window == 0);
  const ModelConfig window = variant("qwen2", "config.swa.json");
  REQUIRE(window.sliding_window == 16);
  REQUIRE(window.max_window_layers == 1);
  REQUIRE(variant("llama2", "config.linear.json").max_position_embeddings == 2048);
  const ModelConfig dynamic = variant("llama2", "config.dynamic.json");
  REQUIRE(dynamic.rope.scaling == "dynamic");
  REQUIRE(dynamic.rope.original_max_position_embeddings == 32);
  REQUIRE(dynamic.max_position_embeddings == 64);
  REQUIRE(variant("llama2", "config.theta.json").rope.theta > 10000.0);
}

TEST_CASE("dialects of GLM and the first Qwen") {
  for (const char* name : {"models/chatglm2", "models/chatglm3", "models/glm4_tiktoken"}) {
    CAPTURE(name);
    const ModelConfig config = read_model_config(*Checkpoint::open(golden(name)));
    REQUIRE(config.num_layers == 2);
    REQUIRE(config.num_kv_heads == 2);
    REQUIRE(config.head_dim == 16);
    REQUIRE(config.intermediate_size == 128);
    REQUIRE(config.rope.rotary_dim == 8);
    REQUIRE(config.max_position_embeddings == 512);
    REQUIRE(config.attention_bias);
    REQUIRE_FALSE(config.tie_word_embeddings);
  }
  const ModelConfig ratio = read_model_config(*Checkpoint::open(golden("models/glm4_tiktoken")));
  REQUIRE(ratio.rope.theta == 5e6);
  REQUIRE(ratio.norm_eps == 1.5625e-07);
  REQUIRE(ratio.vocab_size == 448);
  REQUIRE(read_changed(R"({"model_type":"glm"})").rope.rotary_dim == 8);
  REQUIRE(read_changed(R"({"model_type":"glm4","partial_rotary_factor":1.0})").rope.rotary_dim == 16);
  const ModelConfig qwen = read_model_config(*Checkpoint::open(golden("models/qwen1")));
  const ModelConfig qwen_gguf = read_model_config(*Checkpoint::open(golden("gguf_fused/qwen1.BF16.gguf")));
  REQUIRE(qwen.intermediate_size == 128);
  REQUIRE(qwen_gguf.intermediate_size == 128);
  REQUIRE(qwen.max_position_embeddings == 512);       // beyond its seq_length of 48
  REQUIRE(qwen_gguf.max_position_embeddings == 512);  // all that the file records
}

TEST_CASE("absent numbers are derived") {
  const ModelConfig plain = read_changed("{}");
  REQUIRE(plain.head_dim == 16);
  REQUIRE(plain.rope.theta == 10000.0);
  REQUIRE(plain.bos_token_id == -1);
  REQUIRE(plain.eos_token_ids.empty());
  REQUIRE(read_changed(R"({"num_key_value_heads":null})").num_kv_heads == 4);
  REQUIRE(read_changed(R"({"partial_rotary_factor":0.5})").rope.rotary_dim == 8);
  REQUIRE(read_changed(R"({"rope_parameters":{"rope_theta":5e5,"partial_rotary_factor":0.25}})").rope.rotary_dim == 4);
  REQUIRE(read_changed(R"({"max_position_embeddings":128.0})").max_position_embeddings == 128);
  REQUIRE(read_changed(R"({"_name_or_path":"org/model"})").name == "org/model");
  REQUIRE(read_changed(R"({"eos_token_id":[7,3],"bos_token_id":1})", R"({"eos_token_id":[9,3],"pad_token_id":0})")
              .eos_token_ids == std::vector<std::int32_t>{3, 7, 9});
  REQUIRE(read_changed(R"({"model_type":"mistral","sliding_window":4096})").sliding_window == 4096);
  REQUIRE(read_changed(R"({"model_type":"qwen2","sliding_window":4096})").sliding_window == 0);
  REQUIRE(read_changed(R"({"model_type":"qwen2"})").attention_bias);
  const ModelConfig layered = read_changed(
      R"({"model_type":"qwen3","use_sliding_window":true,"sliding_window":8,"layer_types":["full_attention","sliding_attention"]})");
  REQUIRE(layered.max_window_layers == 1);
}

TEST_CASE("missing and absurd fields are refused by name") {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"model_type":null})", "config.json: model_type: expected a string, found none"},
      {R"({"vocab_size":null})", "config.json: vocab_size: expected a value, found none"},
      {R"({"hidden_size":0})", "hidden_size: expected an integer from 1 to 4194304, found 0"},
      {R"({"hidden_size":-64})", "hidden_size: expected an integer from 1 to 4194304, found -64"},
      {R"({"hidden_size":"64"})", "hidden_size: expected an integer from 1 to 4194304, found \"64\""},
      {R"({"hidden_size":64.5})", "hidden_size: expected an integer from 1 to 4194304, found 64.5"},
      {R"({"hidden_size":18446744073709551615})", "hidden_size: expected an integer"},
      {R"({"hidden_size":[64]})", "hidden_size: expected an integer from 1 to 4194304, found array"},
      {R"({"num_attention_heads":0})", "num_attention_heads: expected an integer from 1"},
      {R"({"num_attention_heads":5})", "hidden_size: expected a multiple of 5 heads, as head_dim is absent, found 64"},
      {R"({"num_key_value_heads":3})", "num_key_value_heads: expected a divisor of 4 heads, found 3"},
      {R"({"num_key_value_heads":8})", "num_key_value_heads: expected a divisor of 4 heads, found 8"},
      {R"({"num_hidden_layers":1000000})", "num_hidden_layers: expected an integer from 1 to 4096"},
      {R"({"intermediate_size":null})", "intermediate_size: expected a value, found none"},
      {R"({"max_position_embeddings":null})", "max_position_embeddings: expected a value, found none"},
      {R"({"head_dim":15})", "rotary dimensions: expected an even number of at most head_dim, 15, found 15"},
      {R"({"rms_norm_eps":-1})", "rms_norm_eps: expected a number from 0 to 1, found -1"},
      {R"({"rms_norm_eps":"small"})", "rms_norm_eps: expected a number from 0 to 1, found \"small\""},
      {R"({"rope_theta":0})", "rope_theta: expected a number from 1 to 1e+15, found 0"},
      {R"({"partial_rotary_factor":2})", "partial_rotary_factor: expected a number from 1e-06 to 1, found 2"},
      {R"({"partial_rotary_factor":0.01})",
       "partial_rotary_factor: expected at least 2 rotary dimensions of 16, found 0"},
      {R"({"rope_scaling":7})", "rope_scaling: expected an object, found 7"},
      {R"({"rope_scaling":{"type":"magic","factor":2}})", "rope_scaling.rope_type: expected default, linear"},
      {R"({"rope_scaling":{"type":"linear"}})", "rope_scaling.factor: expected a value, found none"},
      {R"({"rope_scaling":{"type":"linear","factor":0}})", "rope_scaling.factor: expected a number from 0.001"},
      {R"({"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}})",
       "rope_scaling.original_max_position_embeddings: expected a value, found none"},
      {R"({"rope_scaling":{"type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":64}})",
       "high_freq_factor: expected more than low_freq_factor"},
      {R"({"rope_scaling":{"type":"longrope","original_max_position_embeddings":64}})", "short_factor and long_factor"},
      {R"({"rope_scaling":{"type":"longrope","original_max_position_embeddings":64,"short_factor":[1],"long_factor":[1]}})",
       "rope factors: expected 8 numbers, half the rotary dimensions, found 1"},
      {R"({"rope_scaling":{"type":"longrope","original_max_position_embeddings":64,"short_factor":[1,1,1,1,1,1,1,0],"long_factor":[1,1,1,1,1,1,1,1]}})",
       "rope factors: expected finite numbers above 0"},
      {R"({"tie_word_embeddings":"yes"})", "tie_word_embeddings: expected true or false, found \"yes\""},
      {R"({"model_type":"qwen","intermediate_size":97})", "intermediate_size: expected an even number"},
      {R"({"model_type":"chatglm","seq_length":64})", "multi_query_attention: expected true (ChatGLM2 and later)"},
      {R"({"model_type":"chatglm","seq_length":64,"multi_query_attention":true})",
       "multi_query_group_num: expected a value, found none"},
      {R"({"model_type":"chatglm","seq_length":64,"multi_query_attention":true,"multi_query_group_num":2,"rmsnorm":false})",
       "rmsnorm: expected true, found false"},
      {R"({"eos_token_id":"</s>"})", "eos_token_id: expected an integer"},
      {R"({"eos_token_id":[1,-7]})", "eos_token_id: expected an integer from -1 to 16777215, found -7"},
      {R"({"use_sliding_window":true,"sliding_window":8,"layer_types":["sliding_attention","full_attention"]})",
       "layer_types: expected full layers, then sliding ones"},
      {R"({"use_sliding_window":true,"sliding_window":8,"layer_types":["sliding_attention"]})",
       "layer_types: expected 2 entries"},
  };
  for (const auto& [changes, message] : cases) {
    CAPTURE(changes);
    const std::string found = refused(changes);
    CAPTURE(found);
    REQUIRE(found.find(message) != std::string::npos);
    REQUIRE(found.find("config.json") != std::string::npos);
  }
  REQUIRE(refusal([] {
            read_model_config(MemoryCheckpoint(Files{{"config.json", "[1]"}}));
          }).find("an object") != std::string::npos);
  REQUIRE(refusal([] {
            read_model_config(MemoryCheckpoint(Files{{"config.json", "{"}}));
          }).find("ends too early") != std::string::npos);
  REQUIRE(refusal([] { read_model_config(MemoryCheckpoint(Files{})); }).find("config.json") != std::string::npos);
  REQUIRE(refused("{}", R"({"eos_token_id":{}})").find("generation_config.json: eos_token_id") != std::string::npos);
}

TEST_CASE("generation defaults are checked") {
  const auto defaults = [](const std::string& text) {
    return read_generation_defaults(MemoryCheckpoint({{"generation_config.json", text}}));
  };
  REQUIRE(defaults(R"({"top_k":-1})").top_k == 0);
  REQUIRE(defaults(R"({"min_p":0.1,"temperature":0})").min_p == 0.1f);
  REQUIRE_FALSE(read_generation_defaults(MemoryCheckpoint(Files{})).temperature);
  for (const char* bad : {R"({"temperature":-1})", R"({"top_p":0})", R"({"top_p":1.5})", R"({"top_k":1.5})",
                          R"({"repetition_penalty":0})", R"({"min_p":"x"})", R"([])"}) {
    CAPTURE(bad);
    REQUIRE(refusal([&] { defaults(bad); }).find("generation_config.json") != std::string::npos);
  }
  std::string bytes = test::small_llama().f32("general.sampling.temp", 0.5f).u32("general.sampling.top_k", 30).build();
  const GenerationDefaults found = read_generation_defaults(MemoryCheckpoint(test::as_bytes(bytes)));
  REQUIRE(found.temperature == 0.5f);
  REQUIRE(found.top_k == 30);
  bytes = test::small_llama().f32("general.sampling.top_p", 7.0f).build();
  REQUIRE(refusal([&] {
            read_generation_defaults(MemoryCheckpoint(test::as_bytes(bytes)));
          }).find("general.sampling.top_p") != std::string::npos);
}

TEST_CASE("GGUF metadata becomes a configuration, with lists and old keys") {
  const auto read = [](const test::GgufBuilder& builder) {
    const std::string bytes = builder.build();
    return read_model_config(MemoryCheckpoint(test::as_bytes(bytes)));
  };
  const ModelConfig plain = read(test::small_llama());
  REQUIRE(plain.vocab_size == 4);
  REQUIRE(plain.head_dim == 16);
  REQUIRE(plain.rope.theta == 10000.0);
  REQUIRE(plain.tie_word_embeddings);
  REQUIRE(plain.eos_token_ids == std::vector<std::int32_t>{1});
  REQUIRE(read(test::small_llama().u32("tokenizer.ggml.eot_token_id", 3).u32("tokenizer.ggml.eom_token_id", 0xffffffff))
              .eos_token_ids == std::vector<std::int32_t>{1, 3});
  const ModelConfig scaled = read(test::small_llama().f32("llama.rope.scale_linear", 4.0f));
  REQUIRE(scaled.rope.scaling == "linear");
  REQUIRE(scaled.rope.factor == 4.0);
  REQUIRE(scaled.max_position_embeddings == 512);
  const ModelConfig yarn = read(test::small_llama()
                                    .text("llama.rope.scaling.type", "yarn")
                                    .f32("llama.rope.scaling.factor", 4.0f)
                                    .u32("llama.rope.scaling.original_context_length", 32));
  REQUIRE(yarn.rope.scaling == "yarn");
  REQUIRE(rope_frequencies(yarn.rope, 128).attention_scaling == Approx(1.0 + 0.1 * std::log(4.0)));
  const ModelConfig divided = read(test::small_llama().tensor(
      "rope_freqs.weight", {8}, 0,
      std::string("\0\0\0\x40\0\0\0\x40\0\0\0\x40\0\0\0\x40\0\0\0\x40\0\0\0\x40\0\0\0\x40\0\0\0\x40", 32)));
  REQUIRE(rope_frequencies(divided.rope, 128).inv_freq[0] == 0.5f);
}

TEST_CASE("GGUF configurations are refused by key") {
  const auto refused_gguf = [](const test::GgufBuilder& builder) {
    const std::string bytes = builder.build();
    return refusal([&] { read_model_config(MemoryCheckpoint(test::as_bytes(bytes))); });
  };
  const auto bare = [] { return test::GgufBuilder(); };
  REQUIRE(refused_gguf(bare()).find("general.architecture: expected a name, found none") != std::string::npos);
  REQUIRE(refused_gguf(bare().u32("general.architecture", 3)).find("expected a string, found an unsigned integer") !=
          std::string::npos);
  REQUIRE(refused_gguf(bare().text("general.architecture", "llama")).find("llama.vocab_size: expected a value") !=
          std::string::npos);
  REQUIRE(refused_gguf(bare().text("general.architecture", "llama").u32("llama.vocab_size", 5))
              .find("llama.embedding_length: expected a value, found none") != std::string::npos);
  const auto with = [](auto add) {
    test::GgufBuilder builder = test::small_llama();
    add(builder);
    return builder;
  };
  REQUIRE(refused_gguf(with([](auto& b) {
            b.u32("llama.attention.key_length", 0);
          })).find("key_length: expected an integer from 1") != std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) {
            b.u32("llama.attention.value_length", 8);
          })).find("value_length: expected key_length, 16") != std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) { b.u32("llama.rope.dimension_count", 18); })).find("rope.dimension_count") !=
          std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) { b.f32("llama.rope.freq_base", std::nanf("")); })).find("rope.freq_base") !=
          std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) { b.text("llama.rope.scaling.type", "odd"); })).find("rope.scaling.type") !=
          std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) {
            b.text("llama.rope.scaling.type", "linear");
            b.f32("llama.rope.scaling.factor", 0.0f);
          })).find("rope.scaling.factor: expected a number above 0") != std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) {
            b.tensor("rope_freqs.weight", {4}, 0, std::string(16, '\x40'));
          })).find("rope_freqs.weight: expected shape [8], found [4]") != std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) {
            b.tensor("rope_freqs.weight", {8}, 0, std::string(32, '\0'));
          })).find("rope factors: expected finite numbers above 0") != std::string::npos);
  REQUIRE(refused_gguf(with([](auto& b) {
            b.text("tokenizer.ggml.eot_token_id", "x");
          })).find("eot_token_id: expected an integer") != std::string::npos);
}

}  // namespace inferd
