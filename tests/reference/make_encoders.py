"""Makes tests/golden/encoders/: tiny random encoders, rerankers and decoder-based embedders, with what transformers computes from them.

    python make_encoders.py   (torch, transformers, tokenizers, safetensors; seconds on a CPU; the same bytes every time)
"""
import json
import os
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (BertConfig, BertForSequenceClassification, GteConfig, GteForSequenceClassification, GteModel, NomicBertConfig,
                          NomicBertModel, Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification, Qwen3Model, XLMRobertaConfig,
                          XLMRobertaForSequenceClassification, XLMRobertaModel)

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(os.path.dirname(HERE), "golden")
OUT = os.path.join(GOLDEN, "encoders")

TEXT = [
    "The ferry leaves the harbour at seven and comes back in the evening.", "Bread needs flour, water, salt and time.",
    "A query asks, a document answers; yes or no is all that is wanted here.", "No, the river is not deep, yes, it is cold.",
    "Swifts nest under the eaves and spend the rest of their life in the air.", "How long does the train take from the coast?",
    "今天天气很好，我们去公园散步吧。", "Der Zug fährt um zehn Uhr ab.", "Où est la gare ?", "no\nyes\n" * 40,
    "Instruct: given a web search query, retrieve relevant passages that answer the query", "user assistant system think",
]
INPUTS = [
    "The ferry leaves at seven.", "bread", "How deep is the river, and is it cold?", "今天天气很好", "yes",
    "Swifts nest under the eaves; the train comes back in the evening, the ferry does not. " * 2,
]
PAIRS = [
    ("How deep is the river?", "No, the river is not deep, yes, it is cold."), ("How deep is the river?", "Bread needs flour."),
    ("when does the ferry leave", "The ferry leaves the harbour at seven and comes back in the evening."), ("a", "b"),
]
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
PREFIX = ('<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. '
          'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n')
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


def unigram():
    """XLM-RoBERTa's shape: <s> 0, <pad> 1, </s> 2, <unk> 3, the pieces, <mask> last."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(TEXT, trainers.UnigramTrainer(
        vocab_size=220, special_tokens=["<s>", "<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer


def byte_level(ends=None, pre_tokenizer=None):
    """Qwen's shape. ends: the token that goes behind every text; pre_tokenizer: GPT-2's if none is given."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<think>", "</think>"])
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {ends}", pair=f"$A {ends} $B:1 {ends}:1", special_tokens=[(ends, tokenizer.token_to_id(ends))])
    return tokenizer


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")


def sharpen(model, seed):
    """Random weights large enough that every part of the network shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.2 * spread)
            elif parameter.dim() == 1:
                parameter.copy_(0.2 * spread)
            else:
                scale = 1.0 if "embed" in name else 1.5 / parameter.shape[-1] ** 0.5
                parameter.copy_(scale * spread)
    return model.eval()


def save(name, model, tokenizer, config, rename=None, modules=None, prompts=None, expected=None, extra=None):
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    tensors = {k: v.detach().to(torch.float32) for k, v in model.state_dict().items()}
    tensors = rename(tensors) if rename else tensors
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    write_json(os.path.join(folder, "config.json"), config)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    write_json(os.path.join(folder, "expected.json"), expected)
    if modules:
        kind, normalize = modules
        steps = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalize else [])
        write_json(os.path.join(folder, "modules.json"), [
            {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{t}"} for i, (p, t) in enumerate(steps)])
        os.makedirs(os.path.join(folder, "1_Pooling"))
        write_json(os.path.join(folder, "1_Pooling", "config.json"), {
            "word_embedding_dimension": config.get("hidden_size", config.get("n_embd")), "pooling_mode_cls_token": kind == "cls",
            "pooling_mode_mean_tokens": kind == "mean", "pooling_mode_lasttoken": kind == "lasttoken"})
    if prompts:
        write_json(os.path.join(folder, "config_sentence_transformers.json"), {"prompts": prompts, "default_prompt_name": None})
    for file, value in (extra or {}).items():
        write_json(os.path.join(folder, file), value)


def embeddings(model, tokenizer, kind, normalize, inputs=INPUTS):
    out = []
    for text in inputs:
        ids = tokenizer.encode(text).ids
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        vector = {"cls": hidden[0], "mean": hidden.mean(0), "lasttoken": hidden[-1]}[kind]
        if normalize:
            vector = torch.nn.functional.normalize(vector, dim=0)
        out.append({"text": text, "input_ids": ids, "embedding": [float(x) for x in vector]})
    return {"embeddings": out}


def pair_scores(model, tokenizer, typed):
    out = []
    for query, document in PAIRS:
        encoded = tokenizer.encode(query, document)
        types = {"token_type_ids": torch.tensor([encoded.type_ids])} if typed else {}
        logit = model(input_ids=torch.tensor([encoded.ids]), **types).logits[0, 0]
        out.append({"query": query, "document": document, "input_ids": encoded.ids, "type_ids": encoded.type_ids, "logit": float(logit),
                    "score": float(torch.sigmoid(logit))})
    return {"pairs": out}


def reranker_prompts(model, tokenizer, logit_of):
    out = []
    for query, document in PAIRS:
        text = f"{PREFIX}<Instruct>: {INSTRUCTION}\n<Query>: {query}\n<Document>: {document}{SUFFIX}"
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        logit = logit_of(model(input_ids=torch.tensor([ids])).logits)
        out.append({"query": query, "document": document, "input_ids": ids, "logit": float(logit),
                    "score": float(torch.sigmoid(torch.tensor(float(logit))))})
    return {"pairs": out}


SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)


def to_dict(config, architecture):
    value = config.to_dict()
    value["architectures"] = [architecture]
    for key in ("transformers_version", "_name_or_path", "dtype", "id2label", "label2id"):
        value.pop(key, None)
    return value


def fuse_gte(tensors):
    """The names of the published files: new.encoder.layer.N with q, k, v and up, gate in one tensor each."""
    out = {}
    for name, tensor in tensors.items():
        name = "new." + name.replace("layers.", "encoder.layer.").replace("self_attn.o_proj", "attention.o_proj")
        name = name.replace("post_attention_layernorm", "attn_ln").replace("post_mlp_layernorm", "mlp_ln")
        out[name] = tensor
    for name in [n for n in out if ".self_attn.q_proj." in n]:
        parts = [out.pop(name.replace("q_proj", p)) for p in ("q_proj", "k_proj", "v_proj")]
        out[name.replace("self_attn.q_proj", "attention.qkv_proj")] = torch.cat(parts)
    for name in [n for n in out if ".mlp.up_proj." in n]:
        out[name.replace("up_proj", "up_gate_proj")] = torch.cat([out.pop(name), out.pop(name.replace("up_proj", "gate_proj"))])
    return out


def fuse_nomic(tensors):
    out = {}
    for name, tensor in tensors.items():
        for new, old in (("layers.", "encoder.layers."), ("embeddings.LayerNorm", "emb_ln"), ("self_attn.o_proj", "attn.out_proj"),
                         ("up_proj", "fc11"), ("gate_proj", "fc12"), ("down_proj", "fc2"), ("post_attention_layernorm", "norm1"),
                         ("post_mlp_layernorm", "norm2")):
            name = name.replace(new, old)
        out[name] = tensor
    for name in [n for n in out if ".self_attn.q_proj." in n]:
        parts = [out.pop(name.replace("q_proj", p)) for p in ("q_proj", "k_proj", "v_proj")]
        out[name.replace("self_attn.q_proj", "attn.Wqkv")] = torch.cat(parts)
    return out


def roberta_like():
    tokenizer = unigram()
    config = XLMRobertaConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=130, type_vocab_size=1,
                              layer_norm_eps=1e-5, pad_token_id=1)
    model = sharpen(XLMRobertaModel(config, add_pooling_layer=False), 1)
    save("xlmr", model, tokenizer, to_dict(config, "XLMRobertaModel"), modules=("cls", True), prompts={"query": "query: ", "passage": ""},
         expected=embeddings(model, tokenizer, "cls", True))
    config = XLMRobertaConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=130, type_vocab_size=1,
                              layer_norm_eps=1e-5, pad_token_id=1, num_labels=1)
    model = sharpen(XLMRobertaForSequenceClassification(config), 2)
    save("xlmr_rerank", model, tokenizer, to_dict(config, "XLMRobertaForSequenceClassification"),
         expected=pair_scores(model, tokenizer, False))
    return tokenizer


def bert_like():
    tokenizer = Tokenizer.from_file(os.path.join(GOLDEN, "models", "bert", "tokenizer.json"))
    config = BertConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128, num_labels=1)
    model = sharpen(BertForSequenceClassification(config), 3)
    value = to_dict(config, "BertForSequenceClassification")
    value["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    save("bert_rerank", model, tokenizer, value, expected=pair_scores(model, tokenizer, True))
    rope = {"rope_type": "default", "rope_theta": 1000.0}
    config = NomicBertConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128, rope_parameters=rope)
    model = sharpen(NomicBertModel(config), 4)
    published = {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "n_embd": 32, "n_head": 4, "n_layer": 2, "n_inner": 48,
                 "n_positions": 512, "max_trained_positions": 128, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0,
                 "rotary_emb_interleaved": False, "activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "prenorm": False,
                 "qkv_proj_bias": False, "causal": False, "use_rms_norm": False, "type_vocab_size": 2,
                 "vocab_size": tokenizer.get_vocab_size(), "matryoshka_dimensions": [32, 16, 8]}
    expected = embeddings(model, tokenizer, "mean", True)
    save("nomic", model, tokenizer, published, rename=fuse_nomic, modules=("mean", True), expected=expected,
         prompts={"query": "search_query: ", "document": "search_document: "})
    save("nomic_native", model, tokenizer, to_dict(config, "NomicBertModel"), modules=("mean", True), expected=expected)


def gte_like(tokenizer):
    rope = {"rope_type": "default", "rope_theta": 160000.0}
    config = GteConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128, rope_parameters=rope)
    model = sharpen(GteModel(config), 5)
    published = dict(SIZES, model_type="new", architectures=["NewModel"], vocab_size=tokenizer.get_vocab_size(), hidden_act="gelu",
                     max_position_embeddings=128, position_embedding_type="rope", rope_theta=160000, type_vocab_size=1,
                     layer_norm_eps=1e-12, layer_norm_type="layer_norm", logn_attention_scale=False, pad_token_id=1)
    save("gte", model, tokenizer, published, rename=fuse_gte, modules=("cls", True), expected=embeddings(model, tokenizer, "cls", True))
    config = GteConfig(**SIZES, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=128, rope_parameters=rope, num_labels=1)
    model = sharpen(GteForSequenceClassification(config), 6)
    save("gte_rerank", model, tokenizer, to_dict(config, "GteForSequenceClassification"), expected=pair_scores(model, tokenizer, False))


def qwen3_like():
    sizes = dict(SIZES, num_key_value_heads=2, head_dim=16, max_position_embeddings=512, tie_word_embeddings=True)
    tokenizer = byte_level("<|endoftext|>")
    vocabulary = dict(vocab_size=tokenizer.get_vocab_size(), eos_token_id=tokenizer.token_to_id("<|endoftext|>"))
    config = Qwen3Config(**sizes, **vocabulary)
    model = sharpen(Qwen3Model(config), 7)
    save("qwen3_embedding", model, tokenizer, to_dict(config, "Qwen3ForCausalLM"), modules=("lasttoken", True),
         expected=embeddings(model, tokenizer, "lasttoken", True), prompts={"query": f"Instruct: {INSTRUCTION}\nQuery:", "document": ""})
    tokenizer = byte_level()
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    assert yes is not None and no is not None
    model = sharpen(Qwen3ForCausalLM(config), 8)
    drop_head = lambda tensors: {k: v for k, v in tensors.items() if k != "lm_head.weight"}
    save("qwen3-reranker", model, tokenizer, to_dict(config, "Qwen3ForCausalLM"), rename=drop_head,
         expected=reranker_prompts(model, tokenizer, lambda logits: logits[0, -1, yes] - logits[0, -1, no]))
    config = Qwen3Config(**sizes, **vocabulary, num_labels=1, pad_token_id=vocabulary["eos_token_id"])
    model = sharpen(Qwen3ForSequenceClassification(config), 9)
    save("qwen3_score", model, tokenizer, to_dict(config, "Qwen3ForSequenceClassification"),
         expected=reranker_prompts(model, tokenizer, lambda logits: logits[0, 0]))


def main():
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    gte_like(roberta_like())
    bert_like()
    qwen3_like()


if __name__ == "__main__":
    main()
