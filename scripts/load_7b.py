#!/usr/bin/env python3
"""Makes a GGUF file of a 7B model's shape (random Q4_0 blocks, about 4 GB), loads it with inferd, and prints seconds and memory.

    .venv/bin/python scripts/load_7b.py --scratch DIR [--binary build/inferd] [--layers 32] [--context 2048]

Run by hand: DIR needs 5 GB; the file is deleted at the end. The tokenizer is SmolLM2's (models/), so that the file is whole.
Prints one line: load seconds, the first answer's seconds, and peak resident memory against file + KV cache + 250 MB.
"""
import argparse
import os
import sys

import load_model
import random_gguf as gguf

HIDDEN, INNER, HEADS = 4096, 11008, 32  # Llama 2 7B
DEVIATION = 0.01


def tensors(layers, vocabulary):
    """(name, type, shape, deviation) in the order of the file."""
    def matrix(name, *shape):
        return f"{name}.weight", gguf.Q4_0, shape, DEVIATION

    def norm(name):
        return f"{name}.weight", gguf.F32, (HIDDEN,), 0

    yield from (matrix("token_embd", vocabulary, HIDDEN), norm("output_norm"), matrix("output", vocabulary, HIDDEN))
    for i in range(layers):
        yield from (norm(f"blk.{i}.{part}") for part in ("attn_norm", "ffn_norm"))
        yield from (matrix(f"blk.{i}.{part}", HIDDEN, HIDDEN) for part in ("attn_q", "attn_k", "attn_v", "attn_output"))
        yield from (matrix(f"blk.{i}.{part}", INNER, HIDDEN) for part in ("ffn_gate", "ffn_up"))
        yield matrix(f"blk.{i}.ffn_down", HIDDEN, INNER)


def make_file(path, layers, context):
    keys, vocabulary = gguf.tokenizer_keys()
    keys += gguf.architecture_keys("llama", {
        "block_count": layers, "context_length": context, "embedding_length": HIDDEN, "feed_forward_length": INNER,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS, "vocab_size": vocabulary,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 10000.0})
    return gguf.write(path, keys, list(tensors(layers, vocabulary)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--binary", default=os.path.join(gguf.ROOT, "build", "inferd"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=2048)
    args = parser.parse_args()
    path = os.path.join(args.scratch, "random-7b-q4_0.gguf")
    try:
        make_file(path, args.layers, args.context)
        within = load_model.report(args.binary, path, args.context * 2 * 2 * HIDDEN * args.layers, args.context)
    finally:
        if os.path.exists(path):
            os.unlink(path)
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
