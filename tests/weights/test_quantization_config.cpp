// Quantisation settings: the dialects that are read, and what is refused with a word on what to get instead.
#include "engine/weights/quantization_config.h"

#include "engine/weights/summary.h"
#include "tests/catch.h"
#include "tests/weights/memory_checkpoint.h"
#include "tests/weights/test_support.h"

namespace inferd {
namespace {

using test::MemoryCheckpoint;
using test::refusal;

/// A folder with this config.json; a braced list alone might be bytes as well.
MemoryCheckpoint folder(std::string config) {
  return MemoryCheckpoint(std::map<std::string, std::string>{{"config.json", std::move(config)}});
}

QuantizationConfig settings(const std::string& json) {
  return read_quantization_config(folder(R"({"quantization_config":)" + json + "}"));
}

bool refused(const std::string& json, const std::string& field) {
  const std::string message = refusal([&] { settings(json); });
  CAPTURE(json);
  CAPTURE(message);
  return message.find("quantization_config") != std::string::npos && message.find(field) != std::string::npos &&
         message.find("expected") != std::string::npos;
}

}  // namespace

TEST_CASE("settings of every tool that is known") {
  CHECK(read_quantization_config(folder("{}")).method == QuantMethod::none);
  CHECK(settings("null").method == QuantMethod::none);
  const QuantizationConfig gptq = settings(R"({"quant_method":"gptq","bits":3,"group_size":128})");
  CHECK(gptq.method == QuantMethod::gptq);
  CHECK(gptq.bits == 3);
  CHECK(gptq.group_size == 128);
  CHECK(gptq.zeros_less_one);
  CHECK(gptq.label == "GPTQ 3 bit");
  CHECK_FALSE(settings(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"gptq_v2"})").zeros_less_one);
  CHECK(settings(R"({"quant_method":"gptq","bits":4})").group_size == -1);
  CHECK(settings(R"({"quant_method":"gptq","bits":4,"dynamic":{"-:.*down.*":{}}})").bits == 0);
  CHECK(settings(R"({"quant_method":"awq","bits":4,"version":"GEMM","group_size":64})").group_size == 64);
  CHECK(settings(R"({"load_in_8bit":true})").method == QuantMethod::bitsandbytes_int8);
  const QuantizationConfig four = settings(R"({"_load_in_4bit":true,"load_in_4bit":true,"bnb_4bit_quant_type":"nf4"})");
  CHECK(four.method == QuantMethod::bitsandbytes_4bit);
  CHECK(four.label == "bitsandbytes nf4");
  CHECK(settings(R"({"quant_method":"bitsandbytes","load_in_4bit":true})").label == "bitsandbytes fp4");
  const MemoryCheckpoint old_gptq({{"config.json", "{}"}, {"quantize_config.json", R"({"bits":4,"group_size":128})"}});
  CHECK(read_quantization_config(old_gptq).method == QuantMethod::gptq);
  const MemoryCheckpoint old_awq(
      {{"config.json", "{}"}, {"quant_config.json", R"({"zero_point":true,"q_group_size":32,"w_bit":4})"}});
  CHECK(read_quantization_config(old_awq).method == QuantMethod::awq);
  CHECK(read_quantization_config(old_awq).group_size == 32);
}

TEST_CASE("activations are int8 where every group of layers says so") {
  const auto int8 = [](const std::string& groups) {
    return settings(R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{)" + groups +
                    "}}")
        .int8_activations;
  };
  const auto group = [](const std::string& inputs) {
    return R"({"weights":{"num_bits":8},"input_activations":)" + inputs + "}";
  };
  const std::string token = group(R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":true})");
  CHECK(int8(R"("a":)" + token));
  CHECK(int8(R"("a":)" + group(R"({"num_bits":8,"strategy":"tensor","dynamic":false})")));
  CHECK_FALSE(int8(R"("a":{"weights":{"num_bits":8}})"));
  CHECK_FALSE(int8(R"("a":)" + group("null")));
  CHECK_FALSE(int8(R"("a":)" + group(R"({"num_bits":4,"strategy":"token"})")));
  CHECK_FALSE(int8(R"("a":)" + group(R"({"num_bits":8,"type":"float","strategy":"token"})")));
  CHECK_FALSE(int8(R"("a":)" + group(R"({"num_bits":8,"symmetric":false,"strategy":"token"})")));
  CHECK_FALSE(int8(R"("a":)" + group(R"({"num_bits":8,"strategy":"group"})")));
  CHECK_FALSE(int8(R"("a":)" + token + R"(,"b":)" + group("null")));
  CHECK_FALSE(int8(R"("a":)" + group("null") + R"(,"b":)" + token));
  CHECK(refused(R"({"quant_method":"compressed-tensors","format":"int-quantized","config_groups":{"a":)" +
                    group(R"({"num_bits":"8"})") + "}}",
                "config_groups.a.input_activations.num_bits"));
}

TEST_CASE("settings that cannot be loaded are refused by field") {
  CHECK(refused(R"({"quant_method":"gptq"})", "bits"));
  CHECK(refused(R"({"quant_method":"gptq","bits":5})", "bits"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"group_size":0})", "group_size"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"group_size":-2})", "group_size"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"group_size":48})", "group_size"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"group_size":"128"})", "group_size"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"is_marlin_format":true})", "is_marlin_format"));
  CHECK(refused(R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})", "checkpoint_format"));
  CHECK(refused(R"({"quant_method":"awq","bits":8})", "bits"));
  CHECK(refused(R"({"quant_method":"awq","bits":4,"version":"gemv"})", "version"));
  CHECK(refused(R"({"quant_method":"awq","bits":4,"zero_point":false})", "zero_point"));
  CHECK(refused(R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_type":"af4"})",
                "bnb_4bit_quant_type"));
  CHECK(refused(R"({"quant_method":"fp8","fmt":"e5m2"})", "fmt"));
  CHECK(refused(R"({"quant_method":"fp8","weight_block_size":[128]})", "weight_block_size"));
  CHECK(refused(R"({"quant_method":"fp8","weight_block_size":[0,128]})", "weight_block_size"));
  CHECK(refused("[]", "object"));
  const std::string compressed = R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":)";
  CHECK(refused(R"({"quant_method":"compressed-tensors","format":"nvfp4-pack-quantized"})", "format"));
  const std::string floats = R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":)";
  CHECK(refused(floats + R"({"g":{"weights":{"num_bits":4,"type":"float"}}}})", "config_groups.g.weights.num_bits"));
  CHECK(refused(floats + R"({"g":{"weights":{"num_bits":8,"type":"float","strategy":"block","block_structure":[1]}}}})",
                "block_structure"));
  CHECK(refused(compressed + "{}}", "config_groups"));
  CHECK(refused(compressed + R"({"g":{}}})", "config_groups.g.weights"));
  CHECK(refused(compressed + R"({"g":{"weights":{"num_bits":8,"type":"float"}}}})", "config_groups.g.weights.type"));
  CHECK(refused(compressed + R"({"g":{"weights":{"num_bits":5}}}})", "config_groups.g.weights.num_bits"));
  CHECK(refused(compressed + R"({"g":{"weights":{"num_bits":4,"strategy":"block"}}}})", "strategy"));
  CHECK(refused(compressed + R"({"g":{"weights":{"num_bits":4}}},"transform_config":{"a":1}})", "transform_config"));
  const std::string message = refusal([] { settings(R"({"quant_method":"aqlm"})"); });
  CHECK(message.find("get the unquantised model") != std::string::npos);
}

TEST_CASE("codes count as the weights they stand for") {
  const auto parameters = [](const std::string& name) {
    return parameter_count(*Checkpoint::open(INFERD_SOURCE_DIR "/tests/golden/models/" + name));
  };
  const std::int64_t llama3 = parameters("llama3"), qwen2 = parameters("qwen2");
  for (const char* name : {"llama3_gptq4_actorder", "llama3_awq", "llama3_fp4"}) {
    INFO(name);
    CHECK(parameters(name) == llama3);
  }
  for (const char* name :
       {"qwen2_gptq8", "qwen2_w8a8", "qwen2_w4a16_asym", "qwen2_nf4", "qwen2_bnb8", "qwen2_fp8", "qwen2_fp8_channel"}) {
    INFO(name);
    CHECK(parameters(name) == qwen2);
  }
}

}  // namespace inferd
