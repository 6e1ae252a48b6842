// Reading and rounding numbers.
#include "engine/text/jinja/numbers.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/text/jinja/strings.h"

namespace inferd::jinja {
namespace {

/// Without white space around and single underscores between digits; nullopt if underscores stand elsewhere.
std::optional<std::string> clean_digits(std::string_view text) {
  const auto [begin, end] = strip_range(text, nullptr, true, true);
  const std::string_view trimmed = text.substr(begin, end - begin);
  std::string clean;
  for (std::size_t i = 0; i < trimmed.size(); ++i) {
    if (trimmed[i] != '_') {
      clean.push_back(trimmed[i]);
      continue;
    }
    const bool between = i > 0 && i + 1 < trimmed.size() && trimmed[i - 1] != '_' &&
                         std::isxdigit(static_cast<unsigned char>(trimmed[i - 1])) &&
                         std::isxdigit(static_cast<unsigned char>(trimmed[i + 1]));
    if (!between) return std::nullopt;
  }
  if (clean.empty()) return std::nullopt;
  return clean;
}

}  // namespace

std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t base) {
  const auto clean = clean_digits(text);
  if (!clean || base < 2 || base > 36) return std::nullopt;
  std::string_view digits = *clean;
  const bool negative = digits[0] == '-';
  if (negative || digits[0] == '+') digits.remove_prefix(1);
  const char letter = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : '\0';
  if (letter != '\0' && digits.size() > 2 && digits[0] == '0' && (digits[1] | 0x20) == letter) digits.remove_prefix(2);
  if (digits.empty() || digits[0] == '-') return std::nullopt;
  const std::string signed_digits = (negative ? "-" : "") + std::string(digits);
  std::int64_t value = 0;
  const char* const end = signed_digits.data() + signed_digits.size();
  const auto parsed = std::from_chars(signed_digits.data(), end, value, static_cast<int>(base));
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return value;
}

std::optional<double> parse_real(std::string_view text) {
  const auto clean = clean_digits(text);
  if (!clean) return std::nullopt;
  std::string_view digits = *clean;
  if (digits[0] == '+') digits.remove_prefix(1);
  if (digits.empty() || digits[0] == '+') return std::nullopt;
  double value = 0;
  const char* const end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return value;
}

double round_decimal(double value, int precision) {
  if (!std::isfinite(value)) return value;
  if (precision >= 0) {
    char digits[700];
    std::snprintf(digits, sizeof digits, "%.*f", precision, value);
    return std::strtod(digits, nullptr);
  }
  const double scale = std::pow(10.0, -precision);
  return std::nearbyint(value / scale) * scale;
}

}  // namespace inferd::jinja
