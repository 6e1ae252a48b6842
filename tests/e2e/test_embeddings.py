"""Embeddings through the daemon: against sentence-transformers' vectors, and the shapes the SDK sends and expects."""
import base64
import json
import os

import numpy as np
import openai
import pytest
from daemon import ROOT

GOLDEN = os.path.join(ROOT, "tests", "golden", "embeddings")


@pytest.fixture(scope="module")
def golden():
    with open(os.path.join(GOLDEN, "minilm.json"), encoding="utf-8") as f:
        cases = json.load(f)["cases"]
    return cases, np.load(os.path.join(GOLDEN, "minilm.npy"))


def embed(client, inputs, **more):
    answer = client.embeddings.create(model="minilm", input=inputs, **more)
    assert [d.index for d in answer.data] == list(range(len(answer.data)))
    return np.array([d.embedding for d in answer.data], dtype=np.float32), answer


def test_vectors_agree_with_sentence_transformers(client, golden):
    cases, expected = golden
    got, answer = embed(client, [c["text"] for c in cases])
    cosine = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
    worst = int(cosine.argmin())
    print(f"cosine: least {cosine.min():.7f} ({cases[worst]['text'][:40]!r}), mean {cosine.mean():.7f}")
    assert cosine.min() >= 0.9999, cases[worst]["text"]
    assert np.abs(np.linalg.norm(got, axis=1) - 1).max() < 1e-4
    assert answer.usage.prompt_tokens == sum(len(c["input_ids"]) for c in cases) == answer.usage.total_tokens


def test_a_batch_gives_bit_for_bit_what_each_text_gives_alone(client, golden):
    texts = [c["text"] for c in golden[0]]
    batched, _ = embed(client, texts)
    alone = np.concatenate([embed(client, text)[0] for text in texts])
    assert (batched.view(np.uint32) == alone.view(np.uint32)).all()


def test_token_ids_give_what_their_text_gives(client, golden):
    cases = golden[0][10:14]
    text, _ = embed(client, [c["text"] for c in cases])
    ids, _ = embed(client, [c["input_ids"] for c in cases])
    assert (text == ids).all()
    one, _ = embed(client, cases[0]["input_ids"])
    assert (one[0] == text[0]).all()


def test_control_tokens_in_a_text_stay_text(client):
    _, plain = embed(client, "a b")
    _, hostile = embed(client, "a [SEP] b")
    assert hostile.usage.prompt_tokens > plain.usage.prompt_tokens + 1


def test_base64_and_float_say_the_same(http):
    body = {"model": "minilm", "input": ["A cat was sitting on a rug."]}
    plain = http.post("/v1/embeddings", json=body).json()
    packed = http.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert plain["object"] == "list" and plain["model"] == "minilm" and plain["data"][0]["object"] == "embedding"
    from_base64 = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    assert (from_base64 == np.array(plain["data"][0]["embedding"], np.float32)).all() and from_base64.shape == (384,)


@pytest.mark.parametrize("bad, param", [
    ({"input": ""}, "input"), ({"input": []}, "input"), ({"input": [[]]}, "input"), ({"input": ["a", ""]}, "input"),
    ({"input": [[-1]]}, "input"), ({"input": [[10**9]]}, "input"), ({"input": ["x"] * 2049}, "input"), ({}, "input"),
    ({"input": "x", "encoding_format": "hex"}, "encoding_format"), ({"input": "x", "dimensions": 64}, "dimensions"),
    ({"input": "x", "dimensions": 0}, "dimensions"), ({"input": {"a": 1}}, "input"), ({"input": [1.5]}, "input"),
])
def test_bad_input_is_refused_naming_the_field(http, bad, param):
    answer = http.post("/v1/embeddings", json={"model": "minilm", **bad})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_a_text_beyond_the_context_is_refused_not_cut(client):
    with pytest.raises(openai.BadRequestError) as caught:
        embed(client, "word " * 3000)
    assert caught.value.code == "context_length_exceeded" and caught.value.param == "input"
    assert "maximum context length is" in caught.value.message


def test_each_model_does_only_what_it_can(client):
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="smollm2", input="hi")
