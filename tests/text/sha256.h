// SHA-256 for tests that name files by their content (FIPS 180-4).
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace inferd::test {

/// The first 32 bits of the fractional part of a root of the first primes: square roots (order 2), cube roots (order
/// 3).
inline std::uint32_t root_bits(int prime, int order) {
  // Largest r with r^order <= prime * 2^(32 * order), by bits; r < 2^35.
  unsigned __int128 low = 0;
  for (int bit = 35; bit >= 0; --bit) {
    const unsigned __int128 guess = low | (static_cast<unsigned __int128>(1) << bit);
    // Compare in parts, as guess^3 needs 105 bits and prime << 96 needs 105 bits.
    unsigned __int128 power = guess;
    for (int i = 1; i < order; ++i) power *= guess;
    if (power <= (static_cast<unsigned __int128>(prime) << (32 * order))) low = guess;
  }
  return static_cast<std::uint32_t>(low);
}

struct Sha256Tables {
  std::array<std::uint32_t, 64> rounds{};
  std::array<std::uint32_t, 8> start{};
  Sha256Tables() {
    std::size_t count = 0;
    for (int n = 2; count < 64; ++n) {
      bool prime = true;
      for (int d = 2; d * d <= n; ++d) prime &= n % d != 0;
      if (!prime) continue;
      if (count < 8) start[count] = root_bits(n, 2);
      rounds[count++] = root_bits(n, 3);
    }
  }
};

inline std::string sha256_hex(std::string_view data) {
  static const Sha256Tables tables;
  auto state = tables.start;
  std::string padded(data);
  padded.push_back('\x80');
  while (padded.size() % 64 != 56) padded.push_back('\0');
  const std::uint64_t bits = static_cast<std::uint64_t>(data.size()) * 8;
  for (int shift = 56; shift >= 0; shift -= 8) padded.push_back(static_cast<char>(bits >> shift));
  for (std::size_t block = 0; block < padded.size(); block += 64) {
    std::array<std::uint32_t, 64> w{};
    for (std::size_t i = 0; i < 64; ++i) {
      w[i / 4] = (w[i / 4] << 8) | static_cast<unsigned char>(padded[block + i]);
    }
    for (std::size_t i = 16; i < 64; ++i) {
      const std::uint32_t a = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const std::uint32_t b = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    auto s = state;
    for (std::size_t i = 0; i < 64; ++i) {
      const std::uint32_t big1 = std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25);
      const std::uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
      const std::uint32_t one = s[7] + big1 + choice + tables.rounds[i] + w[i];
      const std::uint32_t big0 = std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22);
      const std::uint32_t two = big0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {one + two, s[0], s[1], s[2], s[3] + one, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) state[i] += s[i];
  }
  std::string hex;
  char digits[9];
  for (const std::uint32_t word : state) {
    std::snprintf(digits, sizeof digits, "%08x", word);
    hex += digits;
  }
  return hex;
}

}  // namespace inferd::test
