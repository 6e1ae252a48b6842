"""Makes tests/golden/fidelity/{NAME}.bin and {NAME}_greedy.json: what float32 arithmetic makes of the two real models.

    python make_fidelity.py [--only NAME] [--scratch DIR]   (torch, transformers, tokenizers, gguf; some minutes)

--scratch keeps the full logits, from which make_peer_fidelity.py also computes the exact KL.
"""
import argparse
import json
import os

import fidelity_format
import gguf_reference
import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(ROOT, "tests", "golden", "fidelity")
MODELS = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2.5-coder": "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
}
GREEDY_TOKENS = 32
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the sea, there lived",
    "1, 2, 3, 5, 8, 13,",
    '{"name": "Ada", "age": 36, "languages": [',
    "春天来了，公园里的花",
    "<|im_start|>user\nName three colours of the rainbow.<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are a careful translator.<|im_end|>\n<|im_start|>user\nSay \"good morning\" in Spanish."
    "<|im_end|>\n<|im_start|>assistant\n",
]


def passages():
    out = []
    with open(os.path.join(HERE, "fidelity_text.txt"), encoding="utf-8") as f:
        for line in f:
            if line.startswith("=== ") and line.endswith(" ===\n"):
                out.append((line[4:-5], []))
            else:
                out[-1][1].append(line)
    return [(name, "".join(lines).rstrip("\n")) for name, lines in out]


def reduce_logits(logits):
    """The TOP_K best next tokens of each row, their log-probabilities, and the logarithm of what is left."""
    log_p = torch.log_softmax(torch.from_numpy(logits).double(), -1)
    best, ids = torch.topk(log_p, fidelity_format.TOP_K, -1)
    others = log_p.scatter(-1, ids, -torch.inf)
    return ids.numpy(), torch.cat([best, torch.logsumexp(others, -1, keepdim=True)], -1).numpy()


def greedy(model, tokenizer, prompt):
    """Greedy continuation with the gap between the two best logits and the log-probability of each step."""
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    steps, cache, fed = [], None, torch.tensor([ids])
    for _ in range(GREEDY_TOKENS):
        out = model(fed, past_key_values=cache, use_cache=True)
        cache, row = out.past_key_values, out.logits[0, -1]
        best = torch.topk(row, 2)
        token = int(best.indices[0])
        steps.append((token, float(best.values[0] - best.values[1]), float(torch.log_softmax(row, -1)[token])))
        fed = torch.tensor([[token]])
    tokens = [s[0] for s in steps]
    return {"prompt": prompt, "prompt_ids": ids, "tokens": tokens, "gaps": [round(s[1], 5) for s in steps],
            "logprobs": [round(s[2], 6) for s in steps], "text": tokenizer.decode(tokens, skip_special_tokens=False)}


def make(name, file, scratch):
    path = os.path.join(ROOT, "models", file)
    model, tokenizer = gguf_reference.load_model(path), gguf_reference.load_tokenizer(path)
    kept, full, error = [], [], []
    for title, text in passages():
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text, title
        logits = model(torch.tensor([ids])).logits[0].numpy()
        top_ids, logprobs = reduce_logits(logits)
        kept.append((ids, top_ids, logprobs))
        full.append(logits)
        print(f"{name}: {title}: {len(ids)} tokens, mean rest {np.exp(logprobs[:, -1]).mean():.4f}", flush=True)
    binary = os.path.join(OUT, name + ".bin")
    fidelity_format.write(binary, full[0].shape[1], kept)
    for (_, top_ids, p), logits in zip(fidelity_format.read(binary)[0], full):
        error.append(fidelity_format.bucketed_kl(top_ids, p, logits))
    error = np.concatenate(error)
    print(f"{name}: {len(error)} positions; KL that rounding the file brings: mean {error.mean():.2e}, max {error.max():.2e}")
    if scratch:
        np.savez(os.path.join(scratch, name + ".npz"), *full)
    with open(os.path.join(OUT, name + "_greedy.json"), "w", encoding="utf-8") as f:
        json.dump({"model": file, "cases": [greedy(model, tokenizer, p) for p in PROMPTS]}, f, ensure_ascii=False)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=sorted(MODELS))
    parser.add_argument("--scratch")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    os.makedirs(OUT, exist_ok=True)
    for name, file in MODELS.items():
        if args.only in (None, name):
            make(name, file, args.scratch)


if __name__ == "__main__":
    main()
