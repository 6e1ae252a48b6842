"""Makes tests/golden/encoders/{xlmr,xlmr_rerank,nomic}.gguf from the folders beside them.

    python make_encoder_gguf.py   (gguf, numpy, safetensors, sentencepiece)

Matrices stay F32, so what is expected of the folders holds for the files. Names come from gguf's own tables; positions of
padding are cut off, vocabularies marked and keys written as llama.cpp's converter does. The folders' unigram vocabulary
normalises by NFKC without a table; the file gets the table of tests/golden/spm/unigram_nfkc.model, which says the same.
"""
import json
import pathlib

import gguf
import numpy as np
from gguf import MODEL_ARCH, GGUFWriter, TokenType
from safetensors.numpy import load_file
from sentencepiece import sentencepiece_model_pb2

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
FOLDERS = GOLDEN / "encoders"


def read_json(folder, name):
    return json.loads((FOLDERS / folder / name).read_text(encoding="utf-8"))


def add_unigram(writer, tokenizer):
    pieces = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    kinds = [TokenType.UNKNOWN if i == tokenizer["model"]["unk_id"] else TokenType.CONTROL if text in special else TokenType.NORMAL
             for i, (text, _) in enumerate(pieces)]
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _ in pieces])
    writer.add_token_scores([score for _, score in pieces])
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(False)  # the folders keep the space at the end of a text
    spm = sentencepiece_model_pb2.ModelProto()
    spm.ParseFromString((GOLDEN / "spm" / "unigram_nfkc.model").read_bytes())
    writer.add_precompiled_charsmap(spm.normalizer_spec.precompiled_charsmap)
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    writer.add_bos_token_id(ids["<s>"])
    writer.add_eos_token_id(ids["</s>"])
    writer.add_sep_token_id(ids["</s>"])
    writer.add_pad_token_id(ids["<pad>"])
    writer.add_unk_token_id(ids["<unk>"])


def add_word_pieces(writer, tokenizer):
    ids = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    texts = sorted(ids, key=ids.get)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list([t if t in special else t[2:] if t.startswith("##") else "\u2581" + t for t in texts])
    writer.add_token_types([TokenType.CONTROL if t in special else TokenType.NORMAL for t in texts])
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_eos_token_id(ids["[SEP]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_unk_token_id(ids["[UNK]"])


def add_tensors(writer, folder, arch, layers, first_position):
    names = gguf.get_tensor_name_map(arch, layers)
    for name, tensor in load_file(str(FOLDERS / folder / "model.safetensors")).items():
        name = name.removeprefix("roberta.")
        if name == "embeddings.position_embeddings.weight":
            tensor = tensor[first_position:]
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None, name
        writer.add_tensor(stored, np.ascontiguousarray(tensor))


def write(folder, arch, pooling, vocabulary):
    config = read_json(folder, "config.json")

    def size(*keys):
        return next(config[key] for key in keys if key in config)

    first = config["pad_token_id"] + 1 if "pad_token_id" in config else 0
    layers = size("num_hidden_layers", "n_layer")
    writer = GGUFWriter(str(FOLDERS / f"{folder}.gguf"), gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(layers)
    writer.add_context_length(size("max_trained_positions", "max_position_embeddings") - first)
    writer.add_embedding_length(size("hidden_size", "n_embd"))
    writer.add_feed_forward_length(size("intermediate_size", "n_inner"))
    writer.add_head_count(size("num_attention_heads", "n_head"))
    writer.add_layer_norm_eps(size("layer_norm_eps", "layer_norm_epsilon"))
    writer.add_causal_attention(False)
    writer.add_token_type_count(config["type_vocab_size"])
    if pooling is not None:
        writer.add_pooling_type(pooling)
    if "rotary_emb_base" in config:
        writer.add_rope_freq_base(config["rotary_emb_base"])
    vocabulary(writer, read_json(folder, "tokenizer.json"))
    add_tensors(writer, folder, arch, layers, first)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def pooling_of(folder):
    settings = read_json(folder, "1_Pooling/config.json")
    if settings.get("pooling_mode_cls_token") or settings.get("pooling_mode") == "cls":
        return gguf.PoolingType.CLS
    assert settings.get("pooling_mode_mean_tokens") or settings.get("pooling_mode") == "mean"
    return gguf.PoolingType.MEAN


def main():
    write("xlmr", MODEL_ARCH.BERT, pooling_of("xlmr"), add_unigram)
    write("xlmr_rerank", MODEL_ARCH.BERT, None, add_unigram)
    write("nomic", MODEL_ARCH.NOMIC_BERT, pooling_of("nomic"), add_word_pieces)


if __name__ == "__main__":
    main()
