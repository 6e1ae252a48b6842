// Mixture of experts: a router sends each token through a few of many gated MLPs (arXiv:2101.03961, Qwen's form).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/models/adapter_bank.h"

namespace inferd {

/// What the configuration says about experts.
struct ExpertOptions {
  int num_experts = 0;
  int top_k = 0;                  // experts a token goes through
  std::int64_t width = 0;         // inner size of an expert
  std::int64_t shared_width = 0;  // of the expert that all tokens go through; 0: none
  bool normalize = false;         // weights of a token's experts are scaled to sum 1
  int sparse_step = 1;            // every so many layers have experts
  std::vector<std::int64_t> dense_layers;
  bool sparse(int layer) const;
};

/// Reads config.json, or a GGUF file's keys, of a Qwen mixture. Throws CheckpointError.
ExpertOptions read_expert_options(const Checkpoint& checkpoint, const ModelConfig& config, bool shared);

/// W_down(silu(W_gate h) * W_up h).
struct Expert {
  Linear gate_up;  // [2 * width, hidden_size], gate first
  Linear down;     // [hidden_size, width]
};

struct ExpertMlp {
  Linear router;  // [num_experts, hidden_size]
  std::vector<Expert> experts;
  std::unique_ptr<ExpertGroup> gate_up, down;  // of all experts, or both null: they take their turns
  Expert shared;                               // no weights: none
  Linear shared_gate;                          // [1, hidden_size]
  bool grouped() const { return gate_up != nullptr; }
  /// Forms of the normed input that its matrices read.
  std::uint32_t input_forms() const;
  /// All that have weights.
  std::vector<Linear*> linears();
};

/// `layer`: "model.layers.3.".
std::unique_ptr<ExpertMlp> load_expert_mlp(WeightLoader& loader, const std::string& layer, std::int64_t hidden_size,
                                           const ExpertOptions& options);

/// What adapters need to take part in a step of a mixture.
struct ExpertAdapters {
  const AdapterBank* bank = nullptr;
  Tensor slots;  // [T] i32 (BatchTensors::adapters), or absent: none takes part
  UpdateMemory memory;
};

/// Runs the mixtures of one model: the rows of each expert stand together, its tokens in their order, so a token's bits
/// depend on itself alone. Made once; nothing is allocated in a step.
class ExpertRunner {
 public:
  /// `mlps`: all mixtures it will run.
  ExpertRunner(Backend& backend, std::int64_t hidden_size, std::int64_t max_tokens, const ExpertOptions& options,
               const std::vector<const ExpertMlp*>& mlps);

  /// [max_tokens, hidden_size] f32: where the caller puts the normed input.
  const Tensor& input() const { return input_; }
  /// x += mixture(input). `normed` is the input's activation. x: [T, hidden_size] f32 without gaps. Only queues work
  /// where the mixture is grouped and no adapter takes part.
  void run(const ExpertMlp& mlp, const Activation& normed, const Tensor& x, const ExpertAdapters& adapters);

 private:
  ExpertPlan plan_of(std::int64_t tokens) const;
  void route(const ExpertMlp& mlp, const Activation& normed, const ExpertPlan& plan, const ExpertAdapters& adapters);
  /// A gated MLP of x's first rows into `product`; slots: the rows' adapters.
  void multiply(const Expert& expert, const Activation& x, const Activation& inner, const Tensor& product,
                const Tensor& slots, const ExpertAdapters& adapters);
  void run_grouped(const ExpertMlp& mlp, const Activation& normed, const ExpertPlan& plan);
  void run_by_turns(const ExpertMlp& mlp, const ExpertPlan& plan, const ExpertAdapters& adapters);
  void run_expert(const Expert& expert, std::int64_t first, std::int64_t rows, const ExpertPlan& plan,
                  const ExpertAdapters& adapters);
  std::size_t lay_out(void* base, std::int64_t tokens, const std::vector<const ExpertMlp*>& mlps);

  Backend& backend_;
  const std::int64_t hidden_size_;
  const ExpertOptions options_;
  std::unique_ptr<DeviceBuffer> memory_;
  // T: max_tokens, N: expert_rows of it, E experts, k of a token.
  Tensor input_;                     // [T, hidden_size] f32
  Tensor gathered_;                  // [T, hidden_size] f32: an expert's input
  Tensor product_;                   // [N, hidden_size] f32
  Tensor shared_;                    // [T, hidden_size] f32, with a shared expert
  Tensor logits_;                    // [T, E] f32
  Tensor gate_;                      // [T, 1] f32
  Tensor slots_;                     // [T] i32: adapters of an expert's rows
  ExpertPlan plan_;                  // of the largest step
  Activation gathered_activation_;   // [N, hidden_size]
  Activation inner_, shared_inner_;  // [N, width], [T, shared_width]
  std::vector<std::int32_t> starts_, counts_, tokens_, host_slots_, gathered_slots_;
};

}  // namespace inferd
