// Reading and rounding numbers as Python's int(), float() and round() do.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace inferd::jinja {

/// Nullopt for what is no integer of that base, or does not fit 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t base);
std::optional<double> parse_real(std::string_view text);
/// To `precision` decimals (tens, hundreds … if negative), half to even.
double round_decimal(double value, int precision);

}  // namespace inferd::jinja
