// peer_quantize TYPE COLUMNS: f32 rows on stdin become blocks of a GGUF type (its number) on stdout, by ggml's
// quantisers. Every column is weighted alike. Built against llama.cpp by hand, like peer_logits.cpp; not part of the
// project's build.
#include <ggml.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: peer_quantize TYPE COLUMNS\n"), 64;
  const auto type = static_cast<ggml_type>(std::atoi(argv[1]));
  const std::int64_t columns = std::atoll(argv[2]);
  if (columns <= 0 || columns % ggml_blck_size(type) != 0) return std::fprintf(stderr, "peer_quantize: columns\n"), 64;
  std::vector<float> row(static_cast<size_t>(columns));
  const std::vector<float> weights(row.size(), 1.0f);
  std::vector<std::uint8_t> blocks(ggml_row_size(type, columns));
  while (std::fread(row.data(), 4, row.size(), stdin) == row.size()) {
    ggml_quantize_chunk(type, row.data(), blocks.data(), 0, 1, columns, weights.data());
    if (std::fwrite(blocks.data(), 1, blocks.size(), stdout) != blocks.size()) return 74;
  }
  return 0;
}
