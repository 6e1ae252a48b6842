"""Many requests at a time: each gets what it would have got alone, and one that leaves takes nothing with it."""
import concurrent.futures
import json
import threading
import time

import httpx

PROMPTS = [f"{i}. {text}" for i, text in enumerate([
    "The capital of France is", "def sort(items):", "Once upon a time,", "Water boils at", "The quick brown fox",
    "Dear Sir or Madam,", "SELECT name FROM", "In the year 1789", "My favourite colour is", "import numpy as np\n",
    "春天来了", "The answer to life is", "Roses are red,", "To make bread you need", "The train leaves at", "x = 1\ny ="])]


def collect(url, prompt, **more):
    """Streams one completion; returns its token ids, log-probabilities and text."""
    body = {"model": "smollm2", "prompt": prompt, "max_tokens": 24, "temperature": 1, "seed": 11, "stream": True, "logprobs": 0,
            "return_tokens_as_token_ids": True, "ignore_eos": True, **more}
    tokens, logprobs, text = [], [], []
    with httpx.stream("POST", url + "/v1/completions", json=body, timeout=120) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                assert "error" not in event, event
                choice = event["choices"][0]
                text.append(choice["text"])
                if choice["logprobs"]:
                    tokens += choice["logprobs"]["tokens"]
                    logprobs += choice["logprobs"]["token_logprobs"]
    return tokens, logprobs, "".join(text)


def test_sixteen_streams_together_equal_each_alone(server):
    alone = [collect(server.url, p) for p in PROMPTS]
    assert all(len(tokens) == 24 for tokens, _, _ in alone)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda p: collect(server.url, p), PROMPTS))
    for prompt, one, other in zip(PROMPTS, alone, together):
        assert one == other, prompt


def test_a_long_prompt_beside_short_ones_changes_nothing(server):
    long = "The old clock in the hall struck nine. " * 110
    alone = [collect(server.url, p) for p in [long, *PROMPTS[:4]]]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        again = list(pool.map(lambda p: collect(server.url, p), [long, *PROMPTS[:4]]))
    assert again == alone


def test_streams_of_the_simulated_model_come_in_order_and_whole(sim):
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda i: collect(sim.url, f"request {i}", model="sim", max_tokens=40, seed=i), range(128)))
    assert all(len(tokens) == 40 for tokens, _, _ in answers)
    assert collect(sim.url, "request 100", model="sim", max_tokens=40, seed=100) == answers[100]


def running(daemon):
    metrics = daemon.metrics()
    return metrics["vllm:num_requests_running"] + metrics["vllm:num_requests_waiting"]


def test_a_client_that_leaves_frees_its_place(server):
    body = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 1900, "stream": True, "ignore_eos": True}
    before = running(server)
    for _ in range(3):
        with httpx.stream("POST", server.url + "/v1/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()  # kept: httpx hangs up when the iterator is dropped
            next(lines)
            assert running(server) >= before + 1
    deadline = time.monotonic() + 3
    while running(server) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(server) == before


def test_a_client_that_leaves_while_waiting_for_a_whole_answer_frees_its_place(server):
    body = {"model": "smollm2", "prompt": "Once upon a time", "max_tokens": 1900, "ignore_eos": True}
    before = running(server)
    try:
        httpx.post(server.url + "/v1/completions", json=body, timeout=0.7)
        raise AssertionError("1,900 tokens in 0.7 s")
    except httpx.ReadTimeout:
        pass
    deadline = time.monotonic() + 3
    while running(server) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(server) == before


def test_health_answers_quickly_under_load(server):
    stop = threading.Event()

    def load():
        while not stop.is_set():
            collect(server.url, "Once upon a time", max_tokens=16)

    threads = [threading.Thread(target=load) for _ in range(16)]
    for thread in threads:
        thread.start()
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert httpx.get(server.url + "/health", timeout=5).status_code == 200
        took.append(time.monotonic() - began)
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert sorted(took)[10] < 0.25, took
