// Checkpoints on disk: split and sharded sets, folders that cannot be served, shapes, releasing pages.
#include "engine/weights/checkpoint.h"

#include <random>

#include "engine/weights/model_config.h"
#include "engine/weights/summary.h"
#include "tests/catch.h"
#include "tests/weights/gguf_builder.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::golden;
using test::refusal;
using test::ScratchFolder;

std::string refused(const std::filesystem::path& path) {
  return refusal([&] { Checkpoint::open(path); });
}

bool mentions(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CHECK(text.find(part) != std::string::npos);
  return text.find(part) != std::string::npos;
}

/// File `index` (from 0) of a set of three, each with one tensor of its own.
test::GgufBuilder split_file(int index, int count = 3, int tensors = 3) {
  test::GgufBuilder builder;
  if (index == 0) builder.text("general.architecture", "llama");
  builder.number("split.no", 2, static_cast<std::uint16_t>(index));
  builder.number("split.count", 2, static_cast<std::uint16_t>(count));
  builder.number("split.tensors.count", 5, static_cast<std::int32_t>(tensors));
  builder.tensor("part" + std::to_string(index), {8}, 0, std::string(32, static_cast<char>('0' + index)));
  return builder;
}

void write_set(const ScratchFolder& folder) {
  for (int i = 0; i < 3; ++i) {
    folder.write("m-0000" + std::to_string(i + 1) + "-of-00003.gguf", split_file(i).build());
  }
}

}  // namespace

TEST_CASE("a split GGUF set is one checkpoint") {
  ScratchFolder folder;
  write_set(folder);
  const auto checkpoint = Checkpoint::open(folder.path() / "m-00001-of-00003.gguf");
  REQUIRE(checkpoint->tensors().size() == 3);
  for (int i = 0; i < 3; ++i) {
    const StoredTensor& tensor = checkpoint->require("part" + std::to_string(i), {8});
    REQUIRE(static_cast<char>(tensor.data[0]) == '0' + i);
    REQUIRE(tensor.file.find("-0000" + std::to_string(i + 1) + "-of-") != std::string::npos);
    checkpoint->release(tensor);
    REQUIRE(static_cast<char>(tensor.data[31]) == '0' + i);
  }
}

TEST_CASE("split sets that do not fit together are refused") {
  ScratchFolder folder;
  write_set(folder);
  const auto first = folder.path() / "m-00001-of-00003.gguf";
  REQUIRE(mentions(refused(folder.path() / "m-00002-of-00003.gguf"),
                   "split.no: expected 0: the first file of the set names the model, found 1"));
  folder.write("renamed.gguf", split_file(0).build());
  REQUIRE(mentions(refused(folder.path() / "renamed.gguf"), "file name: expected an end of \"-00001-of-00003.gguf\""));
  folder.write("m-00002-of-00003.gguf", split_file(2).build());
  REQUIRE(mentions(refused(first), "m-00002-of-00003.gguf: split.no: expected 1, found 2"));
  folder.write("m-00002-of-00003.gguf", split_file(1, 4).build());
  REQUIRE(mentions(refused(first), "split.count: expected 3, found 4"));
  folder.write("m-00002-of-00003.gguf", test::GgufBuilder().text("a", "b").build());
  REQUIRE(mentions(refused(first), "split.count: expected the key in every file of a split set, found none"));
  folder.write("m-00002-of-00003.gguf", split_file(1).build());
  folder.write("m-00003-of-00003.gguf", split_file(2).tensor("part1", {8}, 0, std::string(32, 'x')).build());
  REQUIRE(mentions(refused(first), "part1: expected one tensor of this name, found another in"));
  folder.write("m-00003-of-00003.gguf", split_file(2).tensor("extra", {8}, 0, std::string(32, 'x')).build());
  REQUIRE(mentions(refused(first), "split.tensors.count: expected 3 tensors in all files, found 4"));
  std::filesystem::remove(folder.path() / "m-00003-of-00003.gguf");
  REQUIRE(mentions(refused(first), "m-00003-of-00003.gguf: cannot open: No such file"));
  folder.write("m-00001-of-65535.gguf", split_file(0, 65535).build());
  REQUIRE(
      mentions(refused(folder.path() / "m-00001-of-65535.gguf"), "split.count: expected at most 1024, found 65535"));
}

TEST_CASE("sharded folders are checked against their index") {
  ScratchFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(golden("models/qwen2"))) {
    std::filesystem::copy(entry.path(), folder.path() / entry.path().filename());
  }
  REQUIRE(refused(folder.path()).empty());
  const std::string index = test::read_text(folder.path() / "model.safetensors.index.json");
  Json changed = parse_json(index);
  changed["weight_map"]["ghost.weight"] = "model-00002-of-00002.safetensors";
  folder.write("model.safetensors.index.json", dump_json(changed));
  REQUIRE(mentions(refused(folder.path()), "ghost.weight: expected the tensor in this file"));
  changed = parse_json(index);
  changed["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors";
  folder.write("model.safetensors.index.json", dump_json(changed));
  REQUIRE(mentions(refused(folder.path()), "model.norm.weight: expected the tensor in this file"));
  folder.write("model.safetensors.index.json", index);
  std::filesystem::copy(folder.path() / "model-00001-of-00002.safetensors",
                        folder.path() / "model-00002-of-00002.safetensors",
                        std::filesystem::copy_options::overwrite_existing);
  REQUIRE(mentions(refused(folder.path()), "expected one tensor of this name, found another in"));
  std::filesystem::remove(folder.path() / "model-00002-of-00002.safetensors");
  REQUIRE(mentions(refused(folder.path()), "expected the shard model-00002-of-00002.safetensors, found no such file"));
  folder.write("model.safetensors.index.json", "{\"weight_map\": 7");
  REQUIRE(mentions(refused(folder.path()), "model.safetensors.index.json: JSON ends too early"));
}

TEST_CASE("paths that are no model are refused with what to do") {
  ScratchFolder folder;
  REQUIRE(mentions(refused(folder.path() / "none"), "expected a .gguf file or a model folder, found no such path"));
  REQUIRE(mentions(refused(folder.path()), "expected this file or model.safetensors.index.json, found neither"));
  folder.write("pytorch_model.bin", "PK");
  REQUIRE(mentions(refused(folder.path()), "get the model's .safetensors files instead"));
  ScratchFolder with_gguf;
  with_gguf.write("model.Q4_0.gguf", "GGUF");
  REQUIRE(mentions(refused(with_gguf.path()), "named by its file, model.Q4_0.gguf"));
  const std::string alone = test::read_text(golden("models/llama2/model.safetensors"));
  ScratchFolder without_config;
  const auto file = without_config.write("model.safetensors", alone);
  REQUIRE(mentions(refused(without_config.path()), "config.json: expected this file beside the weights, found none"));
  REQUIRE(mentions(refused(file), "expected the folder that holds config.json and this file"));
  REQUIRE(mentions(refused("/dev/null"), "expected a regular file"));
  REQUIRE(mentions(refused(folder.write("empty.gguf", "")), "magic: expected GGUF, found \"\""));
}

TEST_CASE("files of a folder are read within it and within limits") {
  const auto checkpoint = Checkpoint::open(golden("models/bert"));
  REQUIRE(checkpoint->json("1_Pooling/config.json"));
  REQUIRE_FALSE(checkpoint->json("absent.json"));
  REQUIRE(checkpoint->read_file("vocab.txt", 1 << 20));
  REQUIRE(mentions(refusal([&] { checkpoint->read_file("vocab.txt", 10); }), "size: expected at most 10 bytes"));
  for (const char* path : {"../llama2/config.json", "/etc/passwd", "", "1_Pooling/../../llama2/config.json"}) {
    REQUIRE(mentions(refusal([&] { checkpoint->read_file(path, 1 << 20); }), "a file inside the folder"));
  }
  REQUIRE(mentions(refusal([&] { checkpoint->json("vocab.txt"); }), "vocab.txt: JSON "));
  const auto gguf = Checkpoint::open(golden("gguf/llama2.Q4_0.gguf"));
  REQUIRE_FALSE(gguf->json("config.json"));
  REQUIRE_FALSE(gguf->read_file("config.json", 100));
}

TEST_CASE("required tensors must be there with their shape") {
  const auto checkpoint = Checkpoint::open(golden("models/llama2"));
  REQUIRE(checkpoint->require("model.embed_tokens.weight", {576, 64}).dtype == DType::f16);
  REQUIRE(mentions(refusal([&] {
                     checkpoint->require("model.embed_tokens.weight", {64, 576});
                   }),
                   "model.embed_tokens.weight: expected shape [64, 576], found [576, 64]"));
  REQUIRE(mentions(refusal([&] { checkpoint->require("model.absent", {1}); }),
                   "model.absent: expected a tensor of shape [1], found none"));
}

TEST_CASE("a golden file cut at 300 random places and flipped at 300 is refused or loads") {
  const std::string whole = test::read_text(golden("gguf/qwen2.Q4_0.gguf"));
  ScratchFolder folder;
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    const auto path = folder.write("cut.gguf", std::string_view(whole).substr(0, random() % whole.size()));
    REQUIRE_FALSE(refused(path).empty());
    std::string flipped = whole;
    flipped[random() % 20000] ^= static_cast<char>(1 << (random() % 8));
    const auto flipped_path = folder.write("flip.gguf", flipped);
    refusal([&] {
      const auto checkpoint = Checkpoint::open(flipped_path);
      read_model_config(*checkpoint);
      quantization_name(*checkpoint);
    });
  }
}

}  // namespace inferd
