// Speed of tokenisation: MB/s of one thread over whole files. Usage: bench_tokenizer MODEL TEXT_FILE ...
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"

using namespace inferd;

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fputs("usage: bench_tokenizer MODEL TEXT_FILE ...\n", stderr);
    return 64;
  }
  const auto checkpoint = Checkpoint::open(argv[1]);
  const auto tokenizer = load_tokenizer(*checkpoint);
  for (int i = 2; i < argc; ++i) {
    std::ifstream in(argv[i], std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    const MarkedText marked = MarkedText::untrusted(text);
    std::vector<double> seconds;
    std::size_t tokens = 0;
    for (int run = 0; run < 5; ++run) {
      const auto start = std::chrono::steady_clock::now();
      tokens = tokenizer->encode(marked, false).size();
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    std::printf("%s: %zu bytes, %zu tokens, %.2f MB/s\n", argv[i], text.size(), tokens,
                static_cast<double>(text.size()) / seconds[2] / 1e6);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
  return 1;
}
