// Fuzzes tokenizer.json: any text gives a tokenizer that encodes and decodes, or a CheckpointError.
#include <stdexcept>
#include <string>

#include "base/errors.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/weights/memory_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const inferd::test::MemoryCheckpoint checkpoint(
      {{"tokenizer.json", text}, {"config.json", R"({"model_type":"llama"})"}});
  try {
    inferd::test::use_tokenizer(*inferd::load_tokenizer(checkpoint));
  } catch (const std::runtime_error&) {
    // CheckpointError, or encode's own when a hostile split pattern exceeds its match limit.
  }
  return 0;
}
