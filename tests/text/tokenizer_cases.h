// Loads tokenizers and the reference's cases for the tests of engine/text.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/checkpoint.h"
#include "tests/weights/memory_checkpoint.h"

namespace inferd::test {

inline std::string source_path(const std::string& relative) { return std::string(INFERD_SOURCE_DIR) + "/" + relative; }

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Json read_json_file(const std::string& path) {
  return parse_json(read_text(path), {.max_bytes = 256u << 20, .max_depth = 64, .max_nodes = 10'000'000});
}

/// The tokenizer of one file, as if it were alone in a folder; `config` is its tokenizer_config.json.
inline std::unique_ptr<Tokenizer> tokenizer_of_file(const std::string& name, const std::string& path,
                                                    const std::string& config = "{}") {
  return load_tokenizer(MemoryCheckpoint({{name, read_text(path)}, {"tokenizer_config.json", config}}));
}

inline std::unique_ptr<Tokenizer> tokenizer_of_model(const std::string& relative) {
  return load_tokenizer(*Checkpoint::open(source_path(relative)));
}

struct TokenizerCase {
  std::string text;
  std::vector<TokenId> ids;
  std::string decoded;
};

/// tests/golden/tokenizer/NAME.json over the corpus.
inline std::vector<TokenizerCase> corpus_cases(const std::string& name) {
  const Json corpus = read_json_file(source_path("tests/golden/tokenizer/corpus.json"));
  const Json file = read_json_file(source_path("tests/golden/tokenizer/" + name + ".json"));
  std::vector<TokenizerCase> cases;
  for (const Json& row : file.at("cases")) {
    const std::string text = corpus.at(row.at(0).get<std::size_t>()).get<std::string>();
    cases.push_back(
        {text, row.at(1).get<std::vector<TokenId>>(), row.size() > 2 ? row.at(2).get<std::string>() : text});
  }
  return cases;
}

/// The texts of the corpus.
inline std::vector<std::string> corpus_texts() {
  return read_json_file(source_path("tests/golden/tokenizer/corpus.json")).get<std::vector<std::string>>();
}

/// expected.json's tokenizer.cases of a golden model.
inline std::vector<TokenizerCase> golden_cases(const std::string& model) {
  const Json file = read_json_file(source_path("tests/golden/models/" + model + "/expected.json"));
  std::vector<TokenizerCase> cases;
  for (const Json& row : file.at("tokenizer").at("cases")) {
    cases.push_back({row.at("text").get<std::string>(), row.at("ids").get<std::vector<TokenId>>(),
                     row.at("decoded").get<std::string>()});
  }
  return cases;
}

/// Every tokenizer that needs no file outside the repository, by name. Built once.
inline const std::map<std::string, std::unique_ptr<Tokenizer>>& small_tokenizers() {
  static const auto* kAll = [] {
    auto* all = new std::map<std::string, std::unique_ptr<Tokenizer>>();
    for (const char* name : {"llama2", "llama3", "qwen2", "qwen3", "bert", "bert_cls"}) {
      (*all)[name] = tokenizer_of_model(std::string("tests/golden/models/") + name);
    }
    for (const char* name : {"llama2.F16", "llama3.bf16", "qwen2.F16", "qwen3.bf16", "bert.f16"}) {
      (*all)[std::string(name) + ".gguf"] = tokenizer_of_model(std::string("tests/golden/gguf/") + name + ".gguf");
    }
    for (const char* name : {"bpe_fallback", "bpe_plain", "unigram_nfkc", "unigram_fallback"}) {
      (*all)[std::string(name) + ".model"] =
          tokenizer_of_file("tokenizer.model", source_path(std::string("tests/golden/spm/") + name + ".model"));
    }
    for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/tokenizer/json"))) {
      (*all)[entry.path().stem().string() + ".json"] = tokenizer_of_file("tokenizer.json", entry.path().string());
    }
    return all;
  }();
  return *kAll;
}

/// The printable form of text for messages of failed checks.
inline std::string shown(const std::string& text) { return dump_json(Json(text)); }

}  // namespace inferd::test
