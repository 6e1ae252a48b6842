// Filters that map or choose items: map, select, reject, selectattr, rejectattr, attr.
#include <unordered_map>

#include "engine/text/jinja/attribute_path.h"
#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/parameters.h"

namespace inferd::jinja {
namespace {

/// The name of a filter or test that stands first among the arguments.
std::string take_name(Arguments* arguments) {
  const Value& first = arguments->positional.front();
  if (!first.is_string()) throw TemplateError("the name of a filter or test must be a string");
  std::string name = first.bytes();
  arguments->positional.erase(arguments->positional.begin());
  return name;
}

/// jinja2 looks at the input only when the result is used, so none is no error before; here it gives nothing.
std::vector<Value> lazy_items(Interpreter& interpreter, const Value& input) {
  return input.is_none() ? std::vector<Value>() : interpreter.iterate(input);
}

Value map(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  std::vector<Value> items = lazy_items(interpreter, input);
  if (!arguments.positional.empty()) {
    const std::string name = take_name(&arguments);
    for (Value& item : items) {
      Arguments copy = arguments;
      item = interpreter.apply_filter(name, item, copy);
    }
    return interpreter.list(std::move(items));
  }
  const Parameters parameters("map", arguments, {"attribute", "default"});
  const AttributePath path(parameters.require(0));
  for (Value& item : items) {
    interpreter.budget().step();
    item = path.get(interpreter, item);
    if (item.is_undefined() && parameters.get(1) != nullptr) item = *parameters.get(1);
  }
  return interpreter.list(std::move(items));
}

/// Items for which the test named in `arguments` (or their truth) is `wanted`; of their attribute if there is a path.
Value choose(Interpreter& interpreter, const Value& input, Arguments& arguments, const AttributePath* path,
             bool wanted) {
  const bool tested = !arguments.positional.empty();
  const std::string name = tested ? take_name(&arguments) : "";
  std::vector<Value> kept;
  for (Value& item : lazy_items(interpreter, input)) {
    interpreter.budget().step();
    const Value subject = path == nullptr ? item : path->get(interpreter, item);
    Arguments copy = arguments;
    const bool holds = tested ? interpreter.apply_test(name, subject, copy) : is_true(subject);
    if (holds == wanted) kept.push_back(std::move(item));
  }
  return interpreter.list(std::move(kept));
}

Value choose_attribute(Interpreter& interpreter, const Value& input, Arguments& arguments, bool wanted) {
  if (arguments.positional.empty()) throw TemplateError("missing parameter for attribute name");
  const AttributePath path(arguments.positional.front());
  arguments.positional.erase(arguments.positional.begin());
  return choose(interpreter, input, arguments, &path, wanted);
}

Value select(Interpreter& i, const Value& input, Arguments& a) { return choose(i, input, a, nullptr, true); }
Value reject(Interpreter& i, const Value& input, Arguments& a) { return choose(i, input, a, nullptr, false); }
Value selectattr(Interpreter& i, const Value& input, Arguments& a) { return choose_attribute(i, input, a, true); }
Value rejectattr(Interpreter& i, const Value& input, Arguments& a) { return choose_attribute(i, input, a, false); }

Value attr(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  const Parameters parameters("attr", arguments, {"name"});
  const std::string& name = parameters.require_text(0).bytes();
  // Unlike a dot, the filter never looks into a dict.
  if (input.is_dict() && input.as_dict().find(std::string_view(name)) != nullptr) {
    return Value::undefined("'dict object' has no attribute '" + name + "'");
  }
  return interpreter.get_attribute(input, name);
}

}  // namespace

Filter find_selection_filter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> kFilters = {
      {"map", map},  {"select", select}, {"reject", reject}, {"selectattr", selectattr}, {"rejectattr", rejectattr},
      {"attr", attr}};
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

Filter find_filter(std::string_view name) {
  if (const Filter found = find_text_filter(name)) return found;
  if (const Filter found = find_sequence_filter(name)) return found;
  return find_selection_filter(name);
}

}  // namespace inferd::jinja
