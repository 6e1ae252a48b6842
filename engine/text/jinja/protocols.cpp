// What any value answers: attributes, items, iteration, membership, length.
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {

Text Interpreter::to_text(const Value& value) {
  Text text;
  append_string(*this, value, &text);
  return text;
}

Value Interpreter::get_attribute(const Value& value, std::string_view name) {
  if (value.is_undefined()) throw TemplateError(value.undefined_message());
  if (const Method method = find_method(value, name)) {
    auto bound = std::make_shared<MethodObject>(value, name, method);
    return Value::object(std::move(bound));
  }
  if (value.is_dict()) {
    if (const Value* found = value.as_dict().find(name)) return *found;
    return Value::undefined("'dict object' has no attribute '" + std::string(name) + "'");
  }
  if (value.kind() == Kind::tuple && value.as_list().group) {
    if (name == "grouper") return value.as_list().items[0];
    if (name == "list") return value.as_list().items[1];
  }
  if (value.is_object()) {
    if (auto found = value.as_object().attribute(*this, name)) return std::move(*found);
  }
  return Value::undefined("'" + type_name(value) + " object' has no attribute '" + std::string(name) + "'");
}

Value Interpreter::get_item(const Value& value, const Value& key) {
  if (value.is_undefined()) throw TemplateError(value.undefined_message());
  if (value.is_dict()) {
    const bool hashable = !key.is_undefined() && key.kind() != Kind::list && !key.is_dict() && !key.is_object();
    if (const Value* found = hashable ? value.as_dict().find(key) : nullptr) return *found;
  } else if ((value.is_sequence() || value.is_string()) && key.is_integral()) {
    const std::int64_t size = length(value);
    const std::int64_t index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (index < 0 || index >= size) {
      return Value::undefined(type_name(value) + " object has no element " + std::to_string(key.as_integer()));
    }
    if (value.is_sequence()) return value.as_list().items[static_cast<std::size_t>(index)];
    return take_characters(*this, value, static_cast<std::size_t>(index), static_cast<std::size_t>(index) + 1);
  }
  if (key.is_string()) return get_attribute(value, key.bytes());
  return Value::undefined("'" + type_name(value) + " object' has no such element");
}

std::vector<Value> Interpreter::iterate(const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::undefined:
      break;
    case Kind::list:
    case Kind::tuple:
      items = value.as_list().items;
      break;
    case Kind::dict:
      for (const auto& [key, item] : value.as_dict().entries()) items.push_back(key);
      break;
    case Kind::string:
      items = split_characters(*this, value);
      break;
    default:
      throw TemplateError("'" + type_name(value) + "' object is not iterable");
  }
  budget_.step(static_cast<std::int64_t>(items.size() / 16));
  return items;
}

bool Interpreter::contains(const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::undefined:
      return false;
    case Kind::list:
    case Kind::tuple:
      for (const Value& candidate : container.as_list().items) {
        if (equals(budget_, candidate, item)) return true;
      }
      return false;
    case Kind::dict:
      budget_.step(static_cast<std::int64_t>(container.as_dict().entries().size() / 64));
      return container.as_dict().find(item) != nullptr;
    case Kind::string:
      if (!item.is_string()) {
        if (item.is_undefined()) throw TemplateError(item.undefined_message());
        throw TemplateError("'in <string>' requires string as left operand, not " + type_name(item));
      }
      budget_.touch(container.text().size());
      return container.bytes().find(item.bytes()) != std::string::npos;
    default:
      throw TemplateError("argument of type '" + type_name(container) + "' is not iterable");
  }
}

std::int64_t Interpreter::length(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::string:
      return static_cast<std::int64_t>(value.as_string().characters);
    case Kind::list:
    case Kind::tuple:
      return static_cast<std::int64_t>(value.as_list().items.size());
    case Kind::dict:
      return static_cast<std::int64_t>(value.as_dict().entries().size());
    default:
      throw TemplateError("object of type '" + type_name(value) + "' has no len()");
  }
}

}  // namespace inferd::jinja
