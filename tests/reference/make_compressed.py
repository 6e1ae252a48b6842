"""Makes tests/golden/models/qwen2_{w8a8,w4a16,w4a16_asym,w4a16_actorder,bnb8}: the golden qwen2 quantised, with expected logits.

    python make_compressed.py   (torch, transformers, safetensors, compressed-tensors)

Scales are round-to-nearest; codes are packed and unpacked by the compressed-tensors package (for bitsandbytes by its
published rule, w = q * SCB / 127; of columns in an order of activations the package packs the codes only, and
w = scale[g_idx[column]] * q, as its versions up to 0.11 had it). The logits are transformers' in float32 with the unpacked weights and unquantised
activations: what `--activations f32` computes.
"""
import json
import os
import shutil

import torch
from compressed_tensors.compressors.naive_quantized.base import IntQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

MODELS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "models")
BASE = os.path.join(MODELS, "qwen2")
GREEDY = 8


def factors(weight, bits, group, symmetric):
    """Scales and zeros [rows, groups] for signed codes."""
    rows, columns = weight.shape
    parts = weight.reshape(rows, -1, group or columns)
    low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
    most = 2 ** (bits - 1) - 1
    if symmetric:
        return torch.maximum(-low, high) / most, torch.zeros(rows, parts.shape[1], dtype=torch.int8)
    scale = (high - low) / (2 ** bits - 1)
    zero = (-most - 1 - low / scale).round().clamp(-most - 1, most)
    return scale, zero.to(torch.int8)


def compressed(weight, compressor, args, group):
    scale, zero = factors(weight, args.num_bits, group, args.symmetric)
    state = {"weight": weight, "weight_scale": scale.to(torch.bfloat16)}
    if not args.symmetric:
        state["weight_zero_point"] = zero
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    out = compressor.compress(state, scheme)
    plain = compressor.decompress({k: v.float() if k == "weight_scale" else v for k, v in out.items()}, scheme)
    return out, plain["weight"].float()


def reordered(weight, group):
    """Symmetric codes of 4 bits whose groups are columns strewn over the matrix, listed by weight_g_idx."""
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(weight.shape[1]))
    groups = torch.empty(weight.shape[1], dtype=torch.int32)
    groups[order] = torch.arange(weight.shape[1], dtype=torch.int32) // group
    scale = factors(weight[:, order], 4, group, True)[0].to(torch.bfloat16)
    scales = scale.float()[:, groups.long()]
    codes = (weight / scales).round().clamp(-8, 7)
    state = {"weight_packed": pack_to_int32(codes.to(torch.int8), 4), "weight_scale": scale, "weight_g_idx": groups,
             "weight_shape": torch.tensor(weight.shape)}
    return state, codes * scales


def bitsandbytes(weight):
    most = weight.abs().amax(1)
    codes = (weight / most[:, None] * 127).round().to(torch.int8)
    state = {"weight": codes, "SCB": most, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return state, codes.float() * (most[:, None] / 127)


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


def make(name, config, quantise):
    folder = os.path.join(MODELS, name)
    os.makedirs(folder, exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    tensors = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    for module, layer in model.named_modules():
        if not isinstance(layer, torch.nn.Linear) or module == "lm_head":
            continue
        state, plain = quantise(layer.weight.data)
        del tensors[module + ".weight"]
        tensors |= {f"{module}.{key}": value.contiguous() for key, value in state.items()}
        layer.weight.data = plain
    for key, value in model.state_dict().items():
        if key in tensors and not key.endswith("_proj.weight"):
            tensors[key] = value.to(torch.bfloat16)
            value.copy_(tensors[key].float())
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(BASE, "config.json"), encoding="utf-8") as file:
        settings = json.load(file)
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(settings | {"quantization_config": config}, file, indent=1)
    with open(os.path.join(BASE, "expected.json"), encoding="utf-8") as file:
        prompts = [case["input_ids"] for case in json.load(file)["cases"][:3]]
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"model": name, "cases": [expected_case(model, ids) for ids in prompts]}, file)
        file.write("\n")
    shutil.copy(os.path.join(BASE, "tokenizer.json"), folder)
    shutil.copy(os.path.join(BASE, "tokenizer_config.json"), folder)


def scheme_config(args, layout):
    weights = {key: value for key, value in json.loads(args.model_dump_json()).items() if value is not None}
    return {"quant_method": "compressed-tensors", "format": layout, "ignore": ["lm_head"], "quantization_status": "compressed",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}}


def make_reordered():
    short = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=True)
    config = scheme_config(short, "pack-quantized")
    config["config_groups"]["group_0"]["weights"]["actorder"] = "group"  # which the package no longer takes
    make("qwen2_w4a16_actorder", config, lambda w: reordered(w, 32))


def main():
    torch.set_grad_enabled(False)
    channel = QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=True)
    make("qwen2_w8a8", scheme_config(channel, "int-quantized"),
         lambda w: compressed(w, IntQuantizationCompressor, channel, None))
    group = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=64, symmetric=True)
    make("qwen2_w4a16", scheme_config(group, "pack-quantized"),
         lambda w: compressed(w, PackedQuantizationCompressor, group, 64))
    zeros = QuantizationArgs(num_bits=4, type="int", strategy="group", group_size=32, symmetric=False)
    make("qwen2_w4a16_asym", scheme_config(zeros, "pack-quantized"),
         lambda w: compressed(w, PackedQuantizationCompressor, zeros, 32))
    make_reordered()
    make("qwen2_bnb8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, bitsandbytes)


if __name__ == "__main__":
    main()
