#!/usr/bin/env python3
"""Tiny random Qwen2-MoE and Qwen3-MoE checkpoints with what transformers computes from them in float32.

Writes tests/golden/models/qwen2_moe and qwen3_moe (config.json, model.safetensors, expected.json). The last layer of
each is dense (mlp_only_layers). Run from the repository's root with torch and transformers 5.24:
python3 tests/reference/make_moe.py
"""
import json
import pathlib

import torch
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

SHARED = dict(
    vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, moe_intermediate_size=32, num_experts=8, num_experts_per_tok=3,
    mlp_only_layers=[2], tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)


def run(model, ids, steps=16):
    rows = model(torch.tensor([ids])).logits[0]
    first, all_ids, greedy, gaps = rows[-1], list(ids), [], []
    row = first
    for _ in range(steps):
        top = torch.topk(row, 2)
        greedy.append(int(top.indices[0]))
        gaps.append(float(top.values[0] - top.values[1]))
        all_ids.append(greedy[-1])
        row = model(torch.tensor([all_ids])).logits[0, -1]
    top5 = torch.topk(first, 5)
    return {
        "input_ids": list(ids),
        "last_logits_first32": [float(f"{x:.8g}") for x in first[:32]],
        "argmax": int(first.argmax()),
        "top5": [[int(i), float(v)] for v, i in zip(top5.values, top5.indices)],
        "gap_top1_top2": float(top5.values[0] - top5.values[1]),
        "logits_l2": float(first.norm()),
        "logits_sum": float(first.sum()),
        "greedy": greedy,
        "greedy_gaps": gaps,
    }


def write(name, model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # far enough from zero that routers decide and logits differ
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 1.2 / parameter.shape[-1] ** 0.5)
            elif parameter.dim() == 1 and float(parameter.abs().sum()) == 0.0:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model = model.to(torch.bfloat16)
    folder = pathlib.Path("tests/golden/models") / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # Read back: rounding the module has rounded its rotary frequencies too, which no file holds.
    model = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    prompts = [torch.randint(3, 320, (length,), generator=generator).tolist() for length in (1, 9, 40, 70)]
    with torch.no_grad():
        cases = [run(model, prompt) for prompt in prompts]
    expected = {"model": name, "reference": "transformers 5.24, float32", "cases": cases}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def main():
    torch.manual_seed(0)
    write("qwen2_moe", Qwen2MoeForCausalLM(Qwen2MoeConfig(
        **SHARED, shared_expert_intermediate_size=48, norm_topk_prob=False, qkv_bias=True)), 1)
    write("qwen3_moe", Qwen3MoeForCausalLM(Qwen3MoeConfig(
        **SHARED, head_dim=32, norm_topk_prob=True)), 2)


if __name__ == "__main__":
    main()
