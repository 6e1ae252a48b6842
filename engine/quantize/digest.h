// SHA-256 of large memory, on all workers.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cpu/thread_pool.h"

namespace inferd {

using Digest = std::array<unsigned char, 32>;

/// SHA-256 over `label` and the SHA-256 of each 4 MiB of each part, in order: the same for any number of workers.
Digest digest_of(std::string_view label, const std::vector<std::span<const std::byte>>& parts, ThreadPool& pool);

/// 64 hexadecimal digits.
std::string hex_text(const Digest& digest);

}  // namespace inferd
