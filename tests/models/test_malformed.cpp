// Checkpoints that lie about themselves are refused with the tensor or setting named.
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/errors.h"
#include "engine/models/families.h"
#include "engine/models/pooling_config.h"
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

/// A copy of a golden folder in which one text file is replaced.
class ChangedFolder {
 public:
  ChangedFolder(const std::filesystem::path& folder, const std::string& file, const std::string& text)
      : variant_(folder, "") {
    const auto target = variant_.path() / file;
    if (target.has_parent_path() && target.parent_path() != variant_.path()) {
      std::filesystem::remove(target.parent_path());  // a link to the golden folder
      std::filesystem::create_directories(target.parent_path());
    } else {
      std::filesystem::remove(target);
    }
    if (file != "config.json") {
      std::filesystem::create_symlink(folder / "config.json", variant_.path() / "config.json");
    }
    std::ofstream(target) << text;
  }
  const std::filesystem::path& path() const { return variant_.path(); }

 private:
  VariantFolder variant_;
};

std::string load_error(const std::filesystem::path& path) {
  const auto backend = test_backend();
  try {
    const TestModel model(*backend, path);
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "no error";
}

Json config_of(const std::string& name) { return read_golden(golden_dir() / "models" / name / "config.json"); }

std::string error_with(const std::string& name, const std::string& key, const Json& value) {
  Json config = config_of(name);
  config[key] = value;
  const ChangedFolder changed(golden_dir() / "models" / name, "config.json", config.dump());
  return load_error(changed.path());
}

void check_mentions(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("shapes that contradict the configuration are refused by name") {
  check_mentions(error_with("llama2", "hidden_size", 128), {"embed_tokens.weight", "[576, 128]", "[576, 64]"});
  check_mentions(error_with("llama2", "num_hidden_layers", 3), {"model.layers.2.", "none"});
  check_mentions(error_with("llama2", "intermediate_size", 96), {"mlp.gate_proj.weight", "[96, 64]", "[128, 64]"});
  check_mentions(error_with("llama3", "num_key_value_heads", 4), {"self_attn.k_proj.weight"});
  check_mentions(error_with("qwen3", "head_dim", 16), {"self_attn.q_proj.weight"});
  check_mentions(error_with("llama2", "vocab_size", 577), {"embed_tokens.weight", "[577, 64]"});
  check_mentions(error_with("bert", "max_position_embeddings", 65), {"position_embeddings.weight", "[65, 64]"});
  // Llama weights under Qwen2's name lack its biases.
  check_mentions(error_with("llama2", "model_type", "qwen2"), {"self_attn.q_proj.bias", "none"});
}

TEST_CASE("unknown families are refused with the known ones") {
  check_mentions(error_with("llama2", "model_type", "gpt2"), {"model_type", "llama", "qwen3", "bert", "gpt2"});
}

TEST_CASE("heads wider than the kernels' are refused") {
  Json config = config_of("llama2");
  config["num_attention_heads"] = config["num_key_value_heads"] = 1;
  config["head_dim"] = 512;
  const ChangedFolder changed(golden_dir() / "models/llama2", "config.json", config.dump());
  check_mentions(load_error(changed.path()), {"head_dim", "512"});
}

TEST_CASE("encoders that compute something else are refused") {
  check_mentions(error_with("bert", "hidden_act", "relu"), {"hidden_act", "gelu", "relu"});
  check_mentions(error_with("bert", "position_embedding_type", "relative_key"), {"position_embedding_type"});
}

std::string pooling_error(const std::string& file, const std::string& text) {
  const ChangedFolder changed(golden_dir() / "models/bert", file, text);
  return load_error(changed.path());
}

TEST_CASE("pooling that inferd does not have is refused, not replaced") {
  check_mentions(pooling_error("modules.json", R"([{"type":"sentence_transformers.models.Transformer"},
      {"type":"sentence_transformers.models.Dense","path":"2_Dense"}])"),
                 {"modules.json", "Dense"});
  check_mentions(pooling_error("modules.json", "{}"), {"modules.json"});
  check_mentions(pooling_error("modules.json", "[]"), {"Pooling"});
  check_mentions(pooling_error("modules.json", R"([{"type":"x.Pooling","path":"../../etc"}])"), {"inside the folder"});
  check_mentions(pooling_error("modules.json", R"([{"type":7}])"), {"modules.json"});
  check_mentions(pooling_error("1_Pooling/config.json", R"({"pooling_mode_weightedmean_tokens":true})"),
                 {"weightedmean"});
  check_mentions(
      pooling_error("1_Pooling/config.json", R"({"pooling_mode_cls_token":true,"pooling_mode_max_tokens":true})"),
      {"cls+max"});
  check_mentions(pooling_error("sentence_bert_config.json", R"({"max_seq_length":-1})"), {"max_seq_length"});
  check_mentions(pooling_error("sentence_bert_config.json", R"({"max_seq_length":"x"})"), {"max_seq_length"});
}

TEST_CASE("pooling settings are read in both spellings") {
  struct Case {
    const char* text;
    PoolingKind kind;
  };
  for (const Case& c : {Case{R"({"pooling_mode_max_tokens":true})", PoolingKind::max},
                        Case{R"({"pooling_mode":"lasttoken"})", PoolingKind::last},
                        Case{R"({"pooling_mode":"cls","include_prompt":true})", PoolingKind::cls}}) {
    const ChangedFolder changed(golden_dir() / "models/bert", "1_Pooling/config.json", c.text);
    const auto checkpoint = Checkpoint::open(changed.path());
    const PoolingConfig pooling = read_pooling_config(*checkpoint, read_model_config(*checkpoint));
    CHECK(pooling.kind == c.kind);
    CHECK(pooling.normalize);
    CHECK(pooling.max_sequence_tokens == 32);
  }
}

TEST_CASE("every row of the table of families can be loaded") {
  for (const Family& family : families()) {
    CHECK(family.load != nullptr);
    CHECK_FALSE(family.name.empty());
    CHECK_FALSE(family.model_type.empty());
  }
  // Mistral is Llama's computation with a window on every layer.
  Json config = config_of("llama3");
  config["model_type"] = "mistral";
  config["sliding_window"] = 16;
  const ChangedFolder changed(golden_dir() / "models/llama3", "config.json", config.dump());
  const auto backend = test_backend();
  TestModel mistral(*backend, changed.path()), llama(*backend, golden_dir() / "models/llama3");
  CHECK(mistral.loaded.decoder->info().family == "mistral");
  Sequences a(*backend, *mistral.loaded.decoder, DType::f32), b(*backend, *llama.loaded.decoder, DType::f32);
  std::vector<std::int32_t> prompt(40);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(i * 7 % 300);
  const auto windowed = a.step({{0, prompt, true}}), full = b.step({{0, prompt, true}});
  for (std::size_t i = 0; i < 16; ++i) CHECK(windowed[i] == full[i]);
  CHECK(windowed[16] != full[16]);
}

std::string encoder_error(const std::string& name, const std::string& key, const Json& value) {
  const auto folder = golden_dir() / "encoders" / name;
  Json config = read_golden(folder / "config.json");
  config[key] = value;
  const ChangedFolder changed(folder, "config.json", config.dump());
  return load_error(changed.path());
}

TEST_CASE("encoders that compute something else are refused by the setting that says so") {
  check_mentions(encoder_error("nomic", "prenorm", true), {"config.json", "prenorm", "false"});
  check_mentions(encoder_error("nomic", "activation_function", "relu"), {"hidden_act", "swiglu", "relu"});
  check_mentions(encoder_error("nomic", "moe_every_n_layers", 2), {"moe_every_n_layers", "2"});
  check_mentions(encoder_error("gte", "position_embedding_type", "absolute"), {"position_embedding_type", "rope"});
  check_mentions(encoder_error("xlmr", "pad_token_id", 129), {"pad_token_id", "129"});
  check_mentions(encoder_error("xlmr", "architectures", {"XLMRobertaForSequenceClassification"}), {"pooler.dense"});
  check_mentions(encoder_error("qwen3_embedding", "is_causal", false), {"is_causal"});
  check_mentions(encoder_error("qwen3_score", "architectures", {"Qwen3ForCausalLM"}), {"no error"});  // a plain decoder
}

/// What a mixture in GGUF says with one of its integer keys changed.
std::string gguf_error(const std::string& file, const std::string& key, std::uint32_t value) {
  std::ifstream in(golden_dir() / "gguf" / file, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const std::size_t at = bytes.find(key) + key.size() + 4;  // behind the type
  REQUIRE(at < bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
  const auto path = std::filesystem::temp_directory_path() / ("inferd-moe-" + std::to_string(::getpid()) + ".gguf");
  std::ofstream(path, std::ios::binary) << bytes;
  const std::string error = load_error(path);
  std::filesystem::remove(path);
  return error;
}

TEST_CASE("mixtures in GGUF whose keys and tensors disagree are refused by name") {
  const std::string file = "qwen2_moe.bf16.gguf";
  check_mentions(gguf_error(file, "qwen2moe.expert_count", 0), {"qwen2moe.expert_count", "1 to 1024", "0"});
  check_mentions(gguf_error(file, "qwen2moe.expert_count", 7), {"blk.0.ffn_gate_inp.weight", "[7, 64]", "[8, 64]"});
  check_mentions(gguf_error(file, "qwen2moe.expert_used_count", 9), {"qwen2moe.expert_used_count", "1 to 8", "9"});
  check_mentions(gguf_error(file, "qwen2moe.expert_feed_forward_length", 31),
                 {"blk.0.ffn_gate_exps.weight", "[8, 31, 64]", "[8, 32, 64]"});
  check_mentions(gguf_error(file, "qwen2moe.expert_shared_feed_forward_length", 47),
                 {"blk.0.ffn_gate_shexp.weight", "[47, 64]"});
  check_mentions(gguf_error("qwen3_moe.bf16.gguf", "qwen3moe.expert_used_count", 4'000'000'000u),
                 {"qwen3moe.expert_used_count", "1 to 8"});
}

}  // namespace
}  // namespace inferd::testing
