// The global functions of a template.
#include <ctime>
#include <unordered_map>

#include "engine/text/jinja/limits.h"
#include "engine/text/jinja/objects.h"
#include "engine/text/jinja/parameters.h"
#include "engine/text/jinja/raised.h"
#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

constexpr std::size_t kMaxTimeFormatBytes = 1000;
constexpr std::size_t kMaxTimeBytes = 16384;
constexpr std::size_t kMaxRaisedBytes = 4096;

/// range(stop), range(start, stop), range(start, stop, step) as a list.
Value range(Interpreter& interpreter, Arguments& arguments) {
  const Parameters parameters("range()", arguments, {"start", "stop", "step"});
  const bool single = arguments.positional.size() == 1;
  const std::int64_t begin = single ? 0 : parameters.integer(0, 0);
  const std::int64_t end = single ? parameters.integer(0, 0) : parameters.integer(1, 0);
  const std::int64_t step = parameters.integer(2, 1);
  if (arguments.positional.empty()) parameters.fail("needs at least one integer");
  if (step == 0) parameters.fail("step must not be zero");
  std::vector<Value> items;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (static_cast<std::int64_t>(items.size()) >= kMaxRange) {
      parameters.fail("makes more than 100000 items");
    }
    items.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  interpreter.budget().step(static_cast<std::int64_t>(items.size() / 16));
  return interpreter.list(std::move(items));
}

/// The dict that dict(mapping or pairs, name=value, …) makes.
Value make_dict(Interpreter& interpreter, Arguments& arguments) {
  if (arguments.positional.size() > 1) throw TemplateError("dict() takes at most 1 positional argument");
  Value result = interpreter.dict();
  DictObject& dict = result.as_dict();
  for (const Value& source : arguments.positional) {
    if (source.is_dict()) {
      for (const auto& [key, value] : source.as_dict().entries()) {
        interpreter.budget().step();
        dict.set(key, value);
      }
      continue;
    }
    for (const Value& pair : interpreter.iterate(source)) {
      const std::vector<Value> parts = interpreter.iterate(pair);
      if (parts.size() != 2) throw TemplateError("dict() needs pairs");
      interpreter.budget().step();
      dict.set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value, trusted] : arguments.named) dict.set(interpreter.string(name, trusted), value);
  return result;
}

Value make_namespace(Interpreter& interpreter, Arguments& arguments) {
  auto space = std::make_shared<NamespaceObject>(&interpreter.budget());
  interpreter.keep(space);
  const Value initial = make_dict(interpreter, arguments);
  for (const auto& [key, value] : initial.as_dict().entries()) {
    if (!key.is_string()) throw TemplateError("namespace() needs names");
    space->set(key.bytes(), value);
  }
  return Value::object(std::move(space));
}

Value raise_exception(Interpreter& interpreter, Arguments& arguments) {
  const Parameters parameters("raise_exception()", arguments, {"message"});
  const Text message = interpreter.to_text(parameters.require(0));
  throw RaisedByTemplate(message.bytes().substr(0, kMaxRaisedBytes));
}

/// Local time, as Python's datetime.now().strftime().
Value strftime_now(Interpreter& interpreter, Arguments& arguments) {
  const Parameters parameters("strftime_now()", arguments, {"format"});
  const Text& format = parameters.require_text(0);
  if (format.size() > kMaxTimeFormatBytes) parameters.fail("has a format of more than 1000 bytes");
  const auto seconds = static_cast<std::time_t>(interpreter.now_unix_s());
  std::tm now{};
  if (localtime_r(&seconds, &now) == nullptr) parameters.fail("has no local time");
  std::string printed(kMaxTimeBytes, '\0');
  const std::string terminated = format.bytes();
  printed.resize(std::strftime(printed.data(), printed.size(), terminated.c_str(), &now));
  interpreter.budget().touch(kMaxTimeBytes);
  return interpreter.string(printed, format.all_trusted());
}

Value make_joiner(Interpreter& interpreter, Arguments& arguments) {
  const Parameters parameters("joiner()", arguments, {"sep"});
  auto joiner = std::make_shared<JoinerObject>(parameters.get(0) != nullptr ? *parameters.get(0)
                                                                            : interpreter.string(", ", true));
  interpreter.keep(joiner);
  return Value::object(std::move(joiner));
}

Value make_cycler(Interpreter& interpreter, Arguments& arguments) {
  if (arguments.positional.empty()) throw TemplateError("cycler() needs at least one item");
  auto cycler = std::make_shared<CyclerObject>(arguments.positional);
  interpreter.keep(cycler);
  return Value::object(std::move(cycler));
}

}  // namespace

std::optional<Value> global_function(std::string_view name) {
  static const std::unordered_map<std::string_view, Function> kFunctions = {{"range", range},
                                                                            {"dict", make_dict},
                                                                            {"namespace", make_namespace},
                                                                            {"raise_exception", raise_exception},
                                                                            {"strftime_now", strftime_now},
                                                                            {"joiner", make_joiner},
                                                                            {"cycler", make_cycler}};
  const auto found = kFunctions.find(name);
  if (found == kFunctions.end()) return std::nullopt;
  return Value::object(std::make_shared<FunctionObject>(found->first, found->second));
}

}  // namespace inferd::jinja
