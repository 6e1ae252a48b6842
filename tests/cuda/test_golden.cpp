// Golden checkpoints on the CUDA backend: exact activations, and those the tensor cores read.
#include "base/log.h"
#include "engine/models/families.h"
#include "engine/quantize/quantized_checkpoint.h"
#include "tests/catch.h"
#include "tests/cuda/fake_gpu.h"
#include "tests/errors.h"
#include "tests/models/golden_checks.h"

namespace inferd::testing {
namespace {

// Random weights amplify what the rounding of activations to 11 bits leaves; a choice is compared where the reference's
// gap is out of its reach.
constexpr GoldenBar kExact{.cases = 3, .steps = 6};
constexpr GoldenBar kAutomatic{.error = 5e-2, .gap = 1.0, .cases = 3, .steps = 6};

/// Both arithmetics, each with its kernels loaded once.
struct Gpu {
  explicit Gpu(int count = 1) {
    cuda::test::use_fake_gpu("eager=1,devices=2");
    const auto make = [count](ActivationMode mode) {
      return count == 1 ? make_cuda_backend({.activations = mode})
                        : make_tensor_parallel_backend({.ordinals = {0, 1}, .activations = mode});
    };
    exact = make(ActivationMode::f32);
    automatic = make(ActivationMode::automatic);
  }
  void check(const std::filesystem::path& model, const std::filesystem::path& expected) const {
    check_golden_decoder(*exact, model, expected, kExact);
    check_golden_decoder(*automatic, model, expected, kAutomatic);
  }
  void check_folders(std::initializer_list<const char*> names) const {
    for (const char* name : names)
      check(golden_dir() / "models" / name, golden_dir() / "models" / name / "expected.json");
  }
  std::unique_ptr<Backend> exact, automatic;
};

TEST_CASE("decoders of every family agree with the reference") {
  Gpu().check_folders({"llama2", "llama3", "qwen1", "qwen2", "qwen3", "glm", "glm4", "glm4_tiktoken"});
}

TEST_CASE("decoders with forwards of their own agree with the reference") {
  Gpu().check_folders({"chatglm1", "chatglm2", "chatglm3", "bloom", "qwen2_moe", "qwen3_moe"});
}

TEST_CASE("folders quantised by groups agree with the reference") {
  Gpu().check_folders({"llama3_gptq4_actorder", "qwen2_gptq8", "llama3_awq", "qwen2_w8a8", "qwen2_w4a16_asym",
                       "qwen2_nf4", "llama3_fp4", "qwen2_gptq2", "qwen2_gptq3_asym"});
}

TEST_CASE("a folder made for int8 activations agrees with a reference that rounds them so") {
  const auto folder = golden_dir() / "models/qwen2_w8a8";
  const VariantFolder int8(folder, "config.int8.json");
  const Gpu gpu;
  // The output matrix is bf16 and reads activations of 8 bits. The two references differ by 0.02. Later tokens may meet
  // values halfway between two codes.
  check_golden_decoder(*gpu.automatic, int8.path(), folder / "expected.int8.json", {.error = 4e-3, .gap = 0.3});
  check_golden_decoder(*gpu.exact, int8.path(), folder / "expected.json", kExact);
}

/// Last logits of the golden Qwen2, quantised while it is loaded.
std::vector<float> quantised_logits(Backend& backend, LoadQuantization to, const std::vector<std::int32_t>& prompt) {
  const auto checkpoint =
      quantize_checkpoint(Checkpoint::open(golden_dir() / "models/qwen2"), {.to = to, .threads = 2, .model = "qwen2"});
  ModelOptions options;
  options.max_batch_tokens = options.max_logit_rows = 64;
  const LoadedModel model = load_model(*checkpoint, read_model_config(*checkpoint), backend, options);
  Sequences sequences(backend, *model.decoder, DType::f32);
  return sequences.step({{0, prompt}}).at(0);
}

TEST_CASE("weights quantised at load give what they give on the processor, and int8 is near the reference") {
  spdlog::set_level(spdlog::level::off);
  const Gpu gpu;
  const auto processor = test_backend();
  const Json expected = read_golden(golden_dir() / "models/qwen2/expected.json")["cases"][0];
  const std::vector<std::int32_t> prompt = ids_of(expected["input_ids"]);
  for (const LoadQuantization to : {LoadQuantization::int8, LoadQuantization::int4}) {
    const std::vector<float> wanted = quantised_logits(*processor, to, prompt);
    CHECK(relative_error(quantised_logits(*gpu.exact, to, prompt).data(), wanted, largest(wanted)) <= 1e-4);
    CHECK(relative_error(quantised_logits(*gpu.automatic, to, prompt).data(), wanted, largest(wanted)) <= 5e-2);
    if (to == LoadQuantization::int4) continue;
    const auto first = expected["last_logits_first32"].get<std::vector<float>>();
    CHECK(relative_error(wanted.data(), first, largest(wanted)) <= 5e-2);
  }
}

TEST_CASE("decoders whose products go through cuBLASLt agree with the reference") {
  cuda::test::use_fake_gpu("eager=1,devices=2");
  if (!find_cublaslt().problem.empty()) return;  // a GPU without it; the fake is always there
  const auto backend =
      make_cuda_backend({.batch_invariant = false, .panels = {.dense_tokens = 1, .quantized_tokens = 1}});
  const auto folder = golden_dir() / "models";
  for (const char* name : {"llama3", "qwen2", "glm4", "bloom", "qwen3_moe", "llama3_gptq4_actorder"}) {
    check_golden_decoder(*backend, folder / name, folder / name / "expected.json", kAutomatic);
  }
  const auto files = golden_dir() / "gguf";
  for (const char* name : {"llama2.F16", "llama2.Q4_0"}) {
    const std::string expected = std::string(name) + ".expected.json";
    const Json json = read_golden(files / expected);
    check_golden_decoder(*backend, files / (std::string(name) + ".gguf"),
                         files / (json.contains("cases") ? expected : json["same_results_as"].get<std::string>()),
                         kAutomatic);
  }
}

TEST_CASE("decoders with a q8_0 cache agree with the reference as nearly as its steps allow") {
  const Gpu gpu;
  check_q8_goldens(*gpu.exact, {.cases = 3, .steps = 6});
  check_q8_goldens(*gpu.automatic, kAutomatic);
}

TEST_CASE("decoders with a fp8 cache agree with a reference that rounds keys and values so") {
  const Gpu gpu, divided(2);
  // Activations of 11 bits move a value by up to 2^-11 of a row's largest, a hundredth of its step of 2^-3: one code in
  // a hundred is the next one then. Exact arithmetic finds the reference's, which keeps away from values between two.
  constexpr GoldenBar bar{.error = 2e-3, .kv = DType::fp8};
  for (const char* name : {"qwen2", "qwen3", "llama3"}) {
    const auto folder = golden_dir() / "models" / name;
    check_golden_decoder(*gpu.exact, folder, folder / "expected.fp8.json", bar);
    check_golden_decoder(*gpu.automatic, folder, folder / "expected.fp8.json",
                         {.error = 0.1, .gap = 1.0, .kv = DType::fp8});
    check_golden_decoder(*divided.exact, folder, folder / "expected.fp8.json",
                         {.error = 2e-3, .cases = 2, .steps = 3, .kv = DType::fp8});
  }
}

TEST_CASE("decoders with a fp8 cache agree with exact arithmetic as nearly as its steps allow") {
  const Gpu gpu;
  check_fp8_goldens(*gpu.exact, {.cases = 3, .steps = 6});
  check_fp8_goldens(*gpu.automatic, kAutomatic);
}

TEST_CASE("GGUF files agree with the reference") {
  const Gpu gpu;
  for (const char* name : {"llama2.F16", "llama2.Q4_0", "llama2.Q5_1", "llama2.Q8_0", "llamaw.IQ", "llamaw.MIXED",
                           "qwen2w.Q4_K_M", "qwen2w.Q6_K"}) {
    const auto folder = golden_dir() / "gguf";
    const std::string expected = std::string(name) + ".expected.json";
    const Json json = read_golden(folder / expected);
    gpu.check(folder / (std::string(name) + ".gguf"),
              folder / (json.contains("cases") ? expected : json["same_results_as"].get<std::string>()));
  }
}

TEST_CASE("decoders divided between two GPUs agree with the reference", "[fake]") {
  Gpu(2).check_folders({"llama2", "llama3", "qwen1", "qwen2", "qwen3", "glm4", "chatglm3", "llama3_awq"});
}

TEST_CASE("GGUF files divided between two GPUs agree with the reference", "[fake]") {
  const Gpu gpu(2);
  const auto folder = golden_dir() / "gguf";
  for (const char* name : {"llama2.F16", "llama2.Q4_0", "qwen2.Q8_0"}) {
    const std::string expected = std::string(name) + ".expected.json";
    const Json json = read_golden(folder / expected);
    gpu.check(folder / (std::string(name) + ".gguf"),
              folder / (json.contains("cases") ? expected : json["same_results_as"].get<std::string>()));
  }
}

TEST_CASE("models that cannot be divided between two GPUs are refused, with the reason", "[fake]") {
  const Gpu gpu(2);
  const auto refusal = [&](const std::string& name) {
    const FatalError error = error_of([&] { TestModel(*gpu.exact, golden_dir() / name); });
    CHECK(error.code == ExitCode::bad_config);
    const auto checkpoint = Checkpoint::open(golden_dir() / name);  // `inferd plan` says the same
    const FatalError planned = error_of([&] { check_ranks(*checkpoint, read_model_config(*checkpoint), 2); });
    CHECK(std::string(planned.what()) == error.what());
    return std::string(error.what());
  };
  const std::string list =
      ": expected a model of family llama, mistral, qwen2, qwen3, qwen, glm, glm4, chatglm, found ";
  for (const char* name : {"bert", "bloom", "chatglm1", "qwen2_moe", "qwen3_moe"}) {
    CHECK(has(refusal(std::string("models/") + name), list + name));
  }
  CHECK(has(refusal("models/llama3_gptq4_actorder"), "stored in an order of their own"));
}

}  // namespace
}  // namespace inferd::testing
