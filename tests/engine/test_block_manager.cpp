// BlockManager and block hashes: states, sharing, eviction order, and that the integrity check sees damage.
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include <cstring>
#include <numeric>
#include <random>

#include "engine/kv_cache/block_hash.h"
#include "engine/kv_cache/block_manager.h"
#include "engine/options.h"
#include "tests/catch.h"

namespace inferd {
namespace {

BlockHash openssl_siphash(const HashKey& key, std::span<const std::byte> data) {
  EVP_MAC* mac = EVP_MAC_fetch(nullptr, "SIPHASH", nullptr);
  REQUIRE(mac != nullptr);
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(mac);
  std::size_t size = 16;
  OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end()};
  unsigned char key_bytes[16];
  std::memcpy(key_bytes, &key.k0, 8);
  std::memcpy(key_bytes + 8, &key.k1, 8);
  REQUIRE(EVP_MAC_init(context, key_bytes, 16, params) == 1);
  REQUIRE(EVP_MAC_update(context, reinterpret_cast<const unsigned char*>(data.data()), data.size()) == 1);
  unsigned char out[16];
  std::size_t written = 0;
  REQUIRE(EVP_MAC_final(context, out, &written, 16) == 1);
  EVP_MAC_CTX_free(context);
  EVP_MAC_free(mac);
  BlockHash hash;
  std::memcpy(&hash.low, out, 8);
  std::memcpy(&hash.high, out + 8, 8);
  return hash;
}

BlockHash hash_of(std::uint64_t n) { return {n, ~n}; }

std::vector<int> counted(const BlockManager& blocks, std::initializer_list<std::int32_t> held) {
  std::vector<int> references(static_cast<std::size_t>(blocks.total()), 0);
  for (const std::int32_t block : held) ++references[static_cast<std::size_t>(block)];
  return references;
}

TEST_CASE("SipHash-2-4-128 agrees with OpenSSL for every length up to 130") {
  std::mt19937_64 rng(7);
  for (std::size_t length = 0; length <= 130; ++length) {
    std::vector<std::byte> data(length);
    for (std::byte& byte : data) byte = static_cast<std::byte>(rng());
    const HashKey key{rng(), rng()};
    CHECK(siphash_128(key, data) == openssl_siphash(key, data));
  }
}

TEST_CASE("the published vector of the empty message") {
  const HashKey key{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
  const BlockHash hash = siphash_128(key, {});
  CHECK(hash.low == 0xe6a825ba047f81a3u);
  CHECK(hash.high == 0x930255c71472f66du);
}

TEST_CASE("a chain depends on model, KV type, adapter, salt and every token before") {
  const BlockHasher hasher(HashKey{1, 2});
  std::vector<TokenId> tokens(kKvBlockTokens);
  std::iota(tokens.begin(), tokens.end(), 0);
  const BlockHash root = hasher.root(1, DType::f16, 0, "");
  CHECK(hasher.root(1, DType::f16, 0, "") == root);
  CHECK_FALSE(hasher.root(2, DType::f16, 0, "") == root);
  CHECK_FALSE(hasher.root(1, DType::f32, 0, "") == root);
  CHECK_FALSE(hasher.root(1, DType::f16, 1, "") == root);
  CHECK_FALSE(hasher.root(1, DType::f16, 0, "a") == root);
  const BlockHash first = hasher.next(root, tokens);
  CHECK(hasher.next(root, tokens) == first);
  CHECK_FALSE(hasher.next(first, tokens) == first);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    auto changed = tokens;
    ++changed[i];
    CHECK_FALSE(hasher.next(root, changed) == first);
  }
  CHECK_FALSE(BlockHasher(HashKey{1, 3}).root(1, DType::f16, 0, "") == root);
  const HashKey a = HashKey::random(), b = HashKey::random();
  CHECK_FALSE((a.k0 == b.k0 && a.k1 == b.k1));
}

TEST_CASE("blocks go from free to used to free") {
  BlockManager blocks(3);
  CHECK(blocks.available() == 3);
  const auto a = blocks.allocate(), b = blocks.allocate(), c = blocks.allocate();
  CHECK(a != b);
  CHECK(b != c);
  CHECK(blocks.available() == 0);
  CHECK(blocks.used_blocks() == 3);
  blocks.check_integrity(counted(blocks, {a, b, c}));
  blocks.release(b);
  CHECK(blocks.free_blocks() == 1);
  CHECK(blocks.allocate() == b);
  blocks.check_integrity(counted(blocks, {a, b, c}));
}

TEST_CASE("a published block stays findable until it is evicted, oldest first") {
  BlockManager blocks(3);
  const auto a = blocks.allocate(), b = blocks.allocate(), c = blocks.allocate();
  blocks.publish(a, hash_of(1));
  blocks.publish(b, hash_of(2));
  CHECK(blocks.find(hash_of(1)) == a);
  blocks.release(b);
  blocks.release(a);
  CHECK(blocks.cached_blocks() == 2);
  CHECK(blocks.find(hash_of(2)) == b);
  blocks.check_integrity(counted(blocks, {c}));
  SECTION("eviction takes the one released first") {
    CHECK(blocks.allocate() == b);
    CHECK(blocks.find(hash_of(2)) == -1);
    CHECK(blocks.find(hash_of(1)) == a);
    blocks.check_integrity(counted(blocks, {b, c}));
  }
  SECTION("a shared block leaves the list and comes back as the newest") {
    blocks.share(b);
    CHECK(blocks.cached_blocks() == 1);
    blocks.release(b);
    CHECK(blocks.allocate() == a);
    blocks.check_integrity(counted(blocks, {a, c}));
  }
  SECTION("free blocks go before cached ones") {
    blocks.release(c);
    CHECK(blocks.allocate() == c);
    CHECK(blocks.cached_blocks() == 2);
  }
  SECTION("drop_cached frees them all") {
    blocks.drop_cached();
    CHECK(blocks.free_blocks() == 2);
    CHECK(blocks.find(hash_of(1)) == -1);
    blocks.check_integrity(counted(blocks, {c}));
  }
}

TEST_CASE("references are counted, and the first of two equal blocks is the shared one") {
  BlockManager blocks(4);
  const auto a = blocks.allocate(), twin = blocks.allocate();
  blocks.publish(a, hash_of(9));
  blocks.publish(twin, hash_of(9));
  CHECK(blocks.find(hash_of(9)) == a);
  CHECK(blocks.published_hash(twin) == nullptr);
  blocks.share(a);
  CHECK(blocks.references(a) == 2);
  blocks.check_integrity(counted(blocks, {a, a, twin}));
  blocks.release(a);
  CHECK(blocks.cached_blocks() == 0);
  blocks.release(a);
  CHECK(blocks.cached_blocks() == 1);
  blocks.release(twin);
  CHECK(blocks.free_blocks() == 3);
}

TEST_CASE("the integrity check sees wrong reference counts") {
  BlockManager blocks(4);
  const auto a = blocks.allocate(), b = blocks.allocate();
  CHECK_THROWS_AS(blocks.check_integrity(counted(blocks, {a})), std::logic_error);
  CHECK_THROWS_AS(blocks.check_integrity(counted(blocks, {a, a, b})), std::logic_error);
  CHECK_THROWS_AS(blocks.check_integrity(std::vector<int>(3)), std::logic_error);
  CHECK_NOTHROW(blocks.check_integrity(counted(blocks, {a, b})));
}

TEST_CASE("a random walk over all operations keeps the books") {
  std::mt19937 rng(3);
  BlockManager blocks(24);
  std::vector<std::int32_t> held;
  std::uint64_t next_hash = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto pick = [&] { return held[rng() % held.size()]; };
    switch (rng() % 5) {
      case 0:
      case 1:
        if (blocks.available() > 0) held.push_back(blocks.allocate());
        break;
      case 2:
        if (!held.empty()) {
          const std::size_t at = rng() % held.size();
          blocks.release(held[at]);
          held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
        }
        break;
      case 3:
        if (!held.empty()) blocks.publish(pick(), hash_of(rng() % 4 == 0 ? rng() % 50 : 1000 + next_hash++));
        break;
      default:
        if (const auto block = blocks.find(hash_of(rng() % 50)); block >= 0) {
          blocks.share(block);
          held.push_back(block);
        }
    }
    std::vector<int> references(24, 0);
    for (const auto block : held) ++references[static_cast<std::size_t>(block)];
    blocks.check_integrity(references);
  }
}

}  // namespace
}  // namespace inferd
