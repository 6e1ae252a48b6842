#!/usr/bin/env python3
"""Writes the fuzzers' first inputs into OUT/NAME/, cut down from tests/golden: make_corpus.py OUT"""
import json
import pathlib
import shutil
import struct
import sys

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "golden"
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2),
          16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82), 29: (256, 56),
          34: (256, 54), 35: (256, 66), 39: (32, 17)}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def text(self):
        return self.take(self.number("Q"))


def text(value):
    return struct.pack("<Q", len(value)) + value


def trimmed_value(reader, kind, keep):
    """The bytes of one metadata value, arrays cut to `keep` elements."""
    if kind == 8:
        return text(reader.text()[:200])
    if kind != 9:
        return reader.take(SIZES[kind])
    element, count = reader.number("I"), reader.number("Q")
    values = [text(reader.text()) if element == 8 else reader.take(SIZES[element]) for _ in range(count)]
    kept = values[:keep]
    return struct.pack("<IQ", element, len(kept)) + b"".join(kept)


def trimmed_gguf(data):
    """A GGUF file with short arrays and each matrix cut to two rows; rows keep their length."""
    reader = Reader(data)
    reader.take(4)
    version, tensors, keys = reader.number("I"), reader.number("Q"), reader.number("Q")
    out = []
    for _ in range(keys):
        key, kind = reader.text(), reader.number("I")
        out.append(text(key) + struct.pack("<I", kind) + trimmed_value(reader, kind, 12))
    infos, body = [], b""
    for _ in range(tensors):
        name, rank = reader.text(), reader.number("I")
        dims = [reader.number("Q") for _ in range(rank)]
        kind, _offset = reader.number("I"), reader.number("Q")
        if len(infos) >= 12:
            continue
        dims = dims[:1] + [min(d, 2) for d in dims[1:]]
        elements, size = BLOCKS[kind]
        rows = 1
        for d in dims[1:]:
            rows *= d
        infos.append(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body)))
        if kind == 0:
            body += struct.pack("<f", 1.0) * (dims[0] * rows)
        else:
            body += bytes(i * 37 % 251 for i in range(dims[0] // elements * size * rows))
        body += bytes(-len(body) % 128)
    head = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(out)) + b"".join(out) + b"".join(infos)
    return head + bytes(-len(head) % 128) + body


def tokenizer_gguf(data):
    """A GGUF file of the tokenizer's keys alone, whole."""
    reader = Reader(data)
    reader.take(4)
    version, _tensors, keys = reader.number("I"), reader.number("Q"), reader.number("Q")
    out = []
    for _ in range(keys):
        begin = reader.at
        key = reader.text()
        trimmed_value(reader, reader.number("I"), 0)
        if key.startswith(b"tokenizer.") or key == b"general.architecture":
            out.append(data[begin:reader.at])
    head = b"GGUF" + struct.pack("<IQQ", version, 0, len(out)) + b"".join(out)
    return head + bytes(-len(head) % 128)


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def protobuf_fields(data):
    """(number, wire type, value) of each field; the value of wire type 2 is its bytes."""
    at, fields = 0, []

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        size = {0: None, 1: 8, 2: -1, 5: 4}[tag & 7]
        if size is None:
            fields.append((tag >> 3, 0, number()))
            continue
        if size == -1:
            size = number()
        fields.append((tag >> 3, tag & 7, data[at:at + size]))
        at += size
    return fields


def protobuf(fields):
    out = b""
    for number, kind, value in fields:
        out += varint(number << 3 | kind)
        out += varint(value) if kind == 0 else (varint(len(value)) if kind == 2 else b"") + value
    return out


def small_sentencepiece(data):
    """A model with at most 400 pieces, and the beginning of its normalisation table."""
    pieces, fields = 0, []
    for number, kind, value in protobuf_fields(data):
        if number == 1:  # a piece
            pieces += 1
            if pieces > 400:
                continue
        if number == 3:  # normalizer_spec; its field 2 is the table: length of a trie, the trie, strings
            inner = protobuf_fields(value)
            for i, (field, inner_kind, table) in enumerate(inner):
                if field == 2 and len(table) > 4:
                    trie = struct.unpack("<I", table[:4])[0]
                    strings = table[4 + trie:4 + trie + 1024]
                    inner[i] = (field, inner_kind, struct.pack("<I", 4096) + table[4:4 + 4096] + strings)
            value = protobuf(inner)
        fields.append((number, kind, value))
    return protobuf(fields)


def small_safetensors(data):
    """The first tensors of a file, each cut to a few elements."""
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    size = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
    out, end = {}, 0
    for name, entry in list(header.items())[:8]:
        if name == "__metadata__":
            out[name] = entry
            continue
        shape = [min(d, 3) for d in entry["shape"]]
        count = size[entry["dtype"]]
        for d in shape:
            count *= d
        out[name] = {"dtype": entry["dtype"], "shape": shape, "data_offsets": [end, end + count]}
        end += count
    head = json.dumps(out, separators=(",", ":")).encode()
    return struct.pack("<Q", len(head)) + head + bytes(i % 256 for i in range(end))


def one_module(folder):
    """config.json's quantisation, a zero byte, and a safetensors file of one matrix's parts, called m."""
    config = json.loads((folder / "config.json").read_text())
    out, body = {}, b""
    for file in sorted(folder.glob("*.safetensors")):
        data = file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + size]).items():
            part_of = name.removeprefix("model.layers.0.self_attn.k_proj.")
            if part_of in (name, "bias"):
                continue
            begin, end = entry["data_offsets"]
            part = data[8 + size + begin:8 + size + end]
            out["m." + part_of] = entry | {"data_offsets": [len(body), len(body) + len(part)]}
            body += part
    head = json.dumps(out, separators=(",", ":")).encode()
    settings = json.dumps({"quantization_config": config["quantization_config"]}, separators=(",", ":")).encode()
    return settings + b"\0" + struct.pack("<Q", len(head)) + head + body


def main():
    out = pathlib.Path(sys.argv[1])
    for name in ("gguf", "gguf_tokenizer", "safetensors", "config_json", "tokenizer_json", "tokenizer_model",
                 "quantization", "schema"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for file in sorted((GOLDEN / "gguf").glob("*.gguf")):
        (out / "gguf" / file.stem).write_bytes(trimmed_gguf(file.read_bytes()))
    seen = set()
    for file in sorted(GOLDEN.glob("gguf*/*.gguf")):
        keys = tokenizer_gguf(file.read_bytes())
        if keys not in seen:
            (out / "gguf_tokenizer" / file.stem).write_bytes(keys)
        seen.add(keys)
    for file in sorted(GOLDEN.glob("spm/*.model")):
        for choice in range(2):
            (out / "tokenizer_model" / f"{file.stem}.{choice}").write_bytes(
                bytes([choice]) + small_sentencepiece(file.read_bytes()))
    for folder, choice in (("llama2", 1), ("chatglm2", 2), ("chatglm3", 2), ("glm4_tiktoken", 3), ("llama2", 4)):
        data = (GOLDEN / "models" / folder / "tokenizer.model").read_bytes()
        (out / "tokenizer_model" / f"{folder}.{choice}").write_bytes(bytes([choice]) + data)
    for file in sorted((GOLDEN / "models").glob("*/*.safetensors")):
        name = f"{file.parent.name}.{file.stem}"
        (out / "safetensors" / name).write_bytes(b"s" + small_safetensors(file.read_bytes()))
    index = json.loads((GOLDEN / "models/qwen2/model.safetensors.index.json").read_text())
    index["weight_map"] = dict(list(index["weight_map"].items())[:6])
    (out / "safetensors" / "index").write_bytes(b"i" + json.dumps(index).encode())
    for file in sorted((GOLDEN / "models").glob("*/*config*.json")):
        shutil.copyfile(file, out / "config_json" / f"{file.parent.name}.{file.stem}")
    for folder in ("llama3_awq", "llama3_gptq4_actorder", "qwen2_gptq4_v2", "qwen2_gptq8", "qwen2_bnb8", "qwen2_nf4",
                   "llama3_fp4", "qwen2_w4a16", "qwen2_w4a16_asym", "qwen2_w8a8", "qwen2_fp8"):
        (out / "quantization" / folder).write_bytes(one_module(GOLDEN / "models" / folder))
    for file in sorted((GOLDEN / "models").glob("*/tokenizer.json")):
        shutil.copyfile(file, out / "tokenizer_json" / file.parent.name)
    cases = json.loads((GOLDEN / "grammar/schemas.json").read_text(encoding="utf-8"))["cases"]
    for number, case in enumerate(cases):
        (out / "schema" / str(number)).write_text(json.dumps(case["schema"]), encoding="utf-8")
        if "pattern" in case["schema"]:
            (out / "schema" / f"{number}.pattern").write_text(case["schema"]["pattern"], encoding="utf-8")


if __name__ == "__main__":
    main()
