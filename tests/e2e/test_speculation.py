"""Speculation over a real model: the same answers as without, in fewer steps."""
import re

import httpx
import pytest
from daemon import SMOLLM2, Daemon

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


def run(mode):
    with Daemon("--model", f"smollm2={SMOLLM2}", "--context-length", "1024", "--speculative", mode) as daemon:
        answers = [ask(daemon, request) for request in REQUESTS]
        names = ("vllm:spec_decode_num_drafts_total", "vllm:spec_decode_num_draft_tokens_total",
                 "vllm:spec_decode_num_accepted_tokens_total", "inferd:engine_steps_total")
        return answers, [counter(daemon, name) for name in names]


@pytest.fixture(scope="module")
def plain():
    return run("off")


@pytest.mark.parametrize("mode", ["auto", "ngram"])
def test_answers_and_logprobs_are_those_without_speculation(plain, mode):
    answers, (drafts, drafted, accepted, steps) = run(mode)
    assert answers == plain[0]
    assert plain[1][:3] == [0, 0, 0]
    assert drafts > 10 and drafts <= drafted and 50 < accepted < drafted
    # Every step yields a token or more of the one request that runs, apart from the prompts'.
    assert steps == plain[1][3] - accepted
