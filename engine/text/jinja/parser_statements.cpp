// The parser's tags: if, for, set, macro, call, filter, with, generation.
#include <algorithm>
#include <utility>

#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/parser.h"
#include "engine/text/jinja/parser_state.h"

namespace inferd::jinja {

SyntaxTree parse_template(std::string_view source) {
  SyntaxTree tree;
  Parser parser(tokenize(source), &tree.symbols);
  tree.body = parser.parse_body({});
  return tree;
}

Parser::Nesting::Nesting(Parser* parser) : parser_(parser) {
  if (parser_->depth_ >= kMaxNesting) parser_->fail("nested deeper than 64 levels");
  ++parser_->depth_;
}

const Token& Parser::next() {
  const Token& token = tokens_[at_];
  if (token.type != TokenType::end) ++at_;
  return token;
}

bool Parser::skip_op(std::string_view op) {
  if (!current().is_op(op)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view name) {
  if (!current().is_name(name)) return false;
  next();
  return true;
}

void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail_expected("'" + std::string(op) + "'");
}

void Parser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail_expected("'" + std::string(name) + "'");
}

std::string_view Parser::expect_any_name(std::string_view what) {
  if (current().type != TokenType::name) fail_expected(what);
  return next().text;
}

void Parser::fail(const std::string& message) const { throw SyntaxError(message, current().line); }

void Parser::fail_expected(std::string_view what) const {
  const std::string found = current().type == TokenType::end ? "the end of the template"
                                                             : "'" + std::string(current().text.substr(0, 40)) + "'";
  fail("expected " + std::string(what) + ", found " + found);
}

void Parser::expect_block_end() {
  if (current().type != TokenType::block_end) fail_expected("the end of the tag");
  next();
}

Body Parser::parse_body(std::initializer_list<std::string_view> ends) {
  const Nesting nesting(this);
  Body body;
  while (true) {
    const Token& token = current();
    if (token.type == TokenType::data) {
      auto node = start(StatementKind::text);
      node->value = Value::string(nullptr, Text(token.text, true));
      body.push_back(std::move(node));
      next();
    } else if (token.type == TokenType::variable_begin) {
      next();
      auto node = start(StatementKind::output);
      node->expression = parse_tuple(true, false);
      if (current().type != TokenType::variable_end) fail_expected("'}}'");
      next();
      body.push_back(std::move(node));
    } else if (token.type == TokenType::block_begin) {
      next();
      const auto is_end = [this](std::string_view end) { return current().is_name(end); };
      if (std::any_of(ends.begin(), ends.end(), is_end)) return body;
      body.push_back(parse_statement());
      expect_block_end();
    } else {
      if (ends.size() != 0) fail_expected("{% " + std::string(*(ends.end() - 1)) + " %}");
      return body;
    }
  }
}

Body Parser::parse_body_until(std::string_view end) {
  expect_block_end();
  Body body = parse_body({end});
  next();
  return body;
}

std::unique_ptr<Statement> Parser::start(StatementKind kind) const {
  auto node = std::make_unique<Statement>();
  node->kind = kind;
  node->line = current().line;
  return node;
}

std::unique_ptr<Statement> Parser::parse_statement() {
  auto node = start(StatementKind::scope);
  const std::string tag(expect_any_name("a tag name"));
  if (tag == "if") {
    parse_if(node.get());
  } else if (tag == "for") {
    parse_for(node.get());
  } else if (tag == "set") {
    parse_set(node.get());
  } else if (tag == "macro") {
    parse_macro(node.get());
  } else if (tag == "call") {
    parse_call_block(node.get());
  } else if (tag == "filter") {
    node->kind = StatementKind::filter_block;
    node->expression = parse_filter_chain(parse_filter(nullptr));
    node->body = parse_body_until("endfilter");
  } else if (tag == "with") {
    parse_with(node.get());
  } else if (tag == "generation") {
    node->body = parse_body_until("endgeneration");
  } else if (tag == "break" || tag == "continue") {
    if (loops_ == 0) fail("'" + tag + "' outside of a loop");
    node->kind = tag == "break" ? StatementKind::break_ : StatementKind::continue_;
  } else if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
    fail("'" + tag + "' is refused: a template must stand alone");
  } else {
    fail("unknown tag '" + tag + "'");
  }
  return node;
}

void Parser::parse_if(Statement* node) {
  node->kind = StatementKind::if_;
  while (true) {
    Branch branch;
    branch.condition = parse_tuple(false, false);
    expect_block_end();
    branch.body = parse_body({"elif", "else", "endif"});
    node->branches.push_back(std::move(branch));
    if (skip_name("elif")) continue;
    if (skip_name("else")) {
      node->other = parse_body_until("endif");
    } else {
      expect_name("endif");
    }
    return;
  }
}

void Parser::parse_for(Statement* node) {
  node->kind = StatementKind::for_;
  node->target = parse_target(false);
  expect_name("in");
  node->expression = parse_tuple(false, false);
  if (skip_name("if")) node->condition = parse_expression();
  if (current().is_name("recursive")) fail("recursive loops are not supported");
  expect_block_end();
  ++loops_;
  node->body = parse_body({"else", "endfor"});
  --loops_;
  if (skip_name("else")) {
    node->other = parse_body_until("endfor");
  } else {
    expect_name("endfor");
  }
}

void Parser::parse_set(Statement* node) {
  node->kind = StatementKind::set;
  node->target = parse_target(true);
  if (skip_op("=")) {
    node->expression = parse_tuple(true, false);
    return;
  }
  node->kind = StatementKind::set_block;
  if (skip_op("|")) node->expression = parse_filter_chain(parse_filter(nullptr));
  node->body = parse_body_until("endset");
}

void Parser::parse_macro(Statement* node) {
  node->kind = StatementKind::macro;
  node->macro.name = std::string(expect_any_name("a macro name"));
  node->target.symbol = symbols_->intern(node->macro.name);
  parse_signature(&node->macro);
  parse_macro_body(node, "endmacro");
}

void Parser::parse_call_block(Statement* node) {
  node->kind = StatementKind::call_block;
  node->macro.name = "caller";
  if (current().is_op("(")) parse_signature(&node->macro);
  node->expression = parse_expression();
  if (node->expression->kind != ExpressionKind::call) fail("expected a call");
  parse_macro_body(node, "endcall");
}

void Parser::parse_macro_body(Statement* node, std::string_view end) {
  const int outer_loops = std::exchange(loops_, 0);
  macros_.push_back(&node->macro);
  node->body = parse_body_until(end);
  macros_.pop_back();
  loops_ = outer_loops;
}

void Parser::parse_signature(MacroDefinition* macro) {
  expect_op("(");
  while (!skip_op(")")) {
    if (!macro->parameters.empty()) expect_op(",");
    if (skip_op(")")) return;
    Parameter parameter;
    parameter.name = std::string(expect_any_name("a parameter name"));
    parameter.symbol = symbols_->intern(parameter.name);
    if (skip_op("=")) {
      parameter.fallback = parse_expression();
    } else if (!macro->parameters.empty() && macro->parameters.back().fallback != nullptr) {
      fail("a parameter without a default follows one with a default");
    }
    macro->parameters.push_back(std::move(parameter));
  }
}

void Parser::parse_with(Statement* node) {
  while (current().type != TokenType::block_end) {
    if (!node->assignments.empty()) expect_op(",");
    Assignment assignment;
    assignment.target = parse_target_part(false, false);
    expect_op("=");
    assignment.value = parse_expression();
    node->assignments.push_back(std::move(assignment));
  }
  node->body = parse_body_until("endwith");
}

Target Parser::parse_target(bool with_namespace) {
  Target first = parse_target_part(with_namespace, false);
  if (!current().is_op(",")) return first;
  Target tuple;
  tuple.parts.push_back(std::move(first));
  while (skip_op(",")) {
    if (current().type != TokenType::name && !current().is_op("(")) break;
    if (current().is_name("in")) break;
    tuple.parts.push_back(parse_target_part(with_namespace, false));
  }
  return tuple;
}

Target Parser::parse_target_part(bool with_namespace, bool in_parentheses) {
  const Nesting nesting(this);
  Target target;
  if (skip_op("(")) {
    target = parse_target_part(with_namespace, true);
    if (current().is_op(",")) {
      Target tuple;
      tuple.parts.push_back(std::move(target));
      while (skip_op(",")) {
        if (current().is_op(")")) break;
        tuple.parts.push_back(parse_target_part(with_namespace, true));
      }
      target = std::move(tuple);
    }
    expect_op(")");
    return target;
  }
  const std::string_view name = expect_any_name(in_parentheses ? "a name in the target" : "a name to assign to");
  for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
    if (name == reserved) fail("cannot assign to '" + std::string(name) + "'");
  }
  target.symbol = symbols_->intern(name);
  if (with_namespace && skip_op(".")) target.attribute = std::string(expect_any_name("an attribute name"));
  return target;
}

}  // namespace inferd::jinja
