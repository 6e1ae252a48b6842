// One row for each tokenizer.ggml.pre that is known.
#include "engine/text/split_patterns.h"

#include <array>

#include "base/utf8.h"

namespace inferd {
namespace {

constexpr std::string_view kGpt2[] = {kGpt2Pattern};
constexpr std::string_view kLlama3[] = {kLlama3Pattern};
constexpr std::string_view kQwen[] = {kQwenPattern};
constexpr std::string_view kQwen35[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::string_view kTekken[] = {
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::string_view kDigitsGpt2[] = {R"(\p{N})", kGpt2Pattern};
constexpr std::string_view kBloom[] = {R"( ?[^(\s|[.,!?…。，、।۔،])]+)"};
constexpr std::string_view kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", R"([0-9][0-9][0-9])"};

constexpr SplitRecipe kRecipes[] = {
    {.name = "default", .patterns = kDefault},
    {.name = "gpt-2", .patterns = kGpt2},
    {.name = "phi-2", .patterns = kGpt2},
    {.name = "roberta-bpe", .patterns = kGpt2},
    {.name = "llama-bpe", .patterns = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .patterns = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .patterns = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "qwen2", .patterns = kQwen, .nfc = true},
    {.name = "deepseek-r1-qwen", .patterns = kQwen, .nfc = true},
    {.name = "tekken", .patterns = kTekken, .ignore_merges = true, .add_bos = true},  // Mistral since Nemo
    {.name = "qwen35", .patterns = kQwen35, .nfc = true},
    {.name = "chatglm-bpe", .patterns = kLlama3, .ignore_merges = true, .glm_prefix = true},
    {.name = "glm4", .patterns = kLlama3, .ignore_merges = true, .glm_prefix = true},
    {.name = "bloom", .patterns = kBloom},
    {.name = "smollm", .patterns = kDigitsGpt2},
    {.name = "starcoder", .patterns = kDigitsGpt2},
    {.name = "refact", .patterns = kDigitsGpt2},
};

/// Printable characters stand for themselves; the 68 other bytes follow from U+0100 on.
struct ByteAlphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 0x180> byte{};
  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<int>(b);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

const SplitRecipe* find_split_recipe(std::string_view name) {
  for (const SplitRecipe& recipe : kRecipes) {
    if (recipe.name == name) return &recipe;
  }
  return nullptr;
}

std::string split_recipe_names() {
  std::string names;
  for (const SplitRecipe& recipe : kRecipes) names.append(names.empty() ? "" : ", ").append(recipe.name);
  return names;
}

std::optional<std::string> bytes_of_gpt2_piece(std::string_view piece) {
  const ByteAlphabet& table = alphabet();
  std::string bytes;
  bytes.reserve(piece.size());
  for (std::size_t at = 0; at < piece.size();) {
    const char32_t c = decode_utf8(piece, &at);
    if (c >= table.byte.size() || table.byte[c] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(table.byte[c]));
  }
  return bytes;
}

std::string gpt2_piece_of_bytes(std::string_view bytes) {
  std::string piece;
  for (const char c : bytes) append_utf8(&piece, alphabet().character[static_cast<unsigned char>(c)]);
  return piece;
}

}  // namespace inferd
