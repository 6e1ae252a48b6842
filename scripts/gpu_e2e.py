"""Whole models on a GPU beside transformers on the same one: log-probabilities of given texts, and speed.
  python3 scripts/gpu_e2e.py --out DIR 0.5B 7B       (torch with CUDA, transformers; INFERD_BIN: the daemon)

Makes random Qwen2-shaped checkpoints in a temporary folder, serves each, and prints a table; logs go to DIR. Ends with 1 if a log-probability is off by
more than 5e-2 of the largest logit of its row. The shape "tiny" is for trying this script without a GPU: transformers runs
on the CPU then, inferd on whatever it finds as libcuda.so.1 (the fake driver of the tests).
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 5e-2
SHAPES = {
    "0.5B": dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                 num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True),
    "7B": dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
               num_key_value_heads=4, vocab_size=152064, tie_word_embeddings=False),
    "tiny": dict(hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=768, tie_word_embeddings=False),
}
# Tokens of the prompts whose log-probabilities are compared, of the timed prompt, and of an answer; streams.
FULL = dict(compared=(5, 64, 333, 1500), prefill=2048, answer=64, batches=(1, 8, 64))
SMALL = dict(compared=(5, 40), prefill=48, answer=4, batches=(1, 3))


def make_model(name, folder):
    """Random weights large enough that logits differ; the model stays on the GPU, its files go to `folder`."""
    torch.manual_seed(7)
    config = Qwen2Config(**SHAPES[name], max_position_embeddings=8192, bos_token_id=None, eos_token_id=1)
    with torch.device(DEVICE):
        model = Qwen2ForCausalLM._from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.2 / parameter.shape[-1] ** 0.5)
    model.eval().save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "tests/golden/models/qwen2" / file, folder)
    return model


class Server:
    def __init__(self, folder, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = open(log, "w")
        self.process = subprocess.Popen(
            [os.environ["INFERD_BIN"], "serve", "--model", f"m={folder}", "--device", "cuda", "--port", str(self.port)],
            stdout=self.log, stderr=self.log)
        began = time.monotonic()
        while True:
            if self.process.poll() is not None:
                sys.exit(f"inferd ended with {self.process.returncode}, see {log}")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        self.load_s = time.monotonic() - began

    def complete(self, **body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions",
                                         json.dumps({"model": "m", "temperature": 0, "ignore_eos": True, **body}).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def prompt(length, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 500, (length,), generator=generator).tolist()  # ids the small tokenizer knows


def worst_error(model, server, lengths):
    """Largest |difference| of a token's log-probability, as a share of the largest logit of its row."""
    worst = 0.0
    for seed, length in enumerate(lengths):
        ids = prompt(length, seed)
        with torch.no_grad():
            rows = model(torch.tensor([ids], device=DEVICE)).logits[0].float()
        expected = torch.log_softmax(rows, -1)
        found = server.complete(prompt=ids, max_tokens=1, echo=True, logprobs=1)["choices"][0]["logprobs"]["token_logprobs"]
        for position in range(1, length):
            difference = abs(found[position] - float(expected[position - 1, ids[position]]))
            worst = max(worst, difference / float(rows[position - 1].abs().max()))
    return worst


def seconds(run):
    def finished():
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
    finished()
    began = time.monotonic()
    finished()
    return time.monotonic() - began


def reference_speed(model, batch, tokens):
    """Tokens/s of transformers' generate, its short prompts included."""
    ids = torch.tensor([prompt(16, i) for i in range(batch)], device=DEVICE)
    options = dict(do_sample=False, eos_token_id=None, pad_token_id=0)
    with torch.no_grad():
        decode = seconds(lambda: model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, **options))
    return batch * tokens / decode


def served_speed(server, batch, tokens):
    with concurrent.futures.ThreadPoolExecutor(batch) as pool:
        def run(offset):
            list(pool.map(lambda i: server.complete(prompt=prompt(16, offset + i), max_tokens=tokens), range(batch)))
        run(0)
        began = time.monotonic()
        run(1000)
        return batch * tokens / (time.monotonic() - began)


def prefill_speeds(model, server, length):
    ids = prompt(length, 99)
    with torch.no_grad():
        reference = length / seconds(lambda: model(torch.tensor([ids], device=DEVICE), logits_to_keep=1))
    server.complete(prompt=prompt(length, 98), max_tokens=1)
    began = time.monotonic()
    server.complete(prompt=ids, max_tokens=1)
    return reference, length / (time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("shapes", nargs="+", choices=SHAPES)
    arguments = parser.parse_args()
    bad = False
    print("| model | loads in s | worst log-probability error | what | transformers tok/s | inferd tok/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.shapes:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"qwen2-{name}-"))
        model = make_model(name, folder)
        server = Server(folder, pathlib.Path(arguments.out) / f"serve-{name}.log")
        sizes = SMALL if name == "tiny" else FULL
        error = worst_error(model, server, sizes["compared"])
        bad = bad or not error <= TOLERANCE
        lines = [(f"prefill {sizes['prefill']}", *prefill_speeds(model, server, sizes["prefill"]))]
        for batch in sizes["batches"]:
            lines.append((f"decode x{batch}", reference_speed(model, batch, sizes["answer"]),
                          served_speed(server, batch, sizes["answer"])))
        for what, reference, served in lines:
            print(f"| {name} BF16 | {server.load_s:.1f} | {error:.1e} | {what} | {reference:.0f} | {served:.0f} | "
                  f"{served / reference:.2f} |", flush=True)
        server.stop()
        del model
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        shutil.rmtree(folder)
    if bad:
        sys.exit(f"a log-probability is off by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
