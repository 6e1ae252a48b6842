// SipHash-2-4-128 and the chain of block hashes.
#include "engine/kv_cache/block_hash.h"

#include <array>
#include <bit>
#include <cstring>
#include <random>
#include <string>

#include "base/check.h"
#include "engine/options.h"

namespace inferd {
namespace {

struct SipState {
  std::uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(std::uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  std::uint64_t finish() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

std::uint64_t load_little_endian(const std::byte* bytes, std::size_t count) {
  std::uint64_t word = 0;
  for (std::size_t i = 0; i < count; ++i) word |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return word;
}

void append(std::string* out, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) out->push_back(static_cast<char>((value >> shift) & 0xff));
}

}  // namespace

HashKey HashKey::random() {
  std::random_device source;
  const auto word = [&source] { return (static_cast<std::uint64_t>(source()) << 32) | source(); };
  HashKey key;
  key.k0 = word();
  key.k1 = word();
  return key;
}

BlockHash siphash_128(const HashKey& key, std::span<const std::byte> data) {
  // The 128-bit variant differs from the 64-bit one by three constants: 0xee at the start, 0xee and 0xdd at the end.
  SipState state{key.k0 ^ 0x736f6d6570736575u, key.k1 ^ 0x646f72616e646f6du ^ 0xeeu, key.k0 ^ 0x6c7967656e657261u,
                 key.k1 ^ 0x7465646279746573u};
  std::size_t at = 0;
  for (; data.size() - at >= 8; at += 8) state.absorb(load_little_endian(data.data() + at, 8));
  const std::uint64_t length_byte = static_cast<std::uint64_t>(data.size() & 0xff) << 56;
  state.absorb(length_byte | load_little_endian(data.data() + at, data.size() - at));
  BlockHash hash;
  state.v2 ^= 0xee;
  hash.low = state.finish();
  state.v1 ^= 0xdd;
  hash.high = state.finish();
  return hash;
}

BlockHash BlockHasher::root(std::uint64_t model_instance, DType kv_dtype, std::uint64_t adapter, std::string_view salt,
                            std::uint64_t kv_variant) const {
  std::string message;
  append(&message, model_instance);
  append(&message, static_cast<std::uint64_t>(kv_dtype));
  append(&message, adapter);
  append(&message, kv_variant);
  append(&message, salt.size());
  message.append(salt);
  return siphash_128(key_, std::as_bytes(std::span(message.data(), message.size())));
}

BlockHash BlockHasher::next(const BlockHash& parent, std::span<const TokenId> tokens) const {
  INFERD_CHECK(tokens.size() == kKvBlockTokens);
  std::array<std::byte, 16 + kKvBlockTokens * sizeof(TokenId)> message;
  std::memcpy(message.data(), &parent.low, 8);
  std::memcpy(message.data() + 8, &parent.high, 8);
  std::memcpy(message.data() + 16, tokens.data(), tokens.size_bytes());
  return siphash_128(key_, message);
}

}  // namespace inferd
