"""Speculation over a real model: the same answers as without, in fewer steps; and draft models that are refused."""
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from daemon import ROOT, SMOLLM2, Daemon, binary

CODE = '''def area(width, height):
    return width * height

def perimeter(width, height):
    return 2 * (width + height)

def volume(width, height, depth):
    return width * height * depth
'''
REQUESTS = [
    {"messages": [{"role": "user", "content": "Repeat this code word for word:\n" + CODE}], "temperature": 0},
    {"messages": [{"role": "user", "content": "Repeat this code word for word:\n" + CODE}], "temperature": 0.7, "seed": 11, "top_p": 0.9},
    {"messages": [{"role": "user", "content": "Write a story about a lighthouse."}], "temperature": 1, "seed": 12},
    {"messages": [{"role": "user", "content": "Count from one to twenty, twice."}], "temperature": 0, "repetition_penalty": 1.1,
     "frequency_penalty": 0.2},
    {"messages": [{"role": "user", "content": "Say 'bla' a hundred times."}], "temperature": 0.3, "seed": 5, "stop": ["\n\n"]},
]


def ask(daemon, request):
    body = {**request, "max_tokens": 96, "logprobs": True, "top_logprobs": 3}
    answer = httpx.post(daemon.url + "/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def counter(daemon, name):
    return float(re.search(rf"^{re.escape(name)}{{[^}}]*}} (\S+)$", httpx.get(daemon.url + "/metrics").text, re.MULTILINE).group(1))


def run(mode, *more, together=False):
    with Daemon("--model", f"smollm2={SMOLLM2}", "--context-length", "1024", "--speculative", mode, *more) as daemon:
        with ThreadPoolExecutor(len(REQUESTS) if together else 1) as pool:
            answers = list(pool.map(lambda request: ask(daemon, request), REQUESTS))
        names = ("vllm:spec_decode_num_drafts_total", "vllm:spec_decode_num_draft_tokens_total",
                 "vllm:spec_decode_num_accepted_tokens_total", "inferd:engine_steps_total")
        return answers, [counter(daemon, name) for name in names]


def check_steps(plain, steps, accepted, longest):
    """Every step yields a token or more of the one request that runs, apart from the prompts'. A request that ends with a guess has no token
    beyond it in that step. After a stop string, of which one request has one, the engine may run another step, of `longest` guesses at
    most, before it hears of it."""
    assert -1 <= steps + accepted - plain[1][3] <= len(REQUESTS) + 1 + longest


@pytest.fixture(scope="module")
def plain():
    return run("off")


@pytest.mark.parametrize("mode", ["auto", "ngram"])
def test_answers_and_logprobs_are_those_without_speculation(plain, mode):
    answers, (drafts, drafted, accepted, steps) = run(mode)
    assert answers == plain[0]
    assert plain[1][:3] == [0, 0, 0]
    assert drafts > 10 and drafts <= drafted and 50 < accepted < drafted
    check_steps(plain, steps, accepted, longest=8)


@pytest.mark.parametrize("together", [False, True])
def test_answers_are_those_without_a_draft_model(plain, together):
    # The model drafts for itself: what it guesses is what it says, but where penalties count its own guesses.
    answers, (drafts, drafted, accepted, steps) = run("draft", "--draft-model", SMOLLM2, "--speculative-tokens", "4", together=together)
    assert answers == plain[0]
    assert drafts > 60 and drafted <= 4 * drafts and 0.8 * drafted < accepted <= drafted
    if not together:
        check_steps(plain, steps, accepted, longest=4)


def golden(name):
    return os.path.join(ROOT, "tests", "golden", "models", name)


def test_a_quantised_copy_drafts_for_a_folder():
    request = {"prompt": "the cat sat on", "max_tokens": 60, "temperature": 1, "seed": 3, "logprobs": 2}
    draft = os.path.join(ROOT, "tests", "golden", "gguf", "qwen2.Q8_0.gguf")
    answers = []
    for arguments in ((), ("--draft-model", draft, "--speculative", "draft")):
        with Daemon("--model", f"a={golden('qwen2')}", *arguments) as daemon:
            answers.append(httpx.post(daemon.url + "/v1/completions", json=request, timeout=60).json()["choices"])
            accepted = counter(daemon, "vllm:spec_decode_num_accepted_tokens_total")
    assert answers[0] == answers[1]
    assert accepted > 0


@pytest.mark.parametrize("arguments, said", [
    (("--model", f"a={golden('qwen2')}", "--draft-model", golden("llama2")), ["model a: draft_model: ", "llama2", "expected the same vocabulary, but token 0 is "]),
    (("--model", f"a={SMOLLM2}", "--draft-model", golden("bert")), ["expected the same vocabulary"]),
    (("--model", f"a={golden('bert')}", "--draft-model", golden("bert")), ["draft_model: ", "generate"]),
    (("--model", "a=sim:", "--draft-model", golden("qwen2")), ["simulated"]),
    (("--model", "a=sim:", "--draft-model", "b=sim:"), ["expected the name of a served model", "'b'"]),
    (("--model", "a=sim:", "--draft-model", "a=sim:", "--speculative", "ngram"), ["needs speculative: auto or draft"]),
    (("--model", "a=sim:", "--speculative", "draft"), ["none has one"]),
])
def test_a_draft_model_that_cannot_guess_ends_the_start(arguments, said):
    done = subprocess.run([binary(), "serve", "--port", "0", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78, done.stderr + done.stdout
    assert all(text in done.stderr + done.stdout for text in said), done.stderr + done.stdout


def test_check_config_knows_draft_models(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("models: [{name: a, path: 'sim:', draft_model: 'sim:seed=2'}]\n")
    done = subprocess.run([binary(), "check-config", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    file.write_text("speculative: off\nmodels: [{name: a, path: 'sim:', draft_model: 'sim:seed=2'}]\n")
    done = subprocess.run([binary(), "check-config", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78 and "model a: draft_model" in done.stderr, done.stderr
