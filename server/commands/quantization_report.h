// What `inferd inspect --quantization` measures: bytes saved, and how far the quantised model lies from the original.
#pragma once

#include <string>

#include "base/json.h"
#include "engine/quantize/quantized_checkpoint.h"

namespace inferd {

/// {"to", "bytes_before", "bytes_after"} and, for decoders that generate text, {"positions", "mean_kl",
/// "top1_agreement"} over a text of some 400 tokens, each position teacher-forced; KL in nats. Loads the model twice,
/// one after the other. Throws as loading does, and ConfigError if the model is quantised already.
Json quantization_report(const std::string& path, const QuantizeOptions& options);

}  // namespace inferd
