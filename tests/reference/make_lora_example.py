"""Makes tests/golden/lora/example_llama3: examples/lora/train.py run on a tiny checkpoint, and what transformers answers with the result.

    python make_lora_example.py   (torch, transformers, peft; a minute on a CPU)
"""
import json
import os
import shutil
import sys

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "examples", "lora"))
import train  # noqa: E402


def main():
    base = os.path.join(ROOT, "tests", "golden", "models", "llama3")
    out = os.path.join(ROOT, "tests", "golden", "lora", "example_llama3")
    shutil.rmtree(out, ignore_errors=True)
    pairs = train.read_pairs(os.path.join(ROOT, "examples", "lora", "pairs.jsonl"))
    model, tokenizer = train.train(base, out, pairs, steps=150, rank=8, rate=1e-2, seed=0)
    os.remove(os.path.join(out, "README.md"))
    path = os.path.join(out, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file) | {"base_model_name_or_path": "../../models/llama3"}
    config["target_modules"] = sorted(config["target_modules"])
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1, sort_keys=True)
        file.write("\n")
    cases = []
    for pair in pairs:
        ids = tokenizer(train.prompt_of(pair["prompt"]))["input_ids"]
        prompt, gaps = list(ids), []
        with torch.no_grad():
            for _ in range(8):
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
                top = torch.topk(logits, 2).values
                gaps.append(float(top[0] - top[1]))
                ids = ids + [int(logits.argmax())]
                if ids[-1] == tokenizer.eos_token_id:
                    break
        cases.append({"prompt": train.prompt_of(pair["prompt"]), "input_ids": prompt, "answer_ids": ids[len(prompt):],
                      "answer": tokenizer.decode(ids[len(prompt):], skip_special_tokens=True), "label": pair["label"], "least_gap": min(gaps)})
    right = sum(case["answer"].strip() == case["label"] for case in cases)
    print(f"{right} of {len(cases)} labels, least gap {min(c['least_gap'] for c in cases):.3f}")
    with open(os.path.join(out, "expected.json"), "w", encoding="utf-8") as file:
        json.dump({"base": "llama3", "cases": cases}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
