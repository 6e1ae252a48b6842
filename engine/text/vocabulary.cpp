// What pieces match and what they print.
#include "engine/text/vocabulary.h"

namespace inferd {
namespace {

void replace_all(std::string* text, std::string_view from, std::string_view to) {
  if (from.empty()) return;
  for (std::size_t at = text->find(from); at != std::string::npos; at = text->find(from, at + to.size())) {
    text->replace(at, from.size(), to);
  }
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/// The reference's tidying of one WordPiece token, with the space that joins it to the text before.
std::string clean_up(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(&text, from, to);
  return text;
}

std::string output_of(std::string piece, PieceKind kind, const DecodeRules& rules) {
  if (kind == PieceKind::hole) return {};
  const bool literal = kind == PieceKind::control || kind == PieceKind::unknown;
  if (rules.byte_fallback && !literal) {
    if (const int byte = parse_byte_piece(piece); byte >= 0) return std::string(1, static_cast<char>(byte));
  }
  if (rules.word_pieces) {
    if (!rules.continuing_prefix.empty() && piece.starts_with(rules.continuing_prefix)) {
      piece.erase(0, rules.continuing_prefix.size());
    } else {
      piece.insert(piece.begin(), ' ');
    }
    return rules.cleanup ? clean_up(std::move(piece)) : piece;
  }
  if (!literal) {
    for (const auto& [from, to] : rules.replace) replace_all(&piece, from, to);
  }
  return piece;
}

}  // namespace

void Vocabulary::set(std::size_t id, std::string piece, PieceKind kind) {
  if (id >= pieces.size()) {
    pieces.resize(id + 1);
    kinds.resize(id + 1, PieceKind::hole);
    if (!scores.empty()) scores.resize(id + 1, 0.0);
  }
  pieces[id] = std::move(piece);
  kinds[id] = kind;
}

bool is_blank_piece(std::string_view piece) {
  if (piece.empty()) return false;
  for (std::size_t i = 0; i < piece.size();) {
    if (piece[i] == ' ' || piece[i] == '\t' || piece[i] == '\n' || piece[i] == '\r') {
      ++i;
    } else if (piece.substr(i).starts_with("\u2581")) {
      i += 3;
    } else {
      return false;
    }
  }
  return true;
}

bool is_matchable(const Vocabulary& vocabulary, std::size_t id) {
  const PieceKind kind = vocabulary.kinds[id];
  if (vocabulary.pieces[id].empty()) return false;
  return kind == PieceKind::normal || (kind == PieceKind::user_defined && is_blank_piece(vocabulary.pieces[id]));
}

StringTable make_lookup(const Vocabulary& vocabulary) {
  StringTable table;
  for (const std::string& piece : vocabulary.pieces) table.add(piece);
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (is_matchable(vocabulary, id)) table.index(static_cast<std::uint32_t>(id));
  }
  return table;
}

StringTable make_outputs(const Vocabulary& vocabulary, const DecodeRules& rules) {
  StringTable table;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    table.add(output_of(vocabulary.pieces[id], vocabulary.kinds[id], rules));
  }
  return table;
}

int parse_byte_piece(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  const int high = hex_digit(piece[3]);
  const int low = hex_digit(piece[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace inferd
