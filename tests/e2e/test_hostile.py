"""Hostile but well-framed requests, as a table: bodies, JSON, text, ranges, counts. Each is refused with 400 or served."""
import json
import time

import httpx
import pytest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
HELLO = [{"role": "user", "content": "hello"}]
GOOD = {"prompt": "x", "max_tokens": 2}


@pytest.fixture(autouse=True)
def unharmed(sim):
    """After every test the same request gives the same answer, nothing runs, and the memory is not held."""
    before = sim.rss_bytes()
    yield
    body = {**GOOD, "temperature": 0, "max_tokens": 4}
    assert httpx.post(sim.url + COMPLETIONS, json=body, timeout=30).json()["choices"][0]["text"] == unharmed_text(sim)
    assert sim.rss_bytes() - before < 80 << 20


def unharmed_text(sim, cache={}):
    if sim.url not in cache:
        body = {**GOOD, "temperature": 0, "max_tokens": 4}
        cache[sim.url] = httpx.post(sim.url + COMPLETIONS, json=body, timeout=30).json()["choices"][0]["text"]
    return cache[sim.url]


def send(http, body, path=COMPLETIONS, statuses=(400,), within_s=5.0):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    began = time.monotonic()
    answer = http.post(path, content=data, headers={"Content-Type": "application/json"})
    took = time.monotonic() - began
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:400]}"
    assert took < within_s, f"took {took:.1f} s"
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"] and len(answer.content) < 4096, "the refusal repeats the request"
        return error
    return answer.json()


# --- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"[]", b"null", b"5", b'"text"', b"\xef\xbb\xbf{}", b"{}trailing", b"{'prompt': 'x'}", b"{\"prompt\": \"x\",}",
    b'{"prompt": "x"} {"prompt": "y"}', b'{"prompt": "x", "max_tokens": 1e400}', b'{"prompt": "x", "max_tokens": NaN}',
    b'{"prompt": "x", "max_tokens": 01}', b'{"prompt": "x\ny"}', b'{"prompt": "\\x41"}', b"<xml/>", b"prompt=x", b"\x00",
    b'{"a": ' + b"[" * 66 + b"]" * 66 + b', "prompt": "x"}', b'{"a": ' + b"[" * 1_000_000, b'{"a": ' * 200_000,
])
def test_broken_json(sim_http, body):
    send(sim_http, body)


def test_broken_json_is_located(sim_http):
    error = send(sim_http, b'{"prompt": "x",\n "max_tokens": oops}')
    assert any(ch.isdigit() for ch in error["message"]), error


def test_a_key_given_twice_is_refused_where_it_stands(sim_http):
    error = send(sim_http, b'{"prompt": "x", "max_tokens": 1, "max_tokens": 2}', statuses=(400,))
    assert "key twice" in error["message"] and "byte 48" in error["message"], error


def test_a_million_keys_are_bounded(sim_http):
    body = b'{"prompt": "x", "max_tokens": 1, ' + b",".join(b'"k%d": 1' % i for i in range(1_000_000)) + b"}"
    send(sim_http, body, statuses=(200, 400, 413), within_s=10)


@pytest.mark.parametrize("tail", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x99"])
def test_invalid_utf8_is_refused(sim_http, tail):
    send(sim_http, b'{"prompt": "x' + tail + b'", "max_tokens": 1}')


@pytest.mark.parametrize("text", [b"\\ud800", b"\\udc00", b"\\ud800x", b"\\udc00\\ud800"])
def test_lone_surrogates_are_refused(sim_http, text):
    send(sim_http, b'{"prompt": "x' + text + b'", "max_tokens": 1}')


@pytest.mark.parametrize("text", ["a\0b", "\uffff", "\U0010ffff", "\u202e", "\r\n", "é" * 10, "👩‍🚀" * 5, "\x7f\x80"])
def test_odd_but_valid_text_is_data(http, text):
    for ask in ({"prompt": text}, {"messages": [{"role": "user", "content": text}]}):
        path = COMPLETIONS if "prompt" in ask else CHAT
        send(http, {"model": "smollm2", "max_tokens": 1, **ask}, path, (200,), 20)
    tokens = send(http, {"model": "smollm2", "prompt": text}, "/tokenize", (200,))["tokens"]
    assert send(http, {"model": "smollm2", "tokens": tokens}, "/detokenize", (200,)) == {"prompt": text}


def test_a_wrong_content_type_is_still_read_or_refused_politely(sim_http):
    answer = sim_http.post(COMPLETIONS, content=json.dumps(GOOD), headers={"Content-Type": "text/plain"})
    assert answer.status_code in (200, 400, 415)


# --- types and ranges ---------------------------------------------------------------------------------------------

WRONG_TYPES = [True, "x", 1.5, -7, [], {}, [[]], [None], {"a": 1}, 2**63, -(2**63) - 1, "\0"]
FIELDS = ["model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "logprobs", "echo", "stream",
          "stream_options", "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "ignore_eos",
          "stop_token_ids", "prompt_logprobs", "cache_salt", "priority", "best_of", "suffix", "user", "return_tokens_as_token_ids"]
CHAT_FIELDS = ["messages", "max_completion_tokens", "top_logprobs", "logprobs", "tools", "tool_choice", "response_format",
               "parallel_tool_calls", "reasoning_effort", "chat_template_kwargs", "stream_options", "stop", "n"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_type_never_breaks_a_completion(sim_http, field):
    for value in WRONG_TYPES:
        send_any(sim_http, {**GOOD, field: value}, COMPLETIONS)


@pytest.mark.parametrize("field", CHAT_FIELDS)
def test_a_wrong_type_never_breaks_a_chat(http, field):
    for value in WRONG_TYPES:
        send_any(http, {"model": "smollm2", "messages": HELLO, "max_tokens": 1, field: value}, CHAT)


def send_any(http, body, path):
    answer = http.post(path, json=body)
    assert answer.status_code < 500 and answer.status_code not in (422,), f"{body}: {answer.status_code} {answer.text[:300]}"


@pytest.mark.parametrize("part", [
    {"max_tokens": 0}, {"max_tokens": -1}, {"n": 0}, {"n": -1}, {"n": 9}, {"n": 10**9}, {"best_of": 10**9, "n": 1},
    {"temperature": -0.1}, {"temperature": 2.1}, {"temperature": 1e308}, {"top_p": -0.1}, {"top_p": 1.01}, {"min_p": -1},
    {"min_p": 1.5}, {"top_k": -2}, {"presence_penalty": 2.01}, {"frequency_penalty": -2.01}, {"repetition_penalty": 0},
    {"repetition_penalty": -1}, {"seed": 2**64}, {"logprobs": 21}, {"logprobs": -1}, {"stop": ""}, {"stop": ["a", ""]},
    {"stop": [str(i) for i in range(17)]}, {"stop": ["x" * (1 << 20)]}, {"stop": 5}, {"min_tokens": -1},
    {"logit_bias": {str(i): 1 for i in range(1025)}}, {"logit_bias": {"-1": 1}}, {"logit_bias": {str(2**31): 1}},
    {"logit_bias": {"1": 1e9}}, {"logit_bias": {"1": None}}, {"logit_bias": {"0x1": 1}}, {"logit_bias": [1]},
    {"stop_token_ids": [-1]}, {"stop_token_ids": [2**40]}, {"stop_token_ids": ["a"]}, {"cache_salt": "x" * (1 << 20)},
    {"prompt": [-1]}, {"prompt": [2**31]}, {"prompt": [1.5]}, {"prompt": [[1], "a"]}, {"prompt": []}, {"prompt": [[]]},
    {"prompt": [None]}, {"prompt": {"a": 1}}, {"prompt": [[[1]]]}, {"prompt": ["x"] * 100_000}, {"stream_options": {}},
    {"prompt_logprobs": 21},
], ids=lambda part: str(part)[:40])
def test_out_of_range_is_refused(sim_http, part):
    error = send(sim_http, {**GOOD, **part})
    assert error["param"] and error["param"].split("[")[0].split(".")[0] in part, error


@pytest.mark.parametrize("max_tokens", [2**31, 10**18, 2**63 - 1])
def test_more_tokens_than_fit_are_clamped_to_the_context(http, max_tokens):
    body = {"model": "smollm2", "prompt": [7] * 2044, "max_tokens": max_tokens, "ignore_eos": True}
    answer = send(http, body, statuses=(200,), within_s=60)
    assert answer["choices"][0]["finish_reason"] == "length" and answer["usage"]["total_tokens"] == 2048


def test_beyond_int64_is_refused(sim_http):
    send(sim_http, b'{"prompt": "x", "max_tokens": 9223372036854775808}')
    send(sim_http, b'{"prompt": "x", "max_tokens": 1' + b"0" * 400 + b"}")


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b"Infinity", b"nan", b'"0.5"'])
@pytest.mark.parametrize("field", [b"temperature", b"top_p", b"min_p"])
def test_no_number_is_not_a_number(sim_http, field, value):
    send(sim_http, b'{"prompt": "x", "max_tokens": 1, "' + field + b'": ' + value + b"}")


def test_a_ban_on_every_token_ends(sim_http):
    body = {**GOOD, "logit_bias": {str(i): -100 for i in range(512)}, "max_tokens": 4}
    answer = sim_http.post(COMPLETIONS, json=body)
    assert answer.status_code in (200, 400, 500), answer.text


@pytest.mark.parametrize("over", [1, 10 * 2048])
def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(http, over):
    length = 2048 + over
    error = send(http, {"model": "smollm2", "prompt": [5] * length})
    assert error["code"] == "context_length_exceeded" and "2048" in error["message"] and str(length) in error["message"]


def test_a_prompt_that_fills_the_context_is_refused_or_gives_nothing_more(http):
    error = send(http, {"model": "smollm2", "prompt": [5] * 2048})
    assert error["code"] == "context_length_exceeded"


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [
    [], [5], [None], ["x"], [[]], [{}], [{"role": "user"}], [{"role": 5, "content": "x"}], [{"role": "", "content": "x"}],
    [{"role": "user", "content": {}}], [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "audio"}]}], [{"role": "user", "content": [5]}],
    [{"role": "user", "content": "x"}] * 4097, [{"role": "assistant", "content": None, "tool_calls": "x"}],
    [{"role": "assistant", "content": None, "tool_calls": [{"id": 5}]}], {"role": "user"},
], ids=lambda m: str(m)[:40])
def test_malformed_messages_are_refused(http, messages):
    error = send(http, {"model": "smollm2", "messages": messages, "max_tokens": 1}, CHAT)
    assert error["param"].startswith("messages"), error


@pytest.mark.parametrize("extra", [
    {"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, {"tools": [{"type": "function"}]}, {"tools": [5]},
    {"tools": [{"type": "function", "function": {"name": "a b\n"}}]}, {"tool_choice": "sometimes"},
    {"response_format": {"type": "yaml"}}, {"response_format": {"type": "json_schema"}}, {"response_format": "json"},
], ids=lambda e: str(e)[:40])
def test_malformed_tools_and_formats_are_refused(http, extra):
    send(http, {"model": "smollm2", "messages": HELLO, "max_tokens": 1, **extra}, CHAT)


def test_a_template_cannot_come_with_a_request(http):
    body = {"model": "smollm2", "messages": HELLO, "max_tokens": 1, "chat_template": "{% for i in range(10**9) %}x{% endfor %}"}
    send(http, body, CHAT, (200, 400), 5)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "sim\0", "ｓim", "a" * 65536, "sim/../sim", " sim", "SIM"])
def test_a_models_name_is_never_a_path(sim_http, name):
    error = send(sim_http, {**GOOD, "model": name}, statuses=(404, 400))
    assert "root:" not in json.dumps(error)


def test_stop_strings_split_over_tokens_leak_nothing(http):
    whole = send(http, {"model": "smollm2", "prompt": "春天来了，公园里的花", "max_tokens": 24, "temperature": 0}, statuses=(200,),
                 within_s=30)["choices"][0]["text"]
    for start in range(0, min(len(whole) - 2, 12), 3):
        stop = whole[start : start + 2]
        answer = send(http, {"model": "smollm2", "prompt": "春天来了，公园里的花", "max_tokens": 24, "temperature": 0, "stop": [stop]},
                      statuses=(200,), within_s=30)["choices"][0]
        assert answer["text"] == whole[: whole.index(stop)] and answer["finish_reason"] == "stop"
