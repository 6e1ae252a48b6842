// Logging set-up, and escaping of untrusted text for log lines.
#include "base/log.h"

#include <cstdint>
#include <memory>

#include <spdlog/sinks/stdout_sinks.h>

#include "base/utf8.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxLoggedBytes = 256;

void append_escaped_byte(std::string* out, char byte) {
  constexpr char kHex[] = "0123456789abcdef";
  const auto value = static_cast<unsigned char>(byte);
  out->append("\\x");
  out->push_back(kHex[value >> 4]);
  out->push_back(kHex[value & 15]);
}

/// C0, DEL, C1 (with NEL), and the separators that viewers take for line ends.
bool breaks_a_log_line(char32_t c) { return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029; }

}  // namespace

void init_logging(std::string_view level) {
  auto logger = std::make_shared<spdlog::logger>("inferd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->set_level(spdlog::level::from_str(std::string(level)));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

std::string log_safe(std::string_view text) {
  std::string out;
  std::size_t offset = 0;
  while (offset < text.size()) {
    const std::size_t begin = offset;
    const char32_t c = decode_utf8(text, &offset);
    const std::string_view bytes = text.substr(begin, offset - begin);
    // A lone byte that decodes to U+FFFD is ill-formed: the real U+FFFD has three.
    const bool invalid = c == 0xfffd && bytes.size() == 1;
    std::string piece;
    if (invalid || breaks_a_log_line(c)) {
      for (char byte : bytes) append_escaped_byte(&piece, byte);
    } else {
      piece = bytes;
    }
    if (out.size() + piece.size() > kMaxLoggedBytes) break;
    out += piece;
  }
  return out;
}

std::string megabytes(std::size_t bytes) { return std::to_string((bytes + 500'000) / 1'000'000) + " MB"; }

}  // namespace inferd
