"""LangChain's OpenAI classes against the daemon."""
import numpy as np
import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

MESSAGES = [("system", "You answer briefly."), ("human", "Name three colours of the rainbow.")]


@pytest.fixture(scope="module")
def chat(server):
    return ChatOpenAI(base_url=server.url + "/v1", api_key="none", model="smollm2", temperature=0, max_tokens=16, max_retries=0)


def test_invoke(chat):
    answer = chat.invoke(MESSAGES)
    assert answer.content and answer.usage_metadata["output_tokens"] == 16
    assert answer.response_metadata["finish_reason"] == "length"


def test_stream_equals_invoke(chat):
    chunks = list(chat.stream(MESSAGES, stream_usage=True))
    assert "".join(c.content for c in chunks) == chat.invoke(MESSAGES).content
    assert sum(c.usage_metadata["output_tokens"] for c in chunks if c.usage_metadata) == 16


def test_stop_and_batch(chat):
    first, second = chat.batch([MESSAGES, MESSAGES])
    assert first.content == second.content
    stop = first.content[6:12]
    assert chat.invoke(MESSAGES, stop=[stop]).content == first.content[: first.content.index(stop)]


def test_embeddings(server):
    embeddings = OpenAIEmbeddings(base_url=server.url + "/v1", api_key="none", model="minilm", check_embedding_ctx_length=False)
    documents = np.array(embeddings.embed_documents(["A cat sat on a mat.", "Interest rates rose."]))
    query = np.array(embeddings.embed_query("Where did the cat sit?"))
    assert documents.shape == (2, 384) and documents[0] @ query > documents[1] @ query + 0.2
