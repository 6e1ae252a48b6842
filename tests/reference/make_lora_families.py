"""Makes tests/golden/lora/{peft_bloom,peft_chatglm1,{experts,parameters}_{qwen2,qwen3}_moe}: random adapters and the logits with them.

    python make_lora_families.py   (torch, transformers, peft, safetensors; seconds on a CPU)

BLOOM and ChatGLM-6B: PEFT's own files and logits, ChatGLM-6B over the small module below, which is written from the
published description and held against the golden logits first. Experts: files as PEFT writes them for models whose
experts are modules of their own; transformers' logits after B A times the scale was added to its weights. Parameters:
PEFT's own files and logits for transformers' models, whose experts are two parameters a layer.
"""
import json
import math
import os
import shutil

import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")


def read_json(*parts):
    with open(os.path.join(GOLDEN, *parts), encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value, **layout):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, **layout)
        file.write("\n")


def turn(x, positions):
    """Rotates halves [T, H, n] by positions; frequencies are rounded to half precision, as published."""
    half = x.shape[-1] // 2
    frequencies = (1.0 / 10000 ** (torch.arange(half) / half)).half().float()
    angles = positions[:, None, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, h, position, block, mask):
        count, width = h.shape
        q, k, v = self.query_key_value(h).view(count, self.heads, -1).chunk(3, -1)
        q, k = (torch.cat([turn(first, position), turn(second, block)], -1)
                for first, second in (q.chunk(2, -1), k.chunk(2, -1)))
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(width // self.heads)
        weights = scores.masked_fill(mask, float("-inf")).softmax(-1)
        return self.dense(torch.einsum("hqk,khd->qhd", weights, v).reshape(count, width))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(width, inner)
        self.dense_4h_to_h = nn.Linear(inner, width)

    def forward(self, h):
        return self.dense_4h_to_h(nn.functional.gelu(self.dense_h_to_4h(h), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["layernorm_epsilon"]
        self.alpha = math.sqrt(2 * config["num_layers"])
        self.input_layernorm = nn.LayerNorm(width, eps)
        self.attention = Attention(width, config["num_attention_heads"])
        self.post_attention_layernorm = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, config["inner_hidden_size"])

    def forward(self, x, *places):
        h = self.input_layernorm(x)
        h = self.post_attention_layernorm(self.alpha * h + self.attention(h, *places))
        return self.alpha * h + self.mlp(h)


class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_layers"]))
        self.final_layernorm = nn.LayerNorm(config["hidden_size"], config["layernorm_epsilon"])


class ChatGlm1(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def forward(self, ids):
        count, context = len(ids), ids.index(self.config["bos_token_id"])
        gmask = self.config["gmask_token_id"]
        mark = ids.index(gmask if gmask in ids else self.config["mask_token_id"])
        position = torch.tensor([i if i < context else mark for i in range(count)])
        block = torch.tensor([max(0, i - context + 1) for i in range(count)])
        mask = torch.ones(count, count, dtype=torch.bool).triu(1)
        mask[:, :context] = False
        x = self.transformer.word_embeddings(torch.tensor(ids))
        for layer in self.transformer.layers:
            x = layer(x, position, block, mask)
        return self.lm_head(self.transformer.final_layernorm(x))


def stored_tensors(name):
    folder = os.path.join(GOLDEN, "models", name)
    tensors = {}
    for entry in sorted(os.listdir(folder)):
        if entry.endswith(".safetensors"):
            with safe_open(os.path.join(folder, entry), "pt") as file:
                tensors |= {key: file.get_tensor(key).float() for key in file.keys()}
    return tensors


def chatglm1():
    model = ChatGlm1(read_json("models", "chatglm1", "config.json"))
    tensors = {k: v for k, v in stored_tensors("chatglm1").items() if not k.endswith("inv_freq")}
    model.load_state_dict(tensors)
    for case in read_json("models", "chatglm1", "expected.json")["cases"]:
        first = model(case["input_ids"])[-1][:32]
        assert torch.allclose(first, torch.tensor(case["last_logits_first32"]), atol=1e-3), "the model is not ChatGLM-6B"
    return model


def finish(name, base, config, run):
    """Writes the configuration without what differs from machine to machine, and the logits of three prompts."""
    folder = os.path.join(GOLDEN, "lora", name)
    write_json(os.path.join(folder, "adapter_config.json"), config | {"base_model_name_or_path": f"../../models/{base}"},
               indent=1, sort_keys=True)
    cases = [{"input_ids": case["input_ids"], "last_logits": run(case["input_ids"]).tolist()}
             for case in read_json("models", base, "expected.json")["cases"][:3]]
    write_json(os.path.join(folder, "expected.json"), {"model": name, "base": base, "cases": cases})


def make_peft(name, base, model, run, **settings):
    folder = os.path.join(GOLDEN, "lora", name)
    shutil.rmtree(folder, ignore_errors=True)
    wrapped = get_peft_model(model, LoraConfig(**settings))
    for key, parameter in wrapped.named_parameters():
        if ".lora_" in key:
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    wrapped.eval().save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    saved = read_json("lora", name, "adapter_config.json")
    for key in ("target_modules", "target_parameters"):
        saved[key] = sorted(saved[key]) if saved.get(key) else saved.get(key)
    finish(name, base, saved, lambda ids: run(wrapped, ids))


def make_experts(name, base, modules):
    """modules: names below a layer with the weight, and the rows of it, that hold each."""
    folder = os.path.join(GOLDEN, "lora", name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    model = AutoModelForCausalLM.from_pretrained(os.path.join(GOLDEN, "models", base), dtype=torch.float32).eval()
    rank, alpha, tensors = 4, 12, {}
    for index, layer in enumerate(model.model.layers):
        if not hasattr(layer.mlp, "experts"):
            continue
        for module, weight in modules(layer.mlp):
            a, b = torch.randn(rank, weight.shape[1]) * 0.2, torch.randn(weight.shape[0], rank) * 0.2
            weight += alpha / math.sqrt(rank) * (b @ a)
            stem = f"base_model.model.model.layers.{index}.mlp.{module}"
            tensors |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"), {"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": True, "bias": "none",
              "target_modules": ["gate_proj", "up_proj", "down_proj", "gate", "shared_expert_gate"]}
    finish(name, base, config, lambda ids: model(torch.tensor([ids])).logits[0, -1])


def expert_modules(mlp):
    yield "gate", mlp.gate.weight
    inner = mlp.experts.gate_up_proj.shape[1] // 2
    for expert in range(mlp.experts.gate_up_proj.shape[0]):
        yield f"experts.{expert}.gate_proj", mlp.experts.gate_up_proj[expert, :inner]
        yield f"experts.{expert}.up_proj", mlp.experts.gate_up_proj[expert, inner:]
        yield f"experts.{expert}.down_proj", mlp.experts.down_proj[expert]
    if hasattr(mlp, "shared_expert"):
        for part in ("gate_proj", "up_proj", "down_proj"):
            yield f"shared_expert.{part}", getattr(mlp.shared_expert, part).weight
        yield "shared_expert_gate", mlp.shared_expert_gate.weight


def make_parameters():
    """Both parameters with ranks and scales of their own beside attention and a router; one parameter alone."""
    torch.manual_seed(13)

    def load(base):
        return AutoModelForCausalLM.from_pretrained(os.path.join(GOLDEN, "models", base), dtype=torch.float32)

    def run(model, ids):
        return model(input_ids=torch.tensor([ids])).logits[0, -1]

    make_peft("parameters_qwen2_moe", "qwen2_moe", load("qwen2_moe"), run, r=4, lora_alpha=12, target_modules=["q_proj", "o_proj"],
              target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"],
              rank_pattern={r".*\.gate_up_proj": 6, r"mlp\.gate\.weight": 2}, alpha_pattern={"experts.down_proj": 5}, task_type="CAUSAL_LM")
    make_peft("parameters_qwen3_moe", "qwen3_moe", load("qwen3_moe"), run, r=3, lora_alpha=9, target_modules=[], use_rslora=True,
              target_parameters=["mlp.experts.down_proj"], task_type="CAUSAL_LM")


def main():
    torch.set_grad_enabled(False)
    make_parameters()
    torch.manual_seed(12)
    bloom = AutoModelForCausalLM.from_pretrained(os.path.join(GOLDEN, "models", "bloom"), dtype=torch.float32)
    make_peft("peft_bloom", "bloom", bloom, lambda m, ids: m(input_ids=torch.tensor([ids])).logits[0, -1], r=5, lora_alpha=9,
              target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
              rank_pattern={r"h\.0\.self_attention\.query_key_value": 3}, use_rslora=True, task_type="CAUSAL_LM")
    make_peft("peft_chatglm1", "chatglm1", chatglm1(), lambda m, ids: m(ids)[-1], r=6, lora_alpha=12,
              target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
              alpha_pattern={"attention.dense": 5})
    make_experts("experts_qwen2_moe", "qwen2_moe", expert_modules)
    make_experts("experts_qwen3_moe", "qwen3_moe", expert_modules)


if __name__ == "__main__":
    main()
