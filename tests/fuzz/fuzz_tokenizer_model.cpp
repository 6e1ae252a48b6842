// Fuzzes tokenizer.model (a SentencePiece protobuf, or tiktoken text): any bytes give a tokenizer that works, or a
// CheckpointError. The first byte chooses the tokenizer class that stands beside the file.
#include <stdexcept>

#include "base/errors.h"
#include "tests/fuzz/use_tokenizer.h"
#include "tests/weights/memory_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr const char* kConfigs[] = {
      R"({"tokenizer_class":"LlamaTokenizer","legacy":false})",
      R"({"tokenizer_class":"LlamaTokenizer","add_bos_token":true,"add_eos_token":true})",
      R"({"tokenizer_class":"ChatGLMTokenizer"})",
      R"({"tokenizer_class":"ChatGLM4Tokenizer"})",
      R"({"tokenizer_class":"T5Tokenizer"})",
  };
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const inferd::test::MemoryCheckpoint checkpoint(
      {{"tokenizer.model", bytes}, {"tokenizer_config.json", kConfigs[data[0] % std::size(kConfigs)]}});
  try {
    inferd::test::use_tokenizer(*inferd::load_tokenizer(checkpoint));
  } catch (const inferd::CheckpointError&) {
  }
  return 0;
}
