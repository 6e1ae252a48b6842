"""Fixtures of the end-to-end tests: one daemon with the real models, one with the simulated one, and SDK clients."""
import httpx
import openai
import pytest
from daemon import MINILM, SMOLLM2, Daemon

SIM = "sim=sim:seed=1"


@pytest.fixture(scope="session")
def server():
    """SmolLM2 and MiniLM; the context is set so that its limit can be reached quickly."""
    with Daemon("--model", f"smollm2={SMOLLM2}", "--model", f"minilm={MINILM}", "--context-length", "2048") as daemon:
        yield daemon


@pytest.fixture(scope="session")
def sim():
    with Daemon("--model", SIM) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def http(server):
    with httpx.Client(base_url=server.url, timeout=120) as session:
        yield session


@pytest.fixture(scope="session")
def sim_http(sim):
    with httpx.Client(base_url=sim.url, timeout=60) as session:
        yield session
