// Fuzzes tokenizer.json: any text gives a tokenizer that encodes and decodes, or a CheckpointError.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "base/errors.h"
#include "base/utf8.h"
#include "engine/text/tokenizer.h"
#include "tests/weights/memory_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const inferd::test::MemoryCheckpoint checkpoint(
      {{"tokenizer.json", text}, {"config.json", R"({"model_type":"llama"})"}});
  try {
    const auto tokenizer = inferd::load_tokenizer(checkpoint);
    const auto input = inferd::MarkedText::trusted("Hello  w\xc3\xb6rld 123 <s></s> \xe4\xbd\xa0\xf0\x9f\x98\x80\n");
    const auto ids = tokenizer->encode(input, true);
    for (inferd::TokenId id : ids) {
      if (id < 0) std::abort();
      tokenizer->token_bytes(id);
      tokenizer->is_special(id);
    }
    if (!inferd::is_valid_utf8(tokenizer->decode(ids, false))) std::abort();
    for (inferd::TokenId id : {-1, 0, 2147483647}) tokenizer->token_bytes(id);
  } catch (const std::runtime_error&) {
    // CheckpointError, or encode's own when a hostile split pattern exceeds its match limit.
  }
  return 0;
}
