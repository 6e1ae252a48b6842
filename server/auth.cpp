// API keys: a file of keys, compared in constant time, and what each may do.
#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <fstream>

#include "base/errors.h"
#include "base/log.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxFileBytes = 1u << 20;
constexpr std::size_t kMaxKeyBytes = 512;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::array<unsigned char, 32> sha256(std::string_view text) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

void read_scopes(ApiKey& key, std::string_view scopes, const std::string& where) {
  key.inference = key.metrics = key.admin = false;
  while (!scopes.empty()) {
    const auto comma = scopes.find(',');
    const std::string_view scope = scopes.substr(0, comma);
    if (scope == "inference")
      key.inference = true;
    else if (scope == "metrics")
      key.metrics = true;
    else if (scope == "admin")
      key.admin = true;
    else
      throw ConfigError(where + ": expected the scopes inference, metrics or admin, found another word");
    scopes.remove_prefix(comma == std::string_view::npos ? scopes.size() : comma + 1);
  }
}

ApiKey read_key(std::string_view line, const std::string& where) {
  ApiKey key;
  constexpr std::string_view kHashMark = "sha256:";
  if (!line.starts_with(kHashMark)) {
    if (line.size() > kMaxKeyBytes) throw ConfigError(where + ": expected a key of at most 512 bytes");
    key.sha256 = sha256(line);
    return key;
  }
  line.remove_prefix(kHashMark.size());
  if (line.size() < 64) throw ConfigError(where + ": expected 64 hexadecimal digits after sha256:");
  for (std::size_t i = 0; i < 32; ++i) {
    const int high = hex_digit(line[2 * i]), low = hex_digit(line[2 * i + 1]);
    if (high < 0 || low < 0) throw ConfigError(where + ": expected 64 hexadecimal digits after sha256:");
    key.sha256[i] = static_cast<unsigned char>(high * 16 + low);
  }
  line.remove_prefix(64);
  if (line.empty()) return key;
  if (line[0] != ':' || line.size() == 1) throw ConfigError(where + ": expected :SCOPE,SCOPE after the hash");
  read_scopes(key, line.substr(1), where);
  return key;
}

}  // namespace

std::shared_ptr<const ApiKeys> ApiKeys::read(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
    throw ConfigError("api_key_file: " + path + ": expected a readable file");
  }
  if ((info.st_mode & 0027) != 0) {
    spdlog::warn("api_key_file {}: other users may read or change it; mode 0640 or less is safer", log_safe(path));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw ConfigError("api_key_file: " + path + ": cannot be read");
  if (static_cast<std::size_t>(info.st_size) > kMaxFileBytes) {
    throw ConfigError("api_key_file: " + path + ": expected at most 1 MiB");
  }
  std::vector<ApiKey> keys;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.pop_back();
    const std::size_t first = line.find_first_not_of(" \t");
    if (first == std::string::npos || line[first] == '#') continue;
    keys.push_back(read_key(std::string_view(line).substr(first), path + ":" + std::to_string(number)));
  }
  if (keys.empty()) throw ConfigError("api_key_file: " + path + ": holds no key");
  return std::make_shared<const ApiKeys>(std::move(keys));
}

const ApiKey* ApiKeys::find(std::string_view presented) const {
  if (presented.empty() || presented.size() > kMaxKeyBytes) return nullptr;
  const auto digest = sha256(presented);
  const ApiKey* found = nullptr;
  for (const ApiKey& key : keys_) {
    const bool equal = CRYPTO_memcmp(key.sha256.data(), digest.data(), digest.size()) == 0;
    found = equal ? &key : found;
  }
  return found;
}

std::string_view bearer_token(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size()) return {};
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = authorization[i];
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower != kScheme[i]) return {};
  }
  std::string_view token = authorization.substr(kScheme.size());
  while (!token.empty() && token.front() == ' ') token.remove_prefix(1);
  while (!token.empty() && token.back() == ' ') token.remove_suffix(1);
  return token;
}

}  // namespace inferd
