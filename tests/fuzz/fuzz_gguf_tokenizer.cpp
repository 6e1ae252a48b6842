// Fuzzes the tokenizer and chat template keys of a GGUF file: any bytes give ones that work, or a CheckpointError.
#include <stdexcept>

#include "base/errors.h"
#include "engine/text/chat_template.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/weights/memory_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const inferd::test::MemoryCheckpoint checkpoint(
        std::span<const std::byte>(reinterpret_cast<const std::byte*>(data), size));
    const auto tokenizer = inferd::load_tokenizer(checkpoint);
    inferd::test::use_tokenizer(*tokenizer);
    inferd::load_chat_template(checkpoint, *tokenizer);
  } catch (const inferd::CheckpointError&) {
  }
  return 0;
}
