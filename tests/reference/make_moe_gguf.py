"""Makes tests/golden/gguf/qwen{2,3}_moe.bf16.{gguf,expected.json} from the folders of tests/golden/models.

    python make_moe_gguf.py   (gguf)

The matrices stay BF16, so the numbers expected of the folders hold for the files too. Experts are stored as llama.cpp
stores them: one tensor of each matrix of all experts, the gate of the shared expert as a vector. The last layer is dense,
which published files never are.
"""
import hashlib
import json
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
NAMES = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
         "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
         "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp"}
GLOBALS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def read_bf16(path):
    """name -> u16 array of the tensor's shape."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    out = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", name
        begin, end = entry["data_offsets"]
        out[name] = np.frombuffer(data[8 + length + begin:8 + length + end], "<u2").reshape(entry["shape"])
    return out


def stored_name(name):
    module, last = name.rsplit(".", 1)
    if module in GLOBALS:
        return f"{GLOBALS[module]}.{last}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{last}"


def write(folder, arch):
    source = GOLDEN / "models" / folder
    config, tensors = json.loads((source / "config.json").read_text()), read_bf16(source / "model.safetensors")
    target = GOLDEN / "gguf" / f"{folder}.bf16.gguf"
    writer = GGUFWriter(str(target), arch)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_expert_count(config.get("num_experts") or config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if "shared_expert_intermediate_size" in config:
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])

    facts = {}

    def add(name, bits):
        raw = (bits.astype(np.uint32) << 16).view(np.float32) if bits.ndim == 1 and "inp_shexp" not in name else bits
        facts[name] = {"type": "F32" if raw.dtype == np.float32 else "BF16", "ne": list(reversed(bits.shape))}
        values = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64).ravel()
        facts[name] |= {"raw_sha256": hashlib.sha256(np.ascontiguousarray(raw).tobytes()).hexdigest(),
                        "sum": values.sum(), "abs_sum": np.abs(values).sum(), "l2": np.sqrt((values ** 2).sum()),
                        "first8": values[:8].tolist()}
        if bits.ndim == 1 and not name.endswith("inp_shexp.weight"):  # norms and biases: F32
            writer.add_tensor(name, (bits.astype(np.uint32) << 16).view(np.float32))
        else:
            raw = np.ascontiguousarray(bits).view(np.uint8)
            writer.add_tensor(name, raw, raw_shape=raw.shape, raw_dtype=GGMLQuantizationType.BF16)

    stacks = {}
    for name, bits in tensors.items():
        if ".mlp.experts." in name:
            before, rest = name.split(".mlp.experts.")
            expert, matrix = rest.split(".", 1)
            stacks.setdefault((before.split(".")[-1], matrix), {})[int(expert)] = bits
        elif name.endswith("shared_expert_gate.weight"):
            add(stored_name(name), bits[0])
        else:
            add(stored_name(name), bits)
    for (layer, matrix), experts in stacks.items():
        kind = matrix.removesuffix("_proj.weight")
        add(f"blk.{layer}.ffn_{kind}_exps.weight", np.stack([experts[i] for i in range(len(experts))]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expected = {"file": target.name, "same_results_as": f"../models/{folder}/expected.json", "tensors": facts}
    target.with_suffix(".expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write("qwen2_moe", "qwen2moe")
    write("qwen3_moe", "qwen3moe")
