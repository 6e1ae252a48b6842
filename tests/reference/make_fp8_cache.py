"""Makes tests/golden/models/{qwen2,qwen3,llama3}/expected.fp8.json: what the golden models answer from a KV cache of fp8.

    python make_fp8_cache.py   (torch, transformers)

transformers computes in float64; its cache keeps of every token's keys and of its values, head by head, a scale in f16, the
largest magnitude / 448, and codes, x / scale as torch's float8_e4m3fn. Keys with a bias are kept less the mean of that bias,
rotated to positions 0 to 2047. A value halfway between two codes goes either way with the last bit of float32: prompts and
answers are cut where noise of 1e-6 in what is kept moves logits.
"""
import json
import os

import torch
import transformers

GOLDEN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "models")
POSITIONS = 2048


def kept(x, noise):
    """x [..., heads, tokens, head_dim] as the cache gives it back."""
    x = x * (1 + noise * torch.randn_like(x))
    scale = (x.abs().amax(-1, keepdim=True) / 448).to(torch.float16).to(x.dtype)
    codes = (x / torch.where(scale > 0, scale, 1)).clamp(-448, 448).to(torch.float32).to(torch.float8_e4m3fn)
    return codes.to(x.dtype) * scale


class Fp8Cache(transformers.DynamicCache):
    def __init__(self, shifts, noise):
        super().__init__()
        self.shifts, self.noise = shifts, noise

    def update(self, keys, values, layer_idx, *args, **kwargs):
        shift = self.shifts[layer_idx]
        return super().update(kept(keys - shift, self.noise) + shift, kept(values, self.noise), layer_idx, *args, **kwargs)


def key_shifts(model):
    """What each layer's rotated keys have in common, [kv_heads, 1, head_dim]."""
    shifts = []
    for layer in model.model.layers:
        bias = layer.self_attn.k_proj.bias
        if bias is None:
            shifts.append(torch.zeros(1, 1, 1, dtype=torch.float64))
            continue
        bias = bias.reshape(-1, 1, layer.self_attn.head_dim)
        cos, sin = model.model.rotary_emb(bias, torch.arange(POSITIONS)[None])
        half = bias.shape[-1] // 2
        turned = bias * cos + torch.cat([-bias[..., half:], bias[..., :half]], -1) * sin
        shifts.append(turned.mean(1, keepdim=True))
    return shifts


def logits(model, ids, shifts, noise=0.0):
    cache = Fp8Cache(shifts, noise) if shifts is not None else transformers.DynamicCache()
    return model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1]


def is_stable(model, ids, shifts):
    exact = logits(model, ids, shifts)
    return all((logits(model, ids, shifts, 1e-6) - exact).abs().max() < 1e-4 * exact.abs().max() for _ in range(8))


def expected_case(model, published, shifts):
    ids = list(published["input_ids"])
    plain = logits(model, ids, None)
    error = (plain[:32] - torch.tensor(published["last_logits_first32"])).abs().max() / plain.abs().max()
    assert error < 1e-4, error
    while not is_stable(model, ids, shifts):
        ids.pop()
    moved = (logits(model, ids, shifts) - logits(model, ids, None)).abs().max() / logits(model, ids, None).abs().max()
    print(len(ids), "tokens: the cache moves the logits by", float(moved))
    case = {"input_ids": list(ids), "greedy": [], "greedy_gaps": []}
    for step in range(len(published["greedy"])):
        row = logits(model, ids, shifts)
        top = row.topk(5)
        if step == 0:
            case |= {"last_logits_first32": row[:32].tolist(), "argmax": int(top.indices[0]),
                     "gap_top1_top2": float(top.values[0] - top.values[1]),
                     "top5": [[int(i), float(v)] for i, v in zip(top.indices, top.values)],
                     "logits_l2": float(row.norm()), "logits_sum": float(row.sum())}
        case["greedy"].append(int(top.indices[0]))
        case["greedy_gaps"].append(float(top.values[0] - top.values[1]))
        ids.append(int(top.indices[0]))
        if not is_stable(model, ids, shifts):
            break
    return case


@torch.no_grad()
def main():
    torch.manual_seed(1)
    for name in ("qwen2", "qwen3", "llama3"):
        folder = os.path.join(GOLDEN, name)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        shifts = key_shifts(model)
        with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
            published = json.load(file)["cases"]
        cases = [expected_case(model, case, shifts) for case in published]
        with open(os.path.join(folder, "expected.fp8.json"), "w", encoding="utf-8") as file:
            json.dump({"model": name, "cases": cases}, file)
            file.write("\n")


if __name__ == "__main__":
    main()
