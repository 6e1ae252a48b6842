#!/usr/bin/env python3
"""Prompts beyond the trained length under dynamic NTK scaling, computed by transformers.

Writes tests/golden/models/llama2/expected.dynamic_long.json: the golden Llama with config.dynamic.json, prompts on both
sides of its 32 positions, greedy steps through the key/value cache (keys keep the base they were made with).
Run from the repository's root with torch and transformers 5.24: python3 tests/reference/make_dynamic_ntk.py
"""
import json
import pathlib
import shutil
import tempfile

import torch
from transformers import AutoConfig, AutoModelForCausalLM

FOLDER = pathlib.Path("tests/golden/models/llama2")
LIMIT = 64  # factor * max_position_embeddings


def run(model, ids, steps):
    out = model(torch.tensor([ids]), use_cache=True)
    first = out.logits[0, -1]
    greedy, gaps, row = [], [], first
    for _ in range(steps):
        top = torch.topk(row, 2)
        greedy.append(int(top.indices[0]))
        gaps.append(float(top.values[0] - top.values[1]))
        out = model(torch.tensor([[greedy[-1]]]), past_key_values=out.past_key_values, use_cache=True)
        row = out.logits[0, -1]
    top5 = torch.topk(first, 5)
    return {
        "input_ids": ids,
        "last_logits_first32": [float(f"{x:.8g}") for x in first[:32]],
        "argmax": int(first.argmax()),
        "top5": [[int(i), float(v)] for v, i in zip(top5.values, top5.indices)],
        "gap_top1_top2": float(top5.values[0] - top5.values[1]),
        "logits_l2": float(first.norm()),
        "logits_sum": float(first.sum()),
        "greedy": greedy,
        "greedy_gaps": gaps,
    }


def main():
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as work:
        for file in FOLDER.iterdir():
            shutil.copy(file, work)
        shutil.copy(FOLDER / "config.dynamic.json", pathlib.Path(work) / "config.json")
        config = AutoConfig.from_pretrained(work)
        ids = json.load(open(FOLDER / "expected.dynamic.json"))["cases"][0]["input_ids"]
        cases = []
        for length, steps in ((20, 24), (31, 24), (40, 16), (57, 6)):
            # The scaling is state of the model: a fresh one for every case.
            model = AutoModelForCausalLM.from_pretrained(work, config=config, dtype=torch.float32).eval()
            with torch.no_grad():
                cases.append(run(model, ids[:length], min(steps, LIMIT - length)))
    out = {"model": "llama2", "variant": "dynamic", "reference": "transformers 5.24, cached greedy steps", "cases": cases}
    (FOLDER / "expected.dynamic_long.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
