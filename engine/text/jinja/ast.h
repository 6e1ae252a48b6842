// The syntax tree of a template. Immutable after parsing, read by many threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/text/jinja/value.h"

namespace inferd::jinja {

/// A variable's name, interned per template.
using Symbol = int;

/// Names used as variables. Filled by the parser.
class SymbolTable {
 public:
  Symbol intern(std::string_view name) {
    const auto [entry, fresh] = ids_.try_emplace(std::string(name), static_cast<Symbol>(names_.size()));
    if (fresh) names_.emplace_back(name);
    return entry->second;
  }
  /// -1 if the template never mentions `name`.
  Symbol find(std::string_view name) const {
    const auto entry = ids_.find(std::string(name));
    return entry == ids_.end() ? -1 : entry->second;
  }
  const std::string& name(Symbol symbol) const { return names_[static_cast<std::size_t>(symbol)]; }

 private:
  std::unordered_map<std::string, Symbol> ids_;
  std::vector<std::string> names_;
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

enum class ExpressionKind : std::uint8_t {
  constant,  // value
  name,      // symbol
  list,
  tuple,  // children
  dict,   // children: key, value, key, value …
  negate,
  plus,
  not_,  // children[0]
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,  // children[0], children[1]
  and_,
  or_,
  concat,       // children
  compare,      // children[0] operators[i] children[i + 1]
  conditional,  // children: condition, then, else (null: undefined)
  attribute,    // children[0] . name
  item,         // children[0] [ children[1] ]
  slice,        // children[0] [ children[1] : children[2] : children[3] ], 1 … 3 may be null
  call,         // children[0] ( arguments )
  filter,       // children[0] | name ( arguments ); children[0] is null for the body of a filter block
  test,         // children[0] is name ( arguments )
};

enum class Comparison : std::uint8_t { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

struct Argument {
  enum class Kind : std::uint8_t { positional, keyword, sequence, mapping } kind = Kind::positional;
  std::string name;  // of a keyword
  ExpressionPtr value;
};

struct Expression {
  ExpressionKind kind = ExpressionKind::constant;
  int line = 0;
  int height = 1;
  Symbol symbol = -1;
  std::string name;
  Value value;
  std::vector<ExpressionPtr> children;
  std::vector<Comparison> operators;
  std::vector<Argument> arguments;
};

/// What is assigned to: a name, an attribute of a namespace, or a tuple of names.
struct Target {
  Symbol symbol = -1;     // of the name or the namespace; -1: a tuple
  std::string attribute;  // of the namespace; empty: the name itself
  std::vector<Target> parts;
};

struct Parameter {
  Symbol symbol = -1;
  std::string name;
  ExpressionPtr fallback;  // null: undefined
};

/// A macro, or the body of a call block.
struct MacroDefinition {
  std::string name;
  std::vector<Parameter> parameters;
  bool takes_varargs = false;
  bool takes_kwargs = false;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

enum class StatementKind : std::uint8_t {
  text,          // value
  output,        // expression
  if_,           // branches: (expression, body) …; other: else
  for_,          // target in expression if condition: body; other: else
  set,           // target = expression
  set_block,     // target = body, through the filter chain `expression` if there is one
  macro,         // macro, target (a name), body
  call_block,    // expression is the call, macro its caller, body
  filter_block,  // expression is the filter chain, body
  scope,         // with: assignments, body; generation: body
  break_,
  continue_,
};

struct Branch {
  ExpressionPtr condition;
  Body body;
};

struct Assignment {
  Target target;
  ExpressionPtr value;
};

struct Statement {
  StatementKind kind = StatementKind::text;
  int line = 0;
  Value value;
  ExpressionPtr expression;
  ExpressionPtr condition;
  Target target;
  MacroDefinition macro;
  std::vector<Assignment> assignments;
  std::vector<Branch> branches;
  Body body;
  Body other;
};

struct SyntaxTree {
  SymbolTable symbols;
  Body body;
};

}  // namespace inferd::jinja
