// Tokenizers from GGUF metadata.
#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "base/errors.h"
#include "base/utf8.h"
#include "engine/text/bpe_model.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/split_patterns.h"
#include "engine/text/tokenizer_loaders.h"
#include "engine/text/wordpiece_model.h"

namespace inferd {
namespace {

constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";

/// The keys of one file, while its tokenizer is built.
class GgufReader {
 public:
  GgufReader(const GgufMetadata& metadata, const std::string& file) : metadata_(metadata) { parts.file = file; }

  std::unique_ptr<Tokenizer> read();

 private:
  [[noreturn]] void fail(std::string_view key, const std::string& expected, const std::string& found) const {
    throw CheckpointError(parts.file, std::string(key), expected, found);
  }
  bool flag(std::string_view name, bool otherwise) const {
    return metadata_.boolean("tokenizer.ggml." + std::string(name)).value_or(otherwise);
  }
  TokenId id(std::string_view name) const;
  void read_vocabulary();
  void read_special_ids();
  void read_byte_level();
  void read_sentencepiece(bool unigram);
  void read_word_pieces();
  std::vector<BpeMerge> read_merges() const;
  const SplitRecipe& recipe() const;
  TokenId find_control(std::string_view text) const;
  /// Whether texts stand between two special tokens.
  bool is_encoder() const { return metadata_.string("general.architecture").value_or("").ends_with("bert"); }
  /// Whether the file is an embedding Qwen3 from before converters knew of the end of text, where its vector is read.
  bool is_early_embedder() const;
  /// The prefix and suffix that the add_* keys ask for; the arguments say what holds without them.
  void read_affixes(bool bos_default, bool eos_default);
  void glm_prefix();

  const GgufMetadata& metadata_;
  TokenizerParts parts;
};

TokenId GgufReader::id(std::string_view name) const {
  const std::string key = "tokenizer.ggml." + std::string(name);
  const std::optional<std::int64_t> value = metadata_.integer(key);
  if (!value || *value == -1 || *value == 0xFFFFFFFF) return -1;
  if (*value < 0 || *value >= static_cast<std::int64_t>(parts.vocabulary.size())) {
    fail(key, "an id below " + std::to_string(parts.vocabulary.size()), std::to_string(*value));
  }
  return static_cast<TokenId>(*value);
}

void GgufReader::read_vocabulary() {
  const std::vector<std::string>* tokens = metadata_.strings(kTokensKey);
  if (tokens == nullptr || tokens->empty()) fail(kTokensKey, "a list of tokens", "nothing");
  if (tokens->size() > kMaxVocabulary)
    fail(kTokensKey, "at most " + std::to_string(kMaxVocabulary), std::to_string(tokens->size()));
  Vocabulary& vocabulary = parts.vocabulary;
  vocabulary.pieces.reserve(tokens->size());
  for (const std::string& token : *tokens) {
    if (token.size() > kMaxPieceBytes) fail(kTokensKey, "tokens of at most 64 KiB", std::to_string(token.size()));
    vocabulary.pieces.push_back(is_valid_utf8(token) ? token : replace_invalid_utf8(token));
  }
  vocabulary.kinds.assign(tokens->size(), PieceKind::normal);
  if (const auto types = metadata_.integers(kTypesKey)) {
    if (types->size() != tokens->size())
      fail(kTypesKey, std::to_string(tokens->size()) + " entries", std::to_string(types->size()));
    for (std::size_t i = 0; i < types->size(); ++i) {
      const std::int64_t type = (*types)[i];
      if (type < 0 || type > 6) fail(kTypesKey, "types from 0 to 6", std::to_string(type));
      vocabulary.kinds[i] = type == 0 ? PieceKind::unused : static_cast<PieceKind>(type);
    }
  }
}

void GgufReader::read_special_ids() {
  SpecialTokens& special = parts.special;
  special.bos = id("bos_token_id");
  special.eos = id("eos_token_id");
  special.unk = id("unknown_token_id");
  special.pad = id("padding_token_id");
  special.cls = id("cls_token_id");
  special.sep = id("seperator_token_id");  // spelt like this in the format
  if (special.sep < 0) special.sep = id("separator_token_id");
  special.mask = id("mask_token_id");
  special.stop = {id("eot_token_id"), id("eom_token_id")};
  if (metadata_.has(kTypesKey)) return;
  for (const TokenId control : {special.bos, special.eos, special.pad, special.cls, special.sep, special.mask,
                                special.stop[0], special.stop[1]}) {
    if (control >= 0) parts.vocabulary.kinds[static_cast<std::size_t>(control)] = PieceKind::control;
  }
}

void GgufReader::read_affixes(bool bos_default, bool eos_default) {
  if (flag("add_bos_token", bos_default) && parts.special.bos >= 0) parts.prefix.push_back(parts.special.bos);
  if (flag("add_eos_token", eos_default) && parts.special.eos >= 0) parts.suffix.push_back(parts.special.eos);
  if (!is_encoder() || parts.prefix.empty() || parts.suffix.empty()) return;
  // RoBERTa's: no types, and two marks between the texts.
  using Kind = PairItem::Kind;
  const TokenId bos = parts.special.bos, eos = parts.special.eos;
  parts.pair = {{Kind::special, bos, 0}, {Kind::first, -1, 0},  {Kind::special, eos, 0},
                {Kind::special, eos, 0}, {Kind::second, -1, 0}, {Kind::special, eos, 0}};
}

bool GgufReader::is_early_embedder() const {
  constexpr std::int64_t kLast = 3;
  return metadata_.string("general.architecture").value_or("") == "qwen3" &&
         metadata_.integer("qwen3.pooling_type").value_or(0) == kLast && !metadata_.has("tokenizer.ggml.add_eos_token");
}

TokenId GgufReader::find_control(std::string_view text) const {
  for (std::size_t i = 0; i < parts.vocabulary.size(); ++i) {
    const PieceKind kind = parts.vocabulary.kinds[i];
    if (kind != PieceKind::normal && kind != PieceKind::unused && parts.vocabulary.pieces[i] == text)
      return static_cast<TokenId>(i);
  }
  return -1;
}

void GgufReader::glm_prefix() {
  const TokenId mask = find_control("[gMASK]");
  TokenId start = find_control("<sop>");
  if (start < 0) start = find_control("sop");
  parts.prefix.clear();
  if (mask >= 0 && start >= 0) parts.prefix = {mask, start};
}

const SplitRecipe& GgufReader::recipe() const {
  const std::optional<std::string> name = metadata_.string("tokenizer.ggml.pre");
  const std::string architecture = metadata_.string("general.architecture").value_or("");
  // Files older than the key: for these architectures there is only one possibility.
  if (!name && (architecture == "qwen" || architecture == "qwen2")) return *find_split_recipe("qwen2");
  if (!name && architecture == "gpt2") return *find_split_recipe("gpt-2");
  if (!name && architecture == "bloom") return *find_split_recipe("bloom");
  const SplitRecipe* found = name ? find_split_recipe(*name) : nullptr;
  if (found == nullptr)
    fail("tokenizer.ggml.pre", "one of " + split_recipe_names(), name ? "\"" + *name + "\"" : "nothing");
  return *found;
}

std::vector<BpeMerge> GgufReader::read_merges() const {
  const std::vector<std::string>* list = metadata_.strings(kMergesKey);
  if (list == nullptr) fail(kMergesKey, "a list of merges", "nothing");
  if (list->size() > kMaxVocabulary)
    fail(kMergesKey, "at most " + std::to_string(kMaxVocabulary), std::to_string(list->size()));
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(parts.vocabulary.size());
  for (std::size_t i = 0; i < parts.vocabulary.size(); ++i)
    ids.emplace(parts.vocabulary.pieces[i], static_cast<TokenId>(i));
  std::vector<BpeMerge> merges;
  merges.reserve(list->size());
  std::string joined;
  for (const std::string& text : *list) {
    const std::size_t space = text.find(' ', 1);  // a token may start with a space in broken files, never be empty
    const std::string where = std::string(kMergesKey) + "[" + std::to_string(merges.size()) + "]";
    if (space == std::string::npos) fail(where, "two tokens", "one");
    const std::string_view left = std::string_view(text).substr(0, space);
    const std::string_view right = std::string_view(text).substr(space + 1);
    joined.assign(left).append(right);
    TokenId found[3];
    const std::string_view names[3] = {left, right, joined};
    for (int i = 0; i < 3; ++i) {
      const auto entry = ids.find(names[i]);
      if (entry == ids.end()) fail(where, "tokens of the vocabulary", "another");
      found[i] = entry->second;
    }
    merges.push_back({found[0], found[1], found[2], static_cast<std::uint32_t>(merges.size())});
  }
  return merges;
}

void GgufReader::read_byte_level() {
  const SplitRecipe& split = recipe();
  const std::vector<BpeMerge> merges = read_merges();
  Vocabulary& vocabulary = parts.vocabulary;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    if (vocabulary.kinds[i] == PieceKind::unused) vocabulary.pieces[i].clear();  // padding rows, no text
    if (vocabulary.kinds[i] != PieceKind::normal) continue;
    if (std::optional<std::string> bytes = bytes_of_gpt2_piece(vocabulary.pieces[i])) {
      vocabulary.pieces[i] = *std::move(bytes);
    } else {
      vocabulary.kinds[i] = PieceKind::unused;
    }
  }
  build_byte_level(split, merges, &parts);
  read_affixes(split.add_bos || is_encoder(), is_encoder());
  if (split.glm_prefix) glm_prefix();
  const TokenId end = is_early_embedder() ? find_control("<|endoftext|>") : -1;
  if (end >= 0) parts.suffix = {end};
}

void GgufReader::read_sentencepiece(bool unigram) {
  Vocabulary& vocabulary = parts.vocabulary;
  const std::optional<std::vector<float>> scores = metadata_.floats(kScoresKey);
  if (!scores || scores->size() != vocabulary.size()) {
    fail(kScoresKey, std::to_string(vocabulary.size()) + " scores",
         scores ? std::to_string(scores->size()) : "nothing");
  }
  for (const float score : *scores) {
    if (!std::isfinite(score)) fail(kScoresKey, "finite scores", "another");
  }
  vocabulary.scores.assign(scores->begin(), scores->end());
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    // Rows that a converter added to fill the matrix: no text.
    if (vocabulary.kinds[i] == PieceKind::unused && vocabulary.pieces[i].starts_with("[PAD"))
      vocabulary.pieces[i].clear();
  }
  SentencePieceSpec spec;
  spec.unigram = unigram;
  spec.byte_fallback =
      std::find(vocabulary.kinds.begin(), vocabulary.kinds.end(), PieceKind::byte) != vocabulary.kinds.end();
  spec.add_dummy_prefix = flag("add_space_prefix", true);
  spec.remove_extra_whitespaces = flag("remove_extra_whitespaces", false);
  if (const auto map = metadata_.integers("tokenizer.ggml.precompiled_charsmap")) {
    spec.charsmap.reserve(map->size());
    for (const std::int64_t byte : *map) spec.charsmap.push_back(static_cast<char>(byte & 0xFF));
  }
  const SpecialTokens special = parts.special;
  spec.unk = special.unk;
  build_sentencepiece(spec, PrefixScheme::always, &parts);
  parts.special = special;
  read_affixes(!unigram || is_encoder(), unigram);
  if (metadata_.string("tokenizer.ggml.pre").value_or("") == "chatglm-spm") glm_prefix();
}

void GgufReader::read_word_pieces() {
  // Pieces that start a word carry "▁", the others nothing; our model wants them as vocab.txt has them.
  constexpr std::string_view kStart = "\u2581";
  Vocabulary& vocabulary = parts.vocabulary;
  for (std::size_t i = 0; i < vocabulary.size(); ++i) {
    if (vocabulary.kinds[i] != PieceKind::normal) continue;
    std::string& piece = vocabulary.pieces[i];
    if (piece.starts_with(kStart)) {
      piece.erase(0, kStart.size());
    } else {
      piece.insert(0, "##");
    }
  }
  BertNormalizerOptions normal;
  normal.lowercase = metadata_.boolean("tokenizer.ggml.normalizer.lowercase").value_or(true);
  normal.strip_accents = metadata_.boolean("tokenizer.ggml.normalizer.strip_accents").value_or(normal.lowercase);
  parts.normalizer.push_back(make_bert_step(normal));
  parts.pre_tokenizer.push_back(make_whitespace_split_step());
  parts.pre_tokenizer.push_back(make_punctuation_step(SplitBehavior::isolated));
  SpecialTokens& special = parts.special;
  if (special.cls < 0) special.cls = special.bos;
  if (special.sep < 0) special.sep = special.eos;
  WordPieceOptions options;
  options.unk = special.unk;
  parts.model = std::make_unique<WordPieceModel>(vocabulary, options);
  parts.decode.word_pieces = parts.decode.strip_leading_space = parts.decode.cleanup = true;
  parts.decode.continuing_prefix = "##";
  if (flag("add_bos_token", true) && special.cls >= 0) parts.prefix.push_back(special.cls);
  if (flag("add_eos_token", true) && special.sep >= 0) parts.suffix.push_back(special.sep);
}

std::unique_ptr<Tokenizer> GgufReader::read() {
  const std::string model = metadata_.string("tokenizer.ggml.model").value_or("");
  read_vocabulary();
  read_special_ids();
  if (model == "gpt2") {
    read_byte_level();
  } else if (model == "llama" || model == "t5") {
    read_sentencepiece(model == "t5");
  } else if (model == "bert") {
    read_word_pieces();
  } else {
    fail("tokenizer.ggml.model", "gpt2, llama, t5 or bert", model.empty() ? "nothing" : "\"" + model + "\"");
  }
  add_control_pieces(&parts);
  return make_tokenizer(std::move(parts));
}

}  // namespace

std::unique_ptr<Tokenizer> load_gguf_tokenizer(const GgufMetadata& metadata, const std::string& file) {
  return GgufReader(metadata, file).read();
}

}  // namespace inferd
