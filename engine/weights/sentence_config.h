// SentenceConfig: what a folder says about using its encoder: prefixes of texts, shorter vectors, the form of scores.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/weights/checkpoint.h"

namespace inferd {

struct SentenceConfig {
  std::map<std::string, std::string, std::less<>> prompts;  // by name ("query"): what goes before a text
  std::string default_prompt;                               // name of the one for texts without a wish, or empty
  bool matryoshka = false;                          // the first values of a vector are a vector too (arXiv:2205.13147)
  std::vector<std::int64_t> matryoshka_dimensions;  // lengths it was trained for; empty: any
  bool sigmoid = true;                              // a reranker's scores go through one
};

/// Reads config_sentence_transformers.json (prompts, default_prompt_name) and config.json (matryoshka_dimensions,
/// is_matryoshka, the activation of a CrossEncoder). Everything is optional. Throws CheckpointError for wrong types and
/// for a default prompt that does not exist.
SentenceConfig read_sentence_config(const Checkpoint& checkpoint);

}  // namespace inferd
