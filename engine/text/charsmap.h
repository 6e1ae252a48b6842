// Charsmap: SentencePiece's compiled normalisation rules, a double-array trie with replacement strings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace inferd {

/// Immutable and thread-safe.
class Charsmap {
 public:
  /// Reads `precompiled_charsmap`: u32 size of the trie in bytes, its u32 units, NUL-terminated replacements (all
  /// little endian). Throws CheckpointError(`file`, …).
  static Charsmap parse(std::string_view blob, const std::string& file);

  /// The longest rule that starts `text`: bytes matched and what replaces them.
  std::optional<std::pair<std::size_t, std::string_view>> longest(std::string_view text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace inferd
