// Bounded JSON parsing: the only way JSON from a file or a socket enters the process.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace inferd {

/// JSON that keeps the order of object keys (chat templates print tool schemas as the client wrote them).
using Json = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t max_bytes = 16u << 20;
  int max_depth = 64;
  std::size_t max_nodes = 1'000'000;
  bool unique_keys = false;  // an object with a key twice is refused; else the last value holds
};

/// What was wrong and at which byte; never echoes the input.
class JsonError : public std::runtime_error {
 public:
  JsonError(const std::string& message, std::size_t at_byte) : std::runtime_error(message), byte(at_byte) {}
  const std::size_t byte;
};

/// Parses `text` after checking its size, nesting depth and node count, so that neither parsing nor a later
/// copy or dump can exhaust the stack. Rejects invalid UTF-8. Throws JsonError.
Json parse_json(std::string_view text, const JsonLimits& limits = {});

/// One line of JSON; invalid UTF-8 becomes U+FFFD, so it never throws.
std::string dump_json(const Json& value);

}  // namespace inferd
