#!/usr/bin/env python3
"""Makes a GGUF file of a 7B model's shape (random Q4_0 blocks, about 4 GB), loads it with inferd, and prints seconds and memory.

    .venv/bin/python scripts/load_7b.py --scratch DIR [--binary build/inferd] [--layers 32] [--context 4096]

Run by hand: DIR needs 5 GB; the file is deleted at the end. The tokenizer is SmolLM2's (models/), so that the file is whole.
Prints one line: load seconds, the first answer's seconds, and peak resident memory against file + KV cache + 250 MB.
"""
import argparse
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOCABULARY = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
HIDDEN, INNER, HEADS = 4096, 11008, 32  # Llama 2 7B
F32, Q4_0, U32, F32_KEY, STRING = 0, 2, 4, 6, 8
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALLOWED_OVER = 250e6


def text(value):
    return struct.pack("<Q", len(value)) + value


class Reader:
    """Enough of GGUF to find a key's bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        size = struct.calcsize(form)
        self.at += size
        return struct.unpack("<" + form, self.data[self.at - size:self.at])[0]

    def text(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def skip(self, kind):
        if kind == STRING:
            self.text()
        elif kind == 9:
            element, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip(element)
        else:
            self.at += SIZES[kind]


def tokenizer_keys():
    """The tokenizer's keys of a real file as they are, and the size of its vocabulary."""
    with open(VOCABULARY, "rb") as file:
        reader = Reader(file.read(8 << 20))
    reader.at = 16
    keys, size = [], 0
    for _ in range(reader.number("Q")):
        begin = reader.at
        key, kind = reader.text(), reader.number("I")
        if key == b"tokenizer.ggml.tokens":
            size = struct.unpack("<Q", reader.data[reader.at + 4:reader.at + 12])[0]
        reader.skip(kind)
        if key.startswith(b"tokenizer."):
            keys.append(reader.data[begin:reader.at])
    return keys, size


def shapes(layers, vocabulary):
    """(name, type, [outputs, inputs] or [size]) in the order of the file."""
    yield "token_embd.weight", Q4_0, (vocabulary, HIDDEN)
    yield "output_norm.weight", F32, (HIDDEN,)
    yield "output.weight", Q4_0, (vocabulary, HIDDEN)
    for i in range(layers):
        for part in ("attn_norm", "ffn_norm"):
            yield f"blk.{i}.{part}.weight", F32, (HIDDEN,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{i}.{part}.weight", Q4_0, (HIDDEN, HIDDEN)
        for part in ("ffn_gate", "ffn_up"):
            yield f"blk.{i}.{part}.weight", Q4_0, (INNER, HIDDEN)
        yield f"blk.{i}.ffn_down.weight", Q4_0, (HIDDEN, INNER)


def random_rows(count):
    """`count` Q4_0 blocks: f16 0.002 as the scale, random codes."""
    pattern = os.urandom(16 * 4096)
    blocks = b"".join(b"\x19\x18" + pattern[16 * i:16 * i + 16] for i in range(4096))
    return blocks * (count // 4096) + blocks[:18 * (count % 4096)]


def make_file(path, layers, context):
    keys, vocabulary = tokenizer_keys()
    name = b"llama."
    keys.append(text(b"general.architecture") + struct.pack("<I", STRING) + text(b"llama"))
    for key, value in (("block_count", layers), ("context_length", context), ("embedding_length", HIDDEN),
                       ("feed_forward_length", INNER), ("attention.head_count", HEADS), ("attention.head_count_kv", HEADS),
                       ("vocab_size", vocabulary)):
        keys.append(text(name + key.encode()) + struct.pack("<II", U32, value))
    for key, value in (("attention.layer_norm_rms_epsilon", 1e-5), ("rope.freq_base", 10000.0)):
        keys.append(text(name + key.encode()) + struct.pack("<If", F32_KEY, value))
    infos, offset, tensors = b"", 0, list(shapes(layers, vocabulary))
    for tensor, kind, shape in tensors:
        size = 4 * shape[0] if kind == F32 else shape[0] * shape[1] // 32 * 18
        infos += text(tensor.encode()) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        offset += (size + 31) // 32 * 32
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + infos
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for _, kind, shape in tensors:
            data = struct.pack("<f", 1.0) * shape[0] if kind == F32 else random_rows(shape[0] * shape[1] // 32)
            file.write(data + bytes(-len(data) % 32))
    return os.path.getsize(path)


def load(binary, path, layers, context):
    """(seconds to ready, of processor time until then, of an answer of 4 tokens, peak bytes, bytes of the KV cache)"""
    began = time.monotonic()
    kv_bytes = context * 2 * 2 * HIDDEN * layers
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([binary, "serve", "--port", "0", "--model", path, "--kv-cache-memory", str(kv_bytes),
                                    "--context-length", str(context)], stdout=log, stderr=subprocess.STDOUT)
        try:
            port = None
            while True:
                log.seek(0)
                said = log.read()
                found = re.search(r"127\.0\.0\.1:(\d+)", said)
                if found:
                    port = found[1]
                if re.search(r"\bready\b", said):
                    break
                if process.poll() is not None:
                    sys.exit(f"inferd ended with {process.returncode}:\n{said}")
                time.sleep(0.05)
            ready = time.monotonic() - began
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
                ticks = stat.read().rsplit(")", 1)[1].split()[11:13]
            processor = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            asked = time.monotonic()
            body = json.dumps({"prompt": [1, 2, 3, 4], "max_tokens": 4, "ignore_eos": True}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=600) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 4
            answered = time.monotonic() - asked
            with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return ready, processor, answered, peak, kv_bytes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--binary", default=os.path.join(ROOT, "build", "inferd"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--context", type=int, default=2048)
    args = parser.parse_args()
    path = os.path.join(args.scratch, "random-7b-q4_0.gguf")
    try:
        size = make_file(path, args.layers, args.context)
        ready, processor, answered, peak, kv_bytes = load(args.binary, path, args.layers, args.context)
    finally:
        if os.path.exists(path):
            os.unlink(path)
    over = peak - size - kv_bytes
    print(f"file {size / 1e9:.2f} GB, ready after {ready:.1f} s ({processor:.1f} s of processor time), 4 + 4 tokens in {answered:.1f} s, peak {peak / 1e9:.2f} GB = file + KV "
          f"{kv_bytes / 1e9:.2f} GB {over / 1e6:+.0f} MB (allowed: +{ALLOWED_OVER / 1e6:.0f} MB)")
    return 0 if over <= ALLOWED_OVER else 1


if __name__ == "__main__":
    sys.exit(main())
