// peer_logits MODEL THREADS [f16|q8_0]: llama.cpp's logits for token ids on stdin (u32 count, u32 ids, …), as f32 rows
// on stdout. The third argument is the type of its KV cache.
// Built against llama.cpp by hand (see docs/benchmarks.md); not part of the project's build.
#include <llama.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) return std::fprintf(stderr, "usage: peer_logits MODEL THREADS [f16|q8_0]\n"), 64;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (!model) return std::fprintf(stderr, "peer_logits: cannot load %s\n", argv[1]), 65;
  llama_context_params params = llama_context_default_params();
  params.n_ctx = 1024;
  params.n_batch = params.n_ubatch = 512;
  if (argc == 4 && std::strcmp(argv[3], "q8_0") == 0) params.type_k = params.type_v = GGML_TYPE_Q8_0;
  params.n_threads = params.n_threads_batch = std::atoi(argv[2]);
  llama_context* context = llama_init_from_model(model, params);
  if (!context) return std::fprintf(stderr, "peer_logits: no context\n"), 70;
  const size_t vocab = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));

  std::uint32_t count = 0;
  while (std::fread(&count, 4, 1, stdin) == 1) {
    std::vector<llama_token> ids(count);
    if (count > 512 || std::fread(ids.data(), 4, count, stdin) != count) return 65;
    llama_memory_clear(llama_get_memory(context), true);
    llama_batch batch = llama_batch_init(static_cast<int>(count), 0, 1);
    for (std::uint32_t i = 0; i < count; ++i) {
      batch.token[i] = ids[i];
      batch.pos[i] = static_cast<llama_pos>(i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    batch.n_tokens = static_cast<int>(count);
    if (llama_decode(context, batch) != 0) return std::fprintf(stderr, "peer_logits: decode failed\n"), 70;
    for (std::uint32_t i = 0; i < count; ++i)
      std::fwrite(llama_get_logits_ith(context, static_cast<int>(i)), 4, vocab, stdout);
    std::fflush(stdout);
    llama_batch_free(batch);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}
