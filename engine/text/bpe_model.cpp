// Merging by rank: a scan for short words, a heap over a linked list for long ones.
#include "engine/text/bpe_model.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "base/utf8.h"

namespace inferd {
namespace {

constexpr std::size_t kShortWord = 48;  // symbols; below this a plain scan beats the heap
constexpr std::uint64_t kNoMerge = ~std::uint64_t{0};

}  // namespace

BpeModel::BpeModel(const Vocabulary& vocabulary, const std::vector<BpeMerge>& merges, const BpeOptions& options)
    : options_(options), lookup_(make_lookup(vocabulary)) {
  byte_symbols_.fill(-1);
  fallback_bytes_.fill(-1);
  for (int byte = 0; byte < 256 && options_.byte_level; ++byte) {
    byte_symbols_[byte] = lookup_.find(std::string(1, static_cast<char>(byte)));
  }
  if (options_.byte_fallback) {
    for (std::size_t id = 0; id < vocabulary.size(); ++id) {
      const PieceKind kind = vocabulary.kinds[id];
      if (kind != PieceKind::byte && kind != PieceKind::normal) continue;
      const int byte = parse_byte_piece(vocabulary.pieces[id]);
      if (byte >= 0 && fallback_bytes_[byte] < 0) fallback_bytes_[byte] = static_cast<TokenId>(id);
    }
    has_fallback_ = true;
  }
  for (const BpeMerge& merge : merges) {
    if (!is_matchable(vocabulary, static_cast<std::size_t>(merge.result))) continue;
    merges_.insert(
        (std::uint64_t{static_cast<std::uint32_t>(merge.left)} << 32) | static_cast<std::uint32_t>(merge.right),
        (std::uint64_t{merge.rank} << 32) | static_cast<std::uint32_t>(merge.result));
  }
  // Most words of a text are one piece; knowing which pieces their own merges lead to saves merging them again.
  whole_.assign(vocabulary.size(), false);
  std::vector<TokenId> symbols;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (!is_matchable(vocabulary, id)) continue;
    const std::string& piece = vocabulary.pieces[id];
    if (lookup_.find(piece) != static_cast<std::int32_t>(id)) continue;
    if (options_.ignore_merges) {
      whole_[id] = true;
      continue;
    }
    if (piece.size() > kShortWord) continue;
    symbols.clear();
    first_symbols(piece, &symbols);
    std::size_t count = symbols.size();
    merge_short(symbols.data(), &count);
    whole_[id] = count == 1 && symbols[0] == static_cast<TokenId>(id);
  }
}

void BpeModel::encode(std::string_view word, std::vector<TokenId>* out) const {
  if (word.empty()) return;
  const std::int32_t whole = lookup_.find(word);
  if (whole >= 0 && whole_[static_cast<std::size_t>(whole)]) {
    out->push_back(whole);
    return;
  }
  if (word.size() <= kShortWord && options_.byte_level) {
    TokenId symbols[kShortWord];
    std::size_t count = 0;
    for (const char c : word) {
      TokenId id = byte_symbols_[static_cast<unsigned char>(c)];
      if (id < 0) id = options_.unk;
      if (id >= 0) symbols[count++] = id;
    }
    merge_short(symbols, &count);
    out->insert(out->end(), symbols, symbols + count);
    return;
  }
  std::vector<TokenId> symbols;
  symbols.reserve(word.size());
  first_symbols(word, &symbols);
  if (symbols.size() <= kShortWord) {
    std::size_t count = symbols.size();
    merge_short(symbols.data(), &count);
    symbols.resize(count);
  } else {
    merge_long(&symbols);
  }
  out->insert(out->end(), symbols.begin(), symbols.end());
}

void BpeModel::first_symbols(std::string_view word, std::vector<TokenId>* symbols) const {
  bool after_unknown = false;
  for (std::size_t at = 0; at < word.size();) {
    std::size_t next = at + 1;
    TokenId id = -1;
    if (options_.byte_level) {
      id = byte_symbols_[static_cast<unsigned char>(word[at])];
    } else {
      next = at;
      decode_utf8(word, &next);
      id = lookup_.find(word.substr(at, next - at));
    }
    if (id >= 0) {
      symbols->push_back(id);
      after_unknown = false;
    } else {
      append_unknown(word.substr(at, next - at), &after_unknown, symbols);
    }
    at = next;
  }
}

void BpeModel::append_unknown(std::string_view character, bool* after_unknown, std::vector<TokenId>* symbols) const {
  if (has_fallback_) {
    const bool complete = std::all_of(character.begin(), character.end(),
                                      [&](char c) { return fallback_bytes_[static_cast<unsigned char>(c)] >= 0; });
    if (complete) {
      for (const char c : character) symbols->push_back(fallback_bytes_[static_cast<unsigned char>(c)]);
      *after_unknown = false;
      return;
    }
  }
  if (options_.unk < 0 || (*after_unknown && options_.fuse_unk)) return;
  symbols->push_back(options_.unk);
  *after_unknown = true;
}

void BpeModel::merge_short(TokenId* symbols, std::size_t* count) const {
  std::uint64_t merges[kShortWord];
  std::size_t n = *count;
  if (n < 2) return;
  for (std::size_t i = 0; i + 1 < n; ++i) merges[i] = merge_of(symbols[i], symbols[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if ((merges[i] >> 32) < (merges[best] >> 32)) best = i;
    }
    if (merges[best] == kNoMerge) break;
    symbols[best] = static_cast<TokenId>(merges[best] & 0xFFFFFFFFu);
    std::copy(symbols + best + 2, symbols + n, symbols + best + 1);
    if (best + 2 < n) std::copy(merges + best + 2, merges + n - 1, merges + best + 1);
    --n;
    if (best > 0) merges[best - 1] = merge_of(symbols[best - 1], symbols[best]);
    if (best + 1 < n) merges[best] = merge_of(symbols[best], symbols[best + 1]);
  }
  *count = n;
}

void BpeModel::merge_long(std::vector<TokenId>* symbols) const {
  struct Node {
    std::int64_t previous, next;
    TokenId id;  // -1 once merged into its left neighbour
  };
  struct Candidate {
    std::uint64_t merge;  // rank << 32 | result
    std::uint32_t at;
    TokenId left, right;
    bool operator>(const Candidate& other) const {
      const std::uint64_t mine = merge >> 32;
      const std::uint64_t theirs = other.merge >> 32;
      return mine != theirs ? mine > theirs : at > other.at;
    }
  };
  const auto count = static_cast<std::int64_t>(symbols->size());
  std::vector<Node> nodes(symbols->size());
  for (std::int64_t i = 0; i < count; ++i) {
    nodes[i] = {i - 1, i + 1 < count ? i + 1 : -1, (*symbols)[i]};
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::int64_t at) {
    if (at < 0 || nodes[at].next < 0) return;
    const TokenId left = nodes[at].id;
    const TokenId right = nodes[nodes[at].next].id;
    const std::uint64_t merge = merge_of(left, right);
    if (merge != kNoMerge) queue.push({merge, static_cast<std::uint32_t>(at), left, right});
  };
  for (std::int64_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Node& node = nodes[top.at];
    if (node.id != top.left || node.next < 0 || nodes[node.next].id != top.right) continue;  // outdated
    Node& gone = nodes[node.next];
    node.id = static_cast<TokenId>(top.merge & 0xFFFFFFFFu);
    node.next = gone.next;
    gone.id = -1;
    if (node.next >= 0) nodes[node.next].previous = top.at;
    offer(node.previous);
    offer(top.at);
  }
  symbols->clear();
  for (std::int64_t at = 0; at >= 0; at = nodes[at].next) symbols->push_back(nodes[at].id);
}

}  // namespace inferd
