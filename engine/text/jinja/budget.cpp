// Counting what a render uses.
#include "engine/text/jinja/budget.h"

#include <ctime>

#include "engine/text/jinja/limits.h"
#include "engine/text/template_error.h"

namespace inferd::jinja {
namespace {

constexpr std::int64_t kStepsBetweenChecks = 512;

/// CPU time of this thread: a busy machine must not fail a render that is cheap itself.
std::int64_t thread_cpu_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Budget::Budget() : next_check_(kStepsBetweenChecks), deadline_ns_(thread_cpu_ns() + kMaxRenderMs * 1'000'000) {}

void Budget::check() {
  next_check_ = steps_ + kStepsBetweenChecks;
  if (steps_ > kMaxSteps) throw TemplateError("the template takes more than 1000000 steps");
  if (thread_cpu_ns() > deadline_ns_) throw TemplateError("the template takes more than 250 ms");
}

void Budget::take(std::size_t bytes) {
  if (bytes > kMaxLiveBytes || live_bytes_ > kMaxLiveBytes - bytes) {
    throw TemplateError("the template holds more than 24 MiB");
  }
  live_bytes_ += bytes;
}

}  // namespace inferd::jinja
