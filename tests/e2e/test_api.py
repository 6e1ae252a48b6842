"""The OpenAI SDK, curl and plain HTTP against the real model: chat, completions, streaming, sampling, tokenising."""
import asyncio
import json
import math
import subprocess

import httpx
import openai
import pytest
from daemon import ROOT, Daemon

QUESTION = [{"role": "user", "content": "Name three colours of the rainbow."}]


def ask(client, **more):
    arguments = dict(model="smollm2", messages=QUESTION, max_tokens=16, temperature=0)
    return client.chat.completions.create(**{**arguments, **more})


def streamed_text(chunks, index=0):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].index == index)


def test_chat_answer_has_every_field_clients_read(client):
    answer = ask(client)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == "smollm2"
    assert answer.system_fingerprint and answer.created > 1_600_000_000
    choice = answer.choices[0]
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.content
    assert choice.message.refusal is None and choice.logprobs is None and choice.message.tool_calls is None
    assert choice.finish_reason == "length" and answer.usage.completion_tokens == 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert ask(client).id != answer.id


def test_a_natural_end_is_reported_as_stop(client):
    answer = ask(client, messages=[{"role": "user", "content": "Say only the word: yes"}], max_tokens=400)
    assert answer.choices[0].finish_reason == "stop"
    assert "<|im_end|>" not in answer.choices[0].message.content
    assert answer.usage.completion_tokens < 400


def test_max_completion_tokens_wins_over_max_tokens(client):
    assert ask(client, max_tokens=3, max_completion_tokens=5).usage.completion_tokens == 5


def test_streaming_gives_the_same_text_in_well_formed_chunks(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True))
    assert streamed_text(chunks) == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[0].choices[0].delta.content == ""
    assert all(c.choices[0].delta.role is None for c in chunks[1:])
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1
    assert all(c.object == "chat.completion.chunk" and c.usage is None for c in chunks)
    assert all(c.choices[0].delta.content for c in chunks[1:-1]), "an empty delta between role and finish"
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_usage_comes_in_one_last_chunk_only_when_asked_for(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16
    assert all(c.usage is None and c.choices for c in chunks[:-1])


def test_async_client_chat_and_stream(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            whole = await ask(client)
            chunks = [c async for c in await ask(client, stream=True)]
            return whole.choices[0].message.content, streamed_text(chunks)
    whole, streamed = asyncio.run(run())
    assert whole and whole == streamed


def test_several_choices_and_their_chunks(client):
    two = dict(n=2, temperature=1, seed=5, extra_body={"ignore_eos": True})
    answer = ask(client, **two)
    assert [c.index for c in answer.choices] == [0, 1]
    assert answer.choices[0].message.content != answer.choices[1].message.content
    assert answer.usage.completion_tokens == 32
    chunks = list(ask(client, **two, stream=True))
    for choice in answer.choices:
        assert streamed_text(chunks, choice.index) == choice.message.content
    finished = [c.choices[0].index for c in chunks if c.choices[0].finish_reason]
    assert sorted(finished) == [0, 1]


def test_a_seed_fixes_the_answer(client):
    texts = [ask(client, temperature=1, seed=seed, max_tokens=24).choices[0].message.content for seed in (7, 7, 8, -3)]
    assert texts[0] == texts[1] and len(set(texts)) == 3


def test_stop_strings_cut_across_tokens_and_are_not_returned(client):
    text = ask(client, max_tokens=24).choices[0].message.content
    stop = text[9:16]
    cut = text[: text.index(stop)]
    answer = ask(client, max_tokens=24, stop=[stop, "never in the text"])
    assert answer.choices[0].message.content == cut and answer.choices[0].finish_reason == "stop"
    chunks = list(ask(client, max_tokens=24, stop=stop, stream=True))
    assert streamed_text(chunks) == cut and chunks[-1].choices[0].finish_reason == "stop"


def test_chat_logprobs_add_up(client):
    answer = ask(client, logprobs=True, top_logprobs=4)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for item in content:
        assert len(item.top_logprobs) == 4 and item.logprob <= 0
        assert item.top_logprobs[0].logprob == item.logprob, "greedy takes the likeliest"
        assert sum(math.exp(t.logprob) for t in item.top_logprobs) <= 1.0001
        assert [t.logprob for t in item.top_logprobs] == sorted((t.logprob for t in item.top_logprobs), reverse=True)
    assert bytes(b for item in content for b in item.bytes).decode() == answer.choices[0].message.content


def test_logprobs_when_streaming(client):
    chunks = list(ask(client, logprobs=True, top_logprobs=2, stream=True))
    items = [i for c in chunks if c.choices[0].logprobs for i in c.choices[0].logprobs.content]
    whole = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [(i.token, i.logprob) for i in items] == [(i.token, i.logprob) for i in whole]


def test_logit_bias_bans_and_forces(client, http):
    token = http.post("/tokenize", json={"model": "smollm2", "prompt": " blue"}).json()["tokens"]
    assert len(token) == 1
    forced = ask(client, logit_bias={str(token[0]): 100}, max_tokens=3).choices[0].message.content
    assert forced == " blue blue blue"


def test_completion_defaults_and_shape(client):
    answer = client.completions.create(model="smollm2", prompt="The capital of France is", temperature=0)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.usage.completion_tokens == 16 and answer.choices[0].finish_reason == "length"
    assert "Paris" in answer.choices[0].text and answer.choices[0].logprobs is None


def test_completion_of_several_prompts_text_and_ids(client, http):
    ids = http.post("/tokenize", json={"model": "smollm2", "prompt": "One, two, three,"}).json()["tokens"]
    text = client.completions.create(model="smollm2", prompt=["One, two, three,", "A, B, C,"], temperature=0, max_tokens=6)
    assert [c.index for c in text.choices] == [0, 1]
    by_ids = client.completions.create(model="smollm2", prompt=[ids], temperature=0, max_tokens=6)
    assert by_ids.choices[0].text == text.choices[0].text
    flat = client.completions.create(model="smollm2", prompt=ids, temperature=0, max_tokens=6)
    assert flat.choices[0].text == text.choices[0].text


def test_completion_echo_with_logprobs(client):
    prompt = "The capital of France is"
    answer = client.completions.create(model="smollm2", prompt=prompt, temperature=0, max_tokens=4, echo=True, logprobs=2)
    choice, logprobs = answer.choices[0], answer.choices[0].logprobs
    assert choice.text.startswith(prompt) and "".join(logprobs.tokens) == choice.text
    assert len(logprobs.tokens) == answer.usage.prompt_tokens + 4 == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert logprobs.token_logprobs[0] is None and all(v <= 0 for v in logprobs.token_logprobs[1:])
    assert logprobs.text_offset[0] == 0
    for token, offset in zip(logprobs.tokens, logprobs.text_offset):
        assert choice.text[offset : offset + len(token)] == token


def test_text_offsets_count_in_the_text_that_is_returned():
    """A model that begins each prompt with a token of no text, and whose first piece loses its leading space."""
    with Daemon("--model", f"tiny={ROOT}/tests/golden/gguf/llama2.F16.gguf") as daemon:
        body = {"prompt": "Hello there 你", "max_tokens": 6, "echo": True, "logprobs": 1, "temperature": 0}
        choice = httpx.post(daemon.url + "/v1/completions", json=body).json()["choices"][0]
    text, tokens, offsets = choice["text"], choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]
    assert tokens[0] == "<s>" and offsets[0] == offsets[1] == 0 and text.startswith(body["prompt"])
    assert offsets == sorted(offsets) and len(tokens) > len(body["prompt"].split()) + 1
    for token, offset in list(zip(tokens, offsets))[2:]:
        assert "\ufffd" in token or text[offset:offset + len(token)] == token, (token, offset, text)


def test_tools_that_the_template_does_not_print_are_reported(http):
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    answer = http.post("/v1/chat/completions", json={"model": "smollm2", "messages": QUESTION, "max_tokens": 1, "tools": [tool]})
    assert answer.status_code == 200 and answer.headers["x-inferd-ignored"] == "tools"


def test_completion_stream_equals_whole(client):
    arguments = dict(model="smollm2", prompt="Once upon a time", temperature=0, max_tokens=12)
    whole = client.completions.create(**arguments)
    chunks = list(client.completions.create(**arguments, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "length" and all(c.object == "text_completion" for c in chunks)


def test_control_tokens_in_a_users_text_stay_text(http):
    def count(content):
        body = {"model": "smollm2", "messages": [{"role": "user", "content": content}]}
        return http.post("/tokenize", json=body).json()["tokens"]
    special = http.post("/tokenize", json={"model": "smollm2", "prompt": "<|im_end|>"}).json()["tokens"]
    assert len(special) == 1
    plain, hostile = count("x"), count("x<|im_end|>")
    assert hostile.count(special[0]) == plain.count(special[0])
    assert len(hostile) > len(plain) + 1


def test_tokenize_and_detokenize_are_inverse(http):
    text = "Füße, 漢字 and 🙂 — tabs\tand\nlines"
    answer = http.post("/tokenize", json={"model": "smollm2", "prompt": text}).json()
    assert answer["count"] == len(answer["tokens"]) and answer["max_model_len"] == 2048
    assert http.post("/detokenize", json={"model": "smollm2", "tokens": answer["tokens"]}).json() == {"prompt": text}


def test_models_list_and_one(client):
    listed = {m.id: m for m in client.models.list()}
    assert set(listed) == {"smollm2", "minilm"}
    assert listed["smollm2"].object == "model" and listed["smollm2"].owned_by and listed["smollm2"].created > 0
    assert client.models.retrieve("smollm2").id == "smollm2"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/absent")
    assert caught.value.code == "model_not_found"


def test_the_default_model_and_routes_without_v1(http):
    for model in ({}, {"model": None}, {"model": "default"}):
        body = {**model, "messages": QUESTION, "max_tokens": 1}
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        assert http.post("/chat/completions", json=body).status_code == 200


def test_null_means_absent_and_unknown_but_harmless_fields_are_taken(http):
    nulls = ["temperature", "top_p", "n", "stop", "seed", "logit_bias", "max_tokens", "presence_penalty", "stream", "tools",
             "stream_options", "response_format", "user", "logprobs", "top_logprobs", "tool_choice", "frequency_penalty"]
    body = {"model": "smollm2", "messages": QUESTION, "max_completion_tokens": 1, **{k: None for k in nulls}}
    body |= {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x", "modalities": ["text"]}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text


def test_content_parts_are_joined(client):
    parts = [{"type": "text", "text": "Name three colours"}, {"type": "text", "text": " of the rainbow."}]
    joined = ask(client, messages=[{"role": "user", "content": parts}])
    assert joined.choices[0].message.content == ask(client).choices[0].message.content


def test_curl_streams_events(server):
    body = json.dumps({"model": "smollm2", "messages": QUESTION, "max_tokens": 8, "stream": True})
    done = subprocess.run(["curl", "-sS", "-N", "-i", "-H", "Content-Type: application/json", "-d", body,
                           server.url + "/v1/chat/completions"], capture_output=True, timeout=60, check=True)
    head, _, events = done.stdout.decode().partition("\r\n\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head.split("\r\n")[1:])}
    assert headers["content-type"].startswith("text/event-stream") and headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no" and headers["x-request-id"]
    lines = [line for line in events.split("\n\n") if line and not line.startswith(":")]
    assert lines[-1] == "data: [DONE]" and all(line.startswith("data: ") and "\n" not in line for line in lines)
    assert [json.loads(line[6:])["object"] for line in lines[:-1]] == ["chat.completion.chunk"] * (len(lines) - 1)
    assert len(lines) >= 4, "the text came in one piece"


def test_every_chunk_of_multibyte_text_is_valid_utf8(http):
    body = {"model": "smollm2", "prompt": "春天来了，公园里的花", "max_tokens": 24, "temperature": 0}
    whole = http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    pieces = []
    with http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
        for line in b"".join(answer.iter_raw()).split(b"\n"):
            if line.startswith(b"data: {"):
                pieces.append(json.loads(line[6:].decode("utf-8"))["choices"][0]["text"])
    assert "".join(pieces) == whole


def test_the_chat_page_is_served(http):
    page = http.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
