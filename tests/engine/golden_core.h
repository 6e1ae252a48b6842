// What tests of the engine over golden models share: loading one, and its answers.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine_core.h"
#include "engine/models/model.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/model_config.h"
#include "tests/engine/sim_harness.h"

namespace inferd {

inline const std::string kGolden = INFERD_SOURCE_DIR "/tests/golden/";

/// The decoder of a golden model ("models/qwen2") as the engine's options want it. host: where its first `host_layers`
/// layers go.
inline std::unique_ptr<Model> load_decoder(const std::string& name, Backend& backend, const EngineOptions& options,
                                           Backend* host = nullptr, int host_layers = 0) {
  const auto checkpoint = Checkpoint::open(std::filesystem::path(kGolden) / name);
  ModelOptions model_options;
  model_options.max_batch_tokens = options.max_batch_tokens;
  model_options.max_logit_rows = options.max_logit_rows;
  model_options.max_adapters = options.max_adapters;
  model_options.host_layers = host_layers;
  model_options.host = host;
  return load_model(*checkpoint, read_model_config(*checkpoint), backend, model_options).decoder;
}

inline std::shared_ptr<TokenStream> submit(EngineCore& core, const Request& request) {
  auto result = core.submit(request);
  REQUIRE(std::holds_alternative<std::shared_ptr<TokenStream>>(result));
  return std::get<std::shared_ptr<TokenStream>>(result);
}

/// Steps until this request is done.
inline Answer finish(EngineCore& core, const std::shared_ptr<TokenStream>& stream) {
  while (stream->finish_reason() == FinishReason::none) {
    core.step();
    core.check_integrity();
  }
  Answer answer;
  drain(*stream, &answer);
  return answer;
}

/// All requests together, until all are done.
inline std::vector<Answer> answers(EngineCore& core, const std::vector<Request>& requests) {
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (const Request& request : requests) streams.push_back(submit(core, request));
  while (core.step()) core.check_integrity();
  std::vector<Answer> out(streams.size());
  for (std::size_t i = 0; i < streams.size(); ++i) drain(*streams[i], &out[i]);
  return out;
}

}  // namespace inferd
