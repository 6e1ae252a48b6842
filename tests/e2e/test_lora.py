"""LoRA adapters through the daemon: at start, loaded and unloaded on request, listed, and refused."""
import json
import os
import shutil
import subprocess
import sys
import threading

import httpx
import pytest
from daemon import ROOT, Daemon

GOLDEN = os.path.join(ROOT, "tests", "golden")
BASE = os.path.join(GOLDEN, "models", "qwen2")


def expected(name):
    with open(os.path.join(GOLDEN, "lora", name, "expected.json"), encoding="utf-8") as file:
        return json.load(file)["cases"][0]


@pytest.fixture(scope="module")
def adapters_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for name in ("lora_qwen2", "lora_qwen2_all", "peft_llama2"):
        shutil.copytree(os.path.join(GOLDEN, "lora", name), folder / name)
    shutil.copytree(os.path.join(GOLDEN, "lora", "lora_qwen2"), folder.parent / "outside")
    broken = folder / "broken"
    shutil.copytree(folder / "lora_qwen2", broken)
    with open(broken / "adapter_model.safetensors", "r+b") as file:
        file.truncate(100)
    return folder


@pytest.fixture(scope="module")
def http(adapters_dir):
    with Daemon("--model", f"base={BASE}", "--adapter", f"qv={GOLDEN}/lora/lora_qwen2:base", "--adapters-dir", str(adapters_dir),
                "--max-adapters", "2", "--activations", "f32", "--kv-cache-type", "f32") as daemon:
        with httpx.Client(base_url=daemon.url, timeout=60) as session:
            yield session


def complete(http, model, ids, tokens=6):
    answer = http.post("/v1/completions", json={"model": model, "prompt": ids, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
                                                "return_tokens_as_token_ids": True, "logprobs": 0})
    assert answer.status_code == 200, answer.text
    return [int(t.split(":")[1]) for t in answer.json()["choices"][0]["logprobs"]["tokens"]]


def load(http, name, path, **more):
    return http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": path, **more})


def unload(http, name):
    return http.post("/v1/unload_lora_adapter", json={"lora_name": name})


def check_greedy(http, model, case):
    """The reference's tokens up to the first step whose gap could be a matter of rounding."""
    close = next((i for i, gap in enumerate(case["greedy_gaps"]) if gap < 1e-2), 6)
    assert complete(http, model, case["input_ids"])[:min(close, 6)] == case["greedy"][:min(close, 6)]


def test_adapters_answer_as_the_reference(http):
    check_greedy(http, "qv", expected("lora_qwen2"))
    assert load(http, "all", "lora_qwen2_all").status_code == 200
    check_greedy(http, "all", expected("lora_qwen2_all"))
    ids = expected("lora_qwen2")["input_ids"]
    alone = {name: complete(http, name, ids) for name in ("base", "qv", "all")}
    assert alone["qv"] != alone["all"]
    got = {}
    threads = [threading.Thread(target=lambda n=n, k=k: got.update({(n, k): complete(http, n, ids)})) for n in alone for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(tokens == alone[name] for (name, _), tokens in got.items()) and len(got) == 9
    assert unload(http, "all").status_code == 200


def test_lists_name_the_parent(http):
    models = {m["id"]: m for m in http.get("/v1/models").json()["data"]}
    assert models["qv"]["parent"] == "base" and models["qv"]["max_model_len"] == models["base"]["max_model_len"]
    assert http.get("/v1/models/qv").json() == models["qv"]
    assert http.post("/tokenize", json={"model": "qv", "prompt": "a"}).status_code == 200


def test_load_and_unload(http):
    ids = expected("lora_qwen2")["input_ids"]
    assert http.post("/v1/completions", json={"model": "late", "prompt": ids}).status_code == 404
    assert load(http, "late", "lora_qwen2", base_model_name="base").json()["status"] == "success"
    assert complete(http, "late", ids) == complete(http, "qv", ids)
    again = load(http, "late", "lora_qwen2_all")
    assert again.status_code == 400 and again.json()["error"]["param"] == "lora_name"
    assert load(http, "third", "lora_qwen2").status_code == 503  # max_adapters
    assert unload(http, "late").status_code == 200
    assert http.post("/v1/completions", json={"model": "late", "prompt": ids}).status_code == 404
    assert unload(http, "late").status_code == 404
    assert "late" not in [m["id"] for m in http.get("/v1/models").json()["data"]]


def test_a_request_ends_with_the_adapter_it_began_with(http):
    ids = expected("lora_qwen2_all")["input_ids"]
    assert load(http, "leaving", "lora_qwen2_all").status_code == 200
    whole = complete(http, "leaving", ids, 60)
    body = {"model": "leaving", "prompt": ids, "max_tokens": 60, "temperature": 0, "ignore_eos": True, "stream": True,
            "return_tokens_as_token_ids": True, "logprobs": 0}
    tokens = []
    with http.stream("POST", "/v1/completions", json=body) as stream:
        for line in stream.iter_lines():
            if not line.startswith("data: {"):
                continue
            if not tokens:
                assert httpx.post(str(http.base_url) + "/v1/unload_lora_adapter", json={"lora_name": "leaving"}).status_code == 200
            for choice in json.loads(line[6:])["choices"]:
                tokens += [int(t.split(":")[1]) for t in (choice["logprobs"] or {}).get("tokens", [])]
    assert tokens == whole


@pytest.mark.parametrize("path", ["../outside", "lora_qwen2/../../outside", "/etc", "none", "broken", "peft_llama2", ".", "a" * 2000, ""])
def test_bad_adapters_are_refused_and_the_server_lives(http, path):
    answer = load(http, "bad", path)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "lora_path", answer.text
    assert http.post("/v1/completions", json={"model": "bad", "prompt": "a"}).status_code == 404
    check_greedy(http, "qv", expected("lora_qwen2"))


@pytest.mark.parametrize("body, param", [({"lora_path": "lora_qwen2"}, "lora_name"), ({"lora_name": "x"}, "lora_path"),
                                         ({"lora_name": "base", "lora_path": "lora_qwen2"}, "lora_name"),
                                         ({"lora_name": "a b", "lora_path": "lora_qwen2"}, "lora_name"),
                                         ({"lora_name": "x", "lora_path": "lora_qwen2", "base_model_name": "qv"}, "base_model_name")])
def test_bad_requests_name_the_field(http, body, param):
    answer = http.post("/v1/load_lora_adapter", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_adapters_embed_nothing(http):
    answer = http.post("/v1/embeddings", json={"model": "qv", "input": "a"})
    assert answer.status_code == 400 and "qv" in answer.json()["error"]["message"]


def test_only_admin_keys_may_load(tmp_path, adapters_dir):
    import hashlib
    digest = lambda key: hashlib.sha256(key.encode()).hexdigest()
    keys = tmp_path / "keys"
    keys.write_text(f"plain\nsha256:{digest('boss')}:inference,admin\n")
    keys.chmod(0o600)
    with Daemon("--model", f"base={BASE}", "--adapters-dir", str(adapters_dir), "--api-key-file", str(keys)) as daemon:
        def post(key):
            return httpx.post(daemon.url + "/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "lora_qwen2"},
                              headers={"Authorization": f"Bearer {key}"}).status_code
        assert [post("none"), post("plain"), post("boss")] == [401, 403, 200]


def test_without_a_folder_nothing_is_loaded():
    with Daemon("--model", f"base={BASE}") as daemon:
        answer = httpx.post(daemon.url + "/v1/load_lora_adapter", json={"lora_name": "x", "lora_path": "lora_qwen2"})
        assert answer.status_code == 400 and "adapters_dir" in answer.text


def test_the_example_answers_what_it_was_taught():
    """examples/lora trained this adapter on its pairs (tests/reference/make_lora_example.py); transformers gave the answers."""
    folder = os.path.join(GOLDEN, "lora", "example_llama3")
    with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    with Daemon("--model", f"base={GOLDEN}/models/llama3", "--adapter", f"tickets={folder}") as daemon:
        with httpx.Client(base_url=daemon.url, timeout=60) as http:
            ask = lambda model, case: http.post("/v1/completions", json={"model": model, "prompt": case["prompt"], "max_tokens": 8,
                                                                         "temperature": 0}).json()["choices"][0]
            for case in cases:
                answer = ask("tickets", case)
                assert answer["text"] == case["answer"] == " " + case["label"] and answer["finish_reason"] == "stop"
            assert sum(ask("base", case)["text"].strip() == case["label"] for case in cases) == 0
        for model, line in (("tickets", "12 of 12 right"), ("base", "0 of 12 right")):
            program = [sys.executable, os.path.join(ROOT, "examples", "lora", "ask.py"), model, "--url", daemon.url]
            assert subprocess.run(program, check=True, capture_output=True, text=True, timeout=120).stdout.splitlines()[-1] == line
