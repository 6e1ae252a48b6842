// Truth, equality and order of values, as Python defines them.
#include <algorithm>

#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/value.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {
namespace {

void enter(Budget& budget, int depth) {
  budget.step();
  if (depth > kMaxValueDepth) throw TemplateError("maximum recursion depth exceeded in comparison");
}

int order(auto left, auto right) { return left < right ? -1 : (left > right ? 1 : 0); }

bool equal_lists(Budget& budget, const Value& left, const Value& right, int depth) {
  const auto& a = left.as_list().items;
  const auto& b = right.as_list().items;
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!equals(budget, a[i], b[i], depth + 1)) return false;
  }
  return true;
}

bool equal_dicts(Budget& budget, const Value& left, const Value& right, int depth) {
  const DictObject& a = left.as_dict();
  const DictObject& b = right.as_dict();
  if (a.entries().size() != b.entries().size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(key);
    if (other == nullptr || !equals(budget, value, *other, depth + 1)) return false;
  }
  return true;
}

}  // namespace

std::string type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::string:
      return "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::dict:
      return "dict";
    case Kind::object:
      break;
  }
  return value.as_object().describe();
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.as_integer() != 0;
    case Kind::real:
      return value.as_real() != 0;
    case Kind::string:
      return !value.text().empty();
    case Kind::list:
    case Kind::tuple:
      return !value.as_list().items.empty();
    case Kind::dict:
      return !value.as_dict().entries().empty();
    case Kind::object:
      break;
  }
  return true;
}

bool equals(Budget& budget, const Value& left, const Value& right, int depth) {
  enter(budget, depth);
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return left.as_integer() == right.as_integer();
    return left.as_real() == right.as_real();
  }
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::string:
      return left.bytes() == right.bytes();
    case Kind::list:
    case Kind::tuple:
      return left.shared() == right.shared() || equal_lists(budget, left, right, depth);
    case Kind::dict:
      return left.shared() == right.shared() || equal_dicts(budget, left, right, depth);
    case Kind::object:
      return left.shared() == right.shared();
    default:
      return true;  // none and undefined have one value each
  }
}

int compare(Budget& budget, const Value& left, const Value& right, std::string_view operation, int depth) {
  enter(budget, depth);
  if (left.is_number() && right.is_number()) {
    if (left.is_integral() && right.is_integral()) return order(left.as_integer(), right.as_integer());
    return order(left.as_real(), right.as_real());
  }
  if (left.is_undefined()) throw TemplateError(left.undefined_message());
  if (right.is_undefined()) throw TemplateError(right.undefined_message());
  // UTF-8 sorts by bytes as by code points.
  if (left.is_string() && right.is_string()) return order(left.bytes().compare(right.bytes()), 0);
  if (left.is_sequence() && left.kind() == right.kind()) {
    const auto& a = left.as_list().items;
    const auto& b = right.as_list().items;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!equals(budget, a[i], b[i], depth + 1)) return compare(budget, a[i], b[i], operation, depth + 1);
    }
    return order(a.size(), b.size());
  }
  throw TemplateError("'" + std::string(operation) + "' not supported between instances of '" + type_name(left) +
                      "' and '" + type_name(right) + "'");
}

}  // namespace inferd::jinja
