// Block hashes: the keyed 128-bit names under which full KV blocks are shared.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/request.h"
#include "kernels/dtype.h"

namespace inferd {

/// Names the content of one full KV block together with everything before it.
struct BlockHash {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  friend bool operator==(const BlockHash&, const BlockHash&) = default;
};

/// Secret of one process, so that nobody outside can construct prompts whose blocks collide.
struct HashKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
  /// From the operating system's generator.
  static HashKey random();
};

/// SipHash-2-4 with 128-bit output (Aumasson, Bernstein: "SipHash: a fast short-input PRF", and its 128-bit variant).
BlockHash siphash_128(const HashKey& key, std::span<const std::byte> data);

/// Makes the chain of block hashes. Immutable.
class BlockHasher {
 public:
  explicit BlockHasher(const HashKey& key) : key_(key) {}
  /// Start of a chain: all that makes keys and values differ for equal tokens, and the client's salt.
  BlockHash root(std::uint64_t model_instance, DType kv_dtype, std::uint64_t adapter, std::string_view salt,
                 std::uint64_t kv_variant = 0) const;
  /// The block after `parent`: `tokens` are its kKvBlockTokens ids.
  BlockHash next(const BlockHash& parent, std::span<const TokenId> tokens) const;

 private:
  HashKey key_;
};

}  // namespace inferd
