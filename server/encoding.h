// Running an encoder for a request: the shared end of embeddings and reranking.
#pragma once

#include <string>
#include <vector>

#include "server/http_types.h"
#include "server/metrics.h"
#include "server/served_model.h"

namespace inferd {

/// Waits for the results of all inputs, one each in order. Throws ApiError: an input is empty or too long (`param`
/// names it), the queue is full, the server is shutting down or its engine failed, the client has left, or a result is
/// not finite. Counts into `metrics` what was admitted, or that it was rejected.
std::vector<std::vector<float>> run_encoder(const ServedModel& model, std::vector<EncodeInput> inputs,
                                            const HttpRequest& request, const std::string& param,
                                            ModelMetrics* metrics);

}  // namespace inferd
