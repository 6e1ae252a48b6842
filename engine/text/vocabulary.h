// Vocabulary: what the tokenizer files say about each id, before a model is built from it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/string_table.h"
#include "engine/text/tokenizer.h"

namespace inferd {

/// Largest vocabulary and longest piece that are accepted from a file.
inline constexpr std::size_t kMaxVocabulary = std::size_t{1} << 22;
inline constexpr std::size_t kMaxPieceBytes = std::size_t{1} << 16;

/// Numbers as in SentencePiece and GGUF token types; `hole` is an id that no file names.
enum class PieceKind : std::uint8_t {
  hole = 0,
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

/// Pieces by id. A piece is in the form its model matches: bytes for byte-level BPE, else UTF-8 text.
struct Vocabulary {
  std::vector<std::string> pieces;
  std::vector<PieceKind> kinds;
  std::vector<double> scores;  // SentencePiece models only, else empty

  std::size_t size() const { return pieces.size(); }
  /// Grows to hold `id` and sets it. The caller has checked id < kMaxVocabulary.
  void set(std::size_t id, std::string piece, PieceKind kind);
};

/// A piece of nothing but spaces and line ends (or SentencePiece's "▁") steers no model, so even when a vocabulary
/// lists it as user-defined it is ordinary text.
bool is_blank_piece(std::string_view piece);

/// True if ordinary text may become this piece: control, unknown and user-defined pieces come from trusted text only.
bool is_matchable(const Vocabulary& vocabulary, std::size_t id);

/// The table a model searches: every piece by id, indexed where matchable.
StringTable make_lookup(const Vocabulary& vocabulary);

/// How ids become text again.
struct DecodeRules {
  std::vector<std::pair<std::string, std::string>> replace;  // in every ordinary piece, e.g. "▁" -> " "
  bool byte_fallback = false;                                // "<0x0A>" is one byte
  bool strip_leading_space = false;                          // the first token of a text loses one space
  bool word_pieces = false;                                  // a space before each piece that does not continue a word
  std::string continuing_prefix;                             // WordPiece: "##"
  bool cleanup = false;                                      // WordPiece: no space before punctuation and contractions
};

/// The bytes each id adds to a text. Control and user-defined pieces give their text as it is.
StringTable make_outputs(const Vocabulary& vocabulary, const DecodeRules& rules);

/// "<0xAB>" -> 0xAB; -1 for anything else.
int parse_byte_piece(std::string_view piece);

}  // namespace inferd
