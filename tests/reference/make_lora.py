"""Makes tests/golden/lora/peft_llama2: a random adapter with PEFT's own rank and alpha patterns, and the logits PEFT computes with it.

    python make_lora.py   (torch, transformers, peft; seconds on a CPU)
"""
import json
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")


def main():
    torch.manual_seed(11)
    folder = os.path.join(GOLDEN, "lora", "peft_llama2")
    shutil.rmtree(folder, ignore_errors=True)
    base = os.path.join(GOLDEN, "models", "llama2")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=6, lora_alpha=12, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
                        rank_pattern={r"layers\.0\.self_attn\.[qk]_proj": 3, "down_proj": 10}, alpha_pattern={"mlp.gate_proj": 5},
                        task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.2)
    model = model.eval()
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        saved = json.load(file)
    saved["base_model_name_or_path"] = "../../models/llama2"
    with open(path, "w", encoding="utf-8") as file:
        json.dump(saved, file, indent=1, sort_keys=True)
        file.write("\n")
    with open(os.path.join(base, "expected.json"), encoding="utf-8") as file:
        prompts = [case["input_ids"] for case in json.load(file)["cases"][:3]]
    cases = []
    for ids in prompts:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        cases.append({"input_ids": ids, "last_logits": [float(x) for x in logits]})
    with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"model": "peft_llama2", "base": "llama2", "cases": cases}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
