// The model and the added tokens of tokenizer.json.
#include "engine/text/tokenizer_json.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "base/errors.h"
#include "engine/text/bpe_model.h"
#include "engine/text/sentencepiece_models.h"
#include "engine/text/split_patterns.h"
#include "engine/text/wordpiece_model.h"

namespace inferd {
namespace {

void check_piece(const std::string& piece, const TokenizerFields& model) {
  if (piece.size() > kMaxPieceBytes) {
    model.fail("vocab", "tokens of at most " + std::to_string(kMaxPieceBytes) + " bytes", std::to_string(piece.size()));
  }
}

/// {"token": id, …}
void read_vocab_object(const TokenizerFields& model, Vocabulary* vocabulary) {
  const Json* vocab = model.find("vocab");
  if (vocab == nullptr || !vocab->is_object())
    model.fail("vocab", "an object", vocab == nullptr ? "nothing" : vocab->type_name());
  for (const auto& [piece, value] : vocab->get_ref<const Json::object_t&>()) {
    check_piece(piece, model);
    const auto id = static_cast<std::size_t>(checked_id(value, model.file(), model.path_of("vocab")));
    if (id < vocabulary->size() && vocabulary->kinds[id] != PieceKind::hole) {
      model.fail("vocab", "one token an id", "two for id " + std::to_string(id));
    }
    vocabulary->set(id, piece, PieceKind::normal);
  }
}

/// [["token", score], …], the id is the index.
void read_vocab_list(const TokenizerFields& model, Vocabulary* vocabulary) {
  const Json* vocab = model.array("vocab");
  if (vocab == nullptr) model.fail("vocab", "an array", "nothing");
  if (vocab->size() > kMaxVocabulary)
    model.fail("vocab", "at most " + std::to_string(kMaxVocabulary) + " tokens", std::to_string(vocab->size()));
  vocabulary->scores.reserve(vocab->size());
  for (const Json& entry : *vocab) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      model.fail("vocab", "[token, score] pairs", "something else");
    }
    check_piece(entry[0].get_ref<const std::string&>(), model);
    const std::size_t id = vocabulary->pieces.size();
    vocabulary->scores.push_back(entry[1].get<double>());
    vocabulary->pieces.push_back(entry[0].get<std::string>());
    vocabulary->kinds.push_back(PieceKind::normal);
    if (!(vocabulary->scores[id] > -1e30 && vocabulary->scores[id] < 1e30))
      model.fail("vocab", "finite scores", "another");
  }
}

/// Merges as "a b" or ["a", "b"], turned into ids.
std::vector<BpeMerge> read_merges(const TokenizerFields& model,
                                  const std::unordered_map<std::string_view, TokenId>& ids) {
  std::vector<BpeMerge> merges;
  const Json* list = model.array("merges");
  if (list == nullptr) return merges;
  if (list->size() > kMaxVocabulary)
    model.fail("merges", "at most " + std::to_string(kMaxVocabulary), std::to_string(list->size()));
  merges.reserve(list->size());
  const auto id_of = [&](std::string_view piece) {
    const auto found = ids.find(piece);
    if (found == ids.end())
      model.fail("merges[" + std::to_string(merges.size()) + "]", "tokens of the vocabulary", "another");
    return found->second;
  };
  std::string joined;
  for (const Json& entry : *list) {
    std::string_view left, right;
    if (entry.is_string()) {
      const std::string_view text = entry.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space == std::string_view::npos)
        model.fail("merges[" + std::to_string(merges.size()) + "]", "two tokens", "one");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
      left = entry[0].get_ref<const std::string&>();
      right = entry[1].get_ref<const std::string&>();
    } else {
      model.fail("merges[" + std::to_string(merges.size()) + "]", "\"a b\" or [\"a\", \"b\"]", "something else");
    }
    joined.assign(left).append(right);
    merges.push_back({id_of(left), id_of(right), id_of(joined), static_cast<std::uint32_t>(merges.size())});
  }
  return merges;
}

/// Byte-level vocabularies are matched as bytes. Pieces outside the byte alphabet can only be added tokens.
void to_bytes(Vocabulary* vocabulary) {
  for (std::size_t id = 0; id < vocabulary->size(); ++id) {
    if (vocabulary->kinds[id] != PieceKind::normal) continue;
    if (std::optional<std::string> bytes = bytes_of_gpt2_piece(vocabulary->pieces[id])) {
      vocabulary->pieces[id] = *std::move(bytes);
    } else {
      vocabulary->kinds[id] = PieceKind::unused;
    }
  }
}

TokenId find_piece(const std::unordered_map<std::string_view, TokenId>& ids, const std::optional<std::string>& piece) {
  if (!piece) return -1;
  const auto found = ids.find(*piece);
  return found == ids.end() ? -1 : found->second;
}

void read_bpe(const TokenizerFields& model, bool byte_level, TokenizerParts* parts,
              const std::unordered_map<std::string_view, TokenId>& ids) {
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.string(key).value_or("").empty()) model.fail(key, "nothing (it is not supported)", "a text");
  }
  BpeOptions options;
  options.byte_level = byte_level;
  options.ignore_merges = model.boolean("ignore_merges", false);
  options.byte_fallback = model.boolean("byte_fallback", false);
  options.fuse_unk = model.boolean("fuse_unk", false);
  options.unk = find_piece(ids, model.string("unk_token"));
  parts->special.unk = options.unk;
  const std::vector<BpeMerge> merges = read_merges(model, ids);
  if (byte_level) to_bytes(&parts->vocabulary);
  parts->model = std::make_unique<BpeModel>(parts->vocabulary, merges, options);
}

std::string model_type(const TokenizerFields& model) {
  if (std::optional<std::string> type = model.string("type")) return *std::move(type);
  // Files of 2020 have no type.
  if (model.find("merges") != nullptr) return "BPE";
  if (model.find("unk_id") != nullptr) return "Unigram";
  return "WordPiece";
}

}  // namespace

void add_token(const TokenizerFields& fields, std::int32_t id, TokenizerParts* parts) {
  Vocabulary& vocabulary = parts->vocabulary;
  AddedToken token;
  token.id = id;
  token.content = fields.required_string("content");
  token.special = fields.boolean("special", false);
  token.single_word = fields.boolean("single_word", false);
  token.lstrip = fields.boolean("lstrip", false);
  token.rstrip = fields.boolean("rstrip", false);
  token.normalized = fields.boolean("normalized", !token.special);
  if (token.content.empty()) return;
  if (token.content.size() > kMaxPieceBytes)
    fields.fail("content", "at most 64 KiB", std::to_string(token.content.size()));
  token.anywhere = !token.special && is_blank_piece(token.content);
  const auto index = static_cast<std::size_t>(id);
  if (index < vocabulary.size() && vocabulary.kinds[index] != PieceKind::hole) {
    if (vocabulary.pieces[index] != token.content) {
      fields.fail("id", "an id of its own", "id " + std::to_string(id) + " of another token");
    }
    if (vocabulary.kinds[index] == PieceKind::control || vocabulary.kinds[index] == PieceKind::user_defined) return;
  }
  vocabulary.set(index, token.content, token.special ? PieceKind::control : PieceKind::user_defined);
  parts->added.push_back(std::move(token));
}

void add_config_tokens(const TokenizerFields& config, TokenizerParts* parts) {
  const Json* table = config.find("added_tokens_decoder");
  if (table == nullptr) return;
  if (!table->is_object()) config.fail("added_tokens_decoder", "an object", table->type_name());
  for (const auto& [key, value] : table->get_ref<const Json::object_t&>()) {
    std::int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 ||
        id >= static_cast<std::int32_t>(kMaxVocabulary)) {
      config.fail("added_tokens_decoder", "ids below " + std::to_string(kMaxVocabulary), "another key");
    }
    add_token(TokenizerFields(value, config.file(), "added_tokens_decoder." + key), id, parts);
  }
}

TokenizerParts read_tokenizer_parts(const Json& document, const std::string& file, const TokenizerFields* config) {
  const TokenizerFields root(document, file, "");
  const std::optional<TokenizerFields> model = root.object("model");
  if (!model) root.fail("model", "an object", "nothing");
  TokenizerParts parts;
  parts.file = file;
  const std::string type = model_type(*model);
  if (type == "Unigram") {
    read_vocab_list(*model, &parts.vocabulary);
  } else if (type == "BPE" || type == "WordPiece") {
    read_vocab_object(*model, &parts.vocabulary);
  } else {
    model->fail("type", "BPE, WordPiece or Unigram", type);
  }
  const std::vector<std::string> names = parts.vocabulary.pieces;  // `ids` points into it
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(names.size());
  for (std::size_t id = 0; id < names.size(); ++id) {
    if (parts.vocabulary.kinds[id] != PieceKind::hole) ids.emplace(names[id], static_cast<TokenId>(id));
  }
  if (const Json* added = root.array("added_tokens")) {
    for (std::size_t i = 0; i < added->size(); ++i) {
      const TokenizerFields fields((*added)[i], file, "added_tokens[" + std::to_string(i) + "]");
      const Json* id = fields.find("id");
      if (id == nullptr) fields.fail("id", "an id", "nothing");
      const auto known = ids.find(fields.required_string("content"));
      add_token(fields, known != ids.end() ? known->second : checked_id(*id, file, fields.path_of("id")), &parts);
    }
  }
  if (config != nullptr) add_config_tokens(*config, &parts);
  PreTokenizerSpec pre = read_pre_tokenizer(root);
  parts.pre_tokenizer = std::move(pre.steps);
  parts.normalizer = read_normalizer(root);
  parts.decode = read_decoder(root);
  read_post_processor(root, &parts);
  if (pre.byte_level && type != "BPE") model->fail("type", "BPE under a ByteLevel pre-tokenizer", type);
  if (type == "BPE") {
    read_bpe(*model, pre.byte_level, &parts, ids);
  } else if (type == "Unigram") {
    UnigramOptions options;
    const std::int64_t unk = model->integer("unk_id").value_or(-1);
    if (unk >= static_cast<std::int64_t>(parts.vocabulary.size()))
      model->fail("unk_id", "an id of the vocabulary", std::to_string(unk));
    options.unk = static_cast<TokenId>(std::max<std::int64_t>(unk, -1));
    options.byte_fallback = model->boolean("byte_fallback", false);
    parts.special.unk = options.unk;
    parts.model = std::make_unique<UnigramModel>(parts.vocabulary, options);
  } else {
    WordPieceOptions options;
    options.unk = find_piece(ids, model->string("unk_token").value_or("[UNK]"));
    options.continuing_prefix = model->string("continuing_subword_prefix").value_or("##");
    const std::int64_t longest = model->integer("max_input_chars_per_word").value_or(100);
    if (longest < 1 || longest > 10'000) model->fail("max_input_chars_per_word", "1 to 10000", std::to_string(longest));
    options.max_characters = static_cast<std::size_t>(longest);
    parts.special.unk = options.unk;
    parts.model = std::make_unique<WordPieceModel>(parts.vocabulary, options);
  }
  return parts;
}

}  // namespace inferd
