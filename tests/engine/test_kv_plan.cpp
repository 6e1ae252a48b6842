// Sizing of the KV pool, and the shape of what is allocated.
#include "base/errors.h"
#include "engine/kv_cache/kv_cache.h"
#include "engine/sim/sim_backend.h"
#include "tests/catch.h"

namespace inferd {
namespace {

const KvSpec kSpec{2, 4, 8};                                 // 2 layers, 4 KV heads of 8
constexpr std::size_t kBlockBytes = 2 * 2 * 4 * 16 * 8 * 2;  // 4,096 in f16

ModelInfo info() {
  ModelInfo model;
  model.name.assign(1, 'm');
  model.max_context = 1000;
  return model;
}

TEST_CASE("automatic: a quarter of the memory, at most eight full contexts") {
  EngineOptions options;
  const KvPlan small = plan_kv_cache(info(), kSpec, options, 40 * kBlockBytes);
  CHECK(small.block_bytes == kBlockBytes);
  CHECK(small.num_blocks == 10);
  CHECK(small.context_length == 160);  // what one request can have
  const KvPlan large = plan_kv_cache(info(), kSpec, options, 100000 * kBlockBytes);
  CHECK(large.num_blocks == 8 * 63);
  CHECK(large.context_length == 1000);
  options.kv_full_contexts = 0;
  options.kv_memory_fraction = 0.5;
  CHECK(plan_kv_cache(info(), kSpec, options, 100000 * kBlockBytes).num_blocks == 50000);
}

TEST_CASE("q8_0 takes 34 bytes for 32 elements, and heads of whole runs of 32") {
  EngineOptions options;
  options.kv_dtype = DType::q8_0;
  CHECK(plan_kv_cache(info(), {2, 4, 64}, options, 1 << 30).block_bytes == 2 * 2 * 4 * 16 * 64 / 32 * 34);
  CHECK_THROWS_AS(plan_kv_cache(info(), {2, 4, 80}, options, 1 << 30), ConfigError);
  KvSpec fine{3, 4, 64};
  fine.fine_layers = {1};
  CHECK(plan_kv_cache(info(), fine, options, 1 << 30).block_bytes == 2 * 4 * 16 * (2 * 64 / 32 * 34 + 64 * 2));
  SimBackend backend;
  KvPlan plan;
  plan.num_blocks = 5;
  const KvCache cache(backend, fine, DType::q8_0, plan);
  CHECK(cache.layers()[0].keys.dtype == DType::q8_0);
  CHECK(cache.layers()[1].values.dtype == DType::f16);
  CHECK(cache.layers()[2].values.dtype == DType::q8_0);
  const auto* last = static_cast<const std::byte*>(cache.layers()[1].values.data);
  CHECK(static_cast<const std::byte*>(cache.layers()[2].keys.data) - last >= 5 * 4 * 16 * 64 * 2);
  options.kv_dtype = DType::q4_0;
  CHECK_THROWS_AS(plan_kv_cache(info(), {2, 4, 64}, options, 1 << 30), ConfigError);
}

TEST_CASE("fp8 takes a byte an element and two for a token's head, of any size, but not on a CPU") {
  EngineOptions options;
  options.kv_dtype = DType::fp8;
  CHECK(plan_kv_cache(info(), {2, 4, 64}, options, 1 << 30).block_bytes == 2 * 2 * 4 * 16 * (64 + 2));
  CHECK(plan_kv_cache(info(), {2, 4, 72}, options, 1 << 30).block_bytes == 2 * 2 * 4 * 16 * (72 + 2));
  KvSpec fine{3, 4, 64};
  fine.fine_layers = {1};
  CHECK(plan_kv_cache(info(), fine, options, 1 << 30).block_bytes == 2 * 4 * 16 * (2 * (64 + 2) + 64 * 2));
  const auto cpu = make_cpu_backend({.threads = 1});
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::q8_0}) {
    CHECK_NOTHROW(check_kv_backends(dtype, "m", *cpu, cpu.get()));
  }
  try {
    check_kv_backends(DType::fp8, "m", *cpu, nullptr);
    FAIL("the CPU has no such cache");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()) == "kv_cache_type: fp8 is kept on NVIDIA GPUs only, but m has layers on " +
                                           cpu->name() + "; q8_0 takes hardly more and is kept there too");
  }
}

TEST_CASE("an explicit context counts as the full one, and must fit") {
  EngineOptions options;
  options.context_length = 320;
  CHECK(plan_kv_cache(info(), kSpec, options, 100000 * kBlockBytes).num_blocks == 8 * 20);
  CHECK(plan_kv_cache(info(), kSpec, options, 80 * kBlockBytes).context_length == 320);
  try {
    plan_kv_cache(info(), kSpec, options, 76 * kBlockBytes);
    FAIL("19 blocks cannot hold 320 tokens");
  } catch (const MemoryError& error) {
    CHECK(error.code == ExitCode::no_memory);
    CHECK(std::string(error.what()).find(std::to_string(20 * kBlockBytes)) != std::string::npos);
    CHECK(std::string(error.what()).find(std::to_string(19 * kBlockBytes)) != std::string::npos);
  }
}

TEST_CASE("explicit memory, impossible wishes") {
  EngineOptions options;
  options.kv_cache_bytes = 7 * kBlockBytes + 5;
  CHECK(plan_kv_cache(info(), kSpec, options, 10 * kBlockBytes).num_blocks == 7);
  CHECK_THROWS_AS(plan_kv_cache(info(), kSpec, options, 6 * kBlockBytes), MemoryError);
  options.kv_cache_bytes = 5;
  CHECK_THROWS_AS(plan_kv_cache(info(), kSpec, options, 10 * kBlockBytes), MemoryError);
  options = {};
  options.context_length = 1001;
  CHECK_THROWS_AS(plan_kv_cache(info(), kSpec, options, 1 << 30), ConfigError);
  options = {};
  options.kv_dtype = DType::q4_0;
  CHECK_THROWS_AS(plan_kv_cache(info(), kSpec, options, 1 << 30), ConfigError);
  options = {};
  CHECK_THROWS_AS(plan_kv_cache(info(), kSpec, options, 0), MemoryError);
}

TEST_CASE("layers do not overlap and have the catalogue's shape") {
  SimBackend backend;
  EngineOptions options;
  options.kv_cache_bytes = 3 * kBlockBytes;
  const KvPlan plan = plan_kv_cache(info(), kSpec, options, 1 << 20);
  const KvCache cache(backend, kSpec, DType::f16, plan);
  CHECK(backend.allocations() == 1);
  REQUIRE(cache.layers().size() == 2);
  const std::byte* previous_end = nullptr;
  for (const KvLayer& layer : cache.layers()) {
    for (const Tensor& half : {layer.keys, layer.values}) {
      CHECK(half.rank == 4);
      CHECK(half.shape == std::array<std::int64_t, 4>{3, 4, 16, 8});
      CHECK(half.row_stride == 4 * 16 * 8);
      const auto* begin = half.as<std::byte>();
      if (previous_end != nullptr) CHECK(begin >= previous_end);
      previous_end = begin + half.elements() * 2;
    }
  }
}

}  // namespace
}  // namespace inferd
