// SchemaReader: finds what a JSON schema refers to, and makes one schema of several that hold at once.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "base/json.h"

namespace inferd {

/// A schema that cannot be enforced; `pointer` says where in it.
class SchemaError : public std::runtime_error {
 public:
  SchemaError(std::string at, const std::string& message) : std::runtime_error(message), pointer(std::move(at)) {}
  const std::string pointer;  // JSON pointer; empty: the whole
};

/// `pointer` with a further step.
std::string pointer_to(const std::string& pointer, std::string_view step);

/// True for keywords that only describe.
bool is_annotation(std::string_view keyword);

/// Not thread-safe; the root outlives it.
class SchemaReader {
 public:
  explicit SchemaReader(const Json& root) : root_(root) {}
  /// What a "$ref" names: "#" or "#/…". Throws SchemaError.
  const Json& resolve(const Json& reference, const std::string& pointer) const;
  /// The schema without "$ref" and "allOf" of its own. Throws SchemaError.
  Json expanded(const Json& schema, const std::string& pointer, int depth = 0);
  /// What holds where both do. Throws SchemaError where that cannot be said in one schema.
  Json merged(const Json& a, const Json& b, const std::string& pointer) const;

 private:
  const Json& root_;
  int expansions_ = 0;
};

}  // namespace inferd
