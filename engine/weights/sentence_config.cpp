// Reading the settings of sentence-transformers.
#include "engine/weights/sentence_config.h"

#include <algorithm>

#include "base/errors.h"
#include "base/log.h"
#include "engine/weights/json_fields.h"

namespace inferd {
namespace {

constexpr std::size_t kMaxPrompts = 64;
constexpr std::size_t kMaxPromptBytes = 16u << 10;
constexpr std::int64_t kMaxDimension = 1 << 22;

void read_prompts(const Json& json, const std::string& file, SentenceConfig* config) {
  const JsonFields fields(json, file);
  if (const Json* prompts = fields.object("prompts")) {
    if (prompts->size() > kMaxPrompts) {
      throw CheckpointError(file, "prompts", "at most " + std::to_string(kMaxPrompts), std::to_string(prompts->size()));
    }
    for (const auto& [name, text] : prompts->items()) {
      if (!text.is_string() || text.get_ref<const std::string&>().size() > kMaxPromptBytes) {
        throw CheckpointError(file, "prompts." + log_safe(name), "a text of at most 16 KiB",
                              text.is_string() ? "a longer one" : text.type_name());
      }
      config->prompts.emplace(name, text.get<std::string>());
    }
  }
  config->default_prompt = fields.string({"default_prompt_name"}).value_or("");
  if (!config->default_prompt.empty() && !config->prompts.contains(config->default_prompt)) {
    throw CheckpointError(file, "default_prompt_name", "the name of a prompt", log_safe(config->default_prompt));
  }
}

/// CrossEncoder's activation, under either of its names: only the identity and the sigmoid rank by a single label.
bool wants_sigmoid(const Json& json, const std::string& file) {
  const JsonFields fields(json, file);
  auto name = fields.string({"sbert_ce_default_activation_function"});
  if (const Json* inner = fields.object("sentence_transformers")) {
    const JsonFields inner_fields(*inner, file, "sentence_transformers.");
    if (const auto inner_name = inner_fields.string({"activation_fn"})) name = inner_name;
  }
  if (!name || name->ends_with(".Sigmoid")) return true;
  if (name->ends_with(".Identity")) return false;
  throw CheckpointError(file, "activation_fn", "Sigmoid or Identity", log_safe(*name));
}

}  // namespace

SentenceConfig read_sentence_config(const Checkpoint& checkpoint) {
  SentenceConfig config;
  const std::string folder = log_safe(checkpoint.path()) + "/";
  const auto sentence = checkpoint.json("config_sentence_transformers.json");
  if (sentence && sentence->is_object()) {
    read_prompts(*sentence, folder + "config_sentence_transformers.json", &config);
  }
  const auto json = checkpoint.json("config.json");
  if (!json || !json->is_object()) return config;
  const std::string file = folder + "config.json";
  const JsonFields fields(*json, file);
  config.matryoshka_dimensions = fields.integers({"matryoshka_dimensions"}, 1, kMaxDimension);
  config.matryoshka = !config.matryoshka_dimensions.empty() || fields.boolean({"is_matryoshka"}).value_or(false);
  config.sigmoid = wants_sigmoid(*json, file);
  return config;
}

}  // namespace inferd
