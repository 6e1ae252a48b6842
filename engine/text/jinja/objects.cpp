// What objects answer when a template reads their attributes or calls them.
#include "engine/text/jinja/objects.h"

#include "engine/text/template_error.h"

namespace inferd::jinja {
namespace {

Value call_loop_cycle(Interpreter&, const Value& self, Arguments& arguments) {
  return static_cast<LoopObject&>(self.as_object()).cycle(arguments);
}
Value call_loop_changed(Interpreter& interpreter, const Value& self, Arguments& arguments) {
  return static_cast<LoopObject&>(self.as_object()).changed(interpreter, arguments);
}
Value call_cycler_next(Interpreter&, const Value& self, Arguments&) {
  return static_cast<CyclerObject&>(self.as_object()).next();
}
Value call_cycler_reset(Interpreter&, const Value& self, Arguments&) {
  static_cast<CyclerObject&>(self.as_object()).reset();
  return Value::none();
}

}  // namespace

std::optional<Value> MacroObject::attribute(Interpreter& interpreter, std::string_view name) {
  if (name == "name") return interpreter.string(definition_->macro.name, true);
  return std::nullopt;
}

std::optional<Value> NamespaceObject::attribute(Interpreter&, std::string_view name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void NamespaceObject::set(std::string_view name, Value value) {
  if (name.substr(0, 1) == "_") throw TemplateError("a namespace cannot hold attributes that start with '_'");
  for (auto& [key, old] : attributes_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  charge_.add(sizeof(Value) + sizeof(std::string) + name.size());
  attributes_.emplace_back(name, std::move(value));
}

std::optional<Value> LoopObject::attribute(Interpreter&, std::string_view name) {
  const auto index = static_cast<std::int64_t>(index_);
  const auto length = static_cast<std::int64_t>(items_.size());
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(length - index);
  if (name == "revindex0") return Value::integer(length - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index + 1 == length);
  if (name == "length") return Value::integer(length);
  // The depth of recursive loops, which there are none of.
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem") return index > 0 ? items_[index_ - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem") {
    return index + 1 < length ? items_[index_ + 1] : Value::undefined("there is no next item");
  }
  return std::nullopt;
}

void LoopObject::clear() {
  items_.clear();
  last_changed_.clear();
}

Value LoopObject::cycle(Arguments& arguments) const {
  if (arguments.positional.empty()) throw TemplateError("no items for cycling given");
  return arguments.positional[index_ % arguments.positional.size()];
}

Value LoopObject::changed(Interpreter& interpreter, Arguments& arguments) {
  bool same = changed_before_ && last_changed_.size() == arguments.positional.size();
  for (std::size_t i = 0; same && i < last_changed_.size(); ++i) {
    same = equals(interpreter.budget(), last_changed_[i], arguments.positional[i]);
  }
  changed_before_ = true;
  if (!same) last_changed_ = arguments.positional;
  return Value::boolean(!same);
}

std::optional<Value> CyclerObject::attribute(Interpreter&, std::string_view name) {
  if (name == "current") return items_[position_ % items_.size()];
  return std::nullopt;
}

Value JoinerObject::call(Interpreter& interpreter, Arguments&) {
  if (used_) return separator_;
  used_ = true;
  return interpreter.string("", true);
}

Method find_method(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::string:
      return find_string_method(name);
    case Kind::list:
      return find_list_method(name);
    case Kind::tuple:
      return find_tuple_method(name);
    case Kind::dict:
      return find_dict_method(name);
    case Kind::object:
      break;
    default:
      return nullptr;
  }
  if (dynamic_cast<LoopObject*>(&value.as_object()) != nullptr) {
    if (name == "cycle") return call_loop_cycle;
    if (name == "changed") return call_loop_changed;
  }
  if (dynamic_cast<CyclerObject*>(&value.as_object()) != nullptr) {
    if (name == "next") return call_cycler_next;
    if (name == "reset") return call_cycler_reset;
  }
  return nullptr;
}

}  // namespace inferd::jinja
