// The interpreter's expressions.
#include <algorithm>
#include <utility>

#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/stringify.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {

Value Interpreter::evaluate(const Expression& node) {
  const Depth depth(&depth_);
  budget_.step();
  switch (node.kind) {
    case ExpressionKind::constant:
      return node.value;
    case ExpressionKind::name:
      return evaluate_name(node);
    case ExpressionKind::list:
    case ExpressionKind::tuple:
      return evaluate_items(node);
    case ExpressionKind::dict:
      return evaluate_dict(node);
    case ExpressionKind::not_:
      return Value::boolean(!is_true(evaluate(*node.children[0])));
    case ExpressionKind::negate:
    case ExpressionKind::plus:
      return sign_operation(node.kind, evaluate(*node.children[0]));
    case ExpressionKind::and_: {
      Value left = evaluate(*node.children[0]);
      return is_true(left) ? evaluate(*node.children[1]) : std::move(left);
    }
    case ExpressionKind::or_: {
      Value left = evaluate(*node.children[0]);
      return is_true(left) ? std::move(left) : evaluate(*node.children[1]);
    }
    case ExpressionKind::concat:
      return evaluate_concat(node);
    case ExpressionKind::compare:
      return evaluate_comparison(node);
    case ExpressionKind::conditional:
      return evaluate_conditional(node);
    case ExpressionKind::attribute:
      return get_attribute(evaluate(*node.children[0]), node.name);
    case ExpressionKind::item: {
      const Value container = evaluate(*node.children[0]);
      return get_item(container, evaluate(*node.children[1]));
    }
    case ExpressionKind::slice:
      return evaluate_slice(node);
    case ExpressionKind::call:
      return evaluate_call(node, nullptr);
    case ExpressionKind::filter:
      return evaluate_filter(node, nullptr);
    case ExpressionKind::test:
      return Value::boolean(evaluate_test(node));
    default:
      break;
  }
  const Value left = evaluate(*node.children[0]);
  const Value right = evaluate(*node.children[1]);
  line_ = node.line;
  return binary_operation(*this, node.kind, left, right);
}

Value Interpreter::evaluate_name(const Expression& node) {
  if (const Value* value = frame_->find(node.symbol)) return *value;
  const std::string& name = tree_.symbols.name(node.symbol);
  if (auto function = global_function(name)) return std::move(*function);
  return Value::undefined("'" + name + "' is undefined");
}

Value Interpreter::evaluate_items(const Expression& node) {
  std::vector<Value> items;
  items.reserve(node.children.size());
  for (const auto& child : node.children) items.push_back(evaluate(*child));
  return Value::list(&budget_, std::move(items), node.kind == ExpressionKind::list ? Kind::list : Kind::tuple);
}

Value Interpreter::evaluate_dict(const Expression& node) {
  Value result = dict();
  for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
    const Value key = evaluate(*node.children[i]);
    result.as_dict().set(key, evaluate(*node.children[i + 1]));
  }
  return result;
}

Value Interpreter::evaluate_comparison(const Expression& node) {
  Value left = evaluate(*node.children[0]);
  for (std::size_t i = 0; i < node.operators.size(); ++i) {
    Value right = evaluate(*node.children[i + 1]);
    bool holds = false;
    switch (node.operators[i]) {
      case Comparison::equal:
        holds = equals(budget_, left, right);
        break;
      case Comparison::not_equal:
        holds = !equals(budget_, left, right);
        break;
      case Comparison::less:
        holds = compare(budget_, left, right, "<") < 0;
        break;
      case Comparison::less_equal:
        holds = compare(budget_, left, right, "<=") <= 0;
        break;
      case Comparison::greater:
        holds = compare(budget_, left, right, ">") > 0;
        break;
      case Comparison::greater_equal:
        holds = compare(budget_, left, right, ">=") >= 0;
        break;
      case Comparison::in:
        holds = contains(right, left);
        break;
      case Comparison::not_in:
        holds = !contains(right, left);
        break;
    }
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate_conditional(const Expression& node) {
  if (is_true(evaluate(*node.children[0]))) return evaluate(*node.children[1]);
  if (node.children[2] != nullptr) return evaluate(*node.children[2]);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined");
}

Value Interpreter::evaluate_concat(const Expression& node) {
  Text joined;
  for (const auto& child : node.children) append_string(*this, evaluate(*child), &joined);
  return string(std::move(joined));
}

Value Interpreter::evaluate_slice(const Expression& node) {
  const Value container = evaluate(*node.children[0]);
  SliceBounds bounds;
  std::optional<std::int64_t>* const places[] = {&bounds.begin, &bounds.end, &bounds.step};
  for (std::size_t i = 0; i < 3; ++i) {
    if (node.children[i + 1] == nullptr) continue;
    const Value bound = evaluate(*node.children[i + 1]);
    if (bound.is_none()) continue;
    if (!bound.is_integral()) throw TemplateError("slice indices must be integers or None");
    *places[i] = bound.as_integer();
  }
  return take_slice(*this, container, bounds);
}

Arguments Interpreter::evaluate_arguments(const Expression& node) {
  Arguments result;
  result.positional.reserve(node.arguments.size());
  for (const Argument& argument : node.arguments) {
    Value value = evaluate(*argument.value);
    switch (argument.kind) {
      case Argument::Kind::positional:
        result.positional.push_back(std::move(value));
        break;
      case Argument::Kind::keyword:
        result.named.push_back({argument.name, std::move(value)});
        break;
      case Argument::Kind::sequence:
        for (Value& item : iterate(value)) result.positional.push_back(std::move(item));
        break;
      case Argument::Kind::mapping:
        spread_mapping(value, &result);
        break;
    }
  }
  return result;
}

void Interpreter::spread_mapping(const Value& mapping, Arguments* arguments) {
  if (!mapping.is_dict()) throw TemplateError("argument after ** must be a mapping, not " + type_name(mapping));
  for (const auto& [key, value] : mapping.as_dict().entries()) {
    budget_.step();
    if (!key.is_string()) throw TemplateError("keywords must be strings");
    arguments->named.push_back({key.bytes(), value, key.text().all_trusted()});
  }
}

Value Interpreter::evaluate_call(const Expression& node, const Value* caller) {
  const Value callee = evaluate(*node.children[0]);
  Arguments arguments = evaluate_arguments(node);
  if (caller != nullptr) arguments.named.push_back({"caller", *caller});
  line_ = node.line;
  return call(callee, arguments);
}

Value Interpreter::call(const Value& callee, Arguments& arguments) {
  budget_.step();
  if (callee.is_undefined()) throw TemplateError(callee.undefined_message());
  if (!callee.is_object() || !callee.as_object().callable()) {
    throw TemplateError("'" + type_name(callee) + "' object is not callable");
  }
  // The call may drop the last other reference to what it calls.
  const std::shared_ptr<Object> alive = callee.shared();
  return static_cast<NativeObject&>(*alive).call(*this, arguments);
}

Value Interpreter::evaluate_filter(const Expression& node, const Value* input) {
  const Depth depth(&depth_);
  Value value;
  if (node.children[0] == nullptr) {
    value = *input;
  } else if (input != nullptr) {
    value = evaluate_filter(*node.children[0], input);
  } else {
    value = evaluate(*node.children[0]);
  }
  Arguments arguments = evaluate_arguments(node);
  line_ = node.line;
  return apply_filter(node.name, value, arguments);
}

bool Interpreter::evaluate_test(const Expression& node) {
  const Value value = evaluate(*node.children[0]);
  Arguments arguments = evaluate_arguments(node);
  line_ = node.line;
  return apply_test(node.name, value, arguments);
}

Value Interpreter::apply_filter(const std::string& name, const Value& input, Arguments& arguments) {
  budget_.step();
  const Filter filter = find_filter(name);
  if (filter == nullptr) throw TemplateError("no filter named '" + name + "'");
  return filter(*this, input, arguments);
}

bool Interpreter::apply_test(const std::string& name, const Value& input, Arguments& arguments) {
  budget_.step();
  const Test test = find_test(name);
  if (test == nullptr) throw TemplateError("no test named '" + name + "'");
  return test(*this, input, arguments);
}

}  // namespace inferd::jinja
