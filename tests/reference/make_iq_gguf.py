"""Makes tests/golden/gguf/llamaw.IQ.{gguf,expected.json}: llamaw with random IQ1, IQ2, IQ3, TQ and MXFP4 matrices.

    python make_iq_gguf.py   (gguf, torch, transformers)

Bytes are random; scales make each matrix as large as llamaw's own. The logits are transformers' in float32 with the
matrices widened by gguf's dequantiser.
"""
import hashlib
import json
import os

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter, quants
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from transformers import LlamaConfig, LlamaForCausalLM

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "gguf")
WIDE = ["IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0"]
SCALE_AT = {"TQ1_0": 52, "TQ2_0": 64}
GREEDY = 8
HF = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "attn_norm": "input_layernorm",
      "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
      "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
      "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def put_scale(raw, name, scale):
    half = int(np.float16(scale).view(np.uint16))
    if name == "IQ1_M":
        for i in range(4):
            raw[..., 49 + 2 * i] = raw[..., 49 + 2 * i] & 0x0F | (half >> (4 * i) & 15) << 4
    else:
        at = SCALE_AT.get(name, 0)
        raw[..., at], raw[..., at + 1] = half & 255, half >> 8


def random_matrix(name, rows, columns, deviation, random):
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (rows, columns // elements, size), dtype=np.uint8)
    if name == "TQ2_0":  # three of the four codes
        raw[..., :64] = sum(random.integers(0, 3, raw[..., :64].shape, dtype=np.uint8) << s for s in (0, 2, 4, 6))
    if name == "MXFP4":
        raw[..., 0] = 127 + round(np.log2(deviation / 2))
    else:
        put_scale(raw, name, 1.0)
        put_scale(raw, name, deviation / quants.dequantize(raw.reshape(rows, -1), kind).std())
    raw = raw.reshape(rows, -1)
    return raw, quants.dequantize(raw, kind).astype(np.float32)


def facts(raw, values, kind):
    flat = values.astype(np.float64).ravel()
    return {"ne": list(reversed(values.shape)), "type": kind, "raw_sha256": hashlib.sha256(raw.tobytes()).hexdigest(),
            "sum": flat.sum(), "abs_sum": np.abs(flat).sum(), "l2": np.sqrt((flat ** 2).sum()), "first8": flat[:8].tolist()}


def hf_name(name):
    parts = name.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{HF[parts[2]]}.weight"
    return HF[parts[0]] + ".weight"


def unpermuted(values, head_dim):
    rows, columns = values.shape
    return values.reshape(rows // head_dim, head_dim // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def expected_case(model, ids):
    case = {"input_ids": ids, "greedy": [], "greedy_gaps": []}
    for step in range(GREEDY):
        logits = model(torch.tensor([ids + case["greedy"]])).logits[0, -1]
        top = torch.topk(logits, 5)
        gap = float(top.values[0] - top.values[1])
        if step == 0:
            case |= {"last_logits_first32": logits[:32].tolist(), "argmax": int(top.indices[0]), "gap_top1_top2": gap,
                     "top5": [[int(i), float(v)] for i, v in zip(top.indices, top.values)],
                     "logits_l2": float(logits.double().norm()), "logits_sum": float(logits.double().sum())}
        case["greedy"].append(int(top.indices[0]))
        case["greedy_gaps"].append(gap)
    return case


def copy_metadata(reader, writer):
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind,
                             field.types[-1] if kind == GGUFValueType.ARRAY else None)


def main():
    torch.set_grad_enabled(False)
    random = np.random.default_rng(11)
    reader = GGUFReader(os.path.join(GOLDEN, "llamaw.Q2_K.gguf"))
    value = lambda key: reader.fields["llama." + key].contents()
    head_dim = value("attention.key_length")
    writer = GGUFWriter(os.path.join(GOLDEN, "llamaw.IQ.gguf"), "llama")
    copy_metadata(reader, writer)
    weights, tensors, wide = {}, {}, 0
    for tensor in reader.tensors:
        plain = quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if plain.ndim == 1:
            writer.add_tensor(tensor.name, plain)
            tensors[tensor.name] = facts(plain, plain, "F32")
        else:
            kind = "MXFP4"
            if plain.shape[1] % 256 == 0:
                kind, wide = WIDE[wide % len(WIDE)], wide + 1
            raw, plain = random_matrix(kind, *plain.shape, float(plain.std()), random)
            writer.add_tensor(tensor.name, raw, raw_dtype=GGMLQuantizationType[kind])
            tensors[tensor.name] = facts(raw, plain, kind)
        if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
            plain = unpermuted(plain, head_dim)
        weights[hf_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(plain))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=value("vocab_size"), hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"), num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"), head_dim=head_dim,
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"), max_position_embeddings=value("context_length"),
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")}, tie_word_embeddings=True)).float()
    missing = model.load_state_dict(weights, strict=False).missing_keys
    assert missing == ["lm_head.weight"], missing
    model.tie_weights()
    with open(os.path.join(GOLDEN, "llamaw.Q2_K.expected.json"), encoding="utf-8") as file:
        given = [{k: case[k] for k in ("prompt", "messages", "add_special", "input_ids") if k in case}
                 for case in json.load(file)["cases"]]
    with open(os.path.join(GOLDEN, "llamaw.IQ.expected.json"), "w", encoding="utf-8") as file:
        json.dump({"file": "llamaw.IQ.gguf", "reference": "transformers, float32, of the dequantised tensors",
                   "cases": [case | expected_case(model.eval(), case["input_ids"]) for case in given], "tensors": tensors}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
