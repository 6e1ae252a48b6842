// BlockManager: reference counts, the LRU list of cached blocks, the index by hash.
#include "engine/kv_cache/block_manager.h"

#include <bit>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/check.h"

namespace inferd {

BlockManager::BlockManager(std::int64_t num_blocks) {
  INFERD_CHECK(num_blocks > 0 && num_blocks <= INT32_MAX);
  blocks_.resize(static_cast<std::size_t>(num_blocks));
  free_.reserve(blocks_.size());
  // Handed out from the back: low numbers first, so that a small load touches a small part of the memory.
  for (std::int64_t block = num_blocks - 1; block >= 0; --block) free_.push_back(static_cast<std::int32_t>(block));
  buckets_.assign(std::bit_ceil(blocks_.size()), -1);
}

BlockManager::Block& BlockManager::at(std::int32_t block) {
  INFERD_CHECK(block >= 0 && block < total());
  return blocks_[static_cast<std::size_t>(block)];
}

const BlockManager::Block& BlockManager::at(std::int32_t block) const {
  INFERD_CHECK(block >= 0 && block < total());
  return blocks_[static_cast<std::size_t>(block)];
}

void BlockManager::lru_append(std::int32_t block) {
  Block& entry = at(block);
  entry.older = newest_;
  entry.newer = -1;
  if (newest_ >= 0) at(newest_).newer = block;
  newest_ = block;
  if (oldest_ < 0) oldest_ = block;
  ++cached_;
}

void BlockManager::lru_remove(std::int32_t block) {
  Block& entry = at(block);
  (entry.older >= 0 ? at(entry.older).newer : oldest_) = entry.newer;
  (entry.newer >= 0 ? at(entry.newer).older : newest_) = entry.older;
  entry.older = entry.newer = -1;
  --cached_;
}

void BlockManager::evict(std::int32_t block) {
  lru_remove(block);
  Block& entry = at(block);
  std::int32_t* link = &bucket_of(entry.hash);
  while (*link != block) link = &at(*link).next_of_bucket;
  *link = entry.next_of_bucket;
  entry.next_of_bucket = -1;
  entry.published = false;
}

std::int32_t BlockManager::allocate() {
  std::int32_t block = -1;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else {
    INFERD_CHECK(oldest_ >= 0);
    block = oldest_;
    evict(block);
  }
  at(block).references = 1;
  return block;
}

std::int32_t BlockManager::find(const BlockHash& hash) const {
  std::int32_t block = buckets_[hash.low & (buckets_.size() - 1)];
  while (block >= 0 && at(block).hash != hash) block = at(block).next_of_bucket;
  return block;
}

void BlockManager::share(std::int32_t block) {
  Block& entry = at(block);
  if (entry.references == 0) {
    INFERD_CHECK(entry.published);
    lru_remove(block);
  }
  ++entry.references;
}

void BlockManager::release(std::int32_t block) {
  Block& entry = at(block);
  INFERD_CHECK(entry.references > 0);
  if (--entry.references > 0) return;
  if (entry.published) {
    lru_append(block);
  } else {
    free_.push_back(block);
  }
}

void BlockManager::publish(std::int32_t block, const BlockHash& hash) {
  Block& entry = at(block);
  INFERD_CHECK(entry.references > 0);
  if (entry.published || find(hash) >= 0) return;
  entry.published = true;
  entry.hash = hash;
  entry.next_of_bucket = std::exchange(bucket_of(hash), block);
}

const BlockHash* BlockManager::published_hash(std::int32_t block) const {
  const Block& entry = at(block);
  return entry.published ? &entry.hash : nullptr;
}

void BlockManager::drop_cached() {
  while (oldest_ >= 0) {
    const std::int32_t block = oldest_;
    evict(block);
    free_.push_back(block);
  }
}

void BlockManager::check_integrity(std::span<const int> references) const {
  const auto fail = [](const std::string& what, std::int64_t block) {
    throw std::logic_error("block manager: " + what + ", block " + std::to_string(block));
  };
  if (references.size() != blocks_.size()) fail("wrong number of reference counts", total());
  std::vector<char> seen(blocks_.size(), 0);
  for (std::int32_t block : free_) {
    if (block < 0 || block >= total()) fail("free list holds an unknown block", block);
    if (seen[static_cast<std::size_t>(block)]++ != 0) fail("twice in the free list", block);
    if (at(block).references != 0 || at(block).published) fail("free but referenced or published", block);
  }
  std::int64_t walked = 0;
  std::int32_t previous = -1;
  for (std::int32_t block = oldest_; block >= 0; block = at(block).newer) {
    if (++walked > total()) fail("the LRU list does not end", block);
    if (seen[static_cast<std::size_t>(block)]++ != 0) fail("in the LRU list and elsewhere", block);
    if (at(block).older != previous) fail("the LRU list is not linked both ways", block);
    if (at(block).references != 0 || !at(block).published) fail("cached but referenced or unpublished", block);
    previous = block;
  }
  if (newest_ != previous || walked != cached_) fail("the LRU list's end or length is wrong", newest_);
  std::int64_t used = 0;
  std::size_t published = 0;
  for (std::int32_t block = 0; block < total(); ++block) {
    const Block& entry = at(block);
    if (entry.references != references[static_cast<std::size_t>(block)]) {
      fail("counts " + std::to_string(entry.references) + " references, the tables hold " +
               std::to_string(references[static_cast<std::size_t>(block)]),
           block);
    }
    if ((entry.references > 0) == (seen[static_cast<std::size_t>(block)] != 0)) fail("lost or in two states", block);
    used += entry.references > 0 ? 1 : 0;
    published += entry.published ? 1 : 0;
    if (entry.published && find(entry.hash) != block) fail("published but not found by its hash", block);
  }
  std::size_t chained = 0;
  for (std::int32_t block : buckets_) {
    for (; block >= 0 && chained <= blocks_.size(); block = at(block).next_of_bucket) ++chained;
  }
  if (chained != published) fail("the hash index holds a block that is not published", -1);
  if (used + free_blocks() + cached_ != total()) fail("free + cached + used is not the total", total());
}

}  // namespace inferd
