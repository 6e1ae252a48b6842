"""Refusals as the OpenAI SDK sees them: exception class, type, code, param, wording, retry headers."""
import threading
import time

import httpx
import openai
import pytest
from conftest import SIM
from daemon import Daemon

HELLO = [{"role": "user", "content": "hello"}]


def refusal(http, path, body):
    answer = http.post(path, json=body)
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"} and error["message"]
    assert error["code"] is None or isinstance(error["code"], str)
    assert answer.headers["content-type"].startswith("application/json")
    return answer.status_code, error


def test_bad_request(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smollm2", messages=HELLO, temperature=3)
    assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
    assert caught.value.request_id


def test_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="absent", messages=HELLO)
    assert caught.value.code == "model_not_found" and "absent" in caught.value.message


def test_unknown_route_and_wrong_method(http):
    assert refusal(http, "/v1/nothing", {})[0] == 404
    answer = http.get("/v1/chat/completions")
    assert answer.status_code == 405 and answer.headers["allow"] == "POST"
    assert http.put("/v1/models").headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["chat", "completions"])
def test_context_overflow_has_openais_words(client, route, stream):
    long = "word " * 5000
    with pytest.raises(openai.BadRequestError) as caught:
        if route == "chat":
            client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": long}], stream=stream)
        else:
            client.completions.create(model="smollm2", prompt=long, stream=stream)
    error = caught.value
    assert error.code == "context_length_exceeded" and error.param == ("messages" if route == "chat" else "prompt")
    assert error.message.find("This model's maximum context length is 2048 tokens") >= 0
    assert "reduce the length" in error.message


def test_more_tokens_asked_for_than_fit_are_clamped(client):
    answer = client.completions.create(model="smollm2", prompt=[5] * 2040, max_tokens=4000, temperature=0,
                                       extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length" and answer.usage.total_tokens == 2048


@pytest.mark.parametrize("part, param", [
    ({"messages": []}, "messages"), ({"messages": None}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 4, "max_completion_tokens": 0}, "max_completion_tokens"), ({"min_tokens": 2}, "min_tokens"),
    ({"n": 0}, "n"), ({"top_p": 1.5}, "top_p"), ({"stop": ""}, "stop"),
    ({"top_logprobs": 3}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream_options": {"include_usage": True}}, "stream_options"), ({"stream": "yes"}, "stream"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": False}}},
     "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
     "response_format.json_schema.schema"), ({"frequency_penalty": 2.1}, "frequency_penalty"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"1": 101}}, "logit_bias"), ({"model": 5}, "model"),
])
def test_the_refused_field_is_named(http, part, param):
    status, error = refusal(http, "/v1/chat/completions", {"model": "smollm2", "messages": HELLO, "max_tokens": 1, **part})
    assert status == 400 and error["type"] == "invalid_request_error"
    assert error["param"].startswith(param), error


def test_a_refused_stream_is_a_plain_error(http):
    answer = http.post("/v1/chat/completions", json={"messages": HELLO, "stream": True, "n": 99})
    assert answer.status_code == 400 and answer.headers["content-type"].startswith("application/json")


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "api_keys"
    keys.write_text("# keys of the test\nsesame-open-0123456789\n", encoding="utf-8")
    keys.chmod(0o600)
    with Daemon("--model", SIM, "--api-key-file", str(keys)) as daemon:
        yield daemon


def test_keys_are_needed_and_checked(locked):
    good = openai.OpenAI(base_url=locked.url + "/v1", api_key="sesame-open-0123456789", max_retries=0)
    assert [m.id for m in good.models.list()] == ["sim"]
    for key in ("wrong", "sesame-open-012345678", "sesame-open-01234567890", "SESAME-OPEN-0123456789"):
        with pytest.raises(openai.AuthenticationError) as caught:
            openai.OpenAI(base_url=locked.url + "/v1", api_key=key, max_retries=0).models.list()
        assert caught.value.code == "invalid_api_key" and key not in caught.value.message
    assert "sesame" not in locked.log()


def test_only_the_page_and_health_are_open(locked):
    for path, status in (("/health", 200), ("/health/live", 200), ("/health/ready", 200), ("/", 200), ("/metrics", 401),
                         ("/v1/models", 401), ("/models", 401), ("//v1/models", 401), ("/v1/../v1/models", 401),
                         ("/v1/absent", 401), ("/%2e/v1/models", 401)):
        answer = httpx.get(locked.url + path)
        assert answer.status_code in (status, 404 if path.startswith(("//", "/v1/..", "/%2e", "/v1/absent")) else status), path
        assert status != 401 or '"sim"' not in answer.text
    assert httpx.get(locked.url + "/v1/models", headers={"Authorization": "Basic sesame-open-0123456789"}).status_code == 401
    lower = httpx.get(locked.url + "/v1/models", headers={"Authorization": "bearer sesame-open-0123456789"})
    assert lower.status_code == 200, "the scheme's name has no case (RFC 9110)"


def test_a_full_queue_answers_429_at_once_with_retry_after():
    limits = ("--max-concurrent-requests", "1", "--max-queued-requests", "1")
    with Daemon("--model", SIM + ",step_ms=20", *limits) as daemon:
        body = {"prompt": "x", "max_tokens": 100, "ignore_eos": True}
        running = [threading.Thread(target=httpx.post, args=(daemon.url + "/v1/completions",),
                                    kwargs={"json": body, "timeout": 60}) for _ in range(2)]
        for thread in running:
            thread.start()
            time.sleep(0.3)
        client = openai.OpenAI(base_url=daemon.url + "/v1", api_key="x", max_retries=0)
        began = time.monotonic()
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="sim", prompt="x")
        took = time.monotonic() - began
        assert caught.value.code == "queue_full" and int(caught.value.response.headers["retry-after"]) >= 1
        assert took < 0.5, took
        waited = openai.OpenAI(base_url=daemon.url + "/v1", api_key="x", max_retries=5)
        assert waited.completions.create(model="sim", prompt="x", max_tokens=1).choices, "the SDK's retries get through"
        for thread in running:
            thread.join()
        hits = [line for line in httpx.get(daemon.url + "/metrics").text.splitlines() if "max_queued_requests" in line]
        assert len(hits) == 1 and int(hits[0].split()[-1]) >= 1
