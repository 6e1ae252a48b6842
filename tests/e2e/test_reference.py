"""Tokens and log-probabilities from the daemon against float32 transformers, on both real models."""
import json
import os

import httpx
import pytest
from daemon import ROOT, SMOLLM2, Daemon

QWEN = os.path.join(ROOT, "models", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")
MODELS = {"smollm2": 5, "qwen2.5-coder": 2}  # and how many of its cases: float32 is slow


@pytest.fixture(scope="module")
def exact():
    """Both models, with every activation and the KV cache in float32."""
    arguments = ("--model", f"smollm2={SMOLLM2}", "--model", f"qwen2.5-coder={QWEN}", "--context-length", "512",
                 "--activations", "f32", "--kv-cache-type", "f32")
    with Daemon(*arguments) as daemon:
        yield daemon


def cases(name):
    with open(os.path.join(ROOT, "tests", "golden", "fidelity", name + "_greedy.json"), encoding="utf-8") as f:
        return json.load(f)["cases"][-MODELS[name] :]


def complete(daemon, **body):
    answer = httpx.post(daemon.url + "/v1/completions", json={"temperature": 0, "return_tokens_as_token_ids": True, "ignore_eos": True,
                                                              **body}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def forced(daemon, model, case):
    """The engine's (log-probability, likeliest token) at each step of the reference's own continuation."""
    start = len(case["prompt_ids"])
    answer = complete(daemon, model=model, prompt=case["prompt_ids"] + case["tokens"], echo=True, logprobs=1, max_tokens=1)
    logprobs = answer["logprobs"]
    end = start + len(case["tokens"])
    best = [max(top, key=top.get) for top in logprobs["top_logprobs"][start:end]]
    return logprobs["token_logprobs"][start:end], [int(token.split(":")[1]) for token in best]


@pytest.mark.parametrize("model", MODELS)
def test_prompts_become_the_reference_tokenizers_ids(exact, model):
    for case in cases(model):
        got = httpx.post(exact.url + "/tokenize", json={"model": model, "prompt": case["prompt"]}).json()["tokens"]
        assert got == case["prompt_ids"], case["prompt"]


@pytest.mark.parametrize("model", MODELS)
def test_in_float32_every_logprob_agrees(exact, model):
    worst = 0.0
    for case in cases(model):
        logprobs, best = forced(exact, model, case)
        worst = max(worst, max(abs(a - b) for a, b in zip(logprobs, case["logprobs"], strict=True)))
        for step, (token, gap) in enumerate(zip(case["tokens"], case["gaps"])):
            assert best[step] == token or gap < 0.01, (case["prompt"], step)
    print(f"{model}: worst difference {worst:.5f}")
    assert worst < 1e-3


def test_in_float32_the_greedy_text_is_the_references(exact):
    for case in cases("smollm2")[:1]:
        answer = complete(exact, model="smollm2", prompt=case["prompt_ids"], max_tokens=8, logprobs=0)
        got = [int(t.split(":")[1]) for t in answer["logprobs"]["tokens"]]
        sure = next((i for i, gap in enumerate(case["gaps"][:8]) if gap < 0.01), 8)
        assert sure >= 4 and got[:sure] == case["tokens"][:sure], case["prompt"]


def test_with_default_activations_the_same_tokens_lead_where_they_lead_clearly(server):
    differences = []
    for case in cases("smollm2"):
        logprobs, best = forced(server, "smollm2", case)
        differences += [abs(a - b) for a, b in zip(logprobs, case["logprobs"], strict=True)]
        for step, (token, gap) in enumerate(zip(case["tokens"], case["gaps"])):
            assert best[step] == token or gap < 0.75, (case["prompt"], step, gap)
    mean = sum(differences) / len(differences)
    print(f"mean difference {mean:.4f}, worst {max(differences):.4f}")
    assert mean < 0.06 and max(differences) < 0.6
