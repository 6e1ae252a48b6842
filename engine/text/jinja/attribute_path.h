// AttributePath: "a.b.0", as map, selectattr, sort and join take it.
#pragma once

#include <string>
#include <vector>

#include "engine/text/jinja/interpreter.h"

namespace inferd::jinja {

class AttributePath {
 public:
  /// From a string of names and numbers between dots, or an integer.
  explicit AttributePath(const Value& path);
  /// What stands at the path in `item`; undefined if nothing does. Parts of no attribute throw.
  Value get(Interpreter& interpreter, const Value& item) const;

 private:
  std::vector<Value> parts_;
};

}  // namespace inferd::jinja
