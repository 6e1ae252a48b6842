// Attention's tests over every type of cache: steps, how exact they are, and what their kernels may cost.
#pragma once

#include "tests/kernels_cuda/attention_company.h"

namespace inferd::cuda::test {

inline bool has_codes(DType type) { return type == DType::q8_0 || type == DType::fp8; }

inline bool on_tensor_cores(DType type, int dim) {
  if (type == DType::f32) return false;
  return dim == 64 || dim == 128 || dim == 256 || (!has_codes(type) && (dim == 80 || dim == 96));
}

/// Values are normals, so weights' errors of e give sums' errors of about 4 e. Plain arithmetic: scores of normals stay
/// below 8 and take dim roundings, e is 8 * 2^-24 * sqrt(dim). Tensor cores round queries and weights to 16 bits. A
/// weight's error of 2^-12 (f16) averages out to less than that in a sum of normals, below 5 in size; a score's is
/// 2^-12 of the length of q times that of one key, 8 at most. Of code * scale the product is rounded too: that costs a
/// score as much again, and once more for values.
inline double attention_tolerance(DType type, int dim) {
  if (!on_tensor_cores(type, dim)) return 3e-5;
  return has_codes(type) ? 4e-3 : type == DType::f16 ? 2e-3 : 1.6e-2;
}

/// bf16 came to tensor cores with sm_80.
inline std::vector<int> attention_archs(DType type, int dim) {
  std::vector<int> archs = built_archs();
  if (type == DType::bf16 && on_tensor_cores(type, dim)) std::erase(archs, 75);
  return archs;
}

inline void check_attention(const AttentionShape& shape, const std::vector<AttentionChunk>& chunks, int schedules = 1) {
  for (const int arch : attention_archs(shape.type, shape.dim)) {
    CAPTURE(arch, shape.dim, shape.window, shape.prefix);
    SimLauncher sim(arch, kAttentionWorkspace, schedules);
    CHECK(attention_error(shape, chunks, attend(sim, shape, chunks)) <= attention_tolerance(shape.type, shape.dim));
  }
}

/// Decode rows and chunks around the borders of pages, tiles and spans; `kv_heads` of 4 heads.
inline void check_contexts(DType type, int kv_heads, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    const AttentionShape shape{.heads = 4, .kv_heads = kv_heads, .dim = dim, .type = type};
    for (const int context : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 257, 600}) {
      CAPTURE(context);
      const AttentionSequence sequence(shape, context, static_cast<unsigned>(context));
      const int schedules = context < 300 && on_tensor_cores(type, dim) ? 2 : 1;
      check_attention(shape, {{&sequence, context - 1, context}}, schedules);
      if (context < 300) check_attention(shape, {{&sequence, std::max(0, context - 20), context}}, schedules);
    }
  }
}

/// Decode rows and prefill chunks in one step.
inline void check_heads(DType type, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    const AttentionShape shape{.heads = 6, .kv_heads = 2, .dim = dim, .type = type};
    const AttentionSequence a(shape, 70, 1), b(shape, 40, 2);
    check_attention(shape, {{&a, 69, 70}, {&b, 5, 40}, {&a, 60, 63}},
                    has_codes(type) && (dim == 64 || dim == 256) ? 6 : 2);
  }
}

/// A window, ALiBi, a soft cap, a shared prefix, each alone; many heads. Windows and heads are of 64.
inline void check_options(DType type, std::initializer_list<int> dims) {
  const auto mixed = [](const AttentionShape& shape) {
    const AttentionSequence a(shape, 290, 1), b(shape, 90, 2), c(shape, 33, 3);
    check_attention(shape, {{&a, 289, 290}, {&b, 3, 90}, {&c, 0, 33}, {&a, 254, 258}});
  };
  for (const int window : {1, 16, 17, 63, 64, 65, 257}) {
    mixed({.heads = 2, .kv_heads = 2, .dim = 64, .type = type, .window = window});
  }
  for (const int dim : dims) {
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .softcap = 5.0f});
    mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .alibi = true});
    for (const int prefix : {1, 32, 63, 64, 65, 80}) {
      mixed({.heads = 2, .kv_heads = 1, .dim = dim, .type = type, .prefix = prefix});
    }
  }
  const AttentionShape many{.heads = 40, .kv_heads = 2, .dim = 64, .type = type};  // more than an mma has rows
  const AttentionSequence a(many, 40, 1);
  check_attention(many, {{&a, 39, 40}, {&a, 0, 9}});
}

/// All options at once.
inline void check_all_options(DType type, std::initializer_list<int> dims) {
  for (const int dim : dims) {
    const AttentionShape shape{.heads = 5,
                               .kv_heads = 1,
                               .dim = dim,
                               .type = type,
                               .window = 200,
                               .softcap = 5.0f,
                               .alibi = true,
                               .prefix = 20};
    const AttentionSequence a(shape, 300, 1), b(shape, 30, 2);
    check_attention(shape, {{&a, 299, 300}, {&b, 3, 30}, {&a, 250, 258}});
  }
}

/// `plain`: a head size without tensor cores.
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

/// A tensor-core kernel of `type`: run whole, without bank conflicts or wasted sectors.
inline void check_report(DType type, Kernel kernel, double sector_use = 0.95) {
  for (const int arch : attention_archs(type, 64)) {
    const ptxsim::KernelReport found = report(kernel, arch);
    CAPTURE(arch, found.kernel, ptxsim::format_report({found}), found.never_executed);
    CHECK(found.coverage >= 0.95);
    CHECK(static_cast<double>(found.shared_wavefronts) <= 1.05 * static_cast<double>(found.shared_requests));
    CHECK(found.sector_use >= sector_use);
  }
}

}  // namespace inferd::cuda::test
