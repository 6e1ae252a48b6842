// The parser's expressions, by falling precedence.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/parser_state.h"

namespace inferd::jinja {

ExpressionPtr Parser::make(ExpressionKind kind) const {
  auto node = std::make_unique<Expression>();
  node->kind = kind;
  node->line = current().line;
  return node;
}

ExpressionPtr Parser::make(ExpressionKind kind, ExpressionPtr first, ExpressionPtr second) const {
  auto node = make(kind);
  adopt(node.get(), std::move(first));
  if (second != nullptr) adopt(node.get(), std::move(second));
  return node;
}

void Parser::adopt(Expression* parent, ExpressionPtr child) const {
  if (child != nullptr) {
    parent->height = std::max(parent->height, child->height + 1);
    if (parent->height > kMaxTreeHeight) fail("an expression chains more than 400 operations");
  }
  parent->children.push_back(std::move(child));
}

bool Parser::at_tuple_end() const {
  const Token& token = current();
  return token.type == TokenType::variable_end || token.type == TokenType::block_end || token.is_op(")");
}

ExpressionPtr Parser::parse_tuple(bool with_conditional, bool in_parentheses) {
  if (in_parentheses && current().is_op(")")) return make(ExpressionKind::tuple);
  ExpressionPtr first = parse_expression(with_conditional);
  if (!current().is_op(",")) return first;
  auto tuple = make(ExpressionKind::tuple, std::move(first));
  while (skip_op(",")) {
    if (at_tuple_end()) break;
    adopt(tuple.get(), parse_expression(with_conditional));
  }
  return tuple;
}

ExpressionPtr Parser::parse_expression(bool with_conditional) {
  const Nesting nesting(this);
  ExpressionPtr node = parse_or();
  while (with_conditional && skip_name("if")) {
    ExpressionPtr condition = parse_or();
    ExpressionPtr other = skip_name("else") ? parse_expression() : nullptr;
    auto whole = make(ExpressionKind::conditional, std::move(condition), std::move(node));
    adopt(whole.get(), std::move(other));
    node = std::move(whole);
  }
  return node;
}

ExpressionPtr Parser::parse_or() {
  ExpressionPtr left = parse_and();
  while (skip_name("or")) {
    auto right = parse_and();
    left = make(ExpressionKind::or_, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr Parser::parse_and() {
  ExpressionPtr left = parse_not();
  while (skip_name("and")) {
    auto right = parse_not();
    left = make(ExpressionKind::and_, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr Parser::parse_not() {
  if (!skip_name("not")) return parse_comparison();
  const Nesting nesting(this);
  return make(ExpressionKind::not_, parse_not());
}

ExpressionPtr Parser::parse_comparison() {
  constexpr std::pair<std::string_view, Comparison> kOperators[] = {
      {"==", Comparison::equal},  {"!=", Comparison::not_equal},  {"<", Comparison::less},
      {">", Comparison::greater}, {"<=", Comparison::less_equal}, {">=", Comparison::greater_equal}};
  ExpressionPtr node = parse_sum();
  ExpressionPtr chain;
  while (true) {
    Comparison comparison = Comparison::in;
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [this](const auto& entry) { return current().is_op(entry.first); });
    if (op != std::end(kOperators)) {
      comparison = op->second;
    } else if (current().is_name("not") && look().is_name("in")) {
      next();
      comparison = Comparison::not_in;
    } else if (!current().is_name("in")) {
      return chain != nullptr ? std::move(chain) : std::move(node);
    }
    next();
    if (chain == nullptr) chain = make(ExpressionKind::compare, std::move(node));
    chain->operators.push_back(comparison);
    adopt(chain.get(), parse_sum());
  }
}

ExpressionPtr Parser::parse_sum() {
  ExpressionPtr left = parse_concat();
  while (current().is_op("+") || current().is_op("-")) {
    const auto kind = next().text == "+" ? ExpressionKind::add : ExpressionKind::subtract;
    auto right = parse_concat();
    left = make(kind, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr Parser::parse_concat() {
  ExpressionPtr first = parse_product();
  if (!current().is_op("~")) return first;
  auto node = make(ExpressionKind::concat, std::move(first));
  while (skip_op("~")) adopt(node.get(), parse_product());
  return node;
}

ExpressionPtr Parser::parse_product() {
  ExpressionPtr left = parse_power();
  while (true) {
    ExpressionKind kind = ExpressionKind::multiply;
    if (current().is_op("/"))
      kind = ExpressionKind::divide;
    else if (current().is_op("//"))
      kind = ExpressionKind::floor_divide;
    else if (current().is_op("%"))
      kind = ExpressionKind::modulo;
    else if (!current().is_op("*"))
      return left;
    next();
    auto right = parse_power();
    left = make(kind, std::move(left), std::move(right));
  }
}

ExpressionPtr Parser::parse_power() {
  ExpressionPtr left = parse_unary();
  while (skip_op("**")) {
    auto right = parse_unary();
    left = make(ExpressionKind::power, std::move(left), std::move(right));
  }
  return left;
}

ExpressionPtr Parser::parse_unary(bool with_filter) {
  const Nesting nesting(this);
  ExpressionPtr node;
  if (skip_op("-")) {
    node = make(ExpressionKind::negate, parse_unary(false));
  } else if (skip_op("+")) {
    node = make(ExpressionKind::plus, parse_unary(false));
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filter ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr Parser::parse_primary() {
  const Token& token = current();
  switch (token.type) {
    case TokenType::string:
      return parse_literal_string();
    case TokenType::integer:
    case TokenType::real:
      return parse_number();
    case TokenType::name:
      break;
    default:
      if (token.is_op("(")) {
        next();
        auto node = parse_tuple(true, true);
        expect_op(")");
        return node;
      }
      if (token.is_op("[")) return parse_list();
      if (token.is_op("{")) return parse_dict();
      fail_expected("an expression");
  }
  auto node = make(ExpressionKind::constant);
  const std::string_view name = next().text;
  if (name == "true" || name == "True") {
    node->value = Value::boolean(true);
  } else if (name == "false" || name == "False") {
    node->value = Value::boolean(false);
  } else if (name == "none" || name == "None") {
    node->value = Value::none();
  } else {
    node->kind = ExpressionKind::name;
    node->symbol = symbols_->intern(name);
    for (MacroDefinition* macro : macros_) {
      macro->takes_varargs |= name == "varargs";
      macro->takes_kwargs |= name == "kwargs";
    }
  }
  return node;
}

ExpressionPtr Parser::parse_literal_string() {
  auto node = make(ExpressionKind::constant);
  std::string text;
  while (current().type == TokenType::string) text += unescape_string(next());
  node->value = Value::string(nullptr, Text(text, true));
  return node;
}

ExpressionPtr Parser::parse_number() {
  auto node = make(ExpressionKind::constant);
  const Token& token = next();
  std::string digits(token.text);
  std::erase(digits, '_');
  if (token.type == TokenType::real) {
    double value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    node->value = Value::real(value);
    return node;
  }
  std::int64_t value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc()) fail("an integer does not fit 64 bits");
  node->value = Value::integer(value);
  return node;
}

ExpressionPtr Parser::parse_list() {
  auto node = make(ExpressionKind::list);
  expect_op("[");
  while (!skip_op("]")) {
    if (!node->children.empty()) expect_op(",");
    if (skip_op("]")) break;
    adopt(node.get(), parse_expression());
  }
  return node;
}

ExpressionPtr Parser::parse_dict() {
  auto node = make(ExpressionKind::dict);
  expect_op("{");
  while (!skip_op("}")) {
    if (!node->children.empty()) expect_op(",");
    if (skip_op("}")) break;
    adopt(node.get(), parse_expression());
    expect_op(":");
    adopt(node.get(), parse_expression());
  }
  return node;
}

ExpressionPtr Parser::parse_postfix(ExpressionPtr node) {
  while (true) {
    if (current().is_op(".")) {
      node = parse_dot(std::move(node));
    } else if (current().is_op("[")) {
      node = parse_subscript(std::move(node));
    } else if (current().is_op("(")) {
      node = make(ExpressionKind::call, std::move(node));
      parse_arguments(node.get());
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_dot(ExpressionPtr node) {
  expect_op(".");
  if (current().type == TokenType::integer) {
    auto index = parse_number();
    return make(ExpressionKind::item, std::move(node), std::move(index));
  }
  auto access = make(ExpressionKind::attribute, std::move(node));
  access->name = std::string(expect_any_name("an attribute name"));
  return access;
}

ExpressionPtr Parser::parse_subscript(ExpressionPtr node) {
  expect_op("[");
  ExpressionPtr begin = current().is_op(":") ? nullptr : parse_tuple(true, false);
  if (!skip_op(":")) {
    expect_op("]");
    return make(ExpressionKind::item, std::move(node), std::move(begin));
  }
  auto slice = make(ExpressionKind::slice, std::move(node));
  adopt(slice.get(), std::move(begin));
  const auto at_end = [this] { return current().is_op(":") || current().is_op("]"); };
  adopt(slice.get(), at_end() ? nullptr : parse_expression());
  adopt(slice.get(), skip_op(":") && !at_end() ? parse_expression() : nullptr);
  expect_op("]");
  return slice;
}

ExpressionPtr Parser::parse_filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (skip_op("|")) {
      node = parse_filter(std::move(node));
    } else if (skip_name("is")) {
      node = parse_test(std::move(node));
    } else if (current().is_op("(")) {
      node = make(ExpressionKind::call, std::move(node));
      parse_arguments(node.get());
    } else {
      return node;
    }
  }
}

ExpressionPtr Parser::parse_filter(ExpressionPtr node) {
  auto filter = make(ExpressionKind::filter);
  adopt(filter.get(), std::move(node));
  filter->name = std::string(expect_any_name("a filter name"));
  if (current().is_op("(")) parse_arguments(filter.get());
  return filter;
}

ExpressionPtr Parser::parse_filter_chain(ExpressionPtr node) {
  while (skip_op("|")) node = parse_filter(std::move(node));
  return node;
}

ExpressionPtr Parser::parse_test(ExpressionPtr node) {
  const bool negated = skip_name("not");
  auto test = make(ExpressionKind::test, std::move(node));
  test->name = std::string(expect_any_name("a test name"));
  const Token& token = current();
  const bool operand = token.type == TokenType::name || token.type == TokenType::string ||
                       token.type == TokenType::integer || token.type == TokenType::real || token.is_op("[") ||
                       token.is_op("{");
  const bool keyword = token.is_name("else") || token.is_name("or") || token.is_name("and") || token.is_name("if") ||
                       token.is_name("in") || token.is_name("not") || token.is_name("recursive");
  if (token.is_op("(")) {
    parse_arguments(test.get());
  } else if (operand && !keyword) {
    if (token.is_name("is")) fail("tests cannot be chained with 'is'");
    const Nesting nesting(this);
    Argument argument;
    argument.value = parse_postfix(parse_primary());
    test->height = std::max(test->height, argument.value->height + 1);
    test->arguments.push_back(std::move(argument));
  }
  return negated ? make(ExpressionKind::not_, std::move(test)) : std::move(test);
}

void Parser::parse_arguments(Expression* node) {
  expect_op("(");
  while (!skip_op(")")) {
    if (!node->arguments.empty()) expect_op(",");
    if (skip_op(")")) return;
    Argument argument;
    if (skip_op("*")) {
      argument.kind = Argument::Kind::sequence;
    } else if (skip_op("**")) {
      argument.kind = Argument::Kind::mapping;
    } else if (current().type == TokenType::name && look().is_op("=")) {
      argument.kind = Argument::Kind::keyword;
      argument.name = std::string(next().text);
      next();
    } else if (!node->arguments.empty() && node->arguments.back().kind != Argument::Kind::positional) {
      fail("a positional argument follows a keyword argument");
    }
    argument.value = parse_expression();
    node->height = std::max(node->height, argument.value->height + 1);
    if (node->height > kMaxTreeHeight) fail("an expression chains more than 400 operations");
    node->arguments.push_back(std::move(argument));
  }
}

}  // namespace inferd::jinja
