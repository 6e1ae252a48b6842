// Filters on lists and dicts as wholes: first, join, sort, sum, batch …
#include <algorithm>
#include <unordered_map>

#include "engine/text/jinja/attribute_path.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

Value length(Interpreter& interpreter, const Value& input, Arguments&) {
  return Value::integer(interpreter.length(input));
}

Value default_value(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("default", arguments, {"default_value", "boolean"});
  const bool missing = input.is_undefined() || (parameters.flag(1, false) && !is_true(input));
  if (!missing) return input;
  return parameters.get(0) == nullptr ? interpreter.string("", true) : *parameters.get(0);
}

Value list(Interpreter& interpreter, const Value& input, Arguments&) {
  return interpreter.list(interpreter.iterate(input));
}

Value first(Interpreter& interpreter, const Value& input, Arguments&) {
  const std::vector<Value> items = interpreter.iterate(input);
  return items.empty() ? Value::undefined("no first item, sequence was empty") : items.front();
}

Value last(Interpreter& interpreter, const Value& input, Arguments&) {
  const std::vector<Value> items = interpreter.iterate(input);
  return items.empty() ? Value::undefined("no last item, sequence was empty") : items.back();
}

Value items(Interpreter& interpreter, const Value& input, Arguments&) {
  if (input.is_undefined()) return interpreter.list({});
  if (!input.is_dict()) throw TemplateError("can only get item pairs from a mapping");
  std::vector<Value> pairs;
  for (const auto& [key, value] : input.as_dict().entries()) {
    interpreter.budget().step();
    pairs.push_back(interpreter.tuple({key, value}));
  }
  return interpreter.list(std::move(pairs));
}

Value reverse(Interpreter& interpreter, const Value& input, Arguments&) {
  if (input.is_string()) return take_slice(interpreter, input, {std::nullopt, std::nullopt, -1});
  std::vector<Value> reversed = interpreter.iterate(input);
  std::reverse(reversed.begin(), reversed.end());
  return interpreter.list(std::move(reversed));
}

Value join(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("join", arguments, {"d", "attribute"});
  const Text separator = parameters.get(0) == nullptr ? Text() : interpreter.to_text(*parameters.get(0));
  std::optional<AttributePath> path;
  if (parameters.given(1)) path.emplace(*parameters.get(1));
  Text joined;
  bool first_item = true;
  for (const Value& item : interpreter.iterate(input)) {
    interpreter.budget().step();
    if (!first_item) joined.append(separator);
    first_item = false;
    append_string(interpreter, path ? path->get(interpreter, item) : item, &joined);
  }
  return interpreter.string(std::move(joined));
}

Value sum(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("sum", arguments, {"attribute", "start"});
  std::optional<AttributePath> path;
  if (parameters.given(0)) path.emplace(*parameters.get(0));
  Value total = parameters.get(1) == nullptr ? Value::integer(0) : *parameters.get(1);
  if (total.is_string()) throw TemplateError("sum cannot add strings");
  for (const Value& item : interpreter.iterate(input)) {
    total = binary_operation(interpreter, ExpressionKind::add, total, path ? path->get(interpreter, item) : item);
    interpreter.budget().step();
  }
  return total;
}

/// Strings in lower case unless case matters; everything else as it is.
Value sort_key(Interpreter& interpreter, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is_string()) return value;
  return interpreter.string(to_lower_text(value.text()));
}

using KeyedItem = std::pair<Value, Value>;

void sort_by_key(Interpreter& interpreter, std::vector<KeyedItem>* keyed, bool reversed) {
  std::stable_sort(keyed->begin(), keyed->end(), [&](const KeyedItem& a, const KeyedItem& b) {
    const KeyedItem& small = reversed ? b : a;
    const KeyedItem& large = reversed ? a : b;
    return compare(interpreter.budget(), small.first, large.first) < 0;
  });
}

std::vector<KeyedItem> key_items(Interpreter& interpreter, const Value& input, const Value* attribute,
                                 bool case_sensitive, const Value* fallback = nullptr) {
  std::optional<AttributePath> path;
  if (attribute != nullptr && !attribute->is_none()) path.emplace(*attribute);
  std::vector<KeyedItem> keyed;
  for (Value& item : interpreter.iterate(input)) {
    interpreter.budget().step();
    Value key = path ? path->get(interpreter, item) : item;
    if (key.is_undefined() && fallback != nullptr) key = *fallback;
    keyed.emplace_back(sort_key(interpreter, key, case_sensitive), std::move(item));
  }
  return keyed;
}

Value second_parts(Interpreter& interpreter, std::vector<KeyedItem> keyed) {
  std::vector<Value> sorted;
  sorted.reserve(keyed.size());
  for (KeyedItem& entry : keyed) sorted.push_back(std::move(entry.second));
  return interpreter.list(std::move(sorted));
}

std::vector<Text> split_at_commas(const Text& text) {
  std::vector<Text> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.bytes().find(',', begin), text.size());
    parts.push_back(text.slice(begin, end));
    begin = end + 1;
  }
  return parts;
}

/// Keys each item by its attributes: one path, or several with commas between.
void add_sort_keys(Interpreter& interpreter, const Value& attribute, bool case_sensitive,
                   std::vector<KeyedItem>* keyed) {
  std::vector<AttributePath> paths;
  if (attribute.is_string()) {
    for (const Text& part : split_at_commas(attribute.text())) paths.emplace_back(Value::string(nullptr, part));
  } else {
    paths.emplace_back(attribute);
  }
  for (KeyedItem& entry : *keyed) {
    std::vector<Value> keys;
    for (const AttributePath& path : paths) {
      keys.push_back(sort_key(interpreter, path.get(interpreter, entry.second), case_sensitive));
    }
    entry.first = interpreter.list(std::move(keys));
  }
}

Value sort(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool by_attribute = parameters.given(2);
  auto keyed = key_items(interpreter, input, nullptr, by_attribute || parameters.flag(1, false));
  if (by_attribute) add_sort_keys(interpreter, *parameters.get(2), parameters.flag(1, false), &keyed);
  sort_by_key(interpreter, &keyed, parameters.flag(0, false));
  return second_parts(interpreter, std::move(keyed));
}

Value dictsort(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = parameters.text(1) == nullptr ? "key" : parameters.text(1)->bytes();
  if (by != "key" && by != "value") parameters.fail("sorts by key or value");
  if (input.is_undefined()) throw TemplateError(input.undefined_message());
  if (!input.is_dict()) parameters.fail("needs a mapping, found " + type_name(input));
  std::vector<KeyedItem> keyed;
  for (const auto& [key, value] : input.as_dict().entries()) {
    interpreter.budget().step();
    keyed.emplace_back(sort_key(interpreter, by == "key" ? key : value, parameters.flag(0, false)),
                       interpreter.tuple({key, value}));
  }
  sort_by_key(interpreter, &keyed, parameters.flag(2, false));
  return second_parts(interpreter, std::move(keyed));
}

Value unique(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("unique", arguments, {"case_sensitive", "attribute"});
  Value seen = interpreter.dict();
  std::vector<Value> kept;
  for (KeyedItem& entry : key_items(interpreter, input, parameters.get(1), parameters.flag(0, false))) {
    if (seen.as_dict().find(entry.first) != nullptr) continue;
    seen.as_dict().set(entry.first, Value::none());
    kept.push_back(std::move(entry.second));
  }
  return interpreter.list(std::move(kept));
}

Value extreme(Interpreter& interpreter, const Value& input, Arguments& arguments, bool largest) {
  const Parameters parameters(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const auto keyed = key_items(interpreter, input, parameters.get(1), parameters.flag(0, false));
  if (keyed.empty()) return Value::undefined("no aggregated item, sequence was empty");
  const KeyedItem* best = &keyed.front();
  for (const KeyedItem& entry : keyed) {
    const int order = compare(interpreter.budget(), entry.first, best->first, largest ? ">" : "<");
    if (largest ? order > 0 : order < 0) best = &entry;
  }
  return best->second;
}
Value min(Interpreter& i, const Value& input, Arguments& a) { return extreme(i, input, a, false); }
Value max(Interpreter& i, const Value& input, Arguments& a) { return extreme(i, input, a, true); }

Value batch(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("batch", arguments, {"linecount", "fill_with"});
  const std::int64_t count = parameters.integer(0, 0);
  if (count < 1) parameters.fail("needs a positive count");
  std::vector<Value> rows;
  std::vector<Value> row;
  for (Value& item : interpreter.iterate(input)) {
    interpreter.budget().step();
    if (static_cast<std::int64_t>(row.size()) == count) rows.push_back(interpreter.list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    while (parameters.given(1) && static_cast<std::int64_t>(row.size()) < count) {
      interpreter.budget().step();
      row.push_back(*parameters.get(1));
    }
    rows.push_back(interpreter.list(std::move(row)));
  }
  return interpreter.list(std::move(rows));
}

/// Into `slices` lists, the first ones longer by one where it does not come out even.
Value slice(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("slice", arguments, {"slices", "fill_with"});
  const std::vector<Value> all = interpreter.iterate(input);
  const std::int64_t slices = parameters.integer(0, 0);
  if (slices < 1 || slices > 100'000) parameters.fail("needs a positive count");
  const auto size = static_cast<std::int64_t>(all.size());
  std::vector<Value> result;
  auto begin = all.begin();
  for (std::int64_t i = 0; i < slices; ++i) {
    interpreter.budget().step();
    const auto end = begin + size / slices + (i < size % slices ? 1 : 0);
    std::vector<Value> part(begin, end);
    if (parameters.given(1) && i >= size % slices && size % slices != 0) part.push_back(*parameters.get(1));
    result.push_back(interpreter.list(std::move(part)));
    begin = end;
  }
  return interpreter.list(std::move(result));
}

Value groupby(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("groupby", arguments, {"attribute", "default", "case_sensitive"});
  const AttributePath path(parameters.require(0));
  auto keyed = key_items(interpreter, input, parameters.get(0), parameters.flag(2, false), parameters.get(1));
  sort_by_key(interpreter, &keyed, false);
  std::vector<Value> groups;
  for (std::size_t begin = 0, end = 0; begin < keyed.size(); begin = end) {
    std::vector<Value> members;
    for (end = begin; end < keyed.size() && equals(interpreter.budget(), keyed[end].first, keyed[begin].first); ++end) {
      members.push_back(keyed[end].second);
    }
    if (end == begin) end = begin + 1;  // a key that is not equal to itself
    Value key = path.get(interpreter, keyed[begin].second);
    if (key.is_undefined() && parameters.get(1) != nullptr) key = *parameters.get(1);
    Value group = interpreter.tuple({std::move(key), interpreter.list(std::move(members))});
    group.as_list().group = true;
    groups.push_back(std::move(group));
  }
  return interpreter.list(std::move(groups));
}

}  // namespace

Filter find_sequence_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> kFilters = {
      {"length", length}, {"count", length}, {"default", default_value}, {"d", default_value}, {"list", list},
      {"first", first},   {"last", last},    {"items", items},           {"reverse", reverse}, {"join", join},
      {"sum", sum},       {"sort", sort},    {"dictsort", dictsort},     {"unique", unique},   {"min", min},
      {"max", max},       {"batch", batch},  {"slice", slice},           {"groupby", groupby}};
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

}  // namespace inferd::jinja
