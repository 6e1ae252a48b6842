// model_logits MODEL [THREADS [ISA]]: inferd's logits for token ids on stdin (u32 count, u32 ids, …), as f32 rows on
// stdout; the counterpart of tests/reference/peer_logits.cpp.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "base/errors.h"
#include "engine/fidelity/teacher_forced.h"
#include "engine/weights/checkpoint.h"
#include "kernels/backend.h"

using namespace inferd;

namespace {

int run(const char* path, int threads, const char* isa) {
  const auto backend = make_cpu_backend({.threads = threads, .isa = isa});
  const auto checkpoint = Checkpoint::open(path);
  ModelOptions options;
  options.max_batch_tokens = options.max_logit_rows = kTeacherChunk;
  const LoadedModel model = load_model(*checkpoint, read_model_config(*checkpoint), *backend, options);
  if (!model.decoder) return std::fprintf(stderr, "model_logits: not a decoder\n"), 65;
  TeacherForced forward(*model.decoder, *backend);
  std::uint32_t count = 0;
  while (std::fread(&count, 4, 1, stdin) == 1) {
    if (count > kMaxTeacherTokens) return 65;
    std::vector<TokenId> ids(count);
    if (std::fread(ids.data(), 4, count, stdin) != count) return 65;
    forward.run(ids, [](std::size_t, std::span<const float> row) { std::fwrite(row.data(), 4, row.size(), stdout); });
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) return std::fprintf(stderr, "usage: model_logits MODEL [THREADS [ISA]]\n"), 64;
  try {
    return run(argv[1], argc > 2 ? std::atoi(argv[2]) : 0, argc > 3 ? argv[3] : "auto");
  } catch (const FatalError& error) {
    return std::fprintf(stderr, "model_logits: %s\n", error.what()), static_cast<int>(error.code);
  }
}
