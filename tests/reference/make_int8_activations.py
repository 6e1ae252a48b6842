"""Makes tests/golden/models/qwen2_w8a8/{config,expected}.int8.json: the golden W8A8 folder with int8 activations.

    python make_int8_activations.py   (numpy)

The folder's weights, and a configuration that asks for inputs of linear layers as int8, one symmetric scale a token:
s = max |x| / 127, codes round(x / s), ties to even. Everything is computed in float64 by the formulas below, which
first have to give the logits that transformers gave for the same weights with unquantised activations (expected.json).
A value halfway between two codes goes either way with the last bit of float32, and one such moves the logits of random
weights by 2%: so prompts are cut where noise of 1e-6 in what is rounded moves nothing.
"""
import json
import os

import numpy as np

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "golden", "models", "qwen2_w8a8")
INPUTS = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}


def read_tensors(path):
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            bits = np.frombuffer(data[begin:end], np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32)
        else:
            values = np.frombuffer(data[begin:end], {"I8": np.int8, "F32": np.float32, "I64": np.int64}[entry["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def rounded(x, noise):
    x = x * (1 + noise(x.shape))
    scale = np.abs(x).max(-1, keepdims=True) / 127
    return np.rint(x / np.where(scale > 0, scale, 1)) * scale


class Qwen2:
    def __init__(self, config, tensors, quantise, noise=np.zeros):
        self.config, self.tensors, self.quantise, self.noise = config, tensors, quantise, noise

    def linear(self, name, x):
        weight = self.tensors[name + ".weight"] * self.tensors[name + ".weight_scale"]
        out = (rounded(x, self.noise) if self.quantise else x) @ weight.T
        return out + self.tensors.get(name + ".bias", 0.0)

    def norm(self, name, x):
        scaled = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.config["rms_norm_eps"])
        return scaled * self.tensors[name + ".weight"]

    def attention(self, prefix, x):
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        length, size = len(x), self.config["hidden_size"] // heads

        def split(name, count):
            return self.linear(prefix + name, x).reshape(length, count, size).transpose(1, 0, 2)

        angles = np.outer(np.arange(length), self.config["rope_theta"] ** (-np.arange(0, size, 2) / size))
        cos, sin = (np.concatenate([f(angles)] * 2, -1) for f in (np.cos, np.sin))

        def turned(v):
            return v * cos + np.concatenate([-v[..., size // 2:], v[..., : size // 2]], -1) * sin

        q, k, v = turned(split("q_proj", heads)), turned(split("k_proj", kv_heads)), split("v_proj", kv_heads)
        k, v = (np.repeat(t, heads // kv_heads, 0) for t in (k, v))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(size) + np.triu(np.full((length, length), -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = (weights / weights.sum(-1, keepdims=True)) @ v
        return self.linear(prefix + "o_proj", out.transpose(1, 0, 2).reshape(length, -1))

    def mlp(self, prefix, x):
        gate, up = self.linear(prefix + "gate_proj", x), self.linear(prefix + "up_proj", x)
        return self.linear(prefix + "down_proj", gate / (1 + np.exp(-gate)) * up)

    def logits(self, ids):
        embedding = self.tensors["model.embed_tokens.weight"]
        x = embedding[ids]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self.attention(prefix + "self_attn.", self.norm(prefix + "input_layernorm", x))
            x = x + self.mlp(prefix + "mlp.", self.norm(prefix + "post_attention_layernorm", x))
        return self.norm("model.norm", x[-1]) @ embedding.T


def is_stable(config, tensors, ids):
    random = np.random.default_rng(1)
    noisy = Qwen2(config, tensors, True, lambda shape: 1e-6 * random.standard_normal(shape))
    logits = Qwen2(config, tensors, True).logits(ids)
    return all(np.abs(noisy.logits(ids) - logits).max() < 1e-4 * np.abs(logits).max() for _ in range(8))


def expected_case(model, ids, steps):
    case = {"input_ids": ids, "greedy": [], "greedy_gaps": []}
    for step in range(steps):
        logits = model.logits(ids + case["greedy"])
        top = np.argsort(-logits, kind="stable")[:5]
        gap = float(logits[top[0]] - logits[top[1]])
        if step == 0:
            case |= {"last_logits_first32": logits[:32].tolist(), "argmax": int(top[0]), "gap_top1_top2": gap,
                     "top5": [[int(i), float(logits[i])] for i in top], "logits_l2": float(np.linalg.norm(logits)),
                     "logits_sum": float(logits.sum())}
        case["greedy"].append(int(top[0]))
        case["greedy_gaps"].append(gap)
    return case


def read_json(name):
    with open(os.path.join(FOLDER, name), encoding="utf-8") as file:
        return json.load(file)


def main():
    config, published = read_json("config.json"), read_json("expected.json")["cases"]
    tensors = read_tensors(os.path.join(FOLDER, "model.safetensors"))
    cases = []
    for case in published:
        plain = Qwen2(config, tensors, False).logits(case["input_ids"])
        error = np.abs(plain[:32] - case["last_logits_first32"]).max() / np.abs(plain).max()
        assert error < 1e-5, error
        ids = case["input_ids"]
        while not is_stable(config, tensors, ids):
            ids = ids[:-1]
        plain = Qwen2(config, tensors, False).logits(ids)
        cases.append(expected_case(Qwen2(config, tensors, True), ids, len(case["greedy"])))
        quantised = np.array(cases[-1]["last_logits_first32"])
        print(len(ids), "tokens: int8 activations move the logits by", np.abs(quantised - plain[:32]).max() / np.abs(plain).max())
    config["quantization_config"]["config_groups"]["group_0"]["input_activations"] = INPUTS
    with open(os.path.join(FOLDER, "config.int8.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
        file.write("\n")
    with open(os.path.join(FOLDER, "expected.int8.json"), "w", encoding="utf-8") as file:
        json.dump({"model": "qwen2_w8a8", "cases": cases}, file)
        file.write("\n")


if __name__ == "__main__":
    main()
