"""Makes tests/golden/models/qwen2_gptq{2,2_asym,3,3_asym}: the golden qwen2 in GPTQ's 2 and 3 bits, with expected logits.

    python make_gptq.py   (torch, transformers, safetensors, numpy)

Scales are round-to-nearest by groups of 32 inputs. Codes are packed from the format's definition: those of one output make one stream of
bits, lowest first, in 32-bit words (32 codes of 3 bits in 3 words), a column of words an output; the zeros of one group
likewise, less one where the file says "gptq", as they are where it says "gptq_v2". The words are unpacked again, bit by bit, before the
expected logits are computed: transformers' in float32 with w = scale * (code - zero) and unquantised activations, what
`--activations f32` computes.
"""
import numpy as np
import torch
from make_compressed import make


def to_words(codes, bits):
    """codes [count, columns] to words [count * bits / 32, columns]: each column a stream of bits."""
    stream = ((codes[:, None, :] >> np.arange(bits)[None, :, None]) & 1).reshape(-1, 32, codes.shape[1])
    return (stream.astype(np.uint64) << np.arange(32, dtype=np.uint64)[None, :, None]).sum(1).astype(np.uint32).view(np.int32)


def from_words(words, bits):
    """The inverse of to_words, by whole numbers of any length instead of bits."""
    out = []
    for column in words.view(np.uint32).T:
        number = sum(int(word) << (32 * i) for i, word in enumerate(column))
        out.append([(number >> (bits * k)) & (2 ** bits - 1) for k in range(len(column) * 32 // bits)])
    return np.array(out, dtype=np.int64).T


def quantise(weight, bits, group, symmetric, less_one):
    rows, columns = weight.shape
    most = 2 ** bits - 1
    parts = weight.numpy().reshape(rows, columns // group, group)
    low, high = np.minimum(parts.min(-1), 0), np.maximum(parts.max(-1), 0)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    scales = ((high - low) / most).astype(np.float16)
    plain = scales.astype(np.float32)
    zeros = np.full(scales.shape, 2 ** (bits - 1)) if symmetric else np.clip(np.round(-low / plain), 1 if less_one else 0, most).astype(np.int64)
    codes = np.clip(np.round(parts / plain[..., None]) + zeros[..., None], 0, most).astype(np.int64)
    state = {"qweight": to_words(codes.reshape(rows, columns).T, bits), "qzeros": to_words(zeros - int(less_one), bits).T,
             "scales": scales.T, "g_idx": (np.arange(columns) // group).astype(np.int32)}
    read_codes = from_words(state["qweight"], bits).T.reshape(rows, -1, group)
    read_zeros = from_words(np.ascontiguousarray(state["qzeros"].T), bits) + int(less_one)
    assert (read_codes == codes).all() and (read_zeros == zeros).all()
    values = plain[..., None] * (read_codes - read_zeros[..., None]).astype(np.float32)
    return {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}, torch.from_numpy(values.reshape(rows, columns))


def main():
    torch.set_grad_enabled(False)
    for bits, symmetric, layout in ((2, True, "gptq"), (2, False, "gptq_v2"), (3, True, "gptq_v2"), (3, False, "gptq")):
        config = {"bits": bits, "group_size": 32, "damp_percent": 0.01, "desc_act": False, "static_groups": False, "sym": symmetric,
                  "true_sequential": True, "quant_method": "gptq", "checkpoint_format": layout}
        make(f"qwen2_gptq{bits}{'' if symmetric else '_asym'}", config,
             lambda weight, b=bits, s=symmetric, z=layout == "gptq": quantise(weight, b, 32, s, z))


if __name__ == "__main__":
    main()
