// The interpreter's statements: scopes, loops, assignments, macros.
#include <utility>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/raised.h"
#include "engine/text/jinja/stringify.h"

namespace inferd::jinja {
namespace {

/// Puts a member back to its old value at the end of a scope, also when an exception leaves it.
template <class T>
class Restore {
 public:
  Restore(T* place, T value) : place_(place), old_(std::exchange(*place, std::move(value))) {}
  ~Restore() { *place_ = std::move(old_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  T* place_;
  T old_;
};

std::shared_ptr<Frame> child_of(const std::shared_ptr<Frame>& parent) {
  auto frame = std::make_shared<Frame>();
  frame->parent = parent;
  return frame;
}

}  // namespace

const Value* Frame::find(Symbol symbol) const {
  for (const Frame* frame = this; frame != nullptr; frame = frame->parent.get()) {
    for (const auto& [name, value] : frame->variables) {
      if (name == symbol) return &value;
    }
  }
  return nullptr;
}

void Frame::set(Symbol symbol, Value value) {
  for (auto& [name, old] : variables) {
    if (name == symbol) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(symbol, std::move(value));
}

Interpreter::Interpreter(const SyntaxTree& tree, Budget& budget, std::int64_t now_unix_s)
    : tree_(tree),
      budget_(budget),
      now_unix_s_(now_unix_s),
      loop_symbol_(tree.symbols.find("loop")),
      caller_symbol_(tree.symbols.find("caller")),
      varargs_symbol_(tree.symbols.find("varargs")),
      kwargs_symbol_(tree.symbols.find("kwargs")),
      frame_(std::make_shared<Frame>()),
      kept_charge_(&budget) {}

Interpreter::~Interpreter() {
  for (const auto& object : kept_objects_) object->clear();
  for (const auto& container : kept_containers_) {
    if (auto* list = dynamic_cast<ListObject*>(container.get())) {
      std::vector<Value> gone;
      gone.swap(list->items);
    } else if (auto* dict = dynamic_cast<DictObject*>(container.get())) {
      dict->clear();
    }
  }
  for (const auto& frame : kept_frames_) {
    frame->variables.clear();
    frame->parent.reset();
  }
}

void Interpreter::set_variable(std::string_view name, Value value) {
  const Symbol symbol = tree_.symbols.find(name);
  if (symbol >= 0) frame_->set(symbol, std::move(value));
}

Text Interpreter::run() {
  Output output(&budget_);
  output_ = &output;
  try {
    run_body(tree_.body);
  } catch (const RaisedByTemplate&) {
    throw;
  } catch (const TemplateError& error) {
    throw TemplateError("chat template, line " + std::to_string(line_) + ": " + error.what());
  }
  return std::move(output.text);
}

void Interpreter::keep(std::shared_ptr<NativeObject> object) {
  kept_charge_.add(sizeof(object));
  kept_objects_.push_back(std::move(object));
}

void Interpreter::keep_frame() {
  if (!kept_frames_.empty() && kept_frames_.back() == frame_) return;
  kept_charge_.add(sizeof(Frame) + 4 * sizeof(Value));
  kept_frames_.push_back(frame_);
}

void Interpreter::keep_container(const Value& container) {
  budget_.step();
  if (kept_containers_.empty() || kept_containers_.back() != container.shared()) {
    kept_charge_.add(sizeof(std::shared_ptr<Object>));
    kept_containers_.push_back(container.shared());
  }
}

Interpreter::Flow Interpreter::run_body(const Body& body) {
  const Depth depth(&depth_);
  for (const auto& statement : body) {
    const Flow flow = run_statement(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_statement(const Statement& node) {
  budget_.step();
  line_ = node.line;
  switch (node.kind) {
    case StatementKind::text:
      emit(node.value);
      break;
    case StatementKind::output:
      emit(evaluate(*node.expression));
      break;
    case StatementKind::if_:
      return run_if(node);
    case StatementKind::for_:
      return run_for(node);
    case StatementKind::set:
      assign(node.target, evaluate(*node.expression));
      break;
    case StatementKind::set_block:
      run_set_block(node);
      break;
    case StatementKind::macro:
      run_macro_definition(node);
      break;
    case StatementKind::call_block:
      run_call_block(node);
      break;
    case StatementKind::filter_block: {
      const Value printed = capture(node.body);
      emit(evaluate_filter(*node.expression, &printed));
      break;
    }
    case StatementKind::scope:
      run_scope(node);
      break;
    case StatementKind::break_:
      return Flow::break_;
    case StatementKind::continue_:
      return Flow::continue_;
  }
  return Flow::normal;
}

void Interpreter::emit(const Value& value) {
  const std::size_t before = output_->text.size();
  append_string(*this, value, &output_->text);
  const std::size_t added = output_->text.size() - before;
  budget_.touch(added);
  output_->charge.add(added);
  if (top_level_ && output_->text.size() > kMaxOutputBytes) throw TemplateError("the output is larger than 8 MiB");
}

Value Interpreter::capture(const Body& body) {
  Output output(&budget_);
  const Restore<Output*> restore_output(&output_, &output);
  const Restore<bool> restore_top_level(&top_level_, false);
  const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, child_of(frame_));
  run_body(body);
  return string(std::move(output.text));
}

Interpreter::Flow Interpreter::run_if(const Statement& node) {
  for (const Branch& branch : node.branches) {
    if (is_true(evaluate(*branch.condition))) return run_body(branch.body);
  }
  return run_body(node.other);
}

std::vector<Value> Interpreter::filter_items(const Statement& node, std::vector<Value> items) {
  const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, child_of(frame_));
  std::vector<Value> kept;
  for (Value& item : items) {
    budget_.step();
    assign(node.target, item);
    if (is_true(evaluate(*node.condition))) kept.push_back(std::move(item));
  }
  return kept;
}

Interpreter::Flow Interpreter::run_for(const Statement& node) {
  std::vector<Value> items = iterate(evaluate(*node.expression));
  if (node.condition != nullptr) items = filter_items(node, std::move(items));
  const std::shared_ptr<Frame> outer = frame_;
  const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, outer);
  if (!items.empty()) return run_loop(node, std::move(items), outer);
  frame_ = child_of(outer);
  return run_body(node.other);
}

Interpreter::Flow Interpreter::run_loop(const Statement& node, std::vector<Value> items,
                                        const std::shared_ptr<Frame>& outer) {
  Charge charge(&budget_);
  charge.add(items.capacity() * sizeof(Value));
  const auto loop = std::make_shared<LoopObject>(std::move(items));
  for (std::size_t i = 0; i < loop->items().size(); ++i) {
    budget_.step();
    loop->move_to(i);
    frame_ = child_of(outer);
    assign(node.target, loop->items()[i]);
    if (loop_symbol_ >= 0) frame_->set(loop_symbol_, Value::object(loop));
    if (run_body(node.body) == Flow::break_) break;
  }
  return Flow::normal;
}

void Interpreter::assign(const Target& target, Value value) {
  if (target.symbol >= 0 && target.attribute.empty()) {
    frame_->set(target.symbol, std::move(value));
    return;
  }
  if (target.symbol >= 0) {
    const Value* owner = frame_->find(target.symbol);
    auto* space =
        owner != nullptr && owner->is_object() ? dynamic_cast<NamespaceObject*>(&owner->as_object()) : nullptr;
    if (space == nullptr) throw TemplateError("cannot assign attribute on non-namespace object");
    space->set(target.attribute, std::move(value));
    return;
  }
  std::vector<Value> parts = iterate(value);
  if (parts.size() != target.parts.size()) {
    throw TemplateError("expected " + std::to_string(target.parts.size()) + " values to unpack, found " +
                        std::to_string(parts.size()));
  }
  for (std::size_t i = 0; i < parts.size(); ++i) assign(target.parts[i], std::move(parts[i]));
}

void Interpreter::run_set_block(const Statement& node) {
  Value printed = capture(node.body);
  if (node.expression != nullptr) printed = evaluate_filter(*node.expression, &printed);
  assign(node.target, std::move(printed));
}

void Interpreter::run_macro_definition(const Statement& node) {
  auto macro = std::make_shared<MacroObject>(&node, frame_);
  keep_frame();
  frame_->set(node.target.symbol, Value::object(std::move(macro)));
}

void Interpreter::run_call_block(const Statement& node) {
  const Value caller = Value::object(std::make_shared<MacroObject>(&node, frame_));
  keep_frame();
  emit(evaluate_call(*node.expression, &caller));
}

void Interpreter::run_scope(const Statement& node) {
  auto inner = child_of(frame_);
  for (const Assignment& assignment : node.assignments) {
    Value value = evaluate(*assignment.value);
    const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, inner);
    assign(assignment.target, std::move(value));
  }
  const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, std::move(inner));
  run_body(node.body);
}

Value Interpreter::call_macro(const Statement& macro, const std::shared_ptr<Frame>& closure, Arguments& arguments) {
  const Depth macro_depth(&depth_);
  if (macro_depth_ >= kMaxMacroDepth) throw TemplateError("macros call each other deeper than 64 levels");
  const Restore<int> restore_depth(&macro_depth_, macro_depth_ + 1);
  const Restore<std::shared_ptr<Frame>> restore_frame(&frame_, child_of(closure));
  bind_parameters(macro, arguments);
  Value printed = capture(macro.body);
  return printed;
}

void Interpreter::bind_parameters(const Statement& macro, Arguments& arguments) {
  const MacroDefinition& definition = macro.macro;
  std::vector<NamedArgument> rest = std::move(arguments.named);
  const auto take_named = [&rest](std::string_view name) -> std::optional<Value> {
    for (auto entry = rest.begin(); entry != rest.end(); ++entry) {
      if (entry->name != name) continue;
      Value value = std::move(entry->value);
      rest.erase(entry);
      return value;
    }
    return std::nullopt;
  };
  for (std::size_t i = 0; i < definition.parameters.size(); ++i) {
    const Parameter& parameter = definition.parameters[i];
    Value value = Value::undefined("parameter '" + parameter.name + "' was not provided");
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (auto named = take_named(parameter.name)) {
      value = std::move(*named);
    } else if (parameter.fallback != nullptr) {
      value = evaluate(*parameter.fallback);
    }
    frame_->set(parameter.symbol, std::move(value));
  }
  if (auto caller = take_named("caller"); caller && caller_symbol_ >= 0)
    frame_->set(caller_symbol_, std::move(*caller));
  std::vector<Value> more;
  for (std::size_t i = definition.parameters.size(); i < arguments.positional.size(); ++i) {
    more.push_back(arguments.positional[i]);
  }
  if (!more.empty() && !definition.takes_varargs) {
    throw TemplateError("macro '" + definition.name + "' takes not more than " +
                        std::to_string(definition.parameters.size()) + " argument(s)");
  }
  if (!rest.empty() && !definition.takes_kwargs) {
    throw TemplateError("macro '" + definition.name + "' takes no keyword argument '" + rest.front().name + "'");
  }
  if (definition.takes_varargs) frame_->set(varargs_symbol_, tuple(std::move(more)));
  if (definition.takes_kwargs) {
    Value named = dict();
    for (auto& [name, value, trusted] : rest) named.as_dict().set(string(name, trusted), std::move(value));
    frame_->set(kwargs_symbol_, std::move(named));
  }
}

}  // namespace inferd::jinja
