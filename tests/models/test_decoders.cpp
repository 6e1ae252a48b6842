// Decoders of every family and format against golden logits, and bit-equality under chunking and batching.
#include "tests/catch.h"
#include "tests/models/golden_checks.h"

namespace inferd::testing {
namespace {

constexpr std::size_t kQwen1Positions = 48;  // seq_length of the golden Qwen-1, which GGUF does not record

void check_golden(const std::filesystem::path& model_path, const std::filesystem::path& expected_path,
                  std::size_t positions = SIZE_MAX) {
  const auto backend = test_backend();
  check_golden_decoder(*backend, model_path, expected_path, {.positions = positions});
}

TEST_CASE("safetensors decoders agree with the reference") {
  for (const char* name : {"llama2", "llama3", "qwen1", "qwen2", "qwen3", "glm", "glm4", "glm4_tiktoken", "qwen2_moe",
                           "qwen3_moe", "chatglm1", "chatglm2", "chatglm3", "bloom"}) {
    const auto folder = golden_dir() / "models" / name;
    check_golden(folder, folder / "expected.json");
  }
}

TEST_CASE("decoders with a q8_0 cache agree with the reference as nearly as its steps allow") {
  check_q8_goldens(*test_backend());
}

TEST_CASE("folders quantised by groups agree with the reference") {
  for (const char* name : {"llama3_gptq4",     "llama3_gptq4_actorder",
                           "qwen2_gptq8",      "qwen2_gptq4_v2",
                           "llama3_awq",       "qwen2_awq",
                           "qwen2_w8a8",       "qwen2_w4a16",
                           "qwen2_w4a16_asym", "qwen2_w4a16_actorder",
                           "qwen2_bnb8",       "qwen2_nf4",
                           "qwen2_nf4_narrow", "llama3_fp4",
                           "qwen2_gptq2",      "qwen2_gptq2_asym",
                           "qwen2_gptq3",      "qwen2_gptq3_asym",
                           "qwen2_fp8",        "qwen2_fp8_channel"}) {
    const auto folder = golden_dir() / "models" / name;
    check_golden(folder, folder / "expected.json");
  }
}

TEST_CASE("Qwen-1 goes beyond its trained length, and a prompt's length is part of its keys") {
  const auto backend = test_backend();
  const TestModel model(*backend, golden_dir() / "models/qwen1");
  const Model& qwen = *model.loaded.decoder;
  CHECK(qwen.info().max_context == 512);
  const auto variant = [&](std::size_t length) {
    return qwen.prompt_traits(std::vector<std::int32_t>(length, 1)).kv_variant;
  };
  CHECK(variant(1) == variant(48));
  CHECK(variant(49) != variant(48));
  CHECK(variant(49) == variant(96));
  CHECK(variant(97) != variant(96));
  CHECK(model.config.intermediate_size == 128);
}

TEST_CASE("configuration variants agree with the reference") {
  const std::vector<std::pair<std::string, std::string>> variants = {
      {"llama2", "linear"},  {"llama2", "theta"},    {"qwen2", "swa"},   {"qwen2", "yarn"},
      {"qwen2", "longrope"}, {"llama3", "longrope"}, {"llama3", "yarn"}, {"qwen2", "yarn_mscale"}};
  for (const auto& [name, variant] : variants) {
    const auto folder = golden_dir() / "models" / name;
    const VariantFolder changed(folder, "config." + variant + ".json");
    check_golden(changed.path(), folder / ("expected." + variant + ".json"));
  }
}

TEST_CASE("GGUF decoders of every type agree with the reference") {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden_dir() / "gguf")) {
    if (entry.path().extension() != ".gguf") continue;
    std::filesystem::path expected = entry.path();
    expected.replace_extension(".expected.json");
    const Json json = read_golden(expected);
    if (json.contains("cases")) {
      check_golden(entry.path(), expected);
    } else {
      const auto same = golden_dir() / "gguf" / json["same_results_as"].get<std::string>();
      if (!read_golden(same).contains("cases")) continue;  // an encoder
      check_golden(entry.path(), same);
    }
    ++files;
  }
  CHECK(files >= 26);
}

TEST_CASE("GGUF decoders with fused tensors agree with the reference") {
  const auto folder = golden_dir() / "gguf_fused";
  for (const char* name : {"chatglm3.F16", "glm4_tiktoken.BF16", "qwen1.BF16"}) {
    const Json json = read_golden(folder / (std::string(name) + ".expected.json"));
    const auto same = folder / json["same_results_as"].get<std::string>();
    // GGUF does not record Qwen-1's trained length, beyond which the reference scales.
    const std::size_t positions = std::string(name).starts_with("qwen1") ? kQwen1Positions : SIZE_MAX;
    check_golden(folder / json["file"].get<std::string>(), same, positions);
  }
}

TEST_CASE("dynamic NTK follows prompts and answers beyond the trained length") {
  const auto folder = golden_dir() / "models/llama2";
  const VariantFolder changed(folder, "config.dynamic.json");
  check_golden(changed.path(), folder / "expected.dynamic_long.json");
}

TEST_CASE("dynamic NTK leaves prompts within the trained length alone") {
  const auto folder = golden_dir() / "models/llama2";
  const VariantFolder changed(folder, "config.dynamic.json");
  const auto backend = test_backend();
  TestModel plain(*backend, folder), dynamic(*backend, changed.path());
  CHECK(dynamic.loaded.decoder->info().max_context == 64);
  std::vector<std::int32_t> prompt = ids_of(read_golden(folder / "expected.json")["cases"][0]["input_ids"]);
  prompt.resize(32, 5);
  Sequences a(*backend, *plain.loaded.decoder, DType::f32), b(*backend, *dynamic.loaded.decoder, DType::f32);
  CHECK(a.step({{0, prompt, true}}) == b.step({{0, prompt, true}}));
}

/// A prompt of `length` ids below `vocab`.
std::vector<std::int32_t> some_prompt(int length, int vocab, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<std::int32_t> out(length);
  for (auto& id : out) id = static_cast<std::int32_t>(engine() % static_cast<unsigned>(vocab));
  return out;
}

TEST_CASE("chunked prefill and decoding give the bits of one piece") {
  for (const char* name : {"models/llama3", "models/qwen3", "models/glm", "models/glm4", "models/chatglm3",
                           "models/bloom", "models/qwen2_moe", "gguf/qwen3_moe.bf16.gguf", "models/qwen1",
                           "gguf/qwen2w.Q4_K_M.gguf", "gguf/llamaw.MIXED.gguf"}) {
    for (ActivationMode mode : {ActivationMode::f32, ActivationMode::automatic}) {
      for (DType kv : {DType::f32, DType::f16}) {
        const auto backend = test_backend(mode);
        TestModel model(*backend, golden_dir() / name);
        const std::vector<std::int32_t> prompt = some_prompt(90, 300, 3);
        Sequences whole(*backend, *model.loaded.decoder, kv, 64, 1);
        const auto expected = whole.step({{0, prompt, true}});
        REQUIRE(expected.size() == 90);
        CHECK(std::isfinite(expected[89][0]));
        for (int chunk : {1, 7, 16, 33}) {
          Sequences parts(*backend, *model.loaded.decoder, kv, 64, static_cast<unsigned>(chunk));
          parts.announce(0, prompt);
          std::vector<std::vector<float>> joined;
          for (int begin = 0; begin < 90; begin += chunk) {
            const int end = std::min(90, begin + chunk);
            for (auto& row : parts.step({{0, {prompt.begin() + begin, prompt.begin() + end}, true}}))
              joined.push_back(row);
          }
          INFO(name << " chunk " << chunk);
          REQUIRE(joined == expected);
        }
      }
    }
  }
}

TEST_CASE("a ChatGLM-6B context goes through whole, what follows it in any pieces") {
  const std::vector<std::int32_t> context = some_prompt(40, 400, 3);
  std::vector<std::int32_t> prompt = context;
  prompt.insert(prompt.end(), {422, 425});  // [gMASK] <sop>
  for (int i = 0; i < 30; ++i) prompt.push_back(7 + i);
  for (ActivationMode mode : {ActivationMode::f32, ActivationMode::automatic}) {
    const auto backend = test_backend(mode);
    TestModel model(*backend, golden_dir() / "models/chatglm1");
    CHECK(model.loaded.decoder->longest_context() == 512);
    Sequences whole(*backend, *model.loaded.decoder, DType::f16, 64, 1);
    const auto expected = whole.step({{0, prompt, true}});
    for (int chunk : {1, 7, 29}) {
      Sequences parts(*backend, *model.loaded.decoder, DType::f16, 64, static_cast<unsigned>(chunk));
      parts.announce(0, prompt);
      auto joined = parts.step({{0, {prompt.begin(), prompt.begin() + 41}, true}, {1, {5, 6, 422, 425}}});
      joined.pop_back();  // the other sequence's
      for (int begin = 41; begin < 72; begin += chunk) {
        const int end = std::min(72, begin + chunk);
        for (auto& row : parts.step({{0, {prompt.begin() + begin, prompt.begin() + end}, true}})) joined.push_back(row);
      }
      REQUIRE(joined == expected);
    }
  }
}

TEST_CASE("a batch gives every sequence the bits it has alone, on any number of threads") {
  for (const char* name : {"models/qwen2", "models/qwen2_moe", "gguf/llamaw.Q4_K.gguf"}) {
    for (ActivationMode mode : {ActivationMode::f32, ActivationMode::automatic}) {
      const auto one = test_backend(mode, 1);
      TestModel reference(*one, golden_dir() / name);
      Sequences alone(*one, *reference.loaded.decoder, DType::f16);
      std::vector<std::vector<float>> expected;
      for (int s = 0; s < 5; ++s) {
        expected.push_back(alone.step({{s, some_prompt(11 + 17 * s, 300, static_cast<unsigned>(s))}}).at(0));
      }
      for (int s = 0; s < 5; ++s) expected.push_back(alone.step({{s, {s + 1}}}).at(0));
      for (int threads : {1, 2, 3}) {
        const auto backend = test_backend(mode, threads);
        TestModel model(*backend, golden_dir() / name);
        Sequences together(*backend, *model.loaded.decoder, DType::f16, 256, 9);
        std::vector<Sequences::Feed> prompts, tokens;
        for (int s = 0; s < 5; ++s) prompts.push_back({s, some_prompt(11 + 17 * s, 300, static_cast<unsigned>(s))});
        for (int s = 0; s < 5; ++s) tokens.push_back({s, {s + 1}});
        auto got = together.step(prompts);
        for (auto& row : together.step(tokens)) got.push_back(row);
        CHECK(got == expected);
        // A decoding sequence beside a prefilling one.
        const auto mixed = together.step({{0, {7}}, {50, some_prompt(40, 300, 50)}});
        if (threads == 1) {
          CHECK(mixed[0] == alone.step({{0, {7}}}).at(0));
          CHECK(mixed[1] == alone.step({{50, some_prompt(40, 300, 50)}}).at(0));
        }
      }
    }
  }
}

TEST_CASE("every instruction level gives the golden choice") {
  for (const char* isa : {"portable", "avx2", "auto"}) {
    if (std::string(isa) == "avx2" && best_cpu_level() < CpuLevel::avx2) continue;
    const auto backend = test_backend(ActivationMode::f32, 2, isa);
    TestModel model(*backend, golden_dir() / "models/qwen2");
    const Json expected = read_golden(golden_dir() / "models/qwen2/expected.json");
    Sequences sequences(*backend, *model.loaded.decoder, DType::f32);
    check_case(sequences, 0, expected["cases"][0], 448);
  }
}

TEST_CASE("default activations stay close and finite") {
  // Random weights amplify int8 rounding: this is a check of wiring, fidelity is measured on real models.
  for (const char* name : {"models/llama2", "models/qwen3", "gguf/qwen2w.Q4_K_M.gguf"}) {
    const auto exact = test_backend(), fast = test_backend(ActivationMode::automatic);
    TestModel a(*exact, golden_dir() / name), b(*fast, golden_dir() / name);
    Sequences sa(*exact, *a.loaded.decoder, DType::f16), sb(*fast, *b.loaded.decoder, DType::f16);
    const auto x = sa.step({{0, some_prompt(40, 300, 1)}}).at(0), y = sb.step({{0, some_prompt(40, 300, 1)}}).at(0);
    CHECK(relative_error(y.data(), x, largest(x)) < 0.25);
  }
}

TEST_CASE("hooks, information and progress") {
  const auto backend = test_backend();
  const auto checkpoint = Checkpoint::open(golden_dir() / "gguf/qwen2w.Q4_K_M.gguf");
  const ModelConfig config = read_model_config(*checkpoint);
  ModelOptions options;
  std::size_t last = 0, total = 0, calls = 0;
  options.progress = [&](std::size_t done, std::size_t all) {
    CHECK(done >= last);
    CHECK(done <= all);
    last = done;
    total = all;
    ++calls;
  };
  const LoadedModel loaded = load_model(*checkpoint, config, *backend, options);
  CHECK(last == total);
  CHECK(total == checkpoint->tensor_bytes());
  CHECK(calls > 10);
  REQUIRE(loaded.decoder != nullptr);
  CHECK(loaded.encoder == nullptr);
  const ModelInfo& info = loaded.decoder->info();
  CHECK(info.family == "qwen2");
  CHECK(info.quantization == "Q4_K_M");
  CHECK(info.parameters > 0);
  CHECK(info.weight_bytes == checkpoint->tensor_bytes());
  CHECK(info.resident_bytes > 0);
  CHECK(info.hidden_size == 256);
  CHECK(info.max_context == config.max_position_embeddings);
  CHECK(loaded.decoder->kv_spec().num_layers == config.num_layers);
  Sequences sequences(*backend, *loaded.decoder, DType::f16);
  std::vector<int> layers;
  sequences.step({{0, {1, 2, 3}}}, [&](int layer) { layers.push_back(layer); });
  std::vector<int> expected(static_cast<std::size_t>(config.num_layers));
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(layers == expected);
}

}  // namespace
}  // namespace inferd::testing
