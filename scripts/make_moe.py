#!/usr/bin/env python3
"""Makes a GGUF file of Qwen3-30B-A3B's shape with fewer layers: random blocks of the types that its Q4_K_M file has.

    .venv/bin/python scripts/make_moe.py FILE [--layers 6] [--load [--binary build/inferd] [--context 2048]]

A layer is 0.38 GB; the whole model has 48. Random routers spread tokens evenly over the 128 experts, which is what the
training of such models aims at; for that layers add little to what the embedding says, or what all tokens have in common would grow
from layer to layer. The tokenizer is SmolLM2's (models/), so that the file is whole. --load also loads the file with
inferd and prints load seconds, the first answer's seconds, and peak resident memory against file + KV cache + 250 MB.
"""
import argparse
import os
import sys

import load_model
import random_gguf as gguf

HIDDEN, HEADS, KV_HEADS, HEAD_SIZE = 2048, 32, 4, 128
EXPERTS, USED, INNER = 128, 8, 768


def matrix(name, kind, *shape, gain=1.0):
    """A product of inputs of deviation 1 deviates by `gain`."""
    return f"{name}.weight", kind, shape, gain * shape[-1] ** -0.5


def norm(name, size=HIDDEN):
    return f"{name}.weight", gguf.F32, (size,), 0


def layer(i):
    """Attention values and the experts' last matrices have 6 bits in half of the layers, as in the file of the whole model."""
    more = gguf.Q6_K if i % 2 else gguf.Q4_K
    at = f"blk.{i}."
    yield norm(at + "attn_norm")
    yield matrix(at + "attn_q", gguf.Q4_K, HEADS * HEAD_SIZE, HIDDEN)
    yield matrix(at + "attn_k", gguf.Q4_K, KV_HEADS * HEAD_SIZE, HIDDEN)
    yield matrix(at + "attn_v", more, KV_HEADS * HEAD_SIZE, HIDDEN)
    yield matrix(at + "attn_output", gguf.Q4_K, HIDDEN, HEADS * HEAD_SIZE, gain=0.1)
    yield from (norm(at + part, HEAD_SIZE) for part in ("attn_q_norm", "attn_k_norm"))
    yield norm(at + "ffn_norm")
    yield matrix(at + "ffn_gate_inp", gguf.F32, EXPERTS, HIDDEN)
    yield from (matrix(at + part, gguf.Q4_K, EXPERTS, INNER, HIDDEN) for part in ("ffn_gate_exps", "ffn_up_exps"))
    yield matrix(at + "ffn_down_exps", more, EXPERTS, HIDDEN, INNER, gain=0.1)


def make_file(path, layers):
    keys, vocabulary = gguf.tokenizer_keys()
    keys += gguf.architecture_keys("qwen3moe", {
        "block_count": layers, "context_length": 40960, "embedding_length": HIDDEN, "feed_forward_length": 6144,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD_SIZE,
        "attention.value_length": HEAD_SIZE, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 1e6,
        "expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": INNER})
    tensors = [matrix("token_embd", gguf.Q4_K, vocabulary, HIDDEN, gain=HIDDEN ** 0.5), norm("output_norm"),
               matrix("output", gguf.Q6_K, vocabulary, HIDDEN)]
    for i in range(layers):
        tensors += layer(i)
    return gguf.write(path, keys, tensors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--binary", default=os.path.join(gguf.ROOT, "build", "inferd"))
    parser.add_argument("--context", type=int, default=2048)
    args = parser.parse_args()
    size = make_file(args.file, args.layers)
    print(f"{args.file}: {args.layers} layers, {size / 1e9:.2f} GB")
    if not args.load:
        return 0
    kv_bytes = args.context * 2 * 2 * KV_HEADS * HEAD_SIZE * args.layers
    return 0 if load_model.report(args.binary, args.file, kv_bytes, args.context) else 1


if __name__ == "__main__":
    sys.exit(main())
