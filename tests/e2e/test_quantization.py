"""Quantising at load: the daemon serves, keeps its blocks, advises, refuses; `inferd inspect` says what it would cost."""
import json
import os
import subprocess

import httpx
import pytest
from daemon import ROOT, SMOLLM2, Daemon, binary

QWEN2 = os.path.join(ROOT, "tests", "golden", "models", "qwen2")
QWEN2_AWQ = os.path.join(ROOT, "tests", "golden", "models", "qwen2_awq")


def logprobs(daemon):
    body = {"prompt": [5, 6, 7, 8], "max_tokens": 4, "temperature": 0, "logprobs": 2, "return_tokens_as_token_ids": True}
    return httpx.post(daemon.url + "/v1/completions", json=body, timeout=60).json()["choices"][0]["logprobs"]["top_logprobs"]


def test_blocks_are_kept_for_the_next_start(tmp_path):
    arguments = ("--model", QWEN2, "--quantization", "int4", "--cache-dir", str(tmp_path))
    with Daemon(*arguments) as first:
        answers = logprobs(first)
        log = first.log()
    assert "quantising qwen2 to int4" in log and "small models should not be quantised" in log and "int4 from " in log
    files = os.listdir(tmp_path)
    assert len(files) == 1 and files[0].startswith("int4-")
    with Daemon(*arguments) as second:
        assert logprobs(second) == answers
        assert "quantising qwen2" not in second.log()
    with Daemon("--model", QWEN2) as plain:
        assert logprobs(plain) != answers  # it is the quantised weights that answer


def test_the_cache_is_where_the_environment_says(tmp_path):
    with Daemon("--model", QWEN2, "--quantization", "int8", environment={"CACHE_DIRECTORY": str(tmp_path / "unit")}):
        assert len(os.listdir(tmp_path / "unit")) == 1
    with Daemon("--model", QWEN2, "--quantization", "int8", environment={"XDG_CACHE_HOME": str(tmp_path)}):
        assert len(os.listdir(tmp_path / "inferd")) == 1


@pytest.mark.parametrize("model", [SMOLLM2, QWEN2_AWQ])
def test_what_is_quantised_is_refused(model):
    done = subprocess.run([binary(), "serve", "--port", "0", "--model", model, "--quantization", "int4"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 78 and "quantised already" in done.stdout + done.stderr


def test_a_model_may_be_left_out(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(f"quantization: int8\ncache_dir: {tmp_path}/cache\n"
                      f"models: [{{path: {QWEN2}}}, {{path: {QWEN2_AWQ}, quantization: none}}]\n")
    with Daemon("--config", str(config)) as daemon:
        assert "int8 from" in daemon.log() and "AWQ" in daemon.log()
    config.write_text(f"models: [{{path: {QWEN2}, quantization: int5}}]\n")
    done = subprocess.run([binary(), "check-config", str(config)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78 and "c.yaml:1: models: quantization" in done.stderr and "int5" in done.stderr


def test_inspect_says_what_it_saves_and_costs(tmp_path):
    told = {}
    for to in ("int8", "int4"):
        done = subprocess.run([binary(), "inspect", QWEN2, "--json", "--quantization", to, "--cache-dir", str(tmp_path)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        told[to] = json.loads(done.stdout)["quantized"]
        assert told[to]["positions"] > 200 and told[to]["bytes_after"] < told[to]["bytes_before"]
    assert 0 < told["int8"]["mean_kl"] < told["int4"]["mean_kl"]
    assert told["int4"]["bytes_after"] < told["int8"]["bytes_after"]
    text = subprocess.run([binary(), "inspect", QWEN2, "--quantization", "int8", "--cache-dir", str(tmp_path)],
                          capture_output=True, text=True, timeout=60).stdout
    assert "KL from the original" in text and "int8: " in text
