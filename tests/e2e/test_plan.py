"""`inferd plan`: bytes, divisions and what fits, against the files' own sizes."""
import os
import re
import subprocess

from daemon import MINILM, ROOT, SMOLLM2, binary

NARROW = os.path.join(ROOT, "tests", "golden", "models", "qwen2")  # heads of 16


def plan(*arguments):
    return subprocess.run([binary(), "plan", *arguments], capture_output=True, text=True, timeout=60)


def test_a_model_on_the_host():
    done = plan(SMOLLM2, "--gpu-memory", "0")
    assert done.returncode == 0, done.stderr
    assert "30 layers" in done.stdout and "(also the output)" in done.stdout and "gpu_layers: 0 of 30" in done.stdout
    # 30 layers of 3 key and 3 value heads of 64 f16.
    assert "22.5 KiB a token" in done.stdout
    assert "12.0 KiB a token" in plan(SMOLLM2, "--gpu-memory", "0", "--kv-cache-type", "q8_0").stdout  # 17/32
    weights = float(re.search(r"weights    ([0-9.]+) MiB", done.stdout)[1])
    assert 0.9 < weights * 2**20 / os.path.getsize(SMOLLM2) < 1


def test_the_smaller_the_gpu_the_fewer_its_layers():
    layers = []
    for size in ("2GiB", "120MiB", "100MiB", "90MiB", "10MiB"):
        done = plan(SMOLLM2, "--gpu-memory", size, "--context-length", "512")
        assert done.returncode == 0, done.stderr
        layers.append(int(re.search(r"gpu_layers: (\d+) of 30", done.stdout)[1]))
    assert layers[0] == 30 and layers[-1] == 0 and layers == sorted(layers, reverse=True) and len(set(layers)) >= 4


def test_a_division_by_hand_that_does_not_fit_says_so():
    done = plan(SMOLLM2, "--gpu-memory", "50MiB", "--gpu-layers", "all")
    assert done.returncode == 0 and "DOES NOT FIT" in done.stdout
    done = plan(SMOLLM2, "--gpu-memory", "2GiB", "--gpu-layers", "7")
    assert "the last 7 layers, output" in done.stdout and "the first 23 layers, embedding" in done.stdout
    assert "DOES NOT FIT" not in done.stdout


def test_encoders_have_no_cache():
    done = plan(MINILM)
    assert done.returncode == 0 and "no KV cache" in done.stdout


def test_bad_arguments_are_named():
    assert plan().returncode == 64
    assert plan(SMOLLM2, "--what").returncode == 64
    for arguments, mention in (
        (("--gpu-memory", "much"), "--gpu-memory"), (("--gpu-layers", "most"), "--gpu-layers"),
        (("--context-length", "9000"), "8192")):
        done = plan(SMOLLM2, *arguments)
        assert done.returncode == 78 and mention in done.stderr, done.stderr
    done = plan(NARROW, "--kv-cache-type", "q8_0")
    assert done.returncode == 78 and "heads of a multiple of 32" in done.stderr
    assert plan("/nowhere").returncode == 65
