// The cache file of weights quantised at load: a header, then the blocks of a QuantizePlan.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/mapped_file.h"
#include "engine/quantize/digest.h"

namespace inferd {

// Layout: "IFQW", u32 version, u64 payload bytes, key [32], digest of the payload [32], source [32], zeros to 128; the
// payload.
inline constexpr std::size_t kQuantizedHeaderBytes = 128;

/// A cache file could not be written (no space, no permission); what() says which and why.
class CacheWriteError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Maps `path` if it is whole: size, key and digest are compared. Null with *problem empty if there is no such file,
/// with the reason if there is one that cannot be trusted.
std::shared_ptr<const MappedFile> open_quantized_file(const std::filesystem::path& path, const Digest& key,
                                                      std::size_t payload_bytes, ThreadPool& pool,
                                                      std::string* problem);

/// Marks a file as used now, for prune_cache.
void touch_quantized_file(const std::filesystem::path& path);

/// Removes what the folder of `kept`, a file that was just written, holds in vain: files of the same source and method
/// (the name up to its first '-') with another key, then the longest unused until all files together have at most
/// `most_bytes`, `kept` itself excepted. Processes that have one open keep what they mapped. Logs what it removes.
void prune_cache(const std::filesystem::path& kept, std::size_t most_bytes);

/// Takes the payload piece by piece, in order.
using PayloadSink = std::function<void(const std::byte* data, std::size_t bytes)>;
/// Hands the whole payload to the sink.
using PayloadMaker = std::function<void(const PayloadSink& sink)>;

/// Writes the file under a temporary name beside it, flushes it and renames it; other processes see all of it or
/// nothing. Temporary files whose writers died are removed. Makes the folder. `source` tells prune_cache which model it
/// was made from. Throws CacheWriteError, and what `make` throws.
void write_quantized_file(const std::filesystem::path& path, const Digest& key, const Digest& source,
                          const PayloadMaker& make, ThreadPool& pool);

/// The same in memory, for when nothing can be written.
std::shared_ptr<const MappedFile> quantize_in_memory(const Digest& key, const PayloadMaker& make, ThreadPool& pool);

}  // namespace inferd
