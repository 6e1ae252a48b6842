#!/usr/bin/env python3
"""Prompts within and beyond the original length under longrope and YaRN, computed by transformers.

Writes config.VARIANT.json and expected.VARIANT.json beside the golden qwen2 and llama3: random factors and an original
length that the prompts and the greedy steps cross; steps go through the key/value cache, as in make_dynamic_ntk.py.
Run from the repository's root with torch and transformers 5.24: python3 tests/reference/make_scaled_rope.py
"""
import json
import pathlib
import shutil
import tempfile

import torch
from make_dynamic_ntk import run
from transformers import AutoConfig, AutoModelForCausalLM

MODELS = pathlib.Path("tests/golden/models")
LENGTHS = ((9, 12), (27, 12), (32, 4), (33, 8), (70, 12))  # prompt, greedy steps; the original length is 32


def factors(low, high, count, seed):
    return [round(x, 3) for x in torch.linspace(low, high, count).add(torch.rand(count, generator=torch.Generator().manual_seed(seed))).tolist()]


LONGROPE = {"short_factor": factors(1.0, 1.2, 8, 1), "long_factor": factors(1.0, 9.0, 8, 2)}
VARIANTS = {
    # As Phi-3 has it: the original length beside the object, the factor from the lengths.
    ("qwen2", "longrope"): {"max_position_embeddings": 128, "original_max_position_embeddings": 32,
                            "rope_scaling": {"type": "longrope"} | LONGROPE},
    # As transformers 5 writes it, the attention factor given.
    ("llama3", "longrope"): {"max_position_embeddings": 256, "rope_scaling": None, "rope_theta": None,
                             "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 8.0,
                                                 "original_max_position_embeddings": 32, "attention_factor": 1.3} | LONGROPE},
    ("llama3", "yarn"): {"max_position_embeddings": 128, "rope_theta": 10000.0,
                         "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                                          "beta_fast": 4.0, "beta_slow": 1.0, "truncate": False}},
    ("qwen2", "yarn_mscale"): {"max_position_embeddings": 128, "rope_theta": 1000.0,
                               "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                                                "mscale": 1.2, "mscale_all_dim": 0.5}},
}


def make(name, variant, changes):
    folder = MODELS / name
    config = json.load(open(folder / "config.json", encoding="utf-8")) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / f"config.{variant}.json").write_text(json.dumps(config, indent=1) + "\n")
    ids = [(i * 37 + i * i * 11 + 5) % 380 for i in range(80)]
    cases = []
    with tempfile.TemporaryDirectory() as work:
        for file in folder.iterdir():
            shutil.copy(file, work)
        shutil.copy(folder / f"config.{variant}.json", pathlib.Path(work) / "config.json")
        for length, steps in LENGTHS:
            # The scaling is state of the model: a fresh one for every case.
            model = AutoModelForCausalLM.from_pretrained(work, config=AutoConfig.from_pretrained(work), dtype=torch.float32).eval()
            with torch.no_grad():
                cases.append(run(model, ids[:length], steps))
    out = {"model": name, "variant": variant, "reference": "transformers 5.24, cached greedy steps", "cases": cases}
    (folder / f"expected.{variant}.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    for (model_name, variant_name), what in VARIANTS.items():
        make(model_name, variant_name, what)
