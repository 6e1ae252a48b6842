// Reading and checking an architecture's keys.
#include "engine/weights/architecture_keys.h"

#include <algorithm>

#include "base/errors.h"

namespace inferd {

std::optional<std::int64_t> ArchitectureKeys::integer(std::string_view name, std::int64_t low,
                                                      std::int64_t high) const {
  const auto value = metadata_.integer(key(name));
  if (value) check(name, *value, low, high);
  return value;
}

std::int64_t ArchitectureKeys::require_integer(std::string_view name, std::int64_t low, std::int64_t high) const {
  const auto value = integer(name, low, high);
  if (!value) throw CheckpointError(file_, key(name), "a value", "none");
  return *value;
}

std::optional<std::int64_t> ArchitectureKeys::uniform(std::string_view name, std::int64_t low,
                                                      std::int64_t high) const {
  const auto values = metadata_.integers(key(name));
  if (!values) return std::nullopt;
  if (values->empty()) throw CheckpointError(file_, key(name), "a value", "an empty list");
  if (std::any_of(values->begin(), values->end(), [&](std::int64_t v) { return v != values->front(); })) {
    throw CheckpointError(file_, key(name), "the same number for every layer", "different ones");
  }
  check(name, values->front(), low, high);
  return values->front();
}

std::optional<double> ArchitectureKeys::number(std::string_view name, double low, double high) const {
  const auto value = metadata_.number(key(name));
  if (value && !(*value >= low && *value <= high)) {
    throw CheckpointError(file_, key(name), "a number from " + std::to_string(low) + " to " + std::to_string(high),
                          std::to_string(*value));
  }
  return value;
}

void ArchitectureKeys::check(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) const {
  if (value < low || value > high) {
    throw CheckpointError(file_, key(name), "an integer from " + std::to_string(low) + " to " + std::to_string(high),
                          std::to_string(value));
  }
}

}  // namespace inferd
