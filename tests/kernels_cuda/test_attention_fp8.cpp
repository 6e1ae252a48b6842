// Attention over a fp8 cache on the PTX interpreter: by plain arithmetic, and on tensor cores.
#include "tests/catch.h"
#include "tests/kernels_cuda/attention_steps.h"

using namespace inferd;
using namespace inferd::cuda::test;
using inferd::cuda::Kernel;

TEST_CASE("attention over fp8 is softmax(q k) v at every context length") { check_contexts(DType::fp8, 2, {24, 64}); }

TEST_CASE("attention over fp8 of every head size, decode rows and prefill chunks in one step") {
  check_heads(DType::fp8, {8, 16, 32, 64, 72, 80, 96, 112, 128, 136, 160, 192, 224, 248, 256});
}

TEST_CASE("attention over fp8 with a window, ALiBi, a soft cap, a shared prefix, many heads") {
  check_options(DType::fp8, {24, 64});
  check_all_options(DType::fp8, {96, 128, 224, 256});
}

TEST_CASE("rows of fp8 have scales of their own, down to the smallest and to zero") {
  for (const int dim : {64, 80, 128}) {
    AttentionShape shape{.heads = 2, .kv_heads = 1, .dim = dim, .type = DType::fp8};
    AttentionSequence a(shape, 70, 1);
    const auto width = static_cast<std::size_t>(dim);
    for (std::size_t row = 0; row < a.k.size() / width; ++row) {
      const float size = row % 7 == 0 ? 0.0f : row % 7 == 1 ? 1e-5f : row % 7 == 2 ? 1e-2f : 1.0f;
      for (std::size_t i = row * width; i < (row + 1) * width; ++i) {
        a.k[i] *= size;
        a.v[i] *= size;
      }
    }
    round_as_stored(a.k, DType::fp8, dim);
    round_as_stored(a.v, DType::fp8, dim);
    check_attention(shape, {{&a, 69, 70}, {&a, 0, 40}});
  }
}

TEST_CASE("every e4m3 code is read as its value, times the scale, by every architecture") {
  for (const int dim : {32, 64, 128, 256}) {
    const AttentionShape shape{.heads = 1, .kv_heads = 1, .dim = dim, .type = DType::fp8};
    // One key a sequence sees, so that its values come out as they are.
    std::vector<AttentionSequence> sequences;
    for (int first = 0; first < 256; first += dim - 1) {
      AttentionSequence one(shape, 1, static_cast<unsigned>(first));
      for (int i = 0; i < dim; ++i) {
        const int code = (first + i) & 0xff;
        one.v[static_cast<std::size_t>(i)] = static_cast<float>(
            (code & 0x7f) == 0x7f || i == dim - 1 ? 448.0 : ptxsim::decode_float(code, ptxsim::kE4m3));
      }
      sequences.push_back(std::move(one));
    }
    std::vector<AttentionChunk> chunks;
    for (const AttentionSequence& one : sequences) chunks.push_back({&one, 0, 1});
    for (const int arch : built_archs()) {
      CAPTURE(arch, dim);
      SimLauncher sim(arch, kAttentionWorkspace, 1);
      const std::vector<float> out = attend(sim, shape, chunks);
      for (std::size_t s = 0; s < sequences.size(); ++s) {
        for (std::size_t i = 0; i < static_cast<std::size_t>(dim); ++i) {
          CHECK(out[s * static_cast<std::size_t>(dim) + i] == sequences[s].v[i]);
        }
      }
    }
  }
}

TEST_CASE("a query's bits over fp8 do not depend on the batch, the chunks, the blocks or the workspace") {
  check_codes_company(DType::fp8, 24);
}

TEST_CASE("decoding over fp8 takes few warp instructions for a byte of the cache") {
  for (const int arch : built_archs()) {
    const bool converts = arch >= 89;  // two codes an instruction; else four for two
    check_codes_lint(DType::fp8, arch, {64, Kernel::attention_spans_fp8_64, converts ? 0.38 : 0.46});
    check_codes_lint(DType::fp8, arch, {128, Kernel::attention_spans_fp8_128, converts ? 0.30 : 0.37});
    check_codes_lint(DType::fp8, arch, {256, Kernel::attention_spans_fp8_256, converts ? 0.27 : 0.34});
  }
}

TEST_CASE("attention's fp8 kernels were run whole, without bank conflicts or wasted sectors") {
  CHECK(uncovered(Kernel::attention_fma_fp8) == "");
  for (const Kernel kernel : {Kernel::attention_tiles_fp8_64, Kernel::attention_spans_fp8_64,
                              Kernel::attention_tiles_fp8_128, Kernel::attention_spans_fp8_128}) {
    check_report(DType::fp8, kernel);
  }
  // A warp copies two wide rows at a time and of their sector of scales 4 bytes; the next ones find it in L1.
  check_report(DType::fp8, Kernel::attention_tiles_fp8_256, 0.94);
  check_report(DType::fp8, Kernel::attention_spans_fp8_256, 0.94);
}
