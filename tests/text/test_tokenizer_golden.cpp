// Ids and texts of every tokenizer kind against Hugging Face's tokenizers and sentencepiece.
#include <algorithm>

#include "engine/text/detokenizer.h"
#include "tests/catch.h"
#include "tests/text/tokenizer_cases.h"

using namespace inferd;
using namespace inferd::test;

namespace {

enum class Decode { all, known, none };  // known: not where the unknown token, or a literal "▁", lost the text

/// Compares all cases.
void check_cases(const Tokenizer& tokenizer, const std::vector<TokenizerCase>& cases, bool trusted,
                 Decode decode = Decode::all) {
  REQUIRE(cases.size() > 20);
  for (const TokenizerCase& c : cases) {
    CAPTURE(shown(c.text));
    CHECK(tokenizer.encode(trusted ? MarkedText::trusted(c.text) : MarkedText::untrusted(c.text), false) == c.ids);
    const bool unknown = std::find(c.ids.begin(), c.ids.end(), tokenizer.special().unk) != c.ids.end();
    const bool lost = unknown || c.text.find("\u2581") != std::string::npos;
    if (decode == Decode::all || (decode == Decode::known && !lost))
      CHECK(shown(tokenizer.decode(c.ids, false)) == shown(c.decoded));
  }
}

}  // namespace

TEST_CASE("golden models encode and decode as their reference") {
  const std::string name = GENERATE("llama3", "qwen2", "qwen3", "bloom", "bert", "bert_cls");
  CAPTURE(name);
  const auto tokenizer = tokenizer_of_model("tests/golden/models/" + name);
  check_cases(*tokenizer, golden_cases(name), true);
}

TEST_CASE("ChatGLM-6B's white space and marks are its published code's, with and without image tokens") {
  const auto tokenizer = tokenizer_of_model("tests/golden/models/chatglm1");
  check_cases(*tokenizer, golden_cases("chatglm1"), false);
  const std::string folder = source_path("tests/golden/models/chatglm1/");
  const auto shifted = load_tokenizer(MemoryCheckpoint({{"ice_text.model", read_text(folder + "ice_text.model")},
                                                        {"tokenizer_config.json", R"({"num_image_tokens": 20000})"}}));
  const MarkedText text = MarkedText::untrusted("def add(a, b):\n    return a + b\n");
  std::vector<TokenId> ids = tokenizer->encode(text, true);
  CHECK(tokenizer->special_id("<sop>") == ids.back());
  for (TokenId& id : ids) id += 20000;
  CHECK(shifted->encode(text, true) == ids);
  CHECK(shifted->decode(ids, true) == "def add(a, b):\n    return a + b\n");
}

TEST_CASE("llama2's tokenizer.json and tokenizer.model give the same ids") {
  const auto json = tokenizer_of_model("tests/golden/models/llama2");
  const auto model = tokenizer_of_file("tokenizer.model", source_path("tests/golden/models/llama2/tokenizer.model"));
  check_cases(*json, golden_cases("llama2"), false);
  check_cases(*model, golden_cases("llama2"), false);
  check_cases(*model, corpus_cases("spm_llama2"), false);
  const Json file = read_json_file(source_path("tests/golden/models/llama2/expected.json"));
  for (const Json& row : file.at("tokenizer_json_differs")) {
    CHECK(json->encode(MarkedText::trusted(row.at("text").get<std::string>()), false) ==
          row.at("tokenizer_json_ids").get<std::vector<TokenId>>());
  }
}

TEST_CASE("golden GGUF files encode as the folders they came from") {
  const auto [gguf, model] = GENERATE(table<std::string, std::string>({{"llama2.F16", "llama2"},
                                                                       {"llama3.bf16", "llama3"},
                                                                       {"qwen2.F16", "qwen2"},
                                                                       {"qwen3.bf16", "qwen3"},
                                                                       {"bert.f16", "bert"}}));
  CAPTURE(gguf);
  const auto tokenizer = tokenizer_of_model("tests/golden/gguf/" + gguf + ".gguf");
  check_cases(*tokenizer, golden_cases(model), model != "llama2");
  const auto folder = tokenizer_of_model("tests/golden/models/" + model);
  for (const std::string& text : corpus_texts()) {
    CAPTURE(shown(text));
    CHECK(tokenizer->encode(MarkedText::trusted(text), true) == folder->encode(MarkedText::trusted(text), true));
    CHECK(tokenizer->encode(MarkedText::untrusted(text), true) == folder->encode(MarkedText::untrusted(text), true));
  }
  if (model != "bert") CHECK(tokenizer->special().stop == folder->special().stop);
  if (model.starts_with("llama")) CHECK(tokenizer->special().bos == folder->special().bos);
}

TEST_CASE("GGUF prompts have the ids of their expected.json") {
  std::size_t prompts = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/golden/gguf"))) {
    const std::string path = entry.path().string();
    if (!path.ends_with(".expected.json")) continue;
    const std::string gguf = path.substr(0, path.size() - 14) + ".gguf";
    const Json file = read_json_file(path);
    if (!file.contains("cases")) continue;
    const auto tokenizer = load_tokenizer(*Checkpoint::open(gguf));
    CAPTURE(path);
    for (const Json& row : file.at("cases")) {
      if (!row.contains("prompt") || !row.at("prompt").is_string()) continue;
      ++prompts;
      CHECK(tokenizer->encode(MarkedText::untrusted(row.at("prompt").get<std::string>()), true) ==
            row.at("input_ids").get<std::vector<TokenId>>());
    }
  }
  CHECK(prompts > 20);
}

TEST_CASE("prompts of the golden folders, chat included, have the ids of their expected.json") {
  const std::string name = GENERATE("llama2", "llama3", "qwen2", "qwen3");
  CAPTURE(name);
  const auto tokenizer = tokenizer_of_model("tests/golden/models/" + name);
  const Json file = read_json_file(source_path("tests/golden/models/" + name + "/expected.json"));
  for (const Json& row : file.at("cases")) {
    CAPTURE(row.at("prompt").get<std::string>());
    const auto text = MarkedText::trusted(row.at("prompt").get<std::string>());
    const auto ids = row.at("input_ids").get<std::vector<TokenId>>();
    CHECK(tokenizer->encode(text, row.at("add_special").get<bool>()) == ids);
    // A prefix that is there already is not doubled.
    if (row.contains("messages")) CHECK(tokenizer->encode(text, true) == ids);
    // Greedy texts come from decode; with only byte pieces of broken characters the reference differs in their number.
    if (row.contains("greedy") && name != "llama2") {
      CHECK(shown(tokenizer->decode(row.at("greedy").get<std::vector<TokenId>>(), true)) ==
            shown(row.at("greedy_text").get<std::string>()));
    }
  }
}

TEST_CASE("BERT puts its special tokens around one text and around two") {
  const auto tokenizer = tokenizer_of_model("tests/golden/models/bert");
  const Json file = read_json_file(source_path("tests/golden/models/bert/expected.json"));
  for (const Json& row : file.at("embeddings")) {
    auto ids = tokenizer->encode(MarkedText::untrusted(row.at("text").get<std::string>()), true);
    const std::size_t longest = file.at("max_seq_length").get<std::size_t>();
    if (ids.size() > longest) ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(longest) - 1, ids.end() - 1);
    CHECK(ids == row.at("input_ids").get<std::vector<TokenId>>());
  }
  const Json& pair = file.at("pair");
  const PairEncoding both = tokenizer->encode_pair(MarkedText::untrusted(pair.at("texts").at(0).get<std::string>()),
                                                   MarkedText::untrusted(pair.at("texts").at(1).get<std::string>()));
  CHECK(both.ids == pair.at("input_ids").get<std::vector<TokenId>>());
  CHECK(both.type_ids == pair.at("token_type_ids").get<std::vector<std::int32_t>>());
  // vocab.txt alone says the same.
  const auto plain =
      load_tokenizer(MemoryCheckpoint({{"vocab.txt", read_text(source_path("tests/golden/models/bert/vocab.txt"))}}));
  check_cases(*plain, corpus_cases("golden_bert"), true);
  CHECK(plain->special().cls == 2);
  CHECK(plain->special().sep == 3);
}

TEST_CASE("the hard corpus on golden models") {
  const std::string name = GENERATE("llama2", "llama3", "qwen2", "bert", "bert_cls");
  CAPTURE(name);
  check_cases(*tokenizer_of_model("tests/golden/models/" + name), corpus_cases("golden_" + name), true);
}

TEST_CASE("the hard corpus on every pipeline of tokenizer.json") {
  const std::string name =
      GENERATE("bloom_like", "gpt2_like", "merged_previous", "merged_next", "contiguous", "removed", "words",
               "punctuation", "string_split", "normalized_added", "blank_added", "accents", "metaspace_first",
               "metaspace_never", "no_fallback", "unigram_json");
  CAPTURE(name);
  const auto tokenizer =
      tokenizer_of_file("tokenizer.json", source_path("tests/golden/tokenizer/json/" + name + ".json"));
  // The reference prints normalised added tokens in their normalised form; ours print as they are written.
  check_cases(*tokenizer, corpus_cases("json_" + name), true, name == "normalized_added" ? Decode::none : Decode::all);
}

TEST_CASE("the hard corpus on SentencePiece files") {
  const std::string name = GENERATE("bpe_fallback", "bpe_plain", "unigram_nfkc", "unigram_fallback");
  CAPTURE(name);
  const auto tokenizer = tokenizer_of_file("tokenizer.model", source_path("tests/golden/spm/" + name + ".model"));
  check_cases(*tokenizer, corpus_cases("spm_" + name), false, Decode::known);
}

TEST_CASE("vocab.json with merges.txt is the tokenizer.json of the same folder") {
  const std::string folder = source_path("tests/golden/models/qwen2/");
  const auto tokenizer =
      load_tokenizer(MemoryCheckpoint({{"vocab.json", read_text(folder + "vocab.json")},
                                       {"merges.txt", read_text(folder + "merges.txt")},
                                       {"config.json", read_text(folder + "config.json")},
                                       {"tokenizer_config.json", read_text(folder + "tokenizer_config.json")}}));
  check_cases(*tokenizer, corpus_cases("golden_qwen2"), true);
}

TEST_CASE("vocabularies that need code beside them: Qwen-1, GLM-4 and ChatGLM3") {
  const std::string name = GENERATE("qwen1", "glm4_tiktoken", "chatglm3");
  CAPTURE(name);
  const std::string folder = source_path("tests/golden/tokenizer/files/" + name);
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename().string()] = read_text(entry.path().string());
  }
  const auto tokenizer = load_tokenizer(MemoryCheckpoint(files));
  const Json reference = read_json_file(folder + "/cases.json");
  std::vector<TokenizerCase> cases;
  for (const Json& row : reference.at("cases")) {
    cases.push_back(
        {row.at(0).get<std::string>(), row.at(1).get<std::vector<TokenId>>(), row.at(2).get<std::string>()});
  }
  check_cases(*tokenizer, cases, name == "qwen1");
  for (const Json& row : reference.at("prompts")) {
    CHECK(tokenizer->encode(MarkedText::untrusted(row.at(0).get<std::string>()), true) ==
          row.at(1).get<std::vector<TokenId>>());
  }
  const auto end = tokenizer->special_id(name == "qwen1" ? "<|im_end|>" : "<|observation|>");
  REQUIRE(end);
  CHECK(std::count(tokenizer->special().stop.begin(), tokenizer->special().stop.end(), *end) == 1);
}

TEST_CASE("stop ids come from the vocabulary and the configuration") {
  const auto qwen = tokenizer_of_model("tests/golden/models/qwen2");
  const auto has = [](const Tokenizer& t, std::string_view piece) {
    const auto id = t.special_id(piece);
    return id && std::count(t.special().stop.begin(), t.special().stop.end(), *id) == 1;
  };
  CHECK(has(*qwen, "<|im_end|>"));
  CHECK(has(*qwen, "<|endoftext|>"));
  CHECK_FALSE(has(*qwen, "<|im_start|>"));
  CHECK(qwen->special().eos == qwen->special_id("<|im_end|>"));
  CHECK(qwen->special().pad == qwen->special_id("<|endoftext|>"));
  CHECK(qwen->is_special(*qwen->special_id("<|im_end|>")));
  CHECK_FALSE(qwen->is_special(*qwen->special_id("<tool_call>")));
  const auto llama = tokenizer_of_model("tests/golden/models/llama3");
  CHECK(has(*llama, "<|eot_id|>"));
  CHECK(has(*llama, "<|eom_id|>"));
  CHECK(has(*llama, "<|end_of_text|>"));
  CHECK(llama->special().bos == llama->special_id("<|begin_of_text|>"));
  const auto two = load_tokenizer(
      MemoryCheckpoint({{"tokenizer.json", read_text(source_path("tests/golden/models/llama3/tokenizer.json"))},
                        {"config.json", R"({"eos_token_id": 5})"},
                        {"generation_config.json", R"({"eos_token_id": [7, 9]})"}}));
  for (const TokenId id : {5, 7, 9}) CHECK(std::count(two->special().stop.begin(), two->special().stop.end(), id) == 1);
}
