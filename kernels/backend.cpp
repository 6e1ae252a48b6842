// What a backend answers that has no adapters, captures nothing, and draws no tokens.
#include "kernels/backend.h"

#include "base/check.h"
#include "base/errors.h"

namespace inferd {

std::unique_ptr<LowRank> Backend::load_low_rank(std::span<const LowRankSource>, std::int64_t, std::int64_t) {
  throw ConfigError("adapters: not supported on " + name());
}

void Backend::captured(std::uint64_t, const std::function<void()>& work) { work(); }

void Backend::lora(const LoraArgs&) { check_failed("no update was loaded here", __FILE__, __LINE__); }

bool Backend::samples(std::int64_t) const { return false; }

std::unique_ptr<HostCopy> Backend::host_copy(std::size_t) {
  check_failed("tokens are not drawn here", __FILE__, __LINE__);
}

void Backend::sample(const SampleArgs&) { check_failed("tokens are not drawn here", __FILE__, __LINE__); }

void Backend::take_tokens(const TakeTokensArgs&) { check_failed("tokens are not drawn here", __FILE__, __LINE__); }

}  // namespace inferd
