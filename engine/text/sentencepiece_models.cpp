// SentencePiece's two ways to cut text into pieces.
#include "engine/text/sentencepiece_models.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "base/utf8.h"

namespace inferd {

UnknownCharacters::UnknownCharacters(const Vocabulary& vocabulary, TokenId unk, bool fallback)
    : unk_(unk), fallback_(fallback) {
  bytes_.fill(-1);
  for (std::size_t id = 0; id < vocabulary.size() && fallback; ++id) {
    if (vocabulary.kinds[id] != PieceKind::byte && vocabulary.kinds[id] != PieceKind::normal) continue;
    const int byte = parse_byte_piece(vocabulary.pieces[id]);
    if (byte >= 0 && bytes_[byte] < 0) bytes_[byte] = static_cast<TokenId>(id);
  }
}

void UnknownCharacters::append(std::string_view character, std::vector<TokenId>* out) {
  if (fallback_ && std::all_of(character.begin(), character.end(),
                               [&](char c) { return bytes_[static_cast<unsigned char>(c)] >= 0; })) {
    for (const char c : character) out->push_back(bytes_[static_cast<unsigned char>(c)]);
    after_unknown_ = false;
    return;
  }
  if (unk_ >= 0 && !after_unknown_) out->push_back(unk_);
  after_unknown_ = true;
}

namespace {

bool is_blank_user_defined(const Vocabulary& vocabulary, std::size_t id) {
  return vocabulary.kinds[id] == PieceKind::user_defined && is_blank_piece(vocabulary.pieces[id]);
}

/// A run of text that is one piece so far, in a doubly linked list.
struct Symbol {
  std::int64_t previous, next;
  std::uint32_t begin, size;
  bool frozen;
};

struct Join {
  float score;
  std::uint32_t left, right;  // symbols
  std::uint32_t size;         // bytes when offered; a mismatch means the offer is outdated
  TokenId piece;
  bool operator<(const Join& other) const { return score != other.score ? score < other.score : left > other.left; }
};

/// One symbol a character, but blank user-defined pieces in one.
std::vector<Symbol> split_symbols(std::string_view word, const ByteTrie& blanks) {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  for (std::size_t at = 0; at < word.size();) {
    std::size_t size = 0;
    blanks.each_prefix(word.substr(at), [&](std::size_t length, std::int32_t) { size = length; });
    const bool frozen = size > 0;
    if (!frozen) {
      std::size_t next = at;
      decode_utf8(word, &next);
      size = next - at;
    }
    const auto index = static_cast<std::int64_t>(symbols.size());
    symbols.push_back({index - 1, index + 1, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(size), frozen});
    at += size;
  }
  if (!symbols.empty()) symbols.back().next = -1;
  return symbols;
}

}  // namespace

SpmBpeModel::SpmBpeModel(const Vocabulary& vocabulary, TokenId unk, bool byte_fallback)
    : unknown_(vocabulary, unk, byte_fallback) {
  scores_.resize(vocabulary.size(), 0.0f);
  unused_.resize(vocabulary.size(), false);
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    lookup_.add(vocabulary.pieces[id]);
    if (id < vocabulary.scores.size()) scores_[id] = static_cast<float>(vocabulary.scores[id]);
    unused_[id] = vocabulary.kinds[id] == PieceKind::unused;
    if (is_blank_user_defined(vocabulary, id)) blanks_.add(vocabulary.pieces[id], static_cast<TokenId>(id));
    if (vocabulary.pieces[id].empty() || !(is_matchable(vocabulary, id) || unused_[id])) continue;
    lookup_.index(static_cast<std::uint32_t>(id));
  }
}

void SpmBpeModel::encode(std::string_view word, std::vector<TokenId>* out) const {
  std::vector<Symbol> symbols = split_symbols(word, blanks_);
  if (symbols.empty()) return;

  std::priority_queue<Join> queue;
  const auto offer = [&](std::int64_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Symbol& a = symbols[left];
    const Symbol& b = symbols[a.next];
    if (a.frozen || b.frozen) return;
    const TokenId piece = lookup_.find(word.substr(a.begin, a.size + b.size));
    if (piece < 0) return;
    queue.push(
        {scores_[piece], static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(a.next), a.size + b.size, piece});
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) offer(static_cast<std::int64_t>(i));
  // How unused pieces came about: they are taken apart again if they are left at the end.
  FlatMap parts;  // begin << 32 | size of an unused piece -> size of its left part
  while (!queue.empty()) {
    const Join top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.left];
    Symbol& right = symbols[top.right];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    if (unused_[top.piece]) parts.insert((std::uint64_t{left.begin} << 32) | top.size, left.size);
    left.size += right.size;
    left.next = right.next;
    if (right.next >= 0) symbols[right.next].previous = top.left;
    right.size = 0;
    offer(left.previous);
    offer(top.left);
  }

  UnknownCharacters unknown = unknown_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> pending;
  for (std::int64_t i = 0; i >= 0; i = symbols[i].next) {
    pending.assign(1, {symbols[i].begin, symbols[i].size});
    while (!pending.empty()) {
      const auto [begin, size] = pending.back();
      pending.pop_back();
      const std::string_view text = word.substr(begin, size);
      const TokenId id = lookup_.find(text);
      if (id >= 0 && unused_[id]) {
        if (const std::uint64_t* cut = parts.find((std::uint64_t{begin} << 32) | size)) {
          const auto first = static_cast<std::uint32_t>(*cut);
          pending.push_back({begin + first, size - first});
          pending.push_back({begin, first});
          continue;
        }
      }
      if (id >= 0) {
        out->push_back(id);
        unknown.known();
      } else {
        unknown.append(text, out);
      }
    }
  }
}

UnigramModel::UnigramModel(const Vocabulary& vocabulary, const UnigramOptions& options)
    : options_(options), unknown_(vocabulary, options.unk, options.byte_fallback) {
  scores_.resize(vocabulary.size(), 0.0);
  double lowest = std::numeric_limits<double>::max();
  double highest = std::numeric_limits<double>::lowest();
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (id < vocabulary.scores.size()) scores_[id] = vocabulary.scores[id];
    // Hugging Face takes the minimum over all pieces, SentencePiece over the normal ones.
    if (vocabulary.kinds[id] == PieceKind::hole) continue;
    if (options.float_sums && vocabulary.kinds[id] != PieceKind::normal) continue;
    lowest = std::min(lowest, scores_[id]);
    highest = std::max(highest, scores_[id]);
  }
  if (lowest > highest) lowest = highest = 0.0;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (!is_matchable(vocabulary, id)) continue;
    trie_.add(vocabulary.pieces[id], static_cast<TokenId>(id));
    if (is_blank_user_defined(vocabulary, id)) {
      scores_[id] = static_cast<double>(vocabulary.pieces[id].size()) * highest - 0.1;
    }
  }
  unknown_score_ = lowest - 10.0;
}

void UnigramModel::encode(std::string_view word, std::vector<TokenId>* out) const {
  struct Best {
    double score = 0.0;
    std::int64_t from = -1;
    TokenId id = -1;  // -1: a character without a piece
  };
  if (word.empty()) return;
  std::vector<Best> best(word.size() + 1);
  const auto sum = [&](double a, double b) {
    return options_.float_sums ? static_cast<double>(static_cast<float>(a) + static_cast<float>(b)) : a + b;
  };
  for (std::size_t at = 0; at < word.size();) {
    std::size_t next = at;
    decode_utf8(word, &next);
    const double here = best[at].score;
    bool covered = false;
    const auto reach = [&](std::size_t end, double score, TokenId id) {
      if (best[end].from < 0 || score > best[end].score) best[end] = {score, static_cast<std::int64_t>(at), id};
    };
    trie_.each_prefix(word.substr(at), [&](std::size_t length, std::int32_t id) {
      reach(at + length, sum(scores_[id], here), id);
      covered = covered || at + length == next;
    });
    if (!covered) reach(next, sum(unknown_score_, here), -1);
    at = next;
  }
  std::vector<std::pair<std::size_t, TokenId>> path;  // end and id, backwards
  for (std::size_t end = word.size(); end > 0; end = static_cast<std::size_t>(best[end].from)) {
    path.emplace_back(end, best[end].id);
  }
  UnknownCharacters unknown = unknown_;
  std::size_t begin = 0;
  for (auto step = path.rbegin(); step != path.rend(); ++step) {
    if (step->second >= 0 && step->second != options_.unk) {
      out->push_back(step->second);
      unknown.known();
    } else {
      unknown.append(word.substr(begin, step->first - begin), out);
    }
    begin = step->first;
  }
}

}  // namespace inferd
