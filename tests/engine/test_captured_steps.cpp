// Steps that only decode, captured once and replayed: a backend that records operations stands for CUDA graphs.
#include "engine/adapters/lora_adapter.h"
#include "tests/engine/device_backend.h"
#include "tests/engine/golden_run.h"

namespace inferd {
namespace {

DeviceBackend recording_backend() { return {make_cpu_backend({.threads = 2}), {.samples = false}}; }

TEST_CASE("replayed steps give the bits of steps made anew") {
  for (const char* name : {"models/qwen2", "models/llama3", "models/qwen1", "models/glm4", "models/bloom",
                           "models/chatglm1", "gguf/qwen2w.Q4_K_M.gguf"}) {
    INFO(name);
    const auto plain = make_cpu_backend({.threads = 2});
    DeviceBackend recording = recording_backend();
    Run expected(*plain, name, options_with()), captured(recording, name, options_with());
    check_equal(captured.answers(14), expected.answers(14));
    // Rows of 1, 2, 4, 8 and 11, tables of 16 blocks.
    CHECK(recording.keys() <= 5);
    CHECK(recording.replays > 20);
  }
}

TEST_CASE("preemption, prefix hits and longer tables meet captured steps") {
  const auto plain = make_cpu_backend({.threads = 2});
  DeviceBackend recording = recording_backend();
  Run expected(*plain, "models/qwen2", options_with()), captured(recording, "models/qwen2", options_with());
  check_equal(captured.answers(6), expected.answers(6));
  const std::size_t short_keys = recording.keys();
  check_equal(captured.answers(6, 0, 300), expected.answers(6, 0, 300));
  CHECK(recording.keys() > short_keys);  // tables of 16, then of 32 blocks
  check_equal(captured.answers(6, 0, 300), expected.answers(6, 0, 300));
  CHECK(captured.core->stats().cached_prompt_tokens > 0);

  const auto bytes = static_cast<std::int64_t>(expected.core->kv_plan().block_bytes) * 10;
  Run tight(*plain, "models/qwen2", options_with(bytes)),
      captured_tight(recording, "models/qwen2", options_with(bytes));
  check_equal(captured_tight.answers(14), tight.answers(14));
  CHECK(captured_tight.core->stats().preemptions > 0);
  CHECK(captured_tight.core->stats().kv_blocks_total == 10);
}

TEST_CASE("steps with adapters are made anew, and mixtures that adapters may change always") {
  const LoraAdapter adapter = read_lora_adapter(open_adapter(kGolden + "lora/lora_qwen2_all"));
  const auto plain = make_cpu_backend({.threads = 2});
  DeviceBackend recording = recording_backend();
  Run expected(*plain, "models/qwen2", options_with()), captured(recording, "models/qwen2", options_with());
  const std::uint64_t of_expected = expected.core->load_adapter(adapter),
                      of_captured = captured.core->load_adapter(adapter);
  check_equal(captured.answers(6, of_captured), expected.answers(6, of_expected));
  check_equal(captured.answers(6), expected.answers(6));
  CHECK(recording.replays > 0);

  DeviceBackend other = recording_backend();
  Run mixture(other, "models/qwen2_moe", options_with()), plain_mixture(*plain, "models/qwen2_moe", options_with());
  check_equal(mixture.answers(5), plain_mixture.answers(5));
  CHECK(other.keys() == 0);

  EngineOptions without = options_with();
  without.max_adapters = 0;
  Run queued(other, "models/qwen2_moe", without), plain_queued(*plain, "models/qwen2_moe", without);
  check_equal(queued.answers(5), plain_queued.answers(5));
  CHECK(other.replays > 0);
}

}  // namespace
}  // namespace inferd
