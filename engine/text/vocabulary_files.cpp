// Folders without tokenizer.json: SentencePiece and tiktoken files, vocab.json with merges.txt, vocab.txt.
#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <utility>

#include "base/errors.h"
#include "base/utf8.h"
#include "engine/text/bpe_model.h"
#include "engine/text/ice_text.h"
#include "engine/text/sentencepiece_file.h"
#include "engine/text/split_patterns.h"
#include "engine/text/tiktoken_file.h"
#include "engine/text/tokenizer_fields.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/tokenizer_loaders.h"
#include "engine/text/wordpiece_model.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

/// The specials that GLM-4's code puts behind its tiktoken ranks, and ChatGLM2/3's behind its pieces.
constexpr std::string_view kGlm4Specials[] = {"<|endoftext|>",
                                              "[MASK]",
                                              "[gMASK]",
                                              "[sMASK]",
                                              "<sop>",
                                              "<eop>",
                                              "<|system|>",
                                              "<|user|>",
                                              "<|assistant|>",
                                              "<|observation|>",
                                              "<|begin_of_image|>",
                                              "<|end_of_image|>",
                                              "<|begin_of_video|>",
                                              "<|end_of_video|>"};
constexpr std::string_view kChatGlmSpecials[] = {
    "[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"};

/// Appends a control token behind the vocabulary and returns its id.
TokenId append_control(std::string_view content, TokenizerParts* parts) {
  const std::size_t id = parts->vocabulary.size();
  if (id >= kMaxVocabulary)
    throw CheckpointError(parts->file, "vocabulary", "at most " + std::to_string(kMaxVocabulary), "more");
  parts->vocabulary.set(id, std::string(content), PieceKind::control);
  return static_cast<TokenId>(id);
}

TokenId find_control(const TokenizerParts& parts, std::string_view content) {
  for (std::size_t id = 0; id < parts.vocabulary.size(); ++id) {
    if (parts.vocabulary.kinds[id] == PieceKind::control && parts.vocabulary.pieces[id] == content)
      return static_cast<TokenId>(id);
  }
  return -1;
}

struct FolderConfig {
  std::string tokenizer_class;
  std::string model_type;
  bool has_legacy = false, legacy = true;
  std::optional<bool> add_bos, add_eos;
  std::optional<Json> json;  // tokenizer_config.json
  std::string file;
  std::optional<TokenizerFields> fields() const {
    return json ? std::optional<TokenizerFields>(std::in_place, *json, file, "") : std::nullopt;
  }
};

FolderConfig read_config(const Checkpoint& checkpoint) {
  FolderConfig config;
  config.file = checkpoint.path() + "/tokenizer_config.json";
  config.json = read_tokenizer_json(checkpoint, "tokenizer_config.json");
  if (const auto fields = config.fields()) {
    config.tokenizer_class = fields->string("tokenizer_class").value_or("");
    config.legacy = fields->boolean("legacy", true);
    if (fields->find("add_bos_token") != nullptr) config.add_bos = fields->boolean("add_bos_token", false);
    if (fields->find("add_eos_token") != nullptr) config.add_eos = fields->boolean("add_eos_token", false);
  }
  if (const auto model = read_tokenizer_json(checkpoint, "config.json")) {
    config.model_type =
        TokenizerFields(*model, checkpoint.path() + "/config.json", "").string("model_type").value_or("");
  }
  return config;
}

/// Tokens that only tokenizer_config.json names. Their flags for normalisation belong to tokenizer.json and mean
/// nothing here.
void add_tokens(const FolderConfig& config, TokenizerParts* parts) {
  if (const auto fields = config.fields()) add_config_tokens(*fields, parts);
  for (AddedToken& token : parts->added) token.normalized = false;
}

void read_sentencepiece_model(const std::string& bytes, const FolderConfig& config, TokenizerParts* parts) {
  const std::string& type = config.tokenizer_class;
  if (type.starts_with("XLMRoberta") || type.starts_with("Camembert") || type.starts_with("MBart")) {
    throw CheckpointError(parts->file, "tokenizer_class",
                          "tokenizer.json for " + type + " (its ids are not the file's)", "none");
  }
  const SentencePieceSpec spec = read_sentencepiece_file(bytes, parts);
  const bool chatglm = type == "ChatGLMTokenizer" || config.model_type == "chatglm";
  if (chatglm) {
    for (const std::string_view content : kChatGlmSpecials) append_control(content, parts);
  }
  add_tokens(config, parts);
  build_sentencepiece(spec, config.legacy ? PrefixScheme::always : PrefixScheme::first, parts);
  const bool t5 = type.starts_with("T5") || config.model_type == "t5";
  if (chatglm) {
    parts->prefix = {find_control(*parts, "[gMASK]"), find_control(*parts, "sop")};
  } else if (config.add_bos.value_or(!t5) && spec.bos >= 0) {
    parts->prefix = {spec.bos};
  }
  if (config.add_eos.value_or(t5) && spec.eos >= 0) parts->suffix = {spec.eos};
}

void read_glm4(const std::string& text, const FolderConfig& config, TokenizerParts* parts) {
  if (config.tokenizer_class != "ChatGLM4Tokenizer" && config.model_type != "chatglm") {
    throw CheckpointError(parts->file, "tokenizer_class",
                          "ChatGLM4Tokenizer for a tiktoken vocabulary, or a tokenizer.json",
                          config.tokenizer_class.empty() ? "nothing" : config.tokenizer_class);
  }
  const std::vector<BpeMerge> merges = read_tiktoken(text, parts);
  for (const std::string_view content : kGlm4Specials) append_control(content, parts);
  add_tokens(config, parts);
  build_byte_level(*find_split_recipe("glm4"), merges, parts);
  parts->prefix = {find_control(*parts, "[gMASK]"), find_control(*parts, "<sop>")};
}

void read_qwen1(const std::string& text, const FolderConfig& config, TokenizerParts* parts) {
  const std::vector<BpeMerge> merges = read_tiktoken(text, parts);
  parts->special.eos = append_control("<|endoftext|>", parts);
  parts->special.stop.push_back(append_control("<|im_start|>", parts));
  append_control("<|im_end|>", parts);
  for (int i = 0; i < 205; ++i) append_control("<|extra_" + std::to_string(i) + "|>", parts);
  add_tokens(config, parts);
  build_byte_level(*find_split_recipe("qwen2"), merges, parts);
}

/// Calls visit(line, number) for every line, without its end.
template <typename Visit>
void each_line(std::string_view text, Visit&& visit) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(line, number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void read_vocab_and_merges(const Json& vocab, const std::string& merges_text, const FolderConfig& config,
                           TokenizerParts* parts) {
  static constexpr std::pair<std::string_view, std::string_view> kFamilies[] = {
      {"qwen2", "qwen2"}, {"qwen3", "qwen2"}, {"gpt2", "gpt-2"}, {"phi", "phi-2"}, {"bloom", "bloom"}};
  const auto family = std::find_if(std::begin(kFamilies), std::end(kFamilies),
                                   [&](const auto& f) { return f.first == config.model_type; });
  if (family == std::end(kFamilies)) {
    throw CheckpointError(parts->file, "model_type", "a family whose pre-tokenizer is known, or a tokenizer.json",
                          config.model_type);
  }
  if (!vocab.is_object()) throw CheckpointError(parts->file, "top level", "an object", vocab.type_name());
  std::unordered_map<std::string_view, TokenId> ids;
  for (const auto& [piece, value] : vocab.get_ref<const Json::object_t&>()) {
    const TokenId id = checked_id(value, parts->file, "vocabulary");
    const std::optional<std::string> bytes = bytes_of_gpt2_piece(piece);
    parts->vocabulary.set(static_cast<std::size_t>(id), bytes.value_or(piece),
                          bytes ? PieceKind::normal : PieceKind::unused);
    ids.emplace(piece, id);
  }
  std::vector<BpeMerge> merges;
  each_line(merges_text, [&](std::string_view line, std::size_t number) {
    if (line.empty() || (number == 1 && line.starts_with("#version"))) return;
    const std::size_t space = line.find(' ');
    const std::string joined =
        space == std::string_view::npos ? "" : std::string(line.substr(0, space)).append(line.substr(space + 1));
    const auto left = ids.find(line.substr(0, std::min(space, line.size())));
    const auto right = space == std::string_view::npos ? ids.end() : ids.find(line.substr(space + 1));
    const auto result = ids.find(joined);
    if (left == ids.end() || right == ids.end() || result == ids.end()) {
      throw CheckpointError(parts->file, "merges.txt line " + std::to_string(number), "two tokens of the vocabulary",
                            "something else");
    }
    merges.push_back({left->second, right->second, result->second, static_cast<std::uint32_t>(merges.size())});
  });
  add_tokens(config, parts);
  build_byte_level(*find_split_recipe(family->second), merges, parts);
}

void read_vocab_txt(const std::string& text, const FolderConfig& config, TokenizerParts* parts) {
  Vocabulary& vocabulary = parts->vocabulary;
  each_line(text, [&](std::string_view line, std::size_t) {
    if (vocabulary.size() >= kMaxVocabulary || line.size() > kMaxPieceBytes || !is_valid_utf8(line)) {
      throw CheckpointError(parts->file, "line " + std::to_string(vocabulary.size() + 1), "a short UTF-8 token",
                            "something else");
    }
    const bool special = line == "[PAD]" || line == "[UNK]" || line == "[CLS]" || line == "[SEP]" || line == "[MASK]";
    vocabulary.pieces.emplace_back(line);
    vocabulary.kinds.push_back(special ? PieceKind::control : PieceKind::normal);
  });
  add_tokens(config, parts);
  BertNormalizerOptions normal;
  if (const auto fields = config.fields()) {
    normal.lowercase = fields->boolean("do_lower_case", true);
    normal.handle_chinese_chars = fields->boolean("tokenize_chinese_chars", true);
    normal.strip_accents = fields->boolean("strip_accents", normal.lowercase);
  }
  parts->normalizer.push_back(make_bert_step(normal));
  parts->pre_tokenizer.push_back(make_whitespace_split_step());
  parts->pre_tokenizer.push_back(make_punctuation_step(SplitBehavior::isolated));
  WordPieceOptions options;
  options.unk = find_control(*parts, "[UNK]");
  parts->model = std::make_unique<WordPieceModel>(vocabulary, options);
  parts->decode.word_pieces = parts->decode.strip_leading_space = parts->decode.cleanup = true;
  parts->decode.continuing_prefix = "##";
  SpecialTokens& special = parts->special;
  special.unk = options.unk;
  special.pad = find_control(*parts, "[PAD]");
  special.cls = find_control(*parts, "[CLS]");
  special.sep = find_control(*parts, "[SEP]");
  special.mask = find_control(*parts, "[MASK]");
  if (special.cls >= 0) parts->prefix = {special.cls};
  if (special.sep >= 0) parts->suffix = {special.sep};
}

}  // namespace

void build_byte_level(const SplitRecipe& recipe, const std::vector<BpeMerge>& merges, TokenizerParts* parts) {
  if (recipe.nfc) parts->normalizer.push_back(make_form_step(NormalForm::nfc));
  for (const std::string_view pattern : recipe.patterns) {
    parts->pre_tokenizer.push_back(make_regex_split_step(pattern, SplitBehavior::isolated, false));
  }
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = recipe.ignore_merges;
  parts->model = std::make_unique<BpeModel>(parts->vocabulary, merges, options);
}

std::optional<TokenizerParts> read_vocabulary_files(const Checkpoint& checkpoint) {
  const FolderConfig config = read_config(checkpoint);
  TokenizerParts parts;
  const auto name = [&](const char* file) { parts.file = checkpoint.path() + "/" + file; };
  if (const auto bytes = checkpoint.read_file("tokenizer.model", kMaxFileBytes)) {
    name("tokenizer.model");
    if (is_tiktoken_text(*bytes)) {
      read_glm4(*bytes, config, &parts);
    } else {
      read_sentencepiece_model(*bytes, config, &parts);
    }
  } else if (const auto ice = checkpoint.read_file("ice_text.model", kMaxFileBytes)) {
    name("ice_text.model");
    const auto fields = config.fields();
    read_ice_text(*ice, fields ? fields->integer("num_image_tokens").value_or(0) : 0, &parts);
  } else if (const auto ranks = checkpoint.read_file("qwen.tiktoken", kMaxFileBytes)) {
    name("qwen.tiktoken");
    read_qwen1(*ranks, config, &parts);
  } else if (const auto vocab = read_tokenizer_json(checkpoint, "vocab.json")) {
    name("vocab.json");
    const auto merges = checkpoint.read_file("merges.txt", kMaxFileBytes);
    if (!merges) throw CheckpointError(parts.file, "merges.txt", "a file beside it", "none");
    read_vocab_and_merges(*vocab, *merges, config, &parts);
  } else if (const auto text = checkpoint.read_file("vocab.txt", kMaxFileBytes)) {
    name("vocab.txt");
    read_vocab_txt(*text, config, &parts);
  } else {
    return std::nullopt;
  }
  add_control_pieces(&parts);
  return parts;
}

}  // namespace inferd
