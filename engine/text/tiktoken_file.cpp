// Ranks and the merges that follow from them.
#include "engine/text/tiktoken_file.h"

#include <charconv>
#include <string>
#include <unordered_map>

#include "base/errors.h"
#include "engine/text/base64.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxMergedBytes = 512;  // longer tokens are only found whole

/// "aGVsbG8= 123" -> bytes and rank; false if the line is not that.
bool parse_line(std::string_view line, std::string* bytes, std::size_t* rank) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || space == 0) return false;
  const std::optional<std::string> decoded = decode_base64(line.substr(0, space));
  const std::string_view number = line.substr(space + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), *rank);
  if (!decoded || decoded->empty() || error != std::errc() || end != number.data() + number.size()) return false;
  *bytes = *decoded;
  return true;
}

std::string_view next_line(std::string_view* text) {
  const std::size_t end = std::min(text->find('\n'), text->size());
  std::string_view line = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

bool is_tiktoken_text(std::string_view text) {
  std::string bytes;
  std::size_t rank = 0;
  return parse_line(next_line(&text), &bytes, &rank);
}

std::vector<BpeMerge> read_tiktoken(std::string_view text, TokenizerParts* parts) {
  Vocabulary& vocabulary = parts->vocabulary;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = next_line(&text);
    if (line.empty()) continue;
    std::string bytes;
    std::size_t rank = 0;
    if (!parse_line(line, &bytes, &rank) || rank >= kMaxVocabulary || bytes.size() > kMaxPieceBytes) {
      throw CheckpointError(parts->file, "line " + std::to_string(number), "base64 and a rank", "something else");
    }
    if (rank < vocabulary.size() && vocabulary.kinds[rank] != PieceKind::hole) {
      throw CheckpointError(parts->file, "line " + std::to_string(number), "a rank of its own", std::to_string(rank));
    }
    vocabulary.set(rank, std::move(bytes), PieceKind::normal);
  }
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) ids.emplace(vocabulary.pieces[id], static_cast<TokenId>(id));
  // Two neighbours merge whenever their concatenation is a token, and its rank decides: every split of it is a merge.
  std::vector<BpeMerge> merges;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view piece = vocabulary.pieces[id];
    if (piece.size() > kMaxMergedBytes) continue;
    for (std::size_t cut = 1; cut < piece.size(); ++cut) {
      const auto left = ids.find(piece.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(piece.substr(cut));
      if (right == ids.end()) continue;
      merges.push_back({left->second, right->second, static_cast<TokenId>(id), static_cast<std::uint32_t>(id)});
    }
  }
  return merges;
}

}  // namespace inferd
