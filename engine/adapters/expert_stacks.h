// Factors of all experts of a layer in one, as PEFT writes them for target_parameters, and what each expert's are.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "engine/adapters/lora_adapter.h"

namespace inferd {

/// What a pair of factors in the files adapts.
struct AdaptedLayer {
  std::string module;     // without PEFT's ".base_layer"
  std::string parameter;  // of a stack: "gate_up_proj" or "down_proj"; else empty
  std::string patterned;  // what rank_pattern and alpha_pattern are matched against
  bool stack() const { return !parameter.empty(); }
};

/// target_parameters of adapter_config.json: parameters by their names, or by the ends of them after a dot.
class TargetParameters {
 public:
  /// Throws CheckpointError unless there are none or a list of strings.
  TargetParameters(const Json& config, const std::string& file);
  /// `stored`: a module as the tensors name it. PEFT wraps a module once for each of its adapted parameters, in the
  /// order in which the module has them; the outermost wrapper's factors have the module's name, those of each wrapper
  /// inside it one ".base_layer" more. Throws CheckpointError for a stack whose parameter the list does not tell.
  AdaptedLayer find(const std::string& stored) const;

 private:
  bool names(const std::string& parameter) const;

  std::string file_;
  std::vector<std::string> names_;
};

/// The pairs of each expert. In `all`, a has [experts * rank, inputs], one expert after the other, and b has
/// [outputs, rank * experts], one rank after the other. The pairs point into all's tensors and into `adapter`'s
/// `reordered`. Throws CheckpointError if the shapes are not such.
std::vector<LoraPair> divide_by_expert(const LoraPair& all, const AdaptedLayer& layer, std::int64_t rank,
                                       LoraAdapter& adapter);

}  // namespace inferd
