// Reading INFERD_FAKE_CUDA, and finding the PTX of a fatbin.
#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/ptxsim/fake_driver/driver_state.h"

namespace inferd::ptxsim::fake {
namespace {

constexpr uint32_t kFatbinMagic = 0xba55ed50;
constexpr size_t kMaxFatbinBytes = size_t{256} << 20;

uint64_t number(const std::string& key, const std::string& text, uint64_t low, uint64_t high) {
  size_t used = 0;
  uint64_t value = 0;
  try {
    value = std::stoull(text, &used, 0);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != text.size() || text.empty() || value < low || value > high) {
    throw std::invalid_argument("INFERD_FAKE_CUDA: " + key + "=" + text + " is not between " + std::to_string(low) +
                                " and " + std::to_string(high));
  }
  return value;
}

void parse_failure(Settings& s, const std::string& text) {
  std::istringstream in(text);
  std::string nth, code, sticky;
  std::getline(in, s.fail_function, ':');
  std::getline(in, nth, ':');
  std::getline(in, code, ':');
  std::getline(in, sticky, ':');
  s.fail_nth = int(number("fail", nth, 1, 1u << 30));
  s.fail_code = CUresult(number("fail", code, 1, 999));
  s.fail_sticky = sticky == "sticky";
  if (!sticky.empty() && !s.fail_sticky) throw std::invalid_argument("INFERD_FAKE_CUDA: fail=" + text);
}

// Whether a file holds these bytes and no others.
bool holds(const std::string& path, const uint8_t* bytes, size_t size) {
  std::error_code none;
  if (std::filesystem::file_size(path, none) != size) return false;
  std::ifstream in(path, std::ios::binary);
  std::array<char, size_t{64} << 10> buffer;
  for (size_t at = 0; at < size;) {
    const size_t n = std::min(buffer.size(), size - at);
    if (!in.read(buffer.data(), std::streamsize(n)) || std::memcmp(buffer.data(), bytes + at, n) != 0) return false;
    at += n;
  }
  return true;
}

// A fatbin says itself how long it is: magic, version, header size, size of what follows.
size_t fatbin_bytes(const uint8_t* image) {
  uint16_t header = 0;
  uint64_t body = 0;
  std::memcpy(&header, image + 6, sizeof header);
  std::memcpy(&body, image + 8, sizeof body);
  if (body > kMaxFatbinBytes) throw ApiFailure{kInvalidImage};
  return header + size_t(body);
}

}  // namespace

Settings Settings::parse(const std::string& text) {
  Settings s;
  std::istringstream in(text);
  for (std::string item; std::getline(in, item, ',');) {
    const size_t equals = item.find('=');
    const std::string key = item.substr(0, equals), value = equals == std::string::npos ? "" : item.substr(equals + 1);
    if (key == "devices")
      s.devices = int(number(key, value, 0, 8));
    else if (key == "arch")
      s.arch = int(number(key, value, 50, 120));
    else if (key == "memory")
      s.memory = number(key, value, 0, uint64_t{1} << 40);
    else if (key == "order")
      s.order = int(number(key, value, 0, 2));
    else if (key == "copies" && (value == "early" || value == "late"))
      s.copies = value == "early" ? CopyTiming::early : CopyTiming::late;
    else if (key == "eager")
      s.eager = number(key, value, 0, 1) != 0;
    else if (key == "checked")
      s.checked = number(key, value, 0, 1) != 0;
    else if (key == "seed")
      s.seed = number(key, value, 0, UINT64_MAX);
    else if (key == "manifest")
      s.manifest = value;
    else if (key == "profile")
      s.profile = value;
    else if (key == "fail")
      parse_failure(s, value);
    else
      throw std::invalid_argument("INFERD_FAKE_CUDA: '" + item + "' is not known");
  }
  return s;
}

std::string find_ptx(const Settings& settings, const void* image) {
  const uint8_t* bytes = static_cast<const uint8_t*>(image);
  uint32_t magic = 0;
  std::memcpy(&magic, bytes, sizeof magic);
  if (magic != kFatbinMagic) {
    const std::string text(static_cast<const char*>(image));
    if (text.find(".version") == std::string::npos) throw ApiFailure{kInvalidImage};
    return {};
  }
  const size_t size = fatbin_bytes(bytes);
  std::ifstream manifest(settings.manifest);
  if (!manifest) throw ApiFailure{kInvalidImage};
  int best = -1;
  std::string best_path, same;
  for (std::string line; std::getline(manifest, line);) {
    std::istringstream fields(line);
    std::string fatbin, ptx;
    int arch = 0;
    if (!(fields >> fatbin >> arch >> ptx) || arch > settings.arch || arch <= best) continue;
    if (fatbin != same && !holds(fatbin, bytes, size)) continue;
    same = fatbin;
    best = arch;
    best_path = ptx;
  }
  if (best < 0) throw ApiFailure{kNoBinaryForGpu};
  return best_path;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw ApiFailure{kInvalidImage};
  std::string text(size_t(in.tellg()), '\0');
  in.seekg(0);
  in.read(text.data(), std::streamsize(text.size()));
  return text;
}

}  // namespace inferd::ptxsim::fake
