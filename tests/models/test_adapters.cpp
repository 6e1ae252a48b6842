// LoRA adapters on golden checkpoints: the reference's logits, several in one batch, GGUF bases, and adapters that do
// not fit.
#include "base/errors.h"
#include "engine/adapters/lora_adapter.h"
#include "tests/catch.h"
#include "tests/models/model_harness.h"

namespace inferd::testing {
namespace {

std::filesystem::path lora_dir(const std::string& name) { return golden_dir() / "lora" / name; }

LoraAdapter read_adapter(const std::string& name) { return read_lora_adapter(open_adapter(lora_dir(name))); }

ModelOptions with_slots(int slots) {
  ModelOptions options;
  options.max_adapters = slots;
  return options;
}

/// Logits of a prompt's last position.
std::vector<float> last_logits(Backend& backend, Model& model, const std::vector<std::int32_t>& ids, int slot,
                               DType kv_type = DType::f32) {
  Sequences sequences(backend, model, kv_type);
  return sequences.step({{.sequence = 0, .tokens = ids, .adapter = slot}}).at(0);
}

double scale_of(const std::vector<float>& row) {
  double scale = 0;
  for (const float x : row) scale = std::max(scale, std::fabs(static_cast<double>(x)));
  return scale;
}

/// The expected.json of the shared set: the first 32 logits of each case, and all rows of one.
void check_golden(const std::string& name, const std::filesystem::path& base) {
  INFO(name << " on " << base.string());
  const auto backend = test_backend();
  TestModel model(*backend, base, 256, with_slots(2));
  model.loaded.decoder->set_adapter(1, read_adapter(name));
  const Json expected = read_golden(lora_dir(name) / "expected.json");
  for (const Json& one : expected["cases"]) {
    const auto got = last_logits(*backend, *model.loaded.decoder, ids_of(one["input_ids"]), 1);
    const auto reference = one["last_logits_first32"].get<std::vector<float>>();
    CHECK(relative_error(got.data(), reference, scale_of(got)) <= 2e-3);
    if (one["gap_top1_top2"].get<double>() > 1e-2) CHECK(argmax(got) == one["argmax"].get<std::int32_t>());
  }
}

TEST_CASE("adapters on Qwen2, Qwen and ChatGLM3 give the reference's logits") {
  check_golden("lora_qwen2", golden_dir() / "models/qwen2");
  check_golden("lora_qwen2_all", golden_dir() / "models/qwen2");
  check_golden("lora_qwen1", golden_dir() / "models/qwen1");
  check_golden("lora_chatglm3", golden_dir() / "models/chatglm3");
}

TEST_CASE("the same adapters fit the same models as GGUF") {
  check_golden("lora_qwen2_all", golden_dir() / "gguf/qwen2.F16.gguf");
  check_golden("lora_chatglm3", golden_dir() / "gguf_fused/chatglm3.F16.gguf");
}

/// All logits of the last position of each case.
void check_logits(const std::string& name, std::initializer_list<const char*> bases) {
  const Json expected = read_golden(lora_dir(name) / "expected.json");
  for (const char* base : bases) {
    INFO(name << " on " << base);
    const auto backend = test_backend();
    TestModel model(*backend, golden_dir() / base, 256, with_slots(1));
    model.loaded.decoder->set_adapter(0, read_adapter(name));
    for (const Json& one : expected["cases"]) {
      const auto reference = one["last_logits"].get<std::vector<float>>();
      const auto got = last_logits(*backend, *model.loaded.decoder, ids_of(one["input_ids"]), 0);
      CHECK(relative_error(got.data(), reference, scale_of(reference)) <= 1e-3);
    }
  }
}

TEST_CASE("an adapter with PEFT's patterns gives PEFT's logits, also where GGUF reorders the rows of q and k") {
  check_logits("peft_llama2", {"models/llama2", "gguf/llama2.F16.gguf"});
}

TEST_CASE("adapters on BLOOM and ChatGLM-6B, whose heads keep q, k and v together, give PEFT's logits") {
  check_logits("peft_bloom", {"models/bloom", "gguf/bloom.f16.gguf"});
  check_logits("peft_chatglm1", {"models/chatglm1"});
}

TEST_CASE("adapters of experts, routers and shared experts give the logits of weights they were added to") {
  check_logits("experts_qwen2_moe", {"models/qwen2_moe", "gguf/qwen2_moe.bf16.gguf"});
  check_logits("experts_qwen3_moe", {"models/qwen3_moe", "gguf/qwen3_moe.bf16.gguf"});
}

TEST_CASE("adapters of the experts' parameters, all of a layer in one, give PEFT's logits") {
  check_logits("parameters_qwen2_moe", {"models/qwen2_moe", "gguf/qwen2_moe.bf16.gguf"});
  check_logits("parameters_qwen3_moe", {"models/qwen3_moe", "gguf/qwen3_moe.bf16.gguf"});
}

/// A folder with an adapter's files, some changed. Removed at the end.
class AdapterFolder {
 public:
  explicit AdapterFolder(const std::string& from) {
    std::string name = (std::filesystem::temp_directory_path() / "inferd_adapter_XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path = name;
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
      std::filesystem::copy_file(lora_dir(from) / file, path / file);
    }
  }
  ~AdapterFolder() {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
  void set_config(const std::string& key, const Json& value) {
    Json config = read_golden(path / "adapter_config.json");
    config[key] = value;
    std::ofstream(path / "adapter_config.json") << config.dump();
  }
  /// Replaces bytes of the safetensors header; both texts have one length.
  void rename(const std::string& from, const std::string& to) {
    std::ifstream in(path / "adapter_model.safetensors", std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    std::string bytes = text.str();
    const std::size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    REQUIRE(from.size() == to.size());
    bytes.replace(at, to.size(), to);
    std::ofstream(path / "adapter_model.safetensors", std::ios::binary) << bytes;
  }
  std::string error(const char* base = "models/qwen2") const {
    const auto backend = test_backend();
    TestModel model(*backend, golden_dir() / base, 64, with_slots(1));
    try {
      model.loaded.decoder->set_adapter(0, read_lora_adapter(open_adapter(path)));
    } catch (const CheckpointError& refused) {
      return refused.what();
    }
    return "no error";
  }
  std::filesystem::path path;
};

/// Sequences through `first`, `second` and none in one batch have the bits they have alone. model: of three slots.
void check_company(Backend& backend, Model& decoder, const std::vector<LoraAdapter>& adapters,
                   const std::vector<std::int32_t>& prompt, const std::vector<std::int32_t>& other,
                   Model& without_adapters) {
  decoder.set_adapter(0, adapters[0]);
  decoder.set_adapter(2, adapters[1]);
  const std::vector<std::int32_t> slots = {-1, 0, 2, 2, 0, -1};
  std::vector<Sequences::Feed> feeds;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    feeds.push_back({.sequence = static_cast<int>(i), .tokens = i < 3 ? prompt : other, .adapter = slots[i]});
  }
  Sequences together(backend, decoder, DType::f16);
  const auto rows = together.step(feeds);
  std::vector<Sequences::Feed> next;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    next.push_back({.sequence = static_cast<int>(i), .tokens = {argmax(rows[i])}, .adapter = slots[i]});
  }
  const auto second = together.step(next);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Sequences alone(backend, decoder, DType::f16);
    CHECK(alone.step({feeds[i]}).at(0) == rows[i]);
    CHECK(alone.step({next[i]}).at(0) == second[i]);
  }
  CHECK(rows[0] != rows[1]);
  CHECK(rows[1] != rows[2]);
  // Without an adapter the numbers are those of a model that has none loaded.
  CHECK(last_logits(backend, without_adapters, prompt, -1, DType::f16) == rows[0]);
  // A slot that was emptied and filled again serves the new adapter.
  decoder.drop_adapter(0);
  decoder.set_adapter(0, adapters[1]);
  CHECK(last_logits(backend, decoder, prompt, 0, DType::f16) == rows[2]);
}

void check_company(const std::string& base, const std::vector<LoraAdapter>& adapters, const std::string& prompts) {
  const Json cases = read_golden(lora_dir(prompts) / "expected.json")["cases"];
  for (const ActivationMode mode : {ActivationMode::f32, ActivationMode::automatic}) {
    INFO(base << " mode " << static_cast<int>(mode));
    const auto backend = test_backend(mode);
    TestModel model(*backend, golden_dir() / base, 256, with_slots(3));
    TestModel plain(*backend, golden_dir() / base);
    check_company(*backend, *model.loaded.decoder, adapters, ids_of(cases[0]["input_ids"]),
                  ids_of(cases[1]["input_ids"]), *plain.loaded.decoder);
  }
}

TEST_CASE("two adapters and none in one batch: each as if it were alone, bit for bit") {
  for (const char* base : {"models/qwen2", "models/qwen2_awq", "models/qwen2_gptq8", "models/qwen2_nf4",
                           "gguf/qwen2.Q4_0.gguf", "gguf/qwen2.Q8_0.gguf"}) {
    check_company(base, {read_adapter("lora_qwen2"), read_adapter("lora_qwen2_all")}, "lora_qwen2");
  }
  const std::pair<const char*, const char*> others[] = {{"models/bloom", "peft_bloom"},
                                                        {"models/chatglm1", "peft_chatglm1"},
                                                        {"models/qwen2_moe", "experts_qwen2_moe"},
                                                        {"models/qwen3_moe", "experts_qwen3_moe"},
                                                        {"models/qwen2_moe", "parameters_qwen2_moe"}};
  for (const auto& [base, adapter] : others) {
    AdapterFolder weaker(adapter);
    weaker.set_config("lora_alpha", 2);
    check_company(base, {read_adapter(adapter), read_lora_adapter(open_adapter(weaker.path))}, adapter);
  }
}

void check_refused(const AdapterFolder& folder, std::initializer_list<const char*> parts) {
  const std::string error = folder.error();
  INFO(error);
  for (const char* part : parts) CHECK(error.find(part) != std::string::npos);
}

TEST_CASE("configurations of other methods, or that contradict the tensors, are refused by the field") {
  struct Case {
    const char* key;
    Json value;
    std::initializer_list<const char*> parts;
  };
  const Case cases[] = {
      {"peft_type", "IA3", {"peft_type", "LORA", "IA3"}},
      {"r", 0, {"r", "512"}},
      {"r", 513, {"r", "512", "513"}},
      {"r", 4, {"lora_A", "rank 4", "8"}},
      {"use_dora", true, {"use_dora"}},
      {"fan_in_fan_out", true, {"fan_in_fan_out"}},
      {"bias", "all", {"bias", "none", "all"}},
      {"target_parameters", "mlp.experts.gate_up_proj", {"target_parameters", "a list", "string"}},
      {"target_parameters", {1}, {"target_parameters", "a list"}},
      {"lora_alpha", "x", {"lora_alpha"}},
      {"rank_pattern", {{"q_proj", 600}}, {"rank_pattern"}},
      {"rank_pattern", {{"(", 3}}, {"rank_pattern", "regular expression"}},
      {"rank_pattern", {{"q_proj", 3}}, {"q_proj.lora_A", "rank 3", "8"}},
      {"alpha_pattern", {{"q_proj", "many"}}, {"alpha_pattern"}},
  };
  for (const Case& one : cases) {
    AdapterFolder folder("lora_qwen2");
    folder.set_config(one.key, one.value);
    INFO(one.key);
    check_refused(folder, one.parts);
  }
  AdapterFolder broken("lora_qwen2");
  std::ofstream(broken.path / "adapter_config.json") << "{\"r\": ";
  check_refused(broken, {"adapter_config.json"});
  AdapterFolder pickled("lora_qwen2");
  std::filesystem::rename(pickled.path / "adapter_model.safetensors", pickled.path / "adapter_model.bin");
  check_refused(pickled, {"adapter_model.safetensors", "pickle"});
}

TEST_CASE("factors of expert parameters that no parameter or not every expert has are refused") {
  const auto refused = [](const char* key, const Json& value, std::initializer_list<const char*> parts) {
    AdapterFolder folder("parameters_qwen3_moe");  // 8 experts, rank 3
    folder.set_config(key, value);
    const std::string error = folder.error("models/qwen3_moe");
    INFO(error);
    for (const char* part : parts) CHECK(error.find(part) != std::string::npos);
  };
  refused("target_parameters", Json(), {"target_parameters", "down_proj of model.layers.0.mlp.experts", "0 of them"});
  refused("target_parameters", {"mlp.gate.weight"}, {"target_parameters", "down_proj"});
  refused("target_parameters", {"mlp.experts.gate_up_proj"}, {"experts.lora_A", "64 columns", "32"});
  refused("r", 5, {"experts.lora_A", "rank 5", "24 rows"});
  refused("r", 6, {"experts.lora_A", "factors of every expert", "none of model.layers.0.mlp.experts.4.down_proj"});
  refused("r", 1, {"model.layers.0.mlp.experts.8.down_proj", "none of that name"});
  AdapterFolder both("parameters_qwen2_moe");
  both.set_config("target_parameters", {"mlp.experts.down_proj"});
  const std::string error = both.error("models/qwen2_moe");
  INFO(error);
  CHECK(error.find("whose factors are 2 or more") != std::string::npos);
}

TEST_CASE("tensors that are no pair of factors of this model are refused by name") {
  const auto refused = [](const std::string& from, const std::string& to, std::initializer_list<const char*> parts) {
    AdapterFolder folder("lora_qwen2");
    folder.rename(from, to);
    INFO(to);
    check_refused(folder, parts);
  };
  refused("layers.0.self_attn.q_proj.lora_A", "layers.9.self_attn.q_proj.lora_A", {"q_proj", "both lora_A and lora_B"});
  refused("layers.0.self_attn.q_proj.lora_A.weight", "layers.0.self_attn.q_proj.lora_magn_vec",
          {"factors lora_A and lora_B"});
  refused("self_attn.q_proj.lora_B.weight\":{\"dtype\":\"F16\",\"shape\":[64,8]",
          "self_attn.q_proj.lora_B.weight\":{\"dtype\":\"F16\",\"shape\":[8,64]",
          {"lora_B", "8 columns, the rank", "64"});
  refused("self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F16\",\"shape\":[8,64]",
          "self_attn.q_proj.lora_A.weight\":{\"dtype\":\"F16\",\"shape\":[8,65]", {"lora_A"});
  AdapterFolder cut("lora_qwen2");
  std::filesystem::resize_file(cut.path / "adapter_model.safetensors", 1500);
  check_refused(cut, {"adapter_model.safetensors"});
  for (const char* name : {"lora_qwen1", "peft_llama2"}) {
    INFO(name);
    CHECK(AdapterFolder(name).error() != "no error");  // made for models with other layers or sizes
  }
}

TEST_CASE("an adapter below a folder cannot be reached from outside, nor lead out") {
  const auto root = std::filesystem::temp_directory_path() / ("inferd_beneath_" + std::to_string(getpid()));
  std::filesystem::create_directories(root / "adapters");
  std::filesystem::copy(lora_dir("lora_qwen2"), root / "outside");
  std::filesystem::copy(lora_dir("lora_qwen2"), root / "adapters/good");
  std::filesystem::create_directory_symlink("good", root / "adapters/alias");
  std::filesystem::create_directory_symlink("../outside", root / "adapters/leads_out");
  std::filesystem::create_directories(root / "adapters/linked");
  for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
    std::filesystem::create_symlink(root / "outside" / file, root / "adapters/linked" / file);
  }
  const auto opened = [&](const std::string& relative) {
    try {
      return read_lora_adapter(open_adapter_beneath(root / "adapters", relative)).pairs.size();
    } catch (const CheckpointError&) {
      return std::size_t{0};
    }
  };
  CHECK(opened("good") == 4);
  CHECK(opened("./good") == 4);
  CHECK(opened("alias") == 4);  // stays inside
  for (const std::string& bad : {std::string("../outside"), std::string("good/../../outside"),
                                 (root / "outside").string(), std::string("leads_out"), std::string("linked"),
                                 std::string(""), std::string("/"), std::string("good\0x", 6), std::string("none")}) {
    INFO(bad);
    CHECK(opened(bad) == 0);
  }
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace inferd::testing
