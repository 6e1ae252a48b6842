// Attention's tests over caches of 8-bit codes with scales, q8_0 and fp8: the same steps for both.
#pragma once

#include "tests/kernels_cuda/attention_company.h"

namespace inferd::cuda::test {

/// Plain arithmetic takes code * scale as it is. Tensor cores round it to f16, as they do queries and weights, by 2^-11
/// at most: twice what f16 pages cost a score (2e-3 in all), and once more for values.
inline double codes_tolerance(int dim) { return dim == 64 || dim == 128 || dim == 256 ? 4e-3 : 3e-5; }

inline void check_codes(const AttentionShape& shape, const std::vector<AttentionChunk>& chunks, int schedules = 1) {
  for (const int arch : built_archs()) {
    CAPTURE(arch, shape.dim, shape.window, shape.prefix);
    SimLauncher sim(arch, kAttentionWorkspace, schedules);
    CHECK(attention_error(shape, chunks, attend(sim, shape, chunks)) <= codes_tolerance(shape.dim));
  }
}

/// Decode rows and chunks around the borders of pages, tiles and spans.
inline void check_codes_contexts(DType type, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    const AttentionShape shape{.heads = 4, .kv_heads = 2, .dim = dim, .type = type};
    for (const int context : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 600}) {
      CAPTURE(context);
      const AttentionSequence sequence(shape, context, static_cast<unsigned>(context));
      const int schedules = context < 300 && dim == 64 ? 2 : 1;
      check_codes(shape, {{&sequence, context - 1, context}}, schedules);
      if (context < 300) check_codes(shape, {{&sequence, std::max(0, context - 20), context}}, schedules);
    }
  }
}

/// Decode rows and prefill chunks in one step.
inline void check_codes_heads(DType type, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    const AttentionShape shape{.heads = 6, .kv_heads = 2, .dim = dim, .type = type};
    const AttentionSequence a(shape, 70, 1), b(shape, 40, 2);
    check_codes(shape, {{&a, 69, 70}, {&b, 5, 40}, {&a, 60, 63}}, dim == 64 || dim == 256 ? 6 : 2);
  }
}

/// A window, ALiBi, a soft cap, a shared prefix, many heads; `plain`: a head size without tensor cores.
inline void check_codes_options(DType type, int plain) {
  const auto mixed = [](const AttentionShape& shape) {
    const AttentionSequence a(shape, 290, 1), b(shape, 90, 2), c(shape, 33, 3);
    check_codes(shape, {{&a, 289, 290}, {&b, 3, 90}, {&c, 0, 33}, {&a, 254, 258}});
  };
  for (const int window : {1, 16, 17, 63, 64, 65, 257}) {
    mixed({.heads = 2, .kv_heads = 2, .dim = 64, .type = type, .window = window});
  }
  for (const int dim : {plain, 64}) {
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .softcap = 5.0f});
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .alibi = true});
    for (const int prefix : {1, 63, 64, 65, 80}) {
      mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .prefix = prefix});
    }
  }
  for (const int dim : {96, 128, 224, 256}) {
    const AttentionShape shape{.heads = 5,
                               .kv_heads = 1,
                               .dim = dim,
                               .type = type,
                               .window = 200,
                               .softcap = 5.0f,
                               .alibi = true,
                               .prefix = 20};
    const AttentionSequence a(shape, 300, 1), b(shape, 30, 2);
    check_codes(shape, {{&a, 299, 300}, {&b, 3, 30}, {&a, 250, 258}});
  }
  const AttentionShape many{.heads = 40, .kv_heads = 2, .dim = 64, .type = type};  // more than an mma has rows
  const AttentionSequence a(many, 40, 1);
  check_codes(many, {{&a, 39, 40}, {&a, 0, 9}});
}

/// `plain`: likewise.
inline void check_codes_company(DType type, int plain) {
  for (const AttentionShape& shape :
       {AttentionShape{.heads = 4, .kv_heads = 2, .dim = plain, .type = type, .window = 70, .alibi = true},
        AttentionShape{.heads = 4, .kv_heads = 2, .dim = 64, .type = type},
        AttentionShape{.heads = 2, .kv_heads = 1, .dim = 128, .type = type, .softcap = 3.0f},
        AttentionShape{.heads = 1, .kv_heads = 1, .dim = 256, .type = type, .window = 70}}) {
    check_company(built_archs().back(), shape, {0, 63, 64, 255, 256, 289});
  }
}

/// A decoding kernel, and its warp instructions for a byte of the cache at most.
struct CodesLint {
  int dim;
  Kernel kernel;
  double most;
};
inline void check_codes_lint(DType type, int arch, const CodesLint& lint) {
  constexpr int kContext = 1024;
  const AttentionShape shape{.heads = 8, .kv_heads = 1, .dim = lint.dim, .type = type};
  const AttentionSequence sequence(shape, kContext, 1);
  SimLauncher sim(arch, kAttentionWorkspace, 1);
  const auto before = report(lint.kernel, arch).instructions;
  attend(sim, shape, {{&sequence, kContext - 1, kContext}});
  const auto taken = static_cast<double>(report(lint.kernel, arch).instructions - before);
  const double per_byte = taken / static_cast<double>(2 * kv_bytes(type, kContext, lint.dim));
  CAPTURE(arch, lint.dim);
  CHECK(per_byte <= lint.most);
}

/// Run whole, without bank conflicts or wasted sectors.
inline void check_codes_report(Kernel kernel, double sector_use = 0.95) {
  for (const int arch : built_archs()) {
    const ptxsim::KernelReport found = report(kernel, arch);
    CAPTURE(arch, found.kernel, ptxsim::format_report({found}), found.never_executed);
    CHECK(found.coverage >= 0.95);
    CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
    CHECK(found.sector_use >= sector_use);
  }
}

}  // namespace inferd::cuda::test
