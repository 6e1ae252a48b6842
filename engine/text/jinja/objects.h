// The objects a template can hold: functions, bound methods, macros, namespaces, loops, cyclers, joiners.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/text/jinja/interpreter.h"
#include "engine/text/jinja/value.h"

namespace inferd::jinja {

using Function = Value (*)(Interpreter& interpreter, Arguments& arguments);
using Method = Value (*)(Interpreter& interpreter, const Value& self, Arguments& arguments);

/// A global function.
class FunctionObject final : public NativeObject {
 public:
  FunctionObject(std::string_view name, Function function) : name_(name), function_(function) {}
  std::string describe() const override { return "<function " + name_ + ">"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override { return function_(interpreter, arguments); }

 private:
  std::string name_;
  Function function_;
};

/// `value.method`, not called yet.
class MethodObject final : public NativeObject {
 public:
  MethodObject(Value self, std::string_view name, Method method)
      : self_(std::move(self)), name_(name), method_(method) {}
  std::string describe() const override { return "<method " + name_ + ">"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override { return method_(interpreter, self_, arguments); }
  void clear() override { self_ = Value(); }

 private:
  Value self_;
  std::string name_;
  Method method_;
};

/// A macro, or the caller of a call block, with the scope it was defined in.
class MacroObject final : public NativeObject {
 public:
  MacroObject(const Statement* definition, std::shared_ptr<Frame> closure)
      : definition_(definition), closure_(std::move(closure)) {}
  std::string describe() const override { return "<Macro '" + definition_->macro.name + "'>"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override {
    return interpreter.call_macro(*definition_, closure_, arguments);
  }
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;
  void clear() override { closure_.reset(); }

 private:
  const Statement* definition_;
  std::shared_ptr<Frame> closure_;
};

/// namespace(): attributes that {% set ns.name = … %} changes.
class NamespaceObject final : public NativeObject {
 public:
  explicit NamespaceObject(Budget* budget) : charge_(budget) { charge_.add(kBytes); }
  std::string describe() const override { return "<Namespace>"; }
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;
  void set(std::string_view name, Value value);
  void clear() override { attributes_.clear(); }

 private:
  static constexpr std::size_t kBytes = 160;
  std::vector<std::pair<std::string, Value>> attributes_;
  Charge charge_;
};

/// `loop` inside a for.
class LoopObject final : public NativeObject {
 public:
  explicit LoopObject(std::vector<Value> items) : items_(std::move(items)) {}
  std::string describe() const override { return "<LoopContext>"; }
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;
  void clear() override;

  const std::vector<Value>& items() const { return items_; }
  void move_to(std::size_t index) { index_ = index; }
  Value cycle(Arguments& arguments) const;
  Value changed(Interpreter& interpreter, Arguments& arguments);

 private:
  std::vector<Value> items_;
  std::size_t index_ = 0;
  std::vector<Value> last_changed_;
  bool changed_before_ = false;
};

/// cycler(a, b, …)
class CyclerObject final : public NativeObject {
 public:
  explicit CyclerObject(std::vector<Value> items) : items_(std::move(items)) {}
  std::string describe() const override { return "<Cycler>"; }
  std::optional<Value> attribute(Interpreter& interpreter, std::string_view name) override;
  Value next() { return items_[position_++ % items_.size()]; }
  void reset() { position_ = 0; }
  void clear() override { items_.assign(1, Value()); }

 private:
  std::vector<Value> items_;
  std::size_t position_ = 0;
};

/// joiner(separator): nothing at its first call, then the separator.
class JoinerObject final : public NativeObject {
 public:
  explicit JoinerObject(Value separator) : separator_(std::move(separator)) {}
  std::string describe() const override { return "<Joiner>"; }
  bool callable() const override { return true; }
  Value call(Interpreter& interpreter, Arguments& arguments) override;
  void clear() override { separator_ = Value(); }

 private:
  Value separator_;
  bool used_ = false;
};

/// The global function `name`, or undefined.
std::optional<Value> global_function(std::string_view name);
/// `value.name` if that is a method of its type.
Method find_method(const Value& value, std::string_view name);
/// Tables behind find_method; null if the type has no such method.
Method find_string_method(std::string_view name);
Method find_list_method(std::string_view name);
Method find_tuple_method(std::string_view name);
Method find_dict_method(std::string_view name);

}  // namespace inferd::jinja
