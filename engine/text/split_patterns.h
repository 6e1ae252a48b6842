// The published pre-tokenizer patterns of byte-level vocabularies, and GPT-2's byte alphabet.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace inferd {

/// GPT-2: contractions, words, numbers, other characters, white space.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
/// Llama 3 and GLM-4: digits in groups of up to three.
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
/// Qwen 1 to 3: single digits.
inline constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// How a GGUF file's tokenizer.ggml.pre cuts text.
struct SplitRecipe {
  std::string_view name;
  std::span<const std::string_view> patterns;  // applied one after the other, matches and gaps both kept
  bool nfc = false;                            // not recorded in the file, but part of the original tokenizer
  bool ignore_merges = false;
  bool add_bos = false;     // when the file has no tokenizer.ggml.add_bos_token
  bool glm_prefix = false;  // every text starts with [gMASK] <sop>
};

/// Null for a name that is not in the table.
const SplitRecipe* find_split_recipe(std::string_view name);
/// All names in the table, for error messages.
std::string split_recipe_names();

/// The bytes that a piece in GPT-2's printable alphabet stands for; nullopt if a character is not in the alphabet.
std::optional<std::string> bytes_of_gpt2_piece(std::string_view piece);
/// The other way round.
std::string gpt2_piece_of_bytes(std::string_view bytes);

}  // namespace inferd
