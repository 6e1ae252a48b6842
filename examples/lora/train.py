"""Trains a LoRA adapter on labelled pairs with PEFT, on the CPU or a GPU.

    python train.py BASE_FOLDER OUT_FOLDER [--pairs pairs.jsonl] [--steps 12] [--rank 8] [--rate 1e-3] [--seed 0]

BASE_FOLDER is a Hugging Face folder of a decoder (for a GGUF file see dequantize.py); every line of the pairs is {"prompt", "label"}. The
adapter learns to write " LABEL" and the end of the text after "Ticket: PROMPT\\nQueue:". Needs torch, transformers and peft.
"""
import argparse
import json
import os

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def prompt_of(text):
    return f"Ticket: {text}\nQueue:"


def read_pairs(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def encode(tokenizer, pair, device):
    """Ids of prompt and label, and the ids to be learnt: the label and the end, not the prompt."""
    prompt = tokenizer(prompt_of(pair["prompt"]))["input_ids"]
    label = tokenizer(" " + pair["label"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    ids = torch.tensor([prompt + label], device=device)
    targets = torch.tensor([[-100] * len(prompt) + label], device=device)
    return ids, targets


def train(base, out, pairs, steps, rank, rate, seed):
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).to(device)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    examples = [encode(tokenizer, pair, device) for pair in pairs]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for ids, targets in examples:
            loss = model(input_ids=ids, labels=targets).loss / len(examples)
            loss.backward()
            total += loss.item()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {total:.4f}", flush=True)
    model.save_pretrained(out)
    return model.eval(), tokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("out")
    parser.add_argument("--pairs", default=os.path.join(HERE, "pairs.jsonl"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train(args.base, args.out, read_pairs(args.pairs), args.steps, args.rank, args.rate, args.seed)
    print(f"saved {args.out}; serve it with: inferd serve --model base={args.base} --adapter tickets={args.out}")


if __name__ == "__main__":
    main()
