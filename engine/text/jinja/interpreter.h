// Interpreter: evaluates a template's tree against its variables, within a Budget.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/ast.h"
#include "engine/text/jinja/budget.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/value.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {

/// The variables of one scope. A lookup goes on in the parents, as late as it happens: like Python's closures.
struct Frame {
  std::vector<std::pair<Symbol, Value>> variables;
  std::shared_ptr<Frame> parent;

  const Value* find(Symbol symbol) const;
  void set(Symbol symbol, Value value);
};

/// Renders once, in one thread. Everything that filters, tests, methods and functions need of the evaluator is public.
class Interpreter {
 public:
  Interpreter(const SyntaxTree& tree, Budget& budget, std::int64_t now_unix_s);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void set_variable(std::string_view name, Value value);
  /// Runs the template. Throws TemplateError with the line where it failed; raise_exception's text is left as it is.
  Text run();

  Budget& budget() { return budget_; }
  std::int64_t now_unix_s() const { return now_unix_s_; }

  // Making values that count against the budget.
  Value string(Text text, bool markup = false) { return Value::string(&budget_, std::move(text), markup); }
  Value string(std::string_view text, bool trusted) { return string(Text(text, trusted)); }
  Value list(std::vector<Value> items) { return Value::list(&budget_, std::move(items)); }
  Value tuple(std::vector<Value> items) { return Value::list(&budget_, std::move(items), Kind::tuple); }
  Value dict() { return Value::dict(&budget_); }

  // Python's protocols.
  /// str(value)
  Text to_text(const Value& value);
  Value call(const Value& callee, Arguments& arguments);
  Value get_attribute(const Value& value, std::string_view name);
  Value get_item(const Value& value, const Value& key);
  /// The items of anything iterable; nothing for undefined. Throws for the rest.
  std::vector<Value> iterate(const Value& value);
  bool contains(const Value& container, const Value& item);
  std::int64_t length(const Value& value);
  Value apply_filter(const std::string& name, const Value& input, Arguments& arguments);
  bool apply_test(const std::string& name, const Value& input, Arguments& arguments);
  /// Runs a macro or a caller body in a scope of its own and returns what it printed.
  Value call_macro(const Statement& macro, const std::shared_ptr<Frame>& closure, Arguments& arguments);

  /// Objects that may become part of a cycle are cleared when the render ends.
  void keep(std::shared_ptr<NativeObject> object);
  void keep_container(const Value& container);

 private:
  enum class Flow { normal, break_, continue_ };
  /// Counts one level of recursion while it lives. Throws TemplateError when there are too many.
  class Depth {
   public:
    explicit Depth(int* depth) : depth_(depth) {
      if (*depth_ >= kMaxEvalDepth) throw TemplateError("maximum recursion depth exceeded");
      ++*depth_;
    }
    ~Depth() { --*depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    int* depth_;
  };
  struct Output {
    explicit Output(Budget* budget) : charge(budget) {}
    Text text;
    Charge charge;
  };

  // Statements (interpreter_statements.cpp).
  Flow run_body(const Body& body);
  Flow run_statement(const Statement& node);
  Flow run_if(const Statement& node);
  Flow run_for(const Statement& node);
  Flow run_loop(const Statement& node, std::vector<Value> items, const std::shared_ptr<Frame>& outer);
  std::vector<Value> filter_items(const Statement& node, std::vector<Value> items);
  void run_set_block(const Statement& node);
  void run_macro_definition(const Statement& node);
  void run_call_block(const Statement& node);
  void run_scope(const Statement& node);
  void bind_parameters(const Statement& macro, Arguments& arguments);
  void assign(const Target& target, Value value);
  void emit(const Value& value);
  void keep_frame();
  /// Runs `body` in a new scope and returns what it printed.
  Value capture(const Body& body);

  // Expressions (interpreter_expressions.cpp).
  Value evaluate(const Expression& node);
  Value evaluate_name(const Expression& node);
  Value evaluate_items(const Expression& node);
  Value evaluate_dict(const Expression& node);
  Value evaluate_comparison(const Expression& node);
  Value evaluate_conditional(const Expression& node);
  Value evaluate_concat(const Expression& node);
  Value evaluate_slice(const Expression& node);
  Value evaluate_call(const Expression& node, const Value* caller);
  Value evaluate_filter(const Expression& node, const Value* input);
  bool evaluate_test(const Expression& node);
  Arguments evaluate_arguments(const Expression& node);
  void spread_mapping(const Value& mapping, Arguments* arguments);

  const SyntaxTree& tree_;
  Budget& budget_;
  const std::int64_t now_unix_s_;
  const Symbol loop_symbol_, caller_symbol_, varargs_symbol_, kwargs_symbol_;
  std::shared_ptr<Frame> frame_;
  Output* output_ = nullptr;
  bool top_level_ = true;  // output_ is the render's own
  int depth_ = 0;
  int macro_depth_ = 0;
  int line_ = 0;
  std::vector<std::shared_ptr<NativeObject>> kept_objects_;
  std::vector<std::shared_ptr<Object>> kept_containers_;
  std::vector<std::shared_ptr<Frame>> kept_frames_;
  Charge kept_charge_;
};

}  // namespace inferd::jinja
