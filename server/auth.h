// API keys: a file of keys, compared in constant time, and what each may do.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace inferd {

/// What a route needs a key for. open: none.
enum class Scope : std::uint8_t { open, inference, metrics, admin };

/// One key of the file.
struct ApiKey {
  std::array<unsigned char, 32> sha256;
  bool inference = true;
  bool metrics = true;
  bool admin = false;  // only where the file says so
};

/// The keys of one reading of the file. Immutable and thread-safe.
class ApiKeys {
 public:
  /// Reads "KEY" or "sha256:HEX", each optionally with ":SCOPE,SCOPE" after a hash; '#' begins a comment line.
  /// Throws ConfigError "FILE:LINE: …"; never shows a key.
  static std::shared_ptr<const ApiKeys> read(const std::string& path);
  explicit ApiKeys(std::vector<ApiKey> keys) : keys_(std::move(keys)) {}

  /// The key a client presented, or nullptr. Looks at every key, whichever matches.
  const ApiKey* find(std::string_view presented) const;
  std::size_t size() const { return keys_.size(); }

 private:
  std::vector<ApiKey> keys_;
};

/// The token of "Bearer TOKEN" (scheme in any case); empty if the header has another form.
std::string_view bearer_token(std::string_view authorization);

}  // namespace inferd
