// Encoding: cut out added tokens, normalise, cut into words, encode each; and the way back.
#include "engine/text/tokenizer_pipeline.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/errors.h"
#include "base/utf8.h"

namespace inferd {
namespace {

/// Tokens that end an answer wherever a vocabulary has them as added tokens.
constexpr std::string_view kChatEnds[] = {"<|im_end|>", "<|eot_id|>", "<|endoftext|>",  "<|end_of_text|>",
                                          "<|eom_id|>", "<|user|>",   "<|observation|>"};

/// Runs of a marked text by end offset; answers whether a range lies within one trusted run.
class TrustMap {
 public:
  void append(std::size_t end, bool trusted) { runs_.push_back({end, trusted}); }
  bool covers(std::size_t begin, std::size_t end) const {
    const auto run =
        std::upper_bound(runs_.begin(), runs_.end(), begin, [](std::size_t at, const Run& r) { return at < r.end; });
    return run != runs_.end() && run->trusted && end <= run->end;
  }
  /// One byte per byte of [begin, end).
  std::string marks(std::size_t begin, std::size_t end) const {
    std::string marks;
    std::size_t at = begin;
    for (const Run& run : runs_) {
      if (run.end <= at) continue;
      const std::size_t stop = std::min(run.end, end);
      if (stop > at) marks.append(stop - at, run.trusted ? '\1' : '\0');
      at = std::max(at, stop);
    }
    return marks;
  }

 private:
  struct Run {
    std::size_t end;
    bool trusted;
  };
  std::vector<Run> runs_;
};

class TokenizerPipeline final : public Tokenizer {
 public:
  explicit TokenizerPipeline(TokenizerParts parts);

  std::vector<TokenId> encode(const MarkedText& text, bool add_special) const override;
  PairEncoding encode_pair(const MarkedText& first, const MarkedText& second) const override;
  std::string token_bytes(TokenId id) const override {
    return valid(id) ? std::string(outputs_.at(static_cast<std::size_t>(id))) : std::string();
  }
  std::string first_token_bytes(TokenId id) const override;
  std::string decode(const std::vector<TokenId>& ids, bool skip_special) const override;
  bool is_special(TokenId id) const override { return valid(id) && special_flags_[static_cast<std::size_t>(id)]; }
  bool strips_leading_space() const override { return decode_.strip_leading_space; }
  std::optional<TokenId> special_id(std::string_view text) const override {
    const auto found = special_ids_.find(std::string(text));
    return found == special_ids_.end() ? std::nullopt : std::optional(found->second);
  }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(outputs_.size()); }
  const SpecialTokens& special() const override { return special_; }

 private:
  bool valid(TokenId id) const { return id >= 0 && static_cast<std::size_t>(id) < outputs_.size(); }
  void encode_section(std::string_view text, std::size_t begin, const TrustMap& trust, std::vector<TokenId>* out) const;
  void encode_words(std::string text, bool first, std::vector<TokenId>* out) const;
  std::string normalize(std::string text) const;

  StringTable outputs_;
  std::vector<bool> special_flags_;
  std::vector<bool> continuing_;  // WordPiece only: pieces that continue a word
  std::unordered_map<std::string, TokenId> special_ids_;
  AddedTokens raw_tokens_, normalized_tokens_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const TokenModel> model_;
  DecodeRules decode_;
  std::vector<TokenId> prefix_, suffix_;
  std::vector<PairItem> pair_;
  SpecialTokens special_;
};

TokenizerPipeline::TokenizerPipeline(TokenizerParts parts)
    : outputs_(make_outputs(parts.vocabulary, parts.decode)),
      normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      model_(std::move(parts.model)),
      decode_(std::move(parts.decode)),
      prefix_(std::move(parts.prefix)),
      suffix_(std::move(parts.suffix)),
      pair_(std::move(parts.pair)),
      special_(std::move(parts.special)) {
  const Vocabulary& vocabulary = parts.vocabulary;
  special_flags_.resize(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    special_flags_[id] = vocabulary.kinds[id] == PieceKind::control || vocabulary.kinds[id] == PieceKind::unknown;
  }
  if (decode_.word_pieces && !decode_.continuing_prefix.empty()) {
    continuing_.resize(vocabulary.size());
    for (std::size_t id = 0; id < vocabulary.size(); ++id) {
      continuing_[id] = vocabulary.pieces[id].starts_with(decode_.continuing_prefix);
    }
  }
  for (const AddedToken& token : parts.added) {
    special_ids_.emplace(token.content, token.id);
    if (token.normalized) {
      normalized_tokens_.add(token, normalize(token.content));
    } else {
      raw_tokens_.add(token, token.content);
    }
  }
}

std::string TokenizerPipeline::normalize(std::string text) const {
  NormalizedText normal{std::move(text), {}};
  for (const auto& step : normalizer_) step->apply(&normal, true);
  return std::move(normal.text);
}

std::vector<TokenId> TokenizerPipeline::encode(const MarkedText& text, bool add_special) const {
  std::string joined;
  TrustMap trust;
  for (const MarkedText::Run& run : text.runs()) {
    if (is_valid_utf8(run.text)) {
      joined += run.text;
    } else {
      joined += replace_invalid_utf8(run.text);
    }
    trust.append(joined.size(), run.trusted);
  }
  std::vector<TokenId> ids;
  ids.reserve(joined.size() / 3 + 8);
  std::size_t at = 0;
  const auto is_trusted = [&](std::size_t begin, std::size_t end) { return trust.covers(begin, end); };
  for (const AddedTokens::Match& match : raw_tokens_.find(joined, is_trusted)) {
    encode_section(std::string_view(joined).substr(at, match.begin - at), at, trust, &ids);
    ids.push_back(match.id);
    at = match.end;
  }
  encode_section(std::string_view(joined).substr(at), at, trust, &ids);
  if (!add_special) return ids;
  const bool has_prefix = ids.size() >= prefix_.size() && std::equal(prefix_.begin(), prefix_.end(), ids.begin());
  if (!has_prefix) ids.insert(ids.begin(), prefix_.begin(), prefix_.end());
  ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

PairEncoding TokenizerPipeline::encode_pair(const MarkedText& first, const MarkedText& second) const {
  PairEncoding pair;
  const auto append = [&](const std::vector<TokenId>& ids, int type_id) {
    pair.ids.insert(pair.ids.end(), ids.begin(), ids.end());
    pair.type_ids.insert(pair.type_ids.end(), ids.size(), type_id);
  };
  if (pair_.empty()) {
    append(prefix_, 0);
    append(encode(first, false), 0);
    append(suffix_, 0);
    append(encode(second, false), 1);
    append(suffix_, 1);
  }
  for (const PairItem& item : pair_) {
    switch (item.kind) {
      case PairItem::Kind::special:
        append({item.id}, item.type_id);
        break;
      case PairItem::Kind::first:
        append(encode(first, false), item.type_id);
        break;
      case PairItem::Kind::second:
        append(encode(second, false), item.type_id);
        break;
    }
  }
  return pair;
}

void TokenizerPipeline::encode_section(std::string_view text, std::size_t begin, const TrustMap& trust,
                                       std::vector<TokenId>* out) const {
  if (text.empty()) return;
  const bool first = begin == 0;
  NormalizedText normal{std::string(text), {}};
  if (!normalized_tokens_.empty()) normal.trusted = trust.marks(begin, begin + text.size());
  for (const auto& step : normalizer_) step->apply(&normal, first);
  if (normalized_tokens_.empty()) {
    encode_words(std::move(normal.text), first, out);
    return;
  }
  const auto is_trusted = [&](std::size_t from, std::size_t to) {
    return std::all_of(normal.trusted.begin() + static_cast<std::ptrdiff_t>(from),
                       normal.trusted.begin() + static_cast<std::ptrdiff_t>(to), [](char mark) { return mark != 0; });
  };
  std::size_t at = 0;
  for (const AddedTokens::Match& match : normalized_tokens_.find(normal.text, is_trusted)) {
    encode_words(normal.text.substr(at, match.begin - at), first && at == 0, out);
    out->push_back(match.id);
    at = match.end;
  }
  encode_words(normal.text.substr(at), first && at == 0, out);
}

void TokenizerPipeline::encode_words(std::string text, bool first, std::vector<TokenId>* out) const {
  if (text.empty()) return;
  Words words;
  words.text = std::move(text);
  words.spans.emplace_back(0, words.text.size());
  for (const auto& step : pre_tokenizer_) step->apply(&words, first);
  for (const auto& [begin, end] : words.spans) {
    model_->encode(std::string_view(words.text).substr(begin, end - begin), out);
  }
}

std::string TokenizerPipeline::first_token_bytes(TokenId id) const {
  std::string bytes = token_bytes(id);
  if (!continuing_.empty() && valid(id) && continuing_[static_cast<std::size_t>(id)]) {
    bytes.insert(0, decode_.continuing_prefix);
  } else if (decode_.strip_leading_space && bytes.starts_with(' ')) {
    bytes.erase(0, 1);
  }
  return bytes;
}

std::string TokenizerPipeline::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::string bytes;
  bool at_start = true;
  for (const TokenId id : ids) {
    if (!valid(id) || (skip_special && is_special(id))) continue;
    const std::string_view output = outputs_.at(static_cast<std::size_t>(id));
    if (output.empty()) continue;
    if (at_start) {
      bytes = first_token_bytes(id);
      at_start = false;
    } else {
      bytes.append(output);
    }
  }
  return replace_invalid_utf8(bytes);
}

}  // namespace

void add_control_pieces(TokenizerParts* parts) {
  const Vocabulary& vocabulary = parts->vocabulary;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const PieceKind kind = vocabulary.kinds[id];
    const bool control = kind == PieceKind::control || kind == PieceKind::unknown;
    if (vocabulary.pieces[id].empty()) continue;
    if (!control && (kind != PieceKind::user_defined || is_blank_piece(vocabulary.pieces[id]))) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(id);
    token.content = vocabulary.pieces[id];
    token.special = control;
    parts->added.push_back(std::move(token));
  }
}

std::unique_ptr<Tokenizer> make_tokenizer(TokenizerParts parts) {
  const auto size = static_cast<std::int64_t>(parts.vocabulary.size());
  if (size == 0) throw CheckpointError(parts.file, "vocabulary", "at least one token", "none");
  std::vector<TokenId> stop = parts.special.stop;
  stop.push_back(parts.special.eos);
  for (const AddedToken& token : parts.added) {
    if (std::find(std::begin(kChatEnds), std::end(kChatEnds), token.content) != std::end(kChatEnds)) {
      stop.push_back(token.id);
    }
  }
  std::sort(stop.begin(), stop.end());
  stop.erase(std::unique(stop.begin(), stop.end()), stop.end());
  std::erase_if(stop, [&](TokenId id) { return id < 0; });
  parts.special.stop = std::move(stop);
  std::vector<TokenId> around = parts.prefix;
  around.insert(around.end(), parts.suffix.begin(), parts.suffix.end());
  for (const PairItem& item : parts.pair) {
    if (item.kind == PairItem::Kind::special) around.push_back(item.id);
  }
  for (const TokenId id : around) {
    if (id >= 0 && id < size) continue;
    throw CheckpointError(parts.file, "special tokens around a text", "ids below " + std::to_string(size),
                          std::to_string(id));
  }
  return std::make_unique<TokenizerPipeline>(std::move(parts));
}

}  // namespace inferd
