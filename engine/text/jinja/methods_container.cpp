// Methods of list, tuple and dict.
#include <algorithm>
#include <unordered_map>

#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/parameters.h"

namespace inferd::jinja {
namespace {

Method lookup(const std::unordered_map<std::string_view, Method>& methods, std::string_view name) {
  const auto found = methods.find(name);
  return found == methods.end() ? nullptr : found->second;
}

// Lists.

/// A list that is going to be changed: it might come to contain itself.
std::vector<Value>& changed_items(Interpreter& interpreter, const Value& self) {
  interpreter.keep_container(self);
  return self.as_list().items;
}

Value append(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("append()", arguments, {"object"});
  self.as_list().grow();
  changed_items(interpreter, self).push_back(parameters.require(0));
  return Value::none();
}

Value extend(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("extend()", arguments, {"iterable"});
  for (Value& item : interpreter.iterate(parameters.require(0))) {
    self.as_list().grow();
    changed_items(interpreter, self).push_back(std::move(item));
  }
  return Value::none();
}

Value insert(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("insert()", arguments, {"index", "object"});
  const Value item = parameters.require(1);
  const auto size = static_cast<std::int64_t>(self.as_list().items.size());
  std::int64_t index = parameters.integer(0, 0);
  if (index < 0) index = std::max<std::int64_t>(index + size, 0);
  self.as_list().grow();
  interpreter.budget().step(size / 16);
  auto& items = changed_items(interpreter, self);
  items.insert(items.begin() + std::min(index, size), item);
  return Value::none();
}

Value pop(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("pop()", arguments, {"index"});
  auto& items = changed_items(interpreter, self);
  const auto size = static_cast<std::int64_t>(items.size());
  std::int64_t index = parameters.integer(0, -1);
  if (index < 0) index += size;
  if (index < 0 || index >= size) throw TemplateError(size == 0 ? "pop from empty list" : "pop index out of range");
  interpreter.budget().step(size / 16);
  Value item = items[static_cast<std::size_t>(index)];
  items.erase(items.begin() + index);
  return item;
}

Value reverse(Interpreter& interpreter, const Value& self, Arguments&) {
  auto& items = changed_items(interpreter, self);
  interpreter.budget().step(static_cast<std::int64_t>(items.size() / 16));
  std::reverse(items.begin(), items.end());
  return Value::none();
}

Value index(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("index()", arguments, {"value"});
  const auto& items = self.as_list().items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (equals(interpreter.budget(), items[i], parameters.require(0)))
      return Value::integer(static_cast<std::int64_t>(i));
  }
  throw TemplateError("value is not in list");
}

Value count(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("count()", arguments, {"value"});
  std::int64_t found = 0;
  for (const Value& item : self.as_list().items) found += equals(interpreter.budget(), item, parameters.require(0));
  return Value::integer(found);
}

Value copy_list(Interpreter& interpreter, const Value& self, Arguments&) {
  return interpreter.list(self.as_list().items);
}

// Dicts.

Value get(Interpreter&, const Value& self, Arguments& arguments) {
  const Parameters parameters("get()", arguments, {"key", "default"});
  if (parameters.require(0).is_undefined()) return parameters.get(1) == nullptr ? Value::none() : *parameters.get(1);
  if (const Value* found = self.as_dict().find(parameters.require(0))) return *found;
  return parameters.get(1) == nullptr ? Value::none() : *parameters.get(1);
}

Value keys(Interpreter& interpreter, const Value& self, Arguments&) {
  return interpreter.list(interpreter.iterate(self));
}

Value values(Interpreter& interpreter, const Value& self, Arguments&) {
  std::vector<Value> items;
  for (const auto& [key, value] : self.as_dict().entries()) items.push_back(value);
  return interpreter.list(std::move(items));
}

Value items(Interpreter& interpreter, const Value& self, Arguments&) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : self.as_dict().entries()) {
    interpreter.budget().step();
    pairs.push_back(interpreter.tuple({key, value}));
  }
  return interpreter.list(std::move(pairs));
}

Value copy_dict(Interpreter& interpreter, const Value& self, Arguments&) {
  Value copy = interpreter.dict();
  for (const auto& [key, value] : self.as_dict().entries()) {
    interpreter.budget().step();
    copy.as_dict().set(key, value);
  }
  return copy;
}

Value update(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  interpreter.keep_container(self);
  for (const Value& source : arguments.positional) {
    if (!source.is_dict()) throw TemplateError("update() needs a mapping, found " + type_name(source));
    const auto entries = source.as_dict().entries();
    for (const auto& [key, value] : entries) {
      interpreter.budget().step();
      self.as_dict().set(key, value);
    }
  }
  for (const auto& [name, value, trusted] : arguments.named)
    self.as_dict().set(interpreter.string(name, trusted), value);
  return Value::none();
}

Value pop_key(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("pop()", arguments, {"key", "default"});
  interpreter.budget().step(static_cast<std::int64_t>(self.as_dict().entries().size() / 4));
  if (auto taken = self.as_dict().take(parameters.require(0))) return std::move(*taken);
  if (parameters.get(1) != nullptr) return *parameters.get(1);
  throw TemplateError("pop(): the dict has no such key");
}

Value setdefault(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  const Parameters parameters("setdefault()", arguments, {"key", "default"});
  if (const Value* found = self.as_dict().find(parameters.require(0))) return *found;
  interpreter.keep_container(self);
  const Value value = parameters.get(1) == nullptr ? Value::none() : *parameters.get(1);
  self.as_dict().set(parameters.require(0), value);
  return value;
}

}  // namespace

Method find_list_method(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> kMethods = {
      {"append", append},   {"extend", extend}, {"insert", insert}, {"pop", pop},
      {"reverse", reverse}, {"index", index},   {"count", count},   {"copy", copy_list}};
  return lookup(kMethods, name);
}

Method find_tuple_method(std::string_view name) {
  return name == "index" ? index : name == "count" ? count : static_cast<Method>(nullptr);
}

Method find_dict_method(std::string_view name) {
  static const std::unordered_map<std::string_view, Method> kMethods = {
      {"get", get},        {"keys", keys},     {"values", values}, {"items", items},
      {"copy", copy_dict}, {"update", update}, {"pop", pop_key},   {"setdefault", setdefault}};
  return lookup(kMethods, name);
}

}  // namespace inferd::jinja
