// What tensors are by their names.
#include "engine/weights/tensor_roles.h"

#include "tests/catch.h"

namespace inferd {
namespace {

TEST_CASE("a tensor's layer is the number between dots") {
  CHECK(layer_of("model.layers.12.mlp.up_proj.weight") == 12);
  CHECK(layer_of("blk.0.ffn_up.weight") == 0);
  CHECK(layer_of("model.layers.3.mlp.experts.7.up_proj.weight") == 3);
  CHECK(layer_of("model.layers.x2.weight") == -1);
  CHECK(layer_of("7.weight") == -1);
  CHECK(layer_of("a.123456.weight") == -1);
  CHECK(layer_of("") == -1);
  CHECK(layer_of("model..norm.") == -1);
}

TEST_CASE("embeddings and output matrices are told by the module, whole or in parts") {
  for (const char* name : {"model.embed_tokens.weight", "transformer.wte.weight", "wte.weight", "token_embd.weight",
                           "transformer.embedding.word_embeddings.weight", "model.embed_tokens.qweight"}) {
    INFO(name);
    CHECK(is_token_embedding(name));
    CHECK_FALSE(is_output_matrix(name));
  }
  for (const char* name : {"lm_head.weight", "lm_head.scales", "transformer.output_layer.weight", "output.weight"}) {
    INFO(name);
    CHECK(is_output_matrix(name));
    CHECK_FALSE(is_token_embedding(name));
  }
  for (const char* name :
       {"output_norm.weight", "lm_head.dense.weight", "lm_head", "model.norm.weight", "x.output.weight",
        "transformer.word_embeddings_layernorm.weight", "embeddings.position_embeddings.weight"}) {
    INFO(name);
    CHECK_FALSE(is_output_matrix(name));
    CHECK_FALSE(is_token_embedding(name));
  }
}

TEST_CASE("routers are no experts") {
  CHECK(is_router("model.layers.0.mlp.gate.weight"));
  CHECK(is_router("blk.1.ffn_gate_inp.weight"));
  CHECK_FALSE(is_router("model.layers.0.mlp.gate_proj.weight"));
  CHECK_FALSE(is_router("blk.1.ffn_gate.weight"));
}

}  // namespace
}  // namespace inferd
