// Which tensors are quantised, in folders and GGUF files, and what is refused.
#include <map>

#include "engine/quantize/quantize_plan.h"
#include "tests/weights/test_support.h"

using namespace inferd;
using inferd::test::golden;

namespace {

std::map<std::string, DType> planned(const std::string& model, LoadQuantization to) {
  const auto checkpoint = Checkpoint::open(golden(model));
  std::map<std::string, DType> out;
  for (const PlannedTensor& tensor : plan_quantization(*checkpoint, to).tensors) {
    CHECK(tensor.offset % 64 == 0);
    out[tensor.source->name] = tensor.dtype;
  }
  return out;
}

std::string config_refusal(const std::string& model) {
  try {
    planned(model, LoadQuantization::int4);
  } catch (const ConfigError& error) {
    CHECK(error.code == ExitCode::bad_config);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("layers become four bits, vocabulary matrices eight, the rest stays") {
  const auto plan = planned("models/llama3", LoadQuantization::int4);
  CHECK(plan.at("model.layers.0.self_attn.q_proj.weight") == DType::q4_1);
  CHECK(plan.at("model.layers.1.mlp.down_proj.weight") == DType::q4_1);
  CHECK(plan.at("model.embed_tokens.weight") == DType::q8_0);
  CHECK(plan.count("model.norm.weight") == 0);
  CHECK(plan.count("model.layers.0.input_layernorm.weight") == 0);
  for (const auto& [name, dtype] : planned("models/llama3", LoadQuantization::int8)) CHECK(dtype == DType::q8_0);
  CHECK(planned("models/llama3", LoadQuantization::int8).size() == plan.size());
  CHECK(planned("models/llama2", LoadQuantization::int4).at("lm_head.weight") == DType::q8_0);
}

TEST_CASE("routers of experts and tables of positions stay") {
  const auto moe = planned("models/qwen2_moe", LoadQuantization::int4);
  CHECK(moe.at("model.layers.0.mlp.experts.0.up_proj.weight") == DType::q4_1);
  CHECK(moe.count("model.layers.0.mlp.gate.weight") == 0);
  CHECK(moe.count("model.layers.0.mlp.shared_expert_gate.weight") == 0);
  const auto stacked = planned("gguf/qwen2_moe.bf16.gguf", LoadQuantization::int4);
  CHECK(stacked.at("blk.0.ffn_up_exps.weight") == DType::q4_1);
  CHECK(stacked.at("token_embd.weight") == DType::q8_0);
  CHECK(stacked.count("blk.0.ffn_gate_inp.weight") == 0);
  CHECK(stacked.count("blk.0.ffn_gate_inp_shexp.weight") == 0);
  for (const auto& [name, dtype] : planned("models/bert", LoadQuantization::int4)) {
    CHECK(name.find("position_embeddings") == std::string::npos);
  }
}

TEST_CASE("the plan adds up") {
  const auto checkpoint = Checkpoint::open(golden("models/qwen2"));
  const QuantizePlan plan = plan_quantization(*checkpoint, LoadQuantization::int4);
  CHECK(plan.bytes_before == checkpoint->tensor_bytes());
  std::size_t kept = plan.bytes_before, end = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    CHECK(tensor.offset >= end);
    end = tensor.offset + tensor.bytes;
    kept -= tensor.source->bytes;
    kept += tensor.bytes;
    const double bits = 8.0 * static_cast<double>(tensor.bytes) / static_cast<double>(tensor.source->elements());
    CHECK(bits == (tensor.dtype == DType::q8_0 ? 8.5 : 5.0));
  }
  CHECK(plan.payload_bytes >= end);
  CHECK(plan.payload_bytes < end + 64);
  CHECK(plan.bytes_after == kept);
}

TEST_CASE("what is quantised already is refused with what to do") {
  for (const char* model :
       {"models/qwen2_awq", "models/qwen2_gptq8", "models/qwen2_w8a8", "models/qwen2_bnb8", "models/qwen2_fp8"}) {
    const std::string message = config_refusal(model);
    CHECK(message.find("quantised already") != std::string::npos);
    CHECK(message.find("quantization: none") != std::string::npos);
  }
  CHECK(config_refusal("models/qwen2").empty());
}
