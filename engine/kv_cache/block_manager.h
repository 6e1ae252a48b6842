// BlockManager: which KV blocks are used, which are kept for their prefix, which are free.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv_cache/block_hash.h"

namespace inferd {

/// Pure bookkeeping over `num_blocks` blocks; every block is in exactly one state:
///   used: referenced by one or more sequences; cached: unreferenced, published, evictable in LRU order; free.
/// Only full, computed blocks are published, so sharing never copies. Engine thread only. Owned by EngineCore.
class BlockManager {
 public:
  explicit BlockManager(std::int64_t num_blocks);

  std::int64_t total() const { return static_cast<std::int64_t>(blocks_.size()); }
  std::int64_t free_blocks() const { return static_cast<std::int64_t>(free_.size()); }
  std::int64_t cached_blocks() const { return cached_; }
  std::int64_t used_blocks() const { return total() - free_blocks() - cached_; }
  /// Blocks that allocate() can still hand out, by evicting cached ones where needed.
  std::int64_t available() const { return free_blocks() + cached_; }

  /// A block nobody shares, with unspecified content and one reference. available() must be > 0.
  std::int32_t allocate();
  /// The published block of this hash, or -1. Takes no reference.
  std::int32_t find(const BlockHash& hash) const;
  int references(std::int32_t block) const { return at(block).references; }
  /// One more reference to a used or cached block.
  void share(std::int32_t block);
  /// One reference less; the last one leaves the block cached if it was published, else free.
  void release(std::int32_t block);
  /// Makes a used block findable. When the hash already names another block, that one stays the shared one.
  void publish(std::int32_t block, const BlockHash& hash);
  /// The hash a block is published under, or null.
  const BlockHash* published_hash(std::int32_t block) const;
  /// Makes every cached block free.
  void drop_cached();

  /// Throws std::logic_error unless the states, the LRU list and the hash index agree with each other and with
  /// `references[block]`, the references counted from all block tables.
  void check_integrity(std::span<const int> references) const;

 private:
  struct Block {
    int references = 0;
    bool published = false;
    std::int32_t older = -1;  // LRU neighbours while cached
    std::int32_t newer = -1;
    std::int32_t next_of_bucket = -1;  // while published
    BlockHash hash;
  };
  Block& at(std::int32_t block);
  const Block& at(std::int32_t block) const;
  void lru_append(std::int32_t block);
  void lru_remove(std::int32_t block);
  void evict(std::int32_t block);
  std::int32_t& bucket_of(const BlockHash& hash) { return buckets_[hash.low & (buckets_.size() - 1)]; }

  std::vector<Block> blocks_;
  std::vector<std::int32_t> free_;
  std::vector<std::int32_t> buckets_;  // a power of two of chains of published blocks, by hash; -1: empty
  std::int32_t oldest_ = -1;
  std::int32_t newest_ = -1;
  std::int64_t cached_ = 0;
};

}  // namespace inferd
