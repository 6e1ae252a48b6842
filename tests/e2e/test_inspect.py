"""`inferd inspect`: what it says of models and adapters, against the files read here by other means."""
import json
import os
import struct
import subprocess

import pytest
from daemon import MINILM, ROOT, SMOLLM2, binary

GOLDEN = os.path.join(ROOT, "tests", "golden")


def inspect(*arguments):
    return subprocess.run([binary(), "inspect", *arguments], capture_output=True, text=True, timeout=60)


def report(path):
    done = inspect(path, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def safetensors_header(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    header.pop("__metadata__", None)
    return header


@pytest.mark.parametrize("name, family", [("models/qwen2", "qwen2"), ("models/chatglm3", "chatglm"), ("encoders/gte", "gte")])
def test_a_folder_is_told_as_its_files_say(name, family):
    folder = os.path.join(GOLDEN, name)
    told = report(folder)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    assert told["family"] == family and told["model_type"] == config["model_type"] and told["problems"] == []
    assert told["sizes"]["hidden_size"] == config["hidden_size"]
    header = {}
    for file in os.listdir(folder):
        if file.endswith(".safetensors"):
            header |= safetensors_header(os.path.join(folder, file))
    assert {t["name"]: t["shape"] for t in told["tensors"]} == {n: t["shape"] for n, t in header.items()}
    assert told["tensor_bytes"] == sum(t["data_offsets"][1] - t["data_offsets"][0] for t in header.values())


def test_purposes():
    assert report(os.path.join(GOLDEN, "models", "qwen2"))["purpose"] == "text generation"
    for name, purpose in (("xlmr", "embeddings"), ("qwen3_embedding", "embeddings"), ("bert_rerank", "reranking"),
                          ("qwen3-reranker", "reranking"), ("qwen3_score", "reranking")):
        assert report(os.path.join(GOLDEN, "encoders", name))["purpose"] == purpose
    nomic = report(os.path.join(GOLDEN, "encoders", "nomic"))
    assert nomic["matryoshka_dimensions"] == [32, 16, 8] and nomic["prompts"]["query"] == "search_query: "


@pytest.mark.parametrize("name, kind", [("qwen2_nf4", "bitsandbytes nf4"), ("llama3_fp4", "bitsandbytes fp4"),
                                        ("qwen2_bnb8", "bitsandbytes int8"), ("llama3_awq", "AWQ 4 bit")])
def test_how_a_folder_is_quantised(name, kind):
    told = report(os.path.join(GOLDEN, "models", name))
    assert told["quantization"] == kind and told["problems"] == []
    assert kind in inspect(os.path.join(GOLDEN, "models", name)).stdout


def test_a_gguf_file():
    told = report(SMOLLM2)
    assert told["format"] == "GGUF" and told["family"] == "llama" and told["quantization"] == "Q4_1"
    assert told["tokenizer"]["special"]["eos"]["text"] == "<|im_end|>" and told["tokenizer"]["vocab_size"] == 49152
    assert "<|im_start|>" in told["chat_template"]["source"]
    text = inspect(SMOLLM2).stdout
    assert "blk.{0…29}.attn_q.weight" in text and "×30" in text and "<|im_end|> (2)" in text


def test_a_wordpiece_vocabulary():
    told = report(MINILM)
    assert told["tokenizer"]["kind"] == "tokenizer.json, WordPiece" and told["tokenizer"]["special"]["cls"] == {"id": 101, "text": "[CLS]"}
    assert "chat_template" not in told


def test_an_adapter():
    folder = os.path.join(GOLDEN, "lora", "lora_qwen2_all")
    told = report(folder)
    assert told["kind"] == "LoRA adapter" and (told["least_rank"], told["greatest_rank"]) == (2, 4)
    header = safetensors_header(os.path.join(folder, "adapter_model.safetensors"))
    assert len(told["layers"]) == len(header) // 2
    down = next(layer for layer in told["layers"] if layer["module"].endswith("0.mlp.down_proj"))
    assert down["rank"] == 2 and down["scale"] == pytest.approx(6 / 2**0.5)  # alpha_pattern 6, rank-stabilised
    assert "model.layers.{0…1}.mlp.down_proj" in inspect(folder).stdout


def test_what_cannot_be_read_is_said(tmp_path):
    missing = inspect(str(tmp_path / "none"))
    assert missing.returncode == 65 and "none" in missing.stderr
    folder = tmp_path / "unknown"
    folder.mkdir()
    source = os.path.join(GOLDEN, "models", "qwen2")
    for file in os.listdir(source):
        if file != "config.json":
            os.symlink(os.path.join(source, file), folder / file)
    with open(os.path.join(source, "config.json"), encoding="utf-8") as file:
        config = json.load(file) | {"model_type": "new\x1bmodel"}
    (folder / "config.json").write_text(json.dumps(config))
    told = report(str(folder))
    assert told["family"] is None and "not supported" in told["problems"][0] and len(told["tensors"]) > 10
    assert "\x1b" not in inspect(str(folder)).stdout
    assert inspect().returncode == 64 and inspect("a", "b").returncode == 64
