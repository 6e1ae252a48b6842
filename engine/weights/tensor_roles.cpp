// Names of tensors, taken apart.
#include "engine/weights/tensor_roles.h"

#include <algorithm>
#include <initializer_list>

namespace inferd {
namespace {

bool is_any(std::string_view text, std::initializer_list<std::string_view> all) {
  return std::find(all.begin(), all.end(), text) != all.end();
}

/// The name's last part but one: "q_proj" of "model.layers.0.self_attn.q_proj.weight"; empty if it has only one.
std::string_view module_of(std::string_view name) {
  const std::size_t end = name.rfind('.');
  if (end == std::string_view::npos) return {};
  name = name.substr(0, end);
  return name.substr(name.rfind('.') + 1);  // npos + 1 is 0
}

}  // namespace

int layer_of(std::string_view name) {
  constexpr std::size_t kMostDigits = 5;
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    const bool digits =
        !part.empty() && part.size() <= kMostDigits && part.find_first_not_of("0123456789") == part.npos;
    if (digits && begin > 0) {
      int number = 0;
      for (const char c : part) number = 10 * number + (c - '0');
      return number;
    }
    begin = end + 1;
  }
  return -1;
}

bool is_token_embedding(std::string_view name) {
  return is_any(module_of(name), {"embed_tokens", "word_embeddings", "wte", "token_embd"});
}

bool is_output_matrix(std::string_view name) {
  return name == "output.weight" || is_any(module_of(name), {"lm_head", "output_layer"});
}

bool is_router(std::string_view name) {
  constexpr std::string_view kEnds[] = {"mlp.gate.weight", "shared_expert_gate.weight", "ffn_gate_inp.weight",
                                        "ffn_gate_inp_shexp.weight"};
  return std::any_of(std::begin(kEnds), std::end(kEnds), [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace inferd
