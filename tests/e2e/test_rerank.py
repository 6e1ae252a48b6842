"""Reranking, prefixes and shorter vectors: the whole path, against what transformers computes (tests/golden/encoders)."""
import json
import os

import httpx
import numpy as np
import pytest
from daemon import ROOT, Daemon

ENCODERS = os.path.join(ROOT, "tests", "golden", "encoders")
NAMES = ["xlmr_rerank", "bert_rerank", "gte_rerank", "qwen3-reranker", "qwen3_score", "xlmr", "nomic", "qwen3_embedding",
         "xlmr_rerank.gguf", "xlmr.gguf", "nomic.gguf", "qwen3_gguf/embedding.gguf", "qwen3_gguf/embedding_early.gguf",
         "qwen3_gguf/reranker.gguf", "qwen3_gguf/reranker_untied.gguf", "qwen3_gguf/reranker_plain.gguf"]


def expected(name):
    stem = name.removesuffix(".gguf")
    with open(os.path.join(ENCODERS, stem + ".expected.json" if "qwen3_gguf" in name else stem + "/expected.json"), encoding="utf-8") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def encoders():
    arguments = [part for name in NAMES for part in ("--model", f"{name}={ENCODERS}/{name}")]
    with Daemon(*arguments, "--activations", "f32") as daemon, httpx.Client(base_url=daemon.url, timeout=60) as http:
        yield http


def rerank(http, model, query, documents, **more):
    return http.post("/v1/rerank", json={"model": model, "query": query, "documents": documents, **more})


@pytest.mark.parametrize("name", ["xlmr_rerank", "xlmr_rerank.gguf", "bert_rerank", "gte_rerank", "qwen3-reranker", "qwen3_score",
                                  "qwen3_gguf/reranker.gguf", "qwen3_gguf/reranker_untied.gguf", "qwen3_gguf/reranker_plain.gguf"])
def test_scores_equal_the_reference(encoders, name):
    raw = name == "bert_rerank"  # its config asks for scores without a sigmoid
    for case in expected(name)["pairs"]:
        answer = rerank(encoders, name, case["query"], [case["document"]])
        assert answer.status_code == 200, answer.text
        body = answer.json()
        score = body["results"][0]["relevance_score"]
        assert score == pytest.approx(case["logit" if raw else "score"], rel=1e-3, abs=1e-5)
        assert body["usage"] == {"prompt_tokens": len(case["input_ids"]), "total_tokens": len(case["input_ids"])}


def test_results_are_sorted_and_cut(encoders):
    documents = ["Bread needs flour.", "No, the river is not deep, yes, it is cold.", "a", "The ferry leaves."]
    whole = rerank(encoders, "xlmr_rerank", "How deep is the river?", documents).json()
    scores = [r["relevance_score"] for r in whole["results"]]
    assert scores == sorted(scores, reverse=True) and sorted(r["index"] for r in whole["results"]) == [0, 1, 2, 3]
    assert all(set(r) == {"index", "relevance_score"} for r in whole["results"])
    assert whole["model"] == "xlmr_rerank" and whole["id"]
    for each in whole["results"]:  # a document's score does not depend on its neighbours
        alone = rerank(encoders, "xlmr_rerank", "How deep is the river?", [documents[each["index"]]]).json()
        assert alone["results"][0]["relevance_score"] == each["relevance_score"]
    two = rerank(encoders, "xlmr_rerank", "How deep is the river?", [{"text": d} for d in documents], top_n=2, return_documents=True)
    assert [r["index"] for r in two.json()["results"]] == [r["index"] for r in whole["results"]][:2]
    assert [r["document"]["text"] for r in two.json()["results"]] == [documents[r["index"]] for r in whole["results"]][:2]


def test_paths_and_default_model(encoders):
    body = {"query": "a", "documents": ["b"]}
    answers = [encoders.post(path, json=body) for path in ("/v1/rerank", "/rerank", "/v2/rerank")]
    assert [a.status_code for a in answers] == [200, 200, 200]
    assert answers[0].json()["model"] == "xlmr_rerank"  # the first that can


def test_an_instruction_reaches_the_models_that_read_one(encoders):
    plain = rerank(encoders, "qwen3-reranker", "a", ["b"]).json()["results"][0]["relevance_score"]
    asked = rerank(encoders, "qwen3-reranker", "a", ["b"], instruction="Find answers").json()["results"][0]["relevance_score"]
    assert plain != asked
    answer = rerank(encoders, "xlmr_rerank", "a", ["b"], instruction="Find answers")
    assert "instruction" in answer.headers["x-inferd-ignored"]


@pytest.mark.parametrize("body, param", [
    ({"documents": ["b"]}, "query"), ({"query": "", "documents": ["b"]}, "query"), ({"query": "a"}, "documents"),
    ({"query": "a", "documents": []}, "documents"), ({"query": "a", "documents": [1]}, "documents[0]"),
    ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"), ({"query": "a", "documents": ["b"] * 2049}, "documents"),
    ({"query": "a", "documents": ["word " * 500]}, "documents"), ({"query": "a", "documents": ["b"], "model": "xlmr"}, "model"),
])
def test_bad_requests_name_the_field(encoders, body, param):
    answer = encoders.post("/v1/rerank", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_rerankers_do_nothing_else(encoders):
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/completions", {"prompt": "a"})):
        answer = encoders.post(path, json={"model": "xlmr_rerank", **body})
        assert answer.status_code == 400 and "xlmr_rerank" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["xlmr", "nomic", "qwen3_embedding", "xlmr.gguf", "nomic.gguf",
                                  "qwen3_gguf/embedding.gguf", "qwen3_gguf/embedding_early.gguf"])
def test_embeddings_equal_the_reference(encoders, name):
    cases = expected(name)["embeddings"]
    answer = encoders.post("/v1/embeddings", json={"model": name, "input": [c["text"] for c in cases], "encoding_format": "float"})
    for case, entry in zip(cases, answer.json()["data"], strict=True):
        np.testing.assert_allclose(entry["embedding"], case["embedding"], rtol=1e-3, atol=1e-5)


def embed(http, model, text, **more):
    answer = http.post("/v1/embeddings", json={"model": model, "input": text, "encoding_format": "float", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["embedding"]


def test_prefixes(encoders):
    assert embed(encoders, "xlmr", "bread", input_type="query") == embed(encoders, "xlmr", "query: bread")
    assert embed(encoders, "xlmr", "bread", input_type="search_query") == embed(encoders, "xlmr", "query: bread")
    assert embed(encoders, "xlmr", "bread", input_type="document") == embed(encoders, "xlmr", "bread")  # "passage" there, and empty
    assert embed(encoders, "nomic", "bread", input_type="document") == embed(encoders, "nomic", "search_document: bread")
    answer = encoders.post("/v1/embeddings", json={"model": "xlmr", "input": "a", "input_type": "clustering"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "input_type" and "'query'" in answer.text


def test_dimensions(encoders):
    whole = np.array(embed(encoders, "nomic", "bread"))
    short = np.array(embed(encoders, "nomic", "bread", dimensions=8))
    np.testing.assert_allclose(short, whole[:8] / np.linalg.norm(whole[:8]), rtol=1e-6)
    assert len(embed(encoders, "qwen3_embedding", "bread", dimensions=5)) == 5
    for model, dimensions in (("nomic", 7), ("qwen3_embedding", 33), ("xlmr", 8)):
        answer = encoders.post("/v1/embeddings", json={"model": model, "input": "a", "dimensions": dimensions})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "dimensions" and model in answer.text
