"""Widens a GGUF file to float32 and builds the Hugging Face model and tokenizer it describes (llama and qwen2)."""
import numpy as np
import tokenizers
import torch
import transformers
from gguf import GGUFReader, dequantize
from tokenizers import decoders, models, normalizers, pre_tokenizers

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, USER_DEFINED = 3, 4  # tokenizer.ggml.token_type


def fields(reader):
    return {name: field.contents() for name, field in reader.fields.items()}


def unpermute(rows, num_heads):
    """GGUF stores llama's query and key rows pairwise interleaved; Hugging Face keeps the halves apart."""
    head_dim = rows.shape[0] // num_heads
    return rows.reshape(num_heads, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def hf_config(meta, tied, vocab_size):
    arch = meta["general.architecture"]
    common = dict(
        vocab_size=vocab_size,
        hidden_size=meta[f"{arch}.embedding_length"],
        intermediate_size=meta[f"{arch}.feed_forward_length"],
        num_hidden_layers=meta[f"{arch}.block_count"],
        num_attention_heads=meta[f"{arch}.attention.head_count"],
        num_key_value_heads=meta[f"{arch}.attention.head_count_kv"],
        max_position_embeddings=meta[f"{arch}.context_length"],
        rms_norm_eps=meta[f"{arch}.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": meta[f"{arch}.rope.freq_base"]},
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="eager",
        dtype="float32",
    )
    if arch == "llama":
        return transformers.LlamaConfig(**common)
    if arch == "qwen2":
        return transformers.Qwen2Config(**common, use_sliding_window=False)
    raise ValueError(f"no reference for architecture {arch}")


def hf_name(name):
    if "blk." not in name:
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                "output.weight": "lm_head.weight"}[name]
    _, layer, part, kind = name.split(".")
    part = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}[part]
    return f"model.layers.{layer}.{part}.{kind}"


def load_model(path):
    """The file's weights, dequantised, in transformers' own float32 implementation."""
    reader = GGUFReader(path)
    meta = fields(reader)
    arch = meta["general.architecture"]
    state = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        values = values.reshape([int(n) for n in reversed(tensor.shape)])
        if arch == "llama" and ".attn_q." in tensor.name:
            values = unpermute(values, meta["llama.attention.head_count"])
        if arch == "llama" and ".attn_k." in tensor.name:
            values = unpermute(values, meta["llama.attention.head_count_kv"])
        state[hf_name(tensor.name)] = torch.from_numpy(np.ascontiguousarray(values))
    tied = "lm_head.weight" not in state
    config = hf_config(meta, tied, state["model.embed_tokens.weight"].shape[0])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if tied else set()), (missing, unexpected)
    if tied:
        model.tie_weights()
    return model


def load_tokenizer(path):
    """The file's byte-level BPE in the tokenizers library; control tokens in the text are parsed."""
    meta = fields(GGUFReader(path))
    tokens, kinds = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    merges = [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]
    out = tokenizers.Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=meta["tokenizer.ggml.pre"] == "smollm")
    if meta["tokenizer.ggml.pre"] == "smollm":
        out.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    elif meta["tokenizer.ggml.pre"] == "qwen2":
        out.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), behavior="isolated")
        out.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    else:
        raise ValueError(f"no reference for pre-tokenizer {meta['tokenizer.ggml.pre']}")
    out.decoder = decoders.ByteLevel()
    out.add_special_tokens([t for t, k in zip(tokens, kinds) if k == CONTROL])
    out.add_tokens([t for t, k in zip(tokens, kinds) if k == USER_DEFINED])
    return out
