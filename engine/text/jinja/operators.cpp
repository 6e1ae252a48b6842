// Arithmetic, concatenation and repetition with Python's meaning.
#include "engine/text/jinja/operators.h"

#include <cmath>
#include <limits>
#include <optional>

#include "engine/text/jinja/format.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/strings.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {
namespace {

std::string symbol_of(ExpressionKind kind) {
  switch (kind) {
    case ExpressionKind::add:
      return "+";
    case ExpressionKind::subtract:
      return "-";
    case ExpressionKind::multiply:
      return "*";
    case ExpressionKind::divide:
      return "/";
    case ExpressionKind::floor_divide:
      return "//";
    case ExpressionKind::modulo:
      return "%";
    default:
      return "**";
  }
}

[[noreturn]] void fail_overflow() { throw TemplateError("an integer does not fit 64 bits"); }
[[noreturn]] void fail_zero() { throw TemplateError("division by zero"); }

/// Rounds to minus infinity, as Python does.
std::int64_t floor_quotient(std::int64_t a, std::int64_t b) {
  if (b == 0) fail_zero();
  if (a == std::numeric_limits<std::int64_t>::min() && b == -1) fail_overflow();
  return a / b - (a % b != 0 && (a % b < 0) != (b < 0) ? 1 : 0);
}

std::int64_t floor_remainder(std::int64_t a, std::int64_t b) {
  if (b == 0) fail_zero();
  if (b == -1) return 0;
  const std::int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

std::int64_t integer_power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return result;
}

double real_remainder(double a, double b) {
  if (b == 0) fail_zero();
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value integers(ExpressionKind kind, std::int64_t a, std::int64_t b, bool trusted) {
  std::int64_t result = 0;
  switch (kind) {
    case ExpressionKind::add:
      if (__builtin_add_overflow(a, b, &result)) fail_overflow();
      break;
    case ExpressionKind::subtract:
      if (__builtin_sub_overflow(a, b, &result)) fail_overflow();
      break;
    case ExpressionKind::multiply:
      if (__builtin_mul_overflow(a, b, &result)) fail_overflow();
      break;
    case ExpressionKind::divide:
      if (b == 0) fail_zero();
      return Value::real(static_cast<double>(a) / static_cast<double>(b), trusted);
    case ExpressionKind::floor_divide:
      result = floor_quotient(a, b);
      break;
    case ExpressionKind::modulo:
      result = floor_remainder(a, b);
      break;
    default:
      if (b < 0) {
        if (a == 0) fail_zero();
        return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)), trusted);
      }
      result = integer_power(a, b);
  }
  return Value::integer(result, trusted);
}

Value reals(ExpressionKind kind, double a, double b, bool trusted) {
  switch (kind) {
    case ExpressionKind::add:
      return Value::real(a + b, trusted);
    case ExpressionKind::subtract:
      return Value::real(a - b, trusted);
    case ExpressionKind::multiply:
      return Value::real(a * b, trusted);
    case ExpressionKind::divide:
      if (b == 0) fail_zero();
      return Value::real(a / b, trusted);
    case ExpressionKind::floor_divide:
      if (b == 0) fail_zero();
      return Value::real(std::floor(a / b), trusted);
    case ExpressionKind::modulo:
      return Value::real(real_remainder(a, b), trusted);
    default:
      return Value::real(std::pow(a, b), trusted);
  }
}

Value join_strings(Interpreter& interpreter, const Value& left, const Value& right) {
  const bool markup = left.as_string().markup || right.as_string().markup;
  Text joined;
  for (const Value* part : {&left, &right}) {
    joined.append(markup && !part->as_string().markup ? escape_html(part->text()) : part->text());
  }
  return interpreter.string(std::move(joined), markup);
}

Value join_lists(Interpreter& interpreter, const Value& left, const Value& right) {
  std::vector<Value> items = left.as_list().items;
  items.insert(items.end(), right.as_list().items.begin(), right.as_list().items.end());
  return Value::list(&interpreter.budget(), std::move(items), left.kind());
}

Value repeat(Interpreter& interpreter, const Value& value, std::int64_t count) {
  const std::size_t times = count > 0 ? static_cast<std::size_t>(count) : 0;
  if (value.is_string()) {
    const std::size_t size = value.text().size();
    if (size != 0 && times > kMaxTextBytes / size)
      throw TemplateError("the template makes a string of more than 16 MiB");
    interpreter.budget().touch(size * times);
    Text repeated;
    for (std::size_t i = 0; size != 0 && i < times; ++i) repeated.append(value.text());
    return interpreter.string(std::move(repeated), value.as_string().markup);
  }
  const auto& items = value.as_list().items;
  if (!items.empty() && times > kMaxLiveBytes / sizeof(Value) / items.size()) {
    throw TemplateError("the template makes a list that is too long");
  }
  std::vector<Value> repeated;
  repeated.reserve(items.size() * times);
  for (std::size_t i = 0; !items.empty() && i < times; ++i) repeated.insert(repeated.end(), items.begin(), items.end());
  return Value::list(&interpreter.budget(), std::move(repeated), value.kind());
}

}  // namespace

Value binary_operation(Interpreter& interpreter, ExpressionKind kind, const Value& left, const Value& right) {
  if (left.is_undefined()) throw TemplateError(left.undefined_message());
  if (right.is_undefined()) throw TemplateError(right.undefined_message());
  if (left.is_number() && right.is_number()) {
    const bool trusted = left.trusted() && right.trusted();
    if (left.is_integral() && right.is_integral())
      return integers(kind, left.as_integer(), right.as_integer(), trusted);
    return reals(kind, left.as_real(), right.as_real(), trusted);
  }
  if (kind == ExpressionKind::add && left.is_string() && right.is_string())
    return join_strings(interpreter, left, right);
  if (kind == ExpressionKind::add && left.is_sequence() && left.kind() == right.kind()) {
    return join_lists(interpreter, left, right);
  }
  if (kind == ExpressionKind::multiply) {
    const auto repeatable = [](const Value& value) { return value.is_string() || value.is_sequence(); };
    if (repeatable(left) && right.is_integral()) return repeat(interpreter, left, right.as_integer());
    if (left.is_integral() && repeatable(right)) return repeat(interpreter, right, left.as_integer());
  }
  if (kind == ExpressionKind::modulo && left.is_string()) return format_percent(interpreter, left, right);
  throw TemplateError("unsupported operand type(s) for " + symbol_of(kind) + ": '" + type_name(left) + "' and '" +
                      type_name(right) + "'");
}

Value sign_operation(ExpressionKind kind, const Value& value) {
  if (value.is_undefined()) throw TemplateError(value.undefined_message());
  const bool negative = kind == ExpressionKind::negate;
  if (!value.is_number()) {
    throw TemplateError(std::string("bad operand type for unary ") + (negative ? "-" : "+") + ": '" + type_name(value) +
                        "'");
  }
  if (value.kind() == Kind::real) return Value::real(negative ? -value.as_real() : value.as_real(), value.trusted());
  if (negative && value.as_integer() == std::numeric_limits<std::int64_t>::min()) fail_overflow();
  return Value::integer(negative ? -value.as_integer() : value.as_integer(), value.trusted());
}

}  // namespace inferd::jinja
