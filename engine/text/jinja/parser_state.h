// Parser state: the token cursor, nesting, and the two halves of the grammar.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/lexer.h"

namespace inferd::jinja {

/// Recursive descent over a token list. Every recursion passes through a Nesting, so depth is bounded.
class Parser {
 public:
  Parser(std::vector<Token> tokens, SymbolTable* symbols) : tokens_(std::move(tokens)), symbols_(symbols) {}

  /// The statements up to one of the tags `ends` (not consumed), or to the end of the template if there are none.
  Body parse_body(std::initializer_list<std::string_view> ends);

 private:
  class Nesting {
   public:
    explicit Nesting(Parser* parser);
    ~Nesting() { --parser_->depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Parser* parser_;
  };

  // The cursor.
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  const Token& next();
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  std::string_view expect_any_name(std::string_view what);
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void fail_expected(std::string_view what) const;

  // Statements (parser_statements.cpp).
  std::unique_ptr<Statement> parse_statement();
  std::unique_ptr<Statement> start(StatementKind kind) const;
  /// The body up to `end`, whose tag name is consumed.
  Body parse_body_until(std::string_view end);
  void expect_block_end();
  void parse_if(Statement* node);
  void parse_for(Statement* node);
  void parse_set(Statement* node);
  void parse_macro(Statement* node);
  void parse_call_block(Statement* node);
  void parse_with(Statement* node);
  void parse_signature(MacroDefinition* macro);
  void parse_macro_body(Statement* node, std::string_view end);
  Target parse_target(bool with_namespace);
  Target parse_target_part(bool with_namespace, bool in_parentheses);

  // Expressions (parser_expressions.cpp).
  ExpressionPtr make(ExpressionKind kind) const;
  ExpressionPtr make(ExpressionKind kind, ExpressionPtr first, ExpressionPtr second = nullptr) const;
  void adopt(Expression* parent, ExpressionPtr child) const;
  ExpressionPtr parse_tuple(bool with_conditional, bool in_parentheses);
  bool at_tuple_end() const;
  ExpressionPtr parse_expression(bool with_conditional = true);
  ExpressionPtr parse_or();
  ExpressionPtr parse_and();
  ExpressionPtr parse_not();
  ExpressionPtr parse_comparison();
  ExpressionPtr parse_sum();
  ExpressionPtr parse_concat();
  ExpressionPtr parse_product();
  ExpressionPtr parse_power();
  ExpressionPtr parse_unary(bool with_filter = true);
  ExpressionPtr parse_primary();
  ExpressionPtr parse_literal_string();
  ExpressionPtr parse_number();
  ExpressionPtr parse_list();
  ExpressionPtr parse_dict();
  ExpressionPtr parse_postfix(ExpressionPtr node);
  ExpressionPtr parse_dot(ExpressionPtr node);
  ExpressionPtr parse_subscript(ExpressionPtr node);
  ExpressionPtr parse_filters_and_tests(ExpressionPtr node);
  /// One filter, the cursor on its name.
  ExpressionPtr parse_filter(ExpressionPtr node);
  ExpressionPtr parse_filter_chain(ExpressionPtr node);
  ExpressionPtr parse_test(ExpressionPtr node);
  void parse_arguments(Expression* node);

  std::vector<Token> tokens_;
  SymbolTable* symbols_;
  std::size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // open loops of the current macro, for break and continue
  std::vector<MacroDefinition*> macros_;
};

}  // namespace inferd::jinja
