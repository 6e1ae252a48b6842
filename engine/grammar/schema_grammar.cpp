// SchemaGrammar: keywords that hold for any value, and scalars.
#include "engine/grammar/schema_grammar.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace inferd {
namespace {

constexpr int kMostNesting = 64;
constexpr int kMostSchemas = 20'000;
constexpr std::size_t kMostSchemaBytes = 256u << 10;
constexpr std::size_t kMostAlternatives = 256;
constexpr std::size_t kMostListed = 5'000;
constexpr std::size_t kMostIgnored = 100;
constexpr std::uint32_t kMostCount = 1'000'000'000;

// Known, and not to be enforced by an automaton of reasonable size.
constexpr std::string_view kUnenforced[] = {"not",
                                            "if",
                                            "then",
                                            "else",
                                            "dependentRequired",
                                            "dependentSchemas",
                                            "dependencies",
                                            "propertyNames",
                                            "contains",
                                            "minContains",
                                            "maxContains",
                                            "uniqueItems",
                                            "multipleOf",
                                            "minProperties",
                                            "maxProperties",
                                            "patternProperties",
                                            "unevaluatedProperties",
                                            "unevaluatedItems",
                                            "$dynamicRef",
                                            "$recursiveRef"};
constexpr std::string_view kAssertions[] = {"type",
                                            "enum",
                                            "const",
                                            "properties",
                                            "required",
                                            "additionalProperties",
                                            "items",
                                            "prefixItems",
                                            "additionalItems",
                                            "minItems",
                                            "maxItems",
                                            "minLength",
                                            "maxLength",
                                            "pattern",
                                            "format",
                                            "minimum",
                                            "maximum",
                                            "exclusiveMinimum",
                                            "exclusiveMaximum",
                                            "anyOf",
                                            "oneOf",
                                            "allOf",
                                            "$ref"};
constexpr std::string_view kTypes[] = {"object", "array", "string", "number", "integer", "boolean", "null"};

template <std::size_t n>
bool among(const std::string_view (&list)[n], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

/// True if the schema says something besides `keyword`.
bool says_more(const Json& schema, std::string_view keyword) {
  for (const auto& [name, value] : schema.items()) {
    if (name != keyword && (among(kAssertions, name) || among(kUnenforced, name))) return true;
  }
  return false;
}

bool is_of_type(const Json& value, std::string_view type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (!value.is_number()) return false;
  if (type == "number" || value.is_number_integer()) return true;
  const double number = value.get<double>();
  return std::floor(number) == number;
}

const Json* find(const Json& schema, const char* keyword) {
  const auto found = schema.find(keyword);
  return found == schema.end() ? nullptr : &*found;
}

}  // namespace

SchemaGrammar::SchemaGrammar(GrammarBuilder& builder, JsonText& json, const Json& root, bool strict)
    : builder_(builder), json_(json), root_(root), strict_(strict), reader_(root) {}

GrammarExpr SchemaGrammar::value() {
  if (dump_json(root_).size() > kMostSchemaBytes) {
    throw SchemaError("", "The schema is longer than " + std::to_string(kMostSchemaBytes) + " bytes.");
  }
  return value(root_, "", 0);
}

void SchemaGrammar::cannot(const std::string& pointer, std::string_view keyword, std::string_view why) {
  const std::string at = pointer_to(pointer, keyword);
  std::string message = "'" + std::string(keyword) + "' cannot be enforced here";
  message += why.empty() ? "." : ": " + std::string(why) + ".";
  if (strict_) throw SchemaError(at, message);
  const bool known = std::find(ignored_.begin(), ignored_.end(), at) != ignored_.end();
  if (!known && ignored_.size() < kMostIgnored) ignored_.push_back(at);
}

void SchemaGrammar::check_keywords(const Json& schema, const std::string& pointer) {
  for (const std::string_view keyword : kUnenforced) {
    const Json* value = find(schema, std::string(keyword).c_str());
    if (value == nullptr || (keyword == "uniqueItems" && *value == false)) continue;
    if (keyword == "unevaluatedProperties" || keyword == "unevaluatedItems") {
      if (*value == true) continue;
    }
    cannot(pointer, keyword);
  }
}

GrammarExpr SchemaGrammar::value(const Json& schema, const std::string& pointer, int depth) {
  if (depth > kMostNesting || ++schemas_ > kMostSchemas) {
    throw SchemaError(pointer,
                      depth > kMostNesting ? "The schema is nested too deeply." : "The schema has too many parts.");
  }
  if (schema.is_boolean()) return schema == true ? json_.value() : builder_.never();
  if (!schema.is_object()) throw SchemaError(pointer, "A schema must be an object or a boolean.");
  if (schema.contains("$ref") && !says_more(schema, "$ref")) return referred(schema, pointer, depth);
  if (schema.contains("$ref") || schema.contains("allOf")) {
    return value(reader_.expanded(schema, pointer), pointer, depth + 1);
  }
  check_keywords(schema, pointer);
  for (const char* const keyword : {"anyOf", "oneOf"}) {
    if (schema.contains(keyword)) return alternatives(schema, keyword, pointer, depth);
  }
  if (schema.contains("enum") || schema.contains("const")) return listed(schema, pointer);
  const std::vector<std::string> allowed = types(schema, pointer);
  if (allowed.empty() && schema.contains("type")) return builder_.never();
  if (allowed.empty() && !bare_) return json_.value();
  if (allowed.empty()) return bare_text_;
  std::vector<GrammarExpr> forms;
  for (const std::string& type : allowed) forms.push_back(typed(schema, type, pointer, depth));
  return builder_.choice(std::move(forms));
}

/// A schema that is only a reference is a rule, which may come to itself again.
GrammarExpr SchemaGrammar::referred(const Json& schema, const std::string& pointer, int depth) {
  const Json& target = reader_.resolve(schema["$ref"], pointer);
  const auto [rule, fresh] = rules_.try_emplace({schema["$ref"].get<std::string>(), bare_}, 0);
  if (fresh) {
    const GrammarRule made = rule->second = builder_.declare();
    builder_.define(made, value(target, schema["$ref"].get<std::string>().substr(1), depth + 1));
    return builder_.call(made);
  }
  return builder_.call(rule->second);
}

GrammarExpr SchemaGrammar::alternatives(const Json& schema, const char* keyword, const std::string& pointer,
                                        int depth) {
  const Json& list = schema[keyword];
  const std::string at = pointer_to(pointer, keyword);
  if (!list.is_array() || list.empty()) throw SchemaError(at, "It must be an array that is not empty.");
  if (list.size() > kMostAlternatives) {
    throw SchemaError(at, "It has more than " + std::to_string(kMostAlternatives) + " alternatives.");
  }
  Json rest = schema;
  rest.erase(keyword);
  const bool more = says_more(rest, "");
  std::vector<GrammarExpr> forms;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string part = pointer_to(at, std::to_string(i));
    forms.push_back(more ? value(reader_.merged(rest, reader_.expanded(list[i], part), part), part, depth + 1)
                         : value(list[i], part, depth + 1));
  }
  return builder_.choice(std::move(forms));
}

/// enum and const: those of the values that are of an allowed type.
GrammarExpr SchemaGrammar::listed(const Json& schema, const std::string& pointer) {
  const Json* values = find(schema, "enum");
  const Json* only = find(schema, "const");
  const std::string at = pointer_to(pointer, values != nullptr ? "enum" : "const");
  if (values != nullptr && !values->is_array()) throw SchemaError(at, "'enum' must be an array.");
  if (values != nullptr && values->size() > kMostListed) {
    throw SchemaError(at, "'enum' has more than " + std::to_string(kMostListed) + " values.");
  }
  for (const char* const keyword :
       {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength",
        "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
    if (schema.contains(keyword)) cannot(pointer, keyword, "it stands beside 'enum' or 'const'");
  }
  const std::vector<std::string> allowed =
      schema.contains("type") ? types(schema, pointer) : std::vector<std::string>();
  const Json all = values != nullptr ? *values : Json::array({*only});
  std::vector<std::string> texts;
  for (const Json& value : all) {
    if (only != nullptr && value != *only) continue;
    const bool fits = std::any_of(allowed.begin(), allowed.end(), [&](const auto& t) { return is_of_type(value, t); });
    if (!fits && schema.contains("type")) continue;
    texts.push_back(bare_ && value.is_string() ? value.get<std::string>() : dump_json(value));
  }
  return builder_.one_of(texts);
}

/// The types that a schema names, or that its other keywords are about; none if it says nothing of the kind.
std::vector<std::string> SchemaGrammar::types(const Json& schema, const std::string& pointer) const {
  std::vector<std::string> out;
  if (const Json* type = find(schema, "type")) {
    const std::string at = pointer_to(pointer, "type");
    const Json list = type->is_array() ? *type : Json::array({*type});
    for (const Json& item : list) {
      const auto* name = item.get_ptr<const std::string*>();
      if (name == nullptr || !among(kTypes, *name)) {
        throw SchemaError(at,
                          "'type' must be object, array, string, number, integer, boolean or null, or a list of them.");
      }
      if (std::find(out.begin(), out.end(), *name) == out.end()) out.push_back(*name);
    }
    if (std::find(out.begin(), out.end(), "number") != out.end()) std::erase(out, "integer");
    return out;
  }
  const auto speaks_of = [&](std::initializer_list<const char*> keywords) {
    return std::any_of(keywords.begin(), keywords.end(), [&](const char* k) { return schema.contains(k); });
  };
  if (speaks_of({"properties", "required", "additionalProperties"})) out.emplace_back("object");
  if (speaks_of({"items", "prefixItems", "minItems", "maxItems"})) out.emplace_back("array");
  if (speaks_of({"minLength", "maxLength", "pattern", "format"})) out.emplace_back("string");
  if (speaks_of({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) out.emplace_back("number");
  return out;
}

GrammarExpr SchemaGrammar::typed(const Json& schema, const std::string& type, const std::string& pointer, int depth) {
  if (type == "string") return text(schema, pointer);
  if (type == "number" || type == "integer") return number(schema, type == "integer", pointer);
  if (type == "boolean") return json_.boolean();
  if (type == "null") return json_.null();
  const bool bare = std::exchange(bare_, false);
  const GrammarExpr made = type == "object" ? object(schema, pointer, depth) : array(schema, pointer, depth);
  bare_ = bare;
  return made;
}

std::uint32_t SchemaGrammar::count(const Json& schema, const char* keyword, const std::string& pointer,
                                   std::uint32_t otherwise) const {
  const Json* value = find(schema, keyword);
  if (value == nullptr) return otherwise;
  const double number = value->is_number() ? value->get<double>() : -1;
  if (!(number >= 0) || std::floor(number) != number) {
    throw SchemaError(pointer_to(pointer, keyword),
                      "'" + std::string(keyword) + "' must be a whole number, 0 or more.");
  }
  return static_cast<std::uint32_t>(std::min(number, static_cast<double>(kMostCount)));
}

GrammarExpr SchemaGrammar::text(const Json& schema, const std::string& pointer) {
  const std::uint32_t min = count(schema, "minLength", pointer, 0);
  const std::uint32_t max = count(schema, "maxLength", pointer, kUnlimited);
  const Json* pattern = find(schema, "pattern");
  const Json* format = find(schema, "format");
  std::string_view known;
  if (format != nullptr && format->is_string()) known = format_pattern(format->get_ref<const std::string&>());
  if (pattern != nullptr && !pattern->is_string()) {
    throw SchemaError(pointer_to(pointer, "pattern"), "'pattern' must be a string.");
  }
  if (format != nullptr && (known.empty() || pattern != nullptr)) {
    cannot(pointer, "format", pattern != nullptr ? "it stands beside 'pattern'" : "the format is not known here");
  }
  if (pattern != nullptr || !known.empty()) {
    if (schema.contains("minLength")) cannot(pointer, "minLength", "it stands beside 'pattern' or 'format'");
    if (schema.contains("maxLength")) cannot(pointer, "maxLength", "it stands beside 'pattern' or 'format'");
    const std::string_view source =
        pattern != nullptr ? std::string_view(pattern->get_ref<const std::string&>()) : known;
    try {
      const StringForm quoted = json_.angles() ? StringForm::json : StringForm::json_without_angles;
      const GrammarExpr inner = pattern_text(builder_, source, bare_ ? StringForm::bare : quoted);
      if (bare_) return inner;
      return builder_.rule(builder_.sequence({builder_.literal("\""), inner, builder_.literal("\"")}));
    } catch (const PatternError& error) {
      throw SchemaError(pointer_to(pointer, "pattern"),
                        std::string("The pattern is not supported: ") + error.what() + ".");
    }
  }
  if (!bare_) return json_.string(min, max);
  if (schema.contains("minLength")) cannot(pointer, "minLength", "this model's tool calls write strings bare");
  if (schema.contains("maxLength")) cannot(pointer, "maxLength", "this model's tool calls write strings bare");
  return bare_text_;
}

GrammarExpr SchemaGrammar::number(const Json& schema, bool whole, const std::string& pointer) {
  NumberBounds bounds;
  const auto read = [&](const char* keyword, bool lower, bool excluded) {
    const Json* value = find(schema, keyword);
    if (value == nullptr || value->is_boolean()) return;  // draft 4's exclusiveMinimum: true
    if (!value->is_number()) throw SchemaError(pointer_to(pointer, keyword), "It must be a number.");
    const double exact = value->get<double>();
    const double rounded = lower ? std::ceil(exact) : std::floor(exact);
    const bool between = rounded != exact;
    if (between && !whole) return cannot(pointer, keyword, "for numbers, only whole limits can be");
    const double most = static_cast<double>(kMostInteger);
    if (std::abs(rounded) > most) {
      if (lower == (rounded > 0)) cannot(pointer, keyword, "it is too large");
      return;
    }
    const std::int64_t limit =
        value->is_number_integer() ? value->get<std::int64_t>() : static_cast<std::int64_t>(rounded);
    excluded = excluded && !between;
    std::optional<std::int64_t>& bound = lower ? bounds.min : bounds.max;
    bool& open = lower ? bounds.min_excluded : bounds.max_excluded;
    if (bound && (lower ? *bound > limit : *bound < limit)) return;
    open = excluded || (bound == limit && open);
    bound = limit;
  };
  const auto draft_4 = [&](const char* keyword) {
    const Json* value = find(schema, keyword);
    return value != nullptr && *value == true;
  };
  read("minimum", true, draft_4("exclusiveMinimum"));
  read("exclusiveMinimum", true, true);
  read("maximum", false, draft_4("exclusiveMaximum"));
  read("exclusiveMaximum", false, true);
  return whole ? json_.integer(bounds) : json_.number(bounds);
}

}  // namespace inferd
