"""Makes tests/golden/encoders/qwen3_gguf: tiny Qwen3-Embedding and Qwen3-Reranker models as GGUF files, and what they compute.

    python make_qwen3_gguf.py   (torch, transformers, tokenizers, gguf, numpy)

The files have the keys and tensors that llama.cpp's converter writes for the two: pooling by the last token and an end of
text after every input; for rerankers pooling by rank, the labels yes and no, cls.output with the rows of these words, and
no output matrix. Beside these:
- embedding_early: from before the converter knew of the end of text: no add_eos_token, and the end of a turn as EOS
- reranker_untied: the words' rows come from an output matrix that is not the embedding
- reranker_plain: converted as if it generated text; only its name tells what it is for
Expected values: transformers in float32, on the values that the files' blocks stand for.
"""
import json
import os

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, MODEL_ARCH, PoolingType, TokenType, get_tensor_name_map
from gguf.quants import dequantize, quantize
from make_encoders import INPUTS, INSTRUCTION, OUT, PREFIX, SUFFIX, byte_level, embeddings, reranker_prompts, sharpen, write_json
from tokenizers import Regex, pre_tokenizers
from transformers import Qwen3Config, Qwen3ForCausalLM

FOLDER = os.path.join(OUT, "qwen3_gguf")
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             intermediate_size=64, max_position_embeddings=512, rms_norm_eps=1e-6,
             rope_parameters={"rope_type": "default", "rope_theta": 1e6})
TEMPLATE = f"{PREFIX}<Instruct>: {INSTRUCTION}\n<Query>: {{query}}\n<Document>: {{document}}{SUFFIX}"


def make_tokenizer(ends=None):
    return byte_level(ends, pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(SPLIT), "isolated"),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))


def add_vocabulary(writer, tokenizer, ends):
    """ends: add_eos_token; None leaves the key out."""
    tree = json.loads(tokenizer.to_str())
    texts = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    kinds = [TokenType.NORMAL] * len(texts)
    for token in tree["added_tokens"]:
        kinds[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tree["model"]["merges"]])
    text_end, turn_end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    writer.add_eos_token_id(text_end if ends else turn_end)
    if ends:
        writer.add_eot_token_id(turn_end)
    writer.add_bos_token_id(text_end)
    writer.add_pad_token_id(text_end)
    writer.add_add_bos_token(False)
    if ends is not None:
        writer.add_add_eos_token(ends)


def start(file, name, layers):
    writer = GGUFWriter(os.path.join(FOLDER, file), "qwen3")
    writer.add_name(name)
    writer.add_block_count(layers)
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_rope_freq_base(SIZES["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(SIZES["rms_norm_eps"])
    writer.add_key_length(SIZES["head_dim"])
    writer.add_value_length(SIZES["head_dim"])
    return writer


def add_tensor(writer, name, values, kind):
    """Returns the values as the file has them."""
    if values.ndim == 1:
        writer.add_tensor(name, values)
        return values
    blocks = quantize(values, kind)
    writer.add_tensor(name, blocks, raw_dtype=kind)
    return dequantize(blocks, kind).reshape(values.shape)


def add_model(writer, model, kind, judges=None, keep_output=False):
    """Writes the tensors and gives the model the values they have in the file. judges: ids of yes and no."""
    names = get_tensor_name_map(MODEL_ARCH.QWEN3, SIZES["num_hidden_layers"])
    tied = model.config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        values = np.ascontiguousarray(parameter.detach().numpy())
        if judges and name == ("model.embed_tokens.weight" if tied else "lm_head.weight"):
            add_tensor(writer, "cls.output.weight", values[list(judges)], kind)
        if name == "lm_head.weight" and not keep_output:
            parameter.copy_(torch.from_numpy(dequantize(quantize(values, kind), kind).reshape(values.shape)))
            continue
        parameter.copy_(torch.from_numpy(add_tensor(writer, names.get_name(name, try_suffixes=(".weight",)), values, kind)))


def finish(writer, file, expected):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_json(os.path.join(FOLDER, file.replace(".gguf", ".expected.json")), expected)


def make_model(tokenizer, tied, seed):
    config = Qwen3Config(**SIZES, vocab_size=tokenizer.get_vocab_size(), tie_word_embeddings=tied)
    return sharpen(Qwen3ForCausalLM(config), seed)


def embedder(file, kind, seed, ends):
    tokenizer = make_tokenizer("<|endoftext|>")
    model = make_model(tokenizer, True, seed)
    writer = start(file, "Qwen3 Embedding 0.6B", SIZES["num_hidden_layers"])
    writer.add_pooling_type(PoolingType.LAST)
    add_vocabulary(writer, tokenizer, ends)
    add_model(writer, model, kind)
    finish(writer, file, embeddings(model.model, tokenizer, "lasttoken", True, INPUTS))


def reranker(file, kind, seed, tied, plain=False):
    tokenizer = make_tokenizer()
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    assert yes is not None and no is not None
    model = make_model(tokenizer, tied, seed)
    writer = start(file, "Qwen3 Reranker 0.6B", SIZES["num_hidden_layers"])
    if not plain:
        writer.add_pooling_type(PoolingType.RANK)
        writer.add_classifier_output_labels(["yes", "no"])
        writer.add_chat_template([{"name": "rerank", "template": TEMPLATE}])
    add_vocabulary(writer, tokenizer, None)
    add_model(writer, model, kind, judges=None if plain else (yes, no), keep_output=plain)
    finish(writer, file, reranker_prompts(model, tokenizer, lambda logits: logits[0, -1, yes] - logits[0, -1, no]))


def main():
    torch.set_grad_enabled(False)
    os.makedirs(FOLDER, exist_ok=True)
    q8, f16 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.F16
    embedder("embedding.gguf", q8, 21, True)
    embedder("embedding_early.gguf", f16, 22, None)
    reranker("reranker.gguf", q8, 23, tied=True)
    reranker("reranker_untied.gguf", f16, 24, tied=False)
    reranker("reranker_plain.gguf", q8, 25, tied=True, plain=True)


if __name__ == "__main__":
    main()
