// ToolSchemas: types out of JSON schemas, and values read as them.
#include "server/tool_schemas.h"

#include <array>
#include <optional>
#include <utility>

#include "engine/grammar/schema_merge.h"

namespace inferd {
namespace {

constexpr int kMaxNesting = 8;  // of anyOf and the like

constexpr std::array<std::pair<std::string_view, ArgumentType>, 7> kNames = {{{"string", ArgumentType::text},
                                                                              {"integer", ArgumentType::integer},
                                                                              {"number", ArgumentType::number},
                                                                              {"boolean", ArgumentType::boolean},
                                                                              {"null", ArgumentType::null},
                                                                              {"object", ArgumentType::object},
                                                                              {"array", ArgumentType::array}}};

ArgumentTypes bit(ArgumentType type) { return static_cast<ArgumentTypes>(type); }

ArgumentTypes type_of(const Json& value) {
  if (value.is_string()) return bit(ArgumentType::text);
  if (value.is_boolean()) return bit(ArgumentType::boolean);
  if (value.is_null()) return bit(ArgumentType::null);
  if (value.is_object()) return bit(ArgumentType::object);
  if (value.is_array()) return bit(ArgumentType::array);
  if (value.is_number_integer()) return bit(ArgumentType::integer) | bit(ArgumentType::number);
  return bit(ArgumentType::number);
}

ArgumentTypes named_type(const Json& name) {
  for (const auto& [text, type] : kNames) {
    if (name == text) return bit(type);
  }
  return 0;
}

/// The schema that a reference stands for; nothing if there is no such thing.
Json referred(SchemaReader& reader, const Json& schema) {
  try {
    return reader.expanded(schema, "");
  } catch (const SchemaError&) {
    return {};
  }
}

ArgumentTypes types_of_schema(SchemaReader& reader, const Json& schema, int depth) {
  ArgumentTypes types = 0;
  if (!schema.is_object() || depth > kMaxNesting) return types;
  if (schema.contains("$ref")) return types_of_schema(reader, referred(reader, schema), depth + 1);
  if (const auto type = schema.find("type"); type != schema.end()) {
    if (!type->is_array()) return named_type(*type);
    for (const Json& one : *type) types |= named_type(one);
    return types;
  }
  for (const char* const choices : {"anyOf", "oneOf", "allOf"}) {
    const auto found = schema.find(choices);
    if (found == schema.end() || !found->is_array()) continue;
    for (const Json& one : *found) types |= types_of_schema(reader, one, depth + 1);
  }
  if (const auto values = schema.find("enum"); values != schema.end() && values->is_array()) {
    for (const Json& one : *values) types |= type_of(one);
  }
  if (const auto value = schema.find("const"); value != schema.end()) types |= type_of(*value);
  return types;
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

/// The value, as JSON or in Python's spelling of constants.
std::optional<Json> read_value(std::string_view text) {
  if (text == "True") return Json(true);
  if (text == "False") return Json(false);
  if (text == "None") return Json(nullptr);
  try {
    return parse_json(text);
  } catch (const JsonError&) {
    return std::nullopt;
  }
}

}  // namespace

ToolSchemas::ToolSchemas(const Json& tools) {
  for (const Json& tool : tools) {
    const Json& function = tool.at("function");
    auto& arguments = functions_[function.at("name").get<std::string>()];
    const auto parameters = function.find("parameters");
    if (parameters == function.end() || !parameters->is_object()) continue;
    const auto properties = parameters->find("properties");
    if (properties == parameters->end() || !properties->is_object()) continue;
    SchemaReader reader(*parameters);
    for (const auto& [name, schema] : properties->items()) arguments[name] = types_of_schema(reader, schema, 0);
  }
}

bool ToolSchemas::may_become_known(std::string_view text) const {
  const auto next = functions_.lower_bound(text);
  return next != functions_.end() && next->first.starts_with(text);
}

ArgumentTypes ToolSchemas::types(std::string_view function, std::string_view argument) const {
  const auto found = functions_.find(function);
  if (found == functions_.end()) return 0;
  const auto types = found->second.find(argument);
  return types == found->second.end() ? ArgumentTypes{0} : types->second;
}

std::string typed_value(std::string_view text, ArgumentTypes types) {
  if (types == 0) types = bit(ArgumentType::object) | bit(ArgumentType::array);  // what no text looks like by chance
  if (!only_text(types)) {
    const std::optional<Json> value = read_value(trimmed(text));
    if (value && !value->is_string() && (type_of(*value) & types) != 0) return dump_json(*value);
  }
  return "\"" + json_escaped(text) + "\"";
}

std::string json_escaped(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace inferd
