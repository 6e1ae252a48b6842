// SchemaReader: references, and allOf keyword by keyword.
#include "engine/grammar/schema_merge.h"

#include <algorithm>
#include <array>
#include <utility>

namespace inferd {
namespace {

constexpr int kDeepestExpansion = 32;
constexpr int kMostExpansions = 2000;  // of one schema

constexpr std::string_view kAnnotations[] = {"title",
                                             "description",
                                             "default",
                                             "examples",
                                             "example",
                                             "deprecated",
                                             "readOnly",
                                             "writeOnly",
                                             "$comment",
                                             "$schema",
                                             "$id",
                                             "id",
                                             "$defs",
                                             "definitions",
                                             "$anchor",
                                             "$vocabulary",
                                             "contentEncoding",
                                             "contentMediaType",
                                             "contentSchema",
                                             "discriminator",
                                             "externalDocs",
                                             "xml"};
constexpr std::string_view kLargestHolds[] = {"minimum",  "exclusiveMinimum", "minLength",
                                              "minItems", "minProperties",    "minContains"};
constexpr std::string_view kSmallestHolds[] = {"maximum",  "exclusiveMaximum", "maxLength",
                                               "maxItems", "maxProperties",    "maxContains"};

template <std::size_t n>
bool among(const std::string_view (&list)[n], std::string_view name) {
  return std::find(std::begin(list), std::end(list), name) != std::end(list);
}

std::string unescaped(std::string_view token) {
  std::string out;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '~' && i + 1 < token.size()) {
      out += token[++i] == '1' ? '/' : '~';
    } else if (token[i] == '%' && i + 2 < token.size()) {
      constexpr std::string_view kHex = "0123456789abcdefABCDEF";
      const std::size_t high = kHex.find(token[i + 1]), low = kHex.find(token[i + 2]);
      if (high == std::string_view::npos || low == std::string_view::npos) {
        out += token[i];
        continue;
      }
      const auto value = [](std::size_t digit) { return digit > 15 ? digit - 6 : digit; };
      out += static_cast<char>(static_cast<unsigned char>(value(high) * 16 + value(low)));
      i += 2;
    } else {
      out += token[i];
    }
  }
  return out;
}

Json both_of(const Json& a, const Json& b) { return Json{{"allOf", Json::array({a, b})}}; }

Json as_list(const Json& value) { return value.is_array() ? value : Json::array({value}); }

Json common_types(const Json& a, const Json& b) {
  Json out = Json::array();
  const auto add = [&](const Json& type) {
    if (std::find(out.begin(), out.end(), type) == out.end()) out.push_back(type);
  };
  for (const Json& x : as_list(a)) {
    for (const Json& y : as_list(b)) {
      if (x == y || (x == "integer" && y == "number")) add(x);
      if (x == "number" && y == "integer") add(y);
    }
  }
  return out;
}

/// Members that only one side names must also suit what the other says of further members.
Json merged_properties(const Json& a, const Json& b) {
  Json out = Json::object();
  const auto properties = [](const Json& schema) {
    const auto found = schema.find("properties");
    return found != schema.end() && found->is_object() ? *found : Json::object();
  };
  const auto suit = [](const Json& schema, const Json& other) {
    const auto further = other.find("additionalProperties");
    return further == other.end() || *further == true ? schema : both_of(schema, *further);
  };
  const Json of_a = properties(a), of_b = properties(b);
  for (const auto& [name, schema] : of_a.items()) {
    const auto again = of_b.find(name);
    out[name] = again == of_b.end() ? suit(schema, b) : *again == schema ? schema : both_of(schema, *again);
  }
  for (const auto& [name, schema] : of_b.items()) {
    if (!of_a.contains(name)) out[name] = suit(schema, a);
  }
  return out;
}

/// The value that both sides' values of a keyword come to.
Json merged_value(const std::string& keyword, const Json& x, const Json& y, const std::string& pointer) {
  if (x == y) return x;
  if (keyword == "type") return common_types(x, y);
  if (keyword == "required" && x.is_array() && y.is_array()) {
    Json out = x;
    for (const Json& name : y) {
      if (std::find(x.begin(), x.end(), name) == x.end()) out.push_back(name);
    }
    return out;
  }
  if (keyword == "enum" && x.is_array() && y.is_array()) {
    Json out = Json::array();
    std::copy_if(x.begin(), x.end(), std::back_inserter(out),
                 [&](const Json& value) { return std::find(y.begin(), y.end(), value) != y.end(); });
    return out;
  }
  if (x.is_number() && y.is_number()) {
    if (among(kLargestHolds, keyword)) return x < y ? y : x;
    if (among(kSmallestHolds, keyword)) return x < y ? x : y;
  }
  if (keyword == "additionalProperties" || keyword == "items") return both_of(x, y);
  if ((keyword == "anyOf" || keyword == "oneOf") && x.is_array()) {
    Json out = Json::array();
    for (const Json& one : x) out.push_back(both_of(one, Json{{keyword, y}}));
    return out;
  }
  throw SchemaError(
      pointer, "Schemas of 'allOf' (or beside '$ref' or 'anyOf') that both have '" + keyword + "' cannot be made one.");
}

}  // namespace

std::string pointer_to(const std::string& pointer, std::string_view step) {
  std::string out = pointer + "/";
  for (const char c : step) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

bool is_annotation(std::string_view keyword) { return among(kAnnotations, keyword); }

const Json& SchemaReader::resolve(const Json& reference, const std::string& pointer) const {
  const std::string at = pointer_to(pointer, "$ref");
  if (!reference.is_string()) throw SchemaError(at, "A '$ref' must be a string.");
  std::string_view path = reference.get_ref<const std::string&>();
  if (!path.starts_with('#') || (path.size() > 1 && path[1] != '/')) {
    throw SchemaError(at, "A '$ref' can only name a place in the same schema: \"#\" or \"#/…\".");
  }
  path.remove_prefix(1);
  const Json* found = &root_;
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string step = unescaped(path.substr(0, end));
    path.remove_prefix(end);
    const Json* next = nullptr;
    if (found->is_object() && found->contains(step)) {
      next = &(*found)[step];
    } else if (found->is_array() && !step.empty() && step.size() < 9 &&
               std::all_of(step.begin(), step.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      const auto index = static_cast<std::size_t>(std::stoul(step));
      if (index < found->size()) next = &(*found)[index];
    }
    if (next == nullptr) throw SchemaError(at, "The '$ref' names nothing that is there.");
    found = next;
  }
  return *found;
}

Json SchemaReader::merged(const Json& a, const Json& b, const std::string& pointer) const {
  if (a.is_boolean()) return a == true ? b : a;
  if (b.is_boolean()) return b == true ? a : b;
  Json out = a;
  if (a.contains("properties") || b.contains("properties")) out["properties"] = merged_properties(a, b);
  for (const auto& [keyword, value] : b.items()) {
    if (keyword == "properties") continue;
    const auto ours = a.find(keyword);
    if (ours == a.end()) {
      out[keyword] = value;
    } else if (keyword == "const" && *ours != value) {
      out["enum"] = Json::array();
    } else if (!is_annotation(keyword)) {
      out[keyword] = merged_value(keyword, *ours, value, pointer);
    }
  }
  return out;
}

Json SchemaReader::expanded(const Json& schema, const std::string& pointer, int depth) {
  if (depth > kDeepestExpansion || ++expansions_ > kMostExpansions) {
    throw SchemaError(pointer, "References and 'allOf' are nested too deeply, or too many.");
  }
  if (schema.is_boolean()) return schema;
  if (!schema.is_object()) throw SchemaError(pointer, "A schema must be an object or a boolean.");
  const auto reference = schema.find("$ref");
  const auto all = schema.find("allOf");
  if (reference == schema.end() && all == schema.end()) return schema;
  Json out = schema;
  out.erase("$ref");
  out.erase("allOf");
  if (reference != schema.end()) {
    const std::string at = pointer_to(pointer, "$ref");
    out = merged(out, expanded(resolve(*reference, pointer), at, depth + 1), at);
  }
  if (all == schema.end()) return out;
  const std::string at = pointer_to(pointer, "allOf");
  if (!all->is_array()) throw SchemaError(at, "'allOf' must be an array.");
  for (std::size_t i = 0; i < all->size(); ++i) {
    const std::string part = pointer_to(at, std::to_string(i));
    out = merged(out, expanded((*all)[i], part, depth + 1), part);
  }
  return out;
}

}  // namespace inferd
