// How far one next-token distribution lies from another.
#pragma once

#include <span>

namespace inferd {

/// KL(softmax(reference) || softmax(logits)) in nats over the whole vocabulary, in double.
double kl_divergence(std::span<const float> reference, std::span<const float> logits);

}  // namespace inferd
