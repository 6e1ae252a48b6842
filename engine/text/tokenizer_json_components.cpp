// The normalizer, pre_tokenizer, decoder and post_processor objects of tokenizer.json.
#include <stdexcept>
#include <utility>

#include "base/errors.h"
#include "engine/text/base64.h"
#include "engine/text/split_patterns.h"
#include "engine/text/tokenizer_json.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxSteps = 64;

/// Calls read(fields) for `fields` or, if it is a Sequence, for each of its members, at any depth (JSON depth is
/// bounded).
template <typename Read>
void each_step(const TokenizerFields& fields, std::string_view list_key, Read&& read) {
  if (fields.required_string("type") != "Sequence") {
    read(fields);
    return;
  }
  const Json* list = fields.array(list_key);
  if (list == nullptr) fields.fail(list_key, "an array", "nothing");
  if (list->size() > kMaxSteps) fields.fail(list_key, "at most 64 steps", std::to_string(list->size()));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const TokenizerFields member((*list)[i], fields.file(), fields.path_of(list_key) + "[" + std::to_string(i) + "]");
    each_step(member, list_key, read);
  }
}

/// {"String": s} or {"Regex": r}, or a bare string.
std::pair<std::string, bool> read_pattern(const TokenizerFields& fields) {
  const Json* value = fields.find("pattern");
  if (value != nullptr && value->is_string()) return {value->get<std::string>(), false};
  const std::optional<TokenizerFields> pattern = fields.object("pattern");
  if (!pattern) fields.fail("pattern", "a pattern", "nothing");
  if (std::optional<std::string> text = pattern->string("String")) return {*std::move(text), false};
  return {pattern->required_string("Regex"), true};
}

SplitBehavior read_behavior(const TokenizerFields& fields, const std::string& otherwise) {
  const std::string name = fields.string("behavior").value_or(otherwise);
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fields.fail("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous", name);
}

PrefixScheme read_scheme(const TokenizerFields& fields) {
  const std::optional<std::string> name = fields.string("prepend_scheme");
  if (!name) return fields.boolean("add_prefix_space", true) ? PrefixScheme::always : PrefixScheme::never;
  if (*name == "always") return PrefixScheme::always;
  if (*name == "first") return PrefixScheme::first;
  if (*name == "never") return PrefixScheme::never;
  fields.fail("prepend_scheme", "always, first or never", *name);
}

std::unique_ptr<NormalizerStep> read_normalizer_step(const TokenizerFields& fields) {
  const std::string type = fields.required_string("type");
  if (type == "NFC") return make_form_step(NormalForm::nfc);
  if (type == "NFD") return make_form_step(NormalForm::nfd);
  if (type == "NFKC") return make_form_step(NormalForm::nfkc);
  if (type == "NFKD") return make_form_step(NormalForm::nfkd);
  if (type == "Lowercase") return make_lowercase_step();
  if (type == "StripAccents") return make_strip_accents_step();
  if (type == "Strip") return make_strip_step(fields.boolean("strip_left", true), fields.boolean("strip_right", true));
  if (type == "Prepend") return make_prepend_step(fields.required_string("prepend"));
  if (type == "Append") return make_append_step(fields.required_string("append"));
  if (type == "Replace") {
    auto [pattern, is_regex] = read_pattern(fields);
    return make_replace_step(std::move(pattern), is_regex, fields.required_string("content"));
  }
  if (type == "BertNormalizer") {
    BertNormalizerOptions options;
    options.clean_text = fields.boolean("clean_text", true);
    options.handle_chinese_chars = fields.boolean("handle_chinese_chars", true);
    options.lowercase = fields.boolean("lowercase", true);
    options.strip_accents = fields.boolean("strip_accents", options.lowercase);
    return make_bert_step(options);
  }
  if (type == "Precompiled") {
    const std::optional<std::string> blob = decode_base64(fields.required_string("precompiled_charsmap"));
    if (!blob) fields.fail("precompiled_charsmap", "base64", "other text");
    return make_charsmap_step(Charsmap::parse(*blob, fields.file()));
  }
  fields.fail("type", "a known normalizer", type);
}

void read_pre_tokenizer_step(const TokenizerFields& fields, PreTokenizerSpec* spec) {
  const std::string type = fields.required_string("type");
  PreTokenizer& steps = spec->steps;
  if (spec->byte_level) fields.fail("type", "nothing after ByteLevel", type);
  if (type == "ByteLevel") {
    if (fields.boolean("add_prefix_space", true)) steps.push_back(make_prefix_space_step());
    if (fields.boolean("use_regex", true)) {
      steps.push_back(make_regex_split_step(kGpt2Pattern, SplitBehavior::isolated, false));
    }
    spec->byte_level = true;
  } else if (type == "Split") {
    auto [pattern, is_regex] = read_pattern(fields);
    const SplitBehavior behavior = read_behavior(fields, "");
    const bool invert = fields.boolean("invert", false);
    steps.push_back(is_regex ? make_regex_split_step(pattern, behavior, invert)
                             : make_string_split_step(std::move(pattern), behavior, invert));
  } else if (type == "Digits") {
    steps.push_back(make_digits_step(fields.boolean("individual_digits", false)));
  } else if (type == "Metaspace") {
    steps.push_back(make_metaspace_step(fields.string("replacement").value_or("\u2581"), read_scheme(fields),
                                        fields.boolean("split", true)));
  } else if (type == "BertPreTokenizer") {
    steps.push_back(make_whitespace_split_step());
    steps.push_back(make_punctuation_step(SplitBehavior::isolated));
  } else if (type == "Punctuation") {
    steps.push_back(make_punctuation_step(read_behavior(fields, "Isolated")));
  } else if (type == "WhitespaceSplit") {
    steps.push_back(make_whitespace_split_step());
  } else if (type == "Whitespace") {
    steps.push_back(make_regex_split_step(R"(\w+|[^\w\s]+)", SplitBehavior::removed, true));
  } else {
    fields.fail("type", "a known pre-tokenizer", type);
  }
}

void read_decoder_step(const TokenizerFields& fields, DecodeRules* rules) {
  const std::string type = fields.required_string("type");
  if (type == "ByteLevel" || type == "Fuse") return;
  if (type == "ByteFallback") {
    rules->byte_fallback = true;
  } else if (type == "Replace") {
    auto [pattern, is_regex] = read_pattern(fields);
    if (is_regex) fields.fail("pattern", "a plain string", "a regular expression");
    rules->replace.emplace_back(std::move(pattern), fields.required_string("content"));
  } else if (type == "Metaspace") {
    rules->replace.emplace_back(fields.string("replacement").value_or("\u2581"), " ");
    rules->strip_leading_space = read_scheme(fields) != PrefixScheme::never;
  } else if (type == "Strip") {
    const std::int64_t start = fields.integer("start").value_or(0);
    if (fields.string("content").value_or(" ") != " " || fields.integer("stop").value_or(0) != 0 || start < 0 ||
        start > 1) {
      fields.fail("start", "at most one space stripped from the front", "something else");
    }
    rules->strip_leading_space = start == 1;
  } else if (type == "WordPiece") {
    rules->word_pieces = true;
    rules->strip_leading_space = true;
    rules->continuing_prefix = fields.string("prefix").value_or("##");
    rules->cleanup = fields.boolean("cleanup", true);
  } else {
    fields.fail("type", "a known decoder", type);
  }
}

/// ["[SEP]", 102] of the BERT and RoBERTa post-processors.
TokenId read_named_id(const TokenizerFields& fields, std::string_view key) {
  const Json* pair = fields.array(key);
  if (pair == nullptr || pair->size() != 2) fields.fail(key, "[token, id]", "something else");
  return checked_id((*pair)[1], fields.file(), fields.path_of(key));
}

/// The ids of a special token by its name in the template's own table.
std::vector<TokenId> template_ids(const TokenizerFields& fields, const std::string& name) {
  const std::optional<TokenizerFields> table = fields.object("special_tokens");
  const std::optional<TokenizerFields> entry = table ? table->object(name) : std::nullopt;
  const Json* list = entry ? entry->array("ids") : nullptr;
  if (list == nullptr || list->empty() || list->size() > 16)
    fields.fail("special_tokens." + name, "a list of ids", "something else");
  std::vector<TokenId> ids;
  for (const Json& id : *list) ids.push_back(checked_id(id, fields.file(), fields.path_of("special_tokens." + name)));
  return ids;
}

/// A template as items; {"SpecialToken": {"id", "type_id"}} or {"Sequence": {"id": "A", "type_id"}}.
std::vector<PairItem> read_template(const TokenizerFields& fields, std::string_view key) {
  std::vector<PairItem> items;
  const Json* list = fields.array(key);
  if (list == nullptr) return items;
  if (list->size() > kMaxSteps) fields.fail(key, "at most 64 items", std::to_string(list->size()));
  for (const Json& entry : *list) {
    const TokenizerFields item(entry, fields.file(), fields.path_of(key));
    if (const std::optional<TokenizerFields> special = item.object("SpecialToken")) {
      const int type_id = special->integer("type_id").value_or(0) != 0 ? 1 : 0;
      for (const TokenId id : template_ids(fields, special->required_string("id"))) {
        items.push_back({PairItem::Kind::special, id, type_id});
      }
    } else if (const std::optional<TokenizerFields> sequence = item.object("Sequence")) {
      const int type_id = sequence->integer("type_id").value_or(0) != 0 ? 1 : 0;
      const bool second = sequence->required_string("id") == "B";
      items.push_back({second ? PairItem::Kind::second : PairItem::Kind::first, -1, type_id});
    } else {
      fields.fail(key, "SpecialToken or Sequence items", "something else");
    }
  }
  return items;
}

void read_post_processor_step(const TokenizerFields& fields, TokenizerParts* parts) {
  const std::string type = fields.required_string("type");
  if (type == "ByteLevel") return;  // it changes offsets only
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const TokenId cls = read_named_id(fields, "cls");
    const TokenId sep = read_named_id(fields, "sep");
    parts->prefix.assign(1, cls);
    parts->suffix.assign(1, sep);
    using Kind = PairItem::Kind;
    if (type == "BertProcessing") {
      parts->pair = {{Kind::special, cls, 0},
                     {Kind::first, -1, 0},
                     {Kind::special, sep, 0},
                     {Kind::second, -1, 1},
                     {Kind::special, sep, 1}};
    } else {
      parts->pair = {{Kind::special, cls, 0}, {Kind::first, -1, 0},  {Kind::special, sep, 0},
                     {Kind::special, sep, 0}, {Kind::second, -1, 0}, {Kind::special, sep, 0}};
    }
  } else if (type == "TemplateProcessing") {
    bool after = false;
    parts->prefix.clear();
    parts->suffix.clear();
    for (const PairItem& item : read_template(fields, "single")) {
      if (item.kind == PairItem::Kind::special) {
        (after ? parts->suffix : parts->prefix).push_back(item.id);
      } else {
        after = true;
      }
    }
    parts->pair = read_template(fields, "pair");
  } else {
    fields.fail("type", "a known post-processor", type);
  }
}

/// Runs `read`, turning a pattern's std::invalid_argument into a CheckpointError.
template <typename Read>
void with_pattern_errors(const TokenizerFields& fields, Read&& read) {
  try {
    read();
  } catch (const std::invalid_argument& error) {
    fields.fail("pattern", "a supported regular expression", error.what());
  }
}

}  // namespace

Normalizer read_normalizer(const TokenizerFields& root) {
  Normalizer steps;
  if (const std::optional<TokenizerFields> fields = root.object("normalizer")) {
    each_step(*fields, "normalizers", [&](const TokenizerFields& step) {
      with_pattern_errors(step, [&] { steps.push_back(read_normalizer_step(step)); });
      if (steps.size() > kMaxSteps) step.fail("type", "at most 64 steps", "more");
    });
  }
  return steps;
}

PreTokenizerSpec read_pre_tokenizer(const TokenizerFields& root) {
  PreTokenizerSpec spec;
  if (const std::optional<TokenizerFields> fields = root.object("pre_tokenizer")) {
    each_step(*fields, "pretokenizers", [&](const TokenizerFields& step) {
      with_pattern_errors(step, [&] { read_pre_tokenizer_step(step, &spec); });
      if (spec.steps.size() > kMaxSteps) step.fail("type", "at most 64 steps", "more");
    });
  }
  return spec;
}

DecodeRules read_decoder(const TokenizerFields& root) {
  DecodeRules rules;
  if (const std::optional<TokenizerFields> fields = root.object("decoder")) {
    each_step(*fields, "decoders", [&](const TokenizerFields& step) { read_decoder_step(step, &rules); });
  }
  return rules;
}

void read_post_processor(const TokenizerFields& root, TokenizerParts* parts) {
  if (const std::optional<TokenizerFields> fields = root.object("post_processor")) {
    each_step(*fields, "processors", [&](const TokenizerFields& step) { read_post_processor_step(step, parts); });
  }
}

}  // namespace inferd
