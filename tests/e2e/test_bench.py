"""`inferd bench`: runs on a real model, and its numbers agree with each other."""
import json
import os
import statistics
import subprocess

import pytest
from daemon import MINILM, ROOT, SMOLLM2, binary

QWEN2 = os.path.join(ROOT, "tests", "golden", "models", "qwen2")
MIXTURES = [os.path.join(ROOT, "tests", "golden", *where) for where in (("models", "qwen3_moe"), ("gguf", "qwen3_moe.bf16.gguf"))]

SMALL = ["--prompt", "32", "--generate", "4", "--batch", "1,3", "--repetitions", "3"]
# SmolLM2-135M: 30 layers, 9 query and 3 key/value heads of 64, hidden 576, MLP 1,536, 49,152 tokens, tied embedding.
LAYER_WEIGHTS = 30 * (576 * (9 + 3 + 3) * 64 + 576 * 576 + 3 * 576 * 1536)
OUTPUT_WEIGHTS = 49152 * 576
PAIR_FLOP = 4 * 30 * 9 * 64


def bench(*arguments):
    return subprocess.run([binary(), "bench", *arguments], capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def report():
    run = bench("--model", SMOLLM2, *SMALL, "--depth", "0,48", "--json")
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_case_is_measured_as_often_as_asked(report):
    names = [test["test"] for test in report["tests"]]
    assert names == ["pp32", "tg4", "tg4 x3", "pp32 @ 48", "tg4 @ 48", "tg4 x3 @ 48"]
    assert all(len(test["seconds"]) == 3 and min(test["seconds"]) > 0 for test in report["tests"])
    assert report["model"]["quantization"] == "Q4_1" and report["model"]["parameters"] == 134515008


def test_rates_are_counts_over_the_median_time(report):
    for test in report["tests"]:
        median = statistics.median(test["seconds"])
        assert test["median_s"] == pytest.approx(median)
        assert test["tokens"] == test["tokens_per_stream"] * test["batch"]
        assert test["tok_per_s"] == pytest.approx(test["tokens"] / median)


def test_gflops_follow_from_the_shapes_of_the_model(report):
    for test in report["tests"]:
        n, batch, start = test["tokens_per_stream"], test["batch"], test["depth"]
        prefill = test["kind"] == "prefill"
        if not prefill:
            start = max(start, 1)
        pairs = batch * sum(start + i + 1 for i in range(n))
        rows = 1 if prefill else test["tokens"]
        flop = 2 * LAYER_WEIGHTS * test["tokens"] + 2 * OUTPUT_WEIGHTS * rows + PAIR_FLOP * pairs
        assert test["gflop_per_s"] * test["median_s"] * 1e9 == pytest.approx(flop, rel=1e-6), test["test"]


def test_bytes_of_a_decode_step_are_the_weights_and_the_cache(report):
    weights = report["model"]["weight_bytes"]
    for test in report["tests"]:
        if test["kind"] == "decode":
            read = test["gb_per_s"] * test["median_s"] * 1e9
            cache = 2 * 30 * 3 * 64 * 2 * test["batch"] * sum(max(test["depth"], 1) + i + 1 for i in range(4))
            # Norm vectors are in weight_bytes, but count as no matrix.
            assert read == pytest.approx(4 * weights + cache, rel=0.01), test["test"]


@pytest.mark.parametrize("model", MIXTURES, ids=["folder", "gguf"])
def test_of_a_mixture_only_the_experts_that_tokens_pass_count(model):
    """3 layers, hidden 64, 4 query and 2 key/value heads of 32, 320 tokens; two layers of 8 experts (3 a token) of width 32, one dense of 96; bf16."""
    run = bench("--model", model, *SMALL, "--json")
    assert run.returncode == 0, run.stderr
    shared = 3 * (64 * (4 + 2 + 2) * 32 + 64 * 4 * 32) + 2 * 8 * 64 + 3 * 64 * 96
    experts, output = 2 * 8 * 3 * 64 * 32, 320 * 64
    for test in json.loads(run.stdout)["tests"]:
        n, batch, rows = test["tokens_per_stream"], test["batch"], 1 if test["kind"] == "prefill" else test["tokens"]
        pairs = batch * sum((0 if test["kind"] == "prefill" else 1) + i + 1 for i in range(n))
        flop = 2 * (shared + experts * 3 / 8) * test["tokens"] + 2 * output * rows + 4 * 3 * 4 * 32 * pairs
        assert test["gflop_per_s"] * test["median_s"] * 1e9 == pytest.approx(flop, rel=1e-6), test["test"]
        if test["kind"] == "decode":
            read = 2 * (shared + output + experts * (1 - (5 / 8) ** batch))
            cache = 2 * 3 * 2 * 32 * 2 * pairs / n
            assert test["gb_per_s"] * test["median_s"] * 1e9 / n == pytest.approx(read + cache, rel=1e-3), test["test"]


def test_the_table_names_model_machine_and_rates():
    run = bench("--model", SMOLLM2, *SMALL)
    assert run.returncode == 0, run.stderr
    assert "llama Q4_1, 134.5 M parameters" in run.stdout and "threads" in run.stdout
    for name in ("pp32", "tg4", "tg4 x3"):
        (line,) = [line for line in run.stdout.splitlines() if line.startswith(name + "  ")]
        rate, least, most = (float(word) for word in line[len(name):].split()[:3])
        assert 0 < least <= rate <= most


@pytest.mark.parametrize("arguments,code,message", [
    (["--model", SMOLLM2, "--depth", "7"], 78, "--depth: expected a multiple of 16, found 7"),
    (["--model", SMOLLM2, "--prompt", "0", "--generate", "0"], 78, "nothing to measure"),
    (["--model", SMOLLM2, "--prompt", "500000", "--generate", "0"], 78, "expected at most"),
    (["--model", SMOLLM2, "--prompt", "-1"], 64, "--prompt"),
    (["--model", SMOLLM2, "--draft-model", SMOLLM2], 78, "--draft-model: what guesses bring depends on the text"),
    (["--model", MINILM], 78, "expected a decoder, found an encoder"),
    (["--model", "/nowhere"], 65, "/nowhere"),
    ([], 64, "--model"),
], ids=["depth", "nothing", "too long", "negative", "draft", "encoder", "no file", "no model"])
def test_bad_arguments_end_in_one_clear_line(arguments, code, message):
    run = bench(*arguments)
    assert run.returncode == code and message in run.stderr


def test_what_is_quantised_at_load_is_measured_quantised(tmp_path):
    bytes_of = {}
    for to in ("none", "int8", "int4"):
        run = bench("--model", QWEN2, *SMALL, "--json", "--quantization", to, "--cache-dir", str(tmp_path))
        assert run.returncode == 0, run.stderr
        model = json.loads(run.stdout)["model"]
        assert model["quantization"] == ("BF16" if to == "none" else f"{to} from BF16")
        bytes_of[to] = model["weight_bytes"]
    assert bytes_of["int4"] < bytes_of["int8"] < bytes_of["none"]
    assert len(os.listdir(tmp_path)) == 2
