// Jinja's tests: value is NAME.
#include <unordered_map>

#include "engine/text/jinja/filters.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

bool is_defined(Interpreter&, const Value& value, Arguments&) { return !value.is_undefined(); }
bool is_undefined(Interpreter&, const Value& value, Arguments&) { return value.is_undefined(); }
bool is_none(Interpreter&, const Value& value, Arguments&) { return value.is_none(); }
bool is_boolean(Interpreter&, const Value& value, Arguments&) { return value.kind() == Kind::boolean; }
bool is_true_test(Interpreter&, const Value& v, Arguments&) { return v.kind() == Kind::boolean && v.as_bool(); }
bool is_false_test(Interpreter&, const Value& v, Arguments&) { return v.kind() == Kind::boolean && !v.as_bool(); }
bool is_integer(Interpreter&, const Value& value, Arguments&) { return value.kind() == Kind::integer; }
bool is_float(Interpreter&, const Value& value, Arguments&) { return value.kind() == Kind::real; }
bool is_number(Interpreter&, const Value& value, Arguments&) { return value.is_number(); }
bool is_string(Interpreter&, const Value& value, Arguments&) { return value.is_string(); }
bool is_mapping(Interpreter&, const Value& value, Arguments&) { return value.is_dict(); }
bool is_iterable(Interpreter&, const Value& value, Arguments&) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict();
}
bool is_sequence(Interpreter&, const Value& value, Arguments&) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is_dict();
}
bool is_callable(Interpreter&, const Value& value, Arguments&) {
  return value.is_undefined() || (value.is_object() && value.as_object().callable());
}
bool is_escaped(Interpreter&, const Value& value, Arguments&) { return value.is_string() && value.as_string().markup; }

/// str(value) has cased characters of one case only.
bool has_case(Interpreter& interpreter, const Value& value, std::string_view method) {
  const Value text = interpreter.string(interpreter.to_text(value));
  Arguments none;
  return is_true(find_string_method(method)(interpreter, text, none));
}
bool is_lower_case(Interpreter& i, const Value& value, Arguments&) { return has_case(i, value, "islower"); }
bool is_upper_case(Interpreter& i, const Value& value, Arguments&) { return has_case(i, value, "isupper"); }

Value remainder(Interpreter& interpreter, const Value& value, const Value& by) {
  return binary_operation(interpreter, ExpressionKind::modulo, value, by);
}
bool is_odd(Interpreter& i, const Value& value, Arguments&) {
  return equals(i.budget(), remainder(i, value, Value::integer(2)), Value::integer(1));
}
bool is_even(Interpreter& i, const Value& value, Arguments&) {
  return equals(i.budget(), remainder(i, value, Value::integer(2)), Value::integer(0));
}
bool is_divisible(Interpreter& interpreter, const Value& value, Arguments& arguments) {
  const Parameters parameters("divisibleby", arguments, {"num"});
  return equals(interpreter.budget(), remainder(interpreter, value, parameters.require(0)), Value::integer(0));
}

const Value& other(const Arguments& arguments) {
  return Parameters("comparison test", arguments, {"other"}).require(0);
}
bool is_equal(Interpreter& i, const Value& value, Arguments& a) { return equals(i.budget(), value, other(a)); }
bool is_not_equal(Interpreter& i, const Value& value, Arguments& a) { return !equals(i.budget(), value, other(a)); }
bool is_less(Interpreter& i, const Value& value, Arguments& a) { return compare(i.budget(), value, other(a)) < 0; }
bool is_less_equal(Interpreter& i, const Value& value, Arguments& a) {
  return compare(i.budget(), value, other(a), "<=") <= 0;
}
bool is_greater(Interpreter& i, const Value& value, Arguments& a) {
  return compare(i.budget(), value, other(a), ">") > 0;
}
bool is_greater_equal(Interpreter& i, const Value& value, Arguments& a) {
  return compare(i.budget(), value, other(a), ">=") >= 0;
}
bool is_in(Interpreter& i, const Value& value, Arguments& a) { return i.contains(other(a), value); }

bool is_same(Interpreter& interpreter, const Value& value, Arguments& arguments) {
  const Value& right = other(arguments);
  if (value.kind() != right.kind()) return false;
  const bool shared = value.is_sequence() || value.is_dict() || value.is_object();
  return shared ? value.shared() == right.shared() : equals(interpreter.budget(), value, right);
}

bool is_filter_name(Interpreter&, const Value& value, Arguments&) {
  return value.is_string() && find_filter(value.bytes()) != nullptr;
}
bool is_test_name(Interpreter&, const Value& value, Arguments&) {
  return value.is_string() && find_test(value.bytes()) != nullptr;
}

}  // namespace

Test find_test(std::string_view name) {
  static const std::unordered_map<std::string_view, Test> kTests = {{"defined", is_defined},
                                                                    {"undefined", is_undefined},
                                                                    {"none", is_none},
                                                                    {"boolean", is_boolean},
                                                                    {"true", is_true_test},
                                                                    {"false", is_false_test},
                                                                    {"integer", is_integer},
                                                                    {"float", is_float},
                                                                    {"number", is_number},
                                                                    {"string", is_string},
                                                                    {"mapping", is_mapping},
                                                                    {"iterable", is_iterable},
                                                                    {"sequence", is_sequence},
                                                                    {"callable", is_callable},
                                                                    {"escaped", is_escaped},
                                                                    {"lower", is_lower_case},
                                                                    {"upper", is_upper_case},
                                                                    {"odd", is_odd},
                                                                    {"even", is_even},
                                                                    {"divisibleby", is_divisible},
                                                                    {"eq", is_equal},
                                                                    {"==", is_equal},
                                                                    {"equalto", is_equal},
                                                                    {"ne", is_not_equal},
                                                                    {"!=", is_not_equal},
                                                                    {"lt", is_less},
                                                                    {"<", is_less},
                                                                    {"lessthan", is_less},
                                                                    {"le", is_less_equal},
                                                                    {"<=", is_less_equal},
                                                                    {"gt", is_greater},
                                                                    {">", is_greater},
                                                                    {"greaterthan", is_greater},
                                                                    {"ge", is_greater_equal},
                                                                    {">=", is_greater_equal},
                                                                    {"in", is_in},
                                                                    {"sameas", is_same},
                                                                    {"filter", is_filter_name},
                                                                    {"test", is_test_name}};
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

}  // namespace inferd::jinja
