"""Makes tests/golden/models/{qwen2_nf4,qwen2_nf4_narrow,llama3_fp4} and tests/golden/unit/bitsandbytes4: 4-bit folders of bitsandbytes.

    python make_bitsandbytes4.py   (torch, transformers, accelerate, safetensors, bitsandbytes)

transformers and bitsandbytes quantise and write the folders. What the files mean is computed here from the published
layout, on its own, and held against bitsandbytes; the logits are transformers' in float32 with those weights.
"""
import json
import os
import shutil
import tempfile

import bitsandbytes.functional as bnb
import numpy as np
import torch
from make_compressed import MODELS, expected_case
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

UNIT = os.path.join(os.path.dirname(MODELS), "unit", "bitsandbytes4")
STATE = ".quant_state.bitsandbytes__"


def dequantised(tensors, name):
    """The values of the matrix that `name` and its parts hold."""
    key = next(k for k in tensors if k.startswith(name + STATE))
    state = json.loads(bytes(tensors[key].tolist()))
    absmax = tensors[name + ".absmax"].numpy()
    if name + ".nested_absmax" in tensors:
        largest = np.repeat(tensors[name + ".nested_absmax"].numpy(), state["nested_blocksize"])[:absmax.size]
        absmax = tensors[name + ".nested_quant_map"].numpy()[absmax] * largest + np.float32(state["nested_offset"])
    packed = tensors[name].numpy().reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], 1).reshape(-1)
    codes = codes[:int(np.prod(state["shape"]))]  # an odd number of them leaves half a byte
    values = tensors[name + ".quant_map"].numpy()[codes] * np.repeat(absmax, state["blocksize"])[:codes.size]
    return torch.from_numpy(values.astype(np.float32)).reshape(state["shape"])


def make_model(base, name, kind, double, source=None):
    folder = os.path.join(MODELS, name)
    source = source or os.path.join(MODELS, base)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=double,
                                  bnb_4bit_compute_dtype=torch.float32)
    AutoModelForCausalLM.from_pretrained(source, quantization_config=settings, device_map="cpu",
                                         dtype=torch.bfloat16).save_pretrained(folder)
    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    quantised = 0
    for key, value in model.state_dict().items():
        if key + ".absmax" in tensors:
            value.copy_(dequantised(tensors, key))
            quantised += 1
        elif key in tensors:
            value.copy_(tensors[key].float())
    assert quantised == 14
    with open(os.path.join(source, "expected.json"), encoding="utf-8") as file:
        prompts = [case["input_ids"] for case in json.load(file)["cases"][:3]]
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"model": name, "cases": [expected_case(model, ids) for ids in prompts]}, file)
        file.write("\n")
    for extra in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(source, extra), folder)
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))


def make_unit():
    """Matrices of every kind of block, some with blocks that end within rows, and more blocks than share a magnitude."""
    os.makedirs(UNIT, exist_ok=True)
    torch.manual_seed(4)
    tensors, cases = {}, {}
    for kind in ("nf4", "fp4"):
        for block, rows, columns in ((64, 300, 64), (128, 34, 192), (4096, 48, 128), (32, 20, 64), (64, 21, 100), (256, 33, 75)):
            for double in (False, True):
                name = f"{kind}_{block}_{columns}{'_double' if double else ''}"
                weight = torch.randn(rows, columns) * torch.rand(rows, 1)
                packed, state = bnb.quantize_4bit(weight, blocksize=block, quant_type=kind, compress_statistics=double)
                parts = {name + ".weight": packed}
                parts |= {f"{name}.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
                values = dequantised(parts, name + ".weight")
                state.shape = torch.Size([1, weight.numel()])  # its CPU kernel takes blocks to end with rows
                theirs = bnb.dequantize_4bit(packed, state).reshape(rows, columns)
                assert torch.allclose(values, theirs, atol=1e-6, rtol=1e-6)
                tensors |= {key: value.contiguous() for key, value in parts.items()}
                tensors[name + ".dequantized"] = values
                cases[name] = {"rows": rows, "columns": columns, "type": kind}
    save_file(tensors, os.path.join(UNIT, "matrices.safetensors"))
    with open(os.path.join(UNIT, "index.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")


def make_narrow_model():
    """A model whose rows of 80 and 108 inputs end within blocks of 64."""
    torch.manual_seed(5)
    base = os.path.join(MODELS, "qwen2")
    config = AutoConfig.from_pretrained(base, hidden_size=80, intermediate_size=108)
    with tempfile.TemporaryDirectory() as source:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.15)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
        model.save_pretrained(source)
        for extra in ("tokenizer.json", "tokenizer_config.json", "expected.json"):
            shutil.copy(os.path.join(base, extra), source)
        make_model("qwen2", "qwen2_nf4_narrow", "nf4", False, source)


def main():
    torch.set_grad_enabled(False)
    make_unit()
    make_narrow_model()
    make_model("qwen2", "qwen2_nf4", "nf4", True)
    make_model("llama3", "llama3_fp4", "fp4", False)


if __name__ == "__main__":
    main()
