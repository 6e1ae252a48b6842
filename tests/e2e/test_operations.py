"""What an administrator relies on: health, metrics, draining on SIGTERM, exit codes, logs that hold no text."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest
from conftest import SIM
from daemon import SMOLLM2, Daemon, binary

SLOW_SIM = SIM + ",step_ms=20"


class Stream(threading.Thread):
    """One streaming completion in the background; `lines` are its data lines so far."""

    def __init__(self, daemon, max_tokens):
        super().__init__()
        self.lines, self.error = [], None
        self.url = daemon.url + "/v1/completions"
        self.body = {"prompt": "x", "max_tokens": max_tokens, "ignore_eos": True, "stream": True}

    def run(self):
        try:
            with httpx.stream("POST", self.url, json=self.body, timeout=60) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.lines.append(line[6:])
        except httpx.TransportError as error:
            self.error = error


def start_streams(daemon, count, max_tokens):
    streams = [Stream(daemon, max_tokens) for _ in range(count)]
    for stream in streams:
        stream.start()
    deadline = time.monotonic() + 10
    while not all(s.lines for s in streams) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(s.lines for s in streams), "streams did not start"
    return streams


def test_health_says_loading_then_ready():
    with Daemon("--model", f"m={SMOLLM2}", wait_ready=False) as daemon:
        seen = set()
        deadline = time.monotonic() + 60
        while 200 not in seen and time.monotonic() < deadline:
            ready, live = httpx.get(daemon.url + "/health/ready"), httpx.get(daemon.url + "/health/live")
            assert live.status_code == 200
            seen.add(ready.status_code)
        assert seen <= {503, 200} and 200 in seen
        daemon.wait_for_status("/health", 200)


def test_sigterm_lets_streams_finish_and_takes_no_more():
    with Daemon("--model", SLOW_SIM) as daemon:
        streams = start_streams(daemon, 10, 100)
        idle = httpx.Client(base_url=daemon.url)
        idle.get("/health")
        daemon.process.send_signal(signal.SIGTERM)
        refused = None
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            try:
                refused = httpx.get(daemon.url + "/health/ready", timeout=2).status_code
                late = httpx.post(daemon.url + "/v1/completions", json={"prompt": "x"}, timeout=2)
                if refused == late.status_code == 503:
                    assert late.headers["connection"] == "close"
                    break
            except httpx.ConnectError:
                refused = "closed"
                break
            time.sleep(0.02)
        assert refused in (503, "closed")
        for stream in streams:
            stream.join(30)
            assert stream.error is None and stream.lines[-1] == "[DONE]"
            assert json.loads(stream.lines[-2])["choices"][0]["finish_reason"] == "length"
        assert daemon.process.wait(10) == 0


def test_streams_left_at_the_drain_deadline_get_an_error_event():
    with Daemon("--model", SLOW_SIM, "--drain-s", "1") as daemon:
        streams = start_streams(daemon, 4, 1000)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
        assert 0.8 < time.monotonic() - began < 6
        for stream in streams:
            stream.join(10)
            events = [json.loads(line) for line in stream.lines if line != "[DONE]"]
            assert "error" in events[-1], events[-1]


def test_a_second_sigterm_ends_it_at_once():
    with Daemon("--model", SLOW_SIM) as daemon:
        streams = start_streams(daemon, 4, 2000)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(10) == 0
        assert time.monotonic() - began < 2
        assert "second signal" in daemon.log()
        for stream in streams:
            stream.join(10)


def test_metrics_parse_and_count(server):
    text = httpx.get(server.url + "/metrics").text
    sample = re.compile(r'^[a-zA-Z_:][\w:]*(\{([a-zA-Z_]\w*="(\\.|[^"\\])*",?)*\})? (-?[\d.eE+-]+|\+Inf|-Inf|NaN)$')
    typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram|summary)$", text, re.MULTILINE))
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert sample.match(line), line
            name = re.match(r"[\w:]+", line)[0]
            assert name in typed or re.sub(r"_(bucket|sum|count|total)$", "", name) in typed, f"{name} has no TYPE"
    before = server.metrics()
    httpx.post(server.url + "/v1/completions", json={"model": "smollm2", "prompt": "Hello there", "max_tokens": 5,
                                                     "ignore_eos": True}, timeout=60)
    after = server.metrics()
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 5
    assert after["vllm:prompt_tokens_total"] > before["vllm:prompt_tokens_total"]
    assert "vllm:num_requests_running" in after and "vllm:time_to_first_token_seconds_count" in after


def test_logs_hold_no_prompt_no_answer(server):
    secret = "xylophone-7431-canary"
    answer = httpx.post(server.url + "/v1/completions", json={"model": "smollm2", "prompt": secret, "max_tokens": 4}, timeout=60)
    assert answer.status_code == 200
    httpx.post(server.url + "/v1/completions", json={"model": "smollm2", "prompt": secret, "temperature": -1})
    assert secret not in server.log() and secret not in httpx.get(server.url + "/metrics").text


def test_a_request_id_is_given_or_kept(http):
    assert http.get("/health").headers["x-request-id"] != http.get("/health").headers["x-request-id"]
    assert http.get("/health", headers={"X-Request-Id": "mine-42"}).headers["x-request-id"] == "mine-42"


def test_a_log_line_cannot_be_forged(sim):
    httpx.post(sim.url + "/v1/completions", json={"model": "x\n[critical] forged line", "prompt": "x"})
    assert not any(line.startswith("[critical] forged") for line in sim.log().splitlines())


def ends(*arguments, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")}  # INFERD_BIN would be warned of
    done = subprocess.run([binary(), *arguments], capture_output=True, timeout=60, env={**clean, **environment})
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def test_exit_codes_and_what_is_said(tmp_path):
    (tmp_path / "cut.gguf").write_bytes(open(SMOLLM2, "rb").read(100_000))
    (tmp_path / "bad.yaml").write_text("prot: 8080\n", encoding="utf-8")
    (tmp_path / "model.yaml").write_text("models: [{path: /absent.gguf}]\n", encoding="utf-8")
    (tmp_path / "keys.yaml").write_text("api_key_file: /absent\n", encoding="utf-8")
    (tmp_path / "wrong.yaml").write_text("port: many\n", encoding="utf-8")
    cases = [
        (("serve", "--no-such-flag"), 64, "inferd serve: The following argument was not expected: --no-such-flag"),
        (("doctor", "--port", "0"), 64, "inferd doctor: --port: Value 0 not in range 1 to 65535"),
        (("doctor", "extra"), 64, "inferd doctor: The following argument was not expected: extra"),
        (("check-config",), 64, "inferd check-config: FILE is required"),
        (("version", "extra"), 64, "extra"),
        (("serve", "--port", "0", "--model", str(tmp_path / "absent.gguf")), 65, "absent.gguf"),
        (("serve", "--port", "0", "--model", str(tmp_path / "cut.gguf")), 65, "cut.gguf"),
        (("serve", "--config", str(tmp_path / "bad.yaml")), 78, "prot"),
        (("serve", "--config", str(tmp_path / "wrong.yaml")), 78, "port"),
        (("serve", "--config", str(tmp_path / "absent.yaml")), 78, "absent.yaml: cannot be read: No such file or directory"),
        (("serve", "--port", "0", "--host", "0.0.0.0", "--model", SIM), 78, "0.0.0.0"),
        (("serve", "--port", "0", "--model", SIM, "--model", SIM), 78, "sim"),
        (("serve", "--port", "0", "--device", "cuda", "--model", SIM), 78, "cuda"),
        (("serve", "--port", "0", "--device", "cuda:0", "--model", SIM), 78, "cuda:0"),
        (("check-config", str(tmp_path / "bad.yaml")), 78, "prot"),
        (("check-config", str(tmp_path / "model.yaml")), 65, "absent.gguf: model: expected a .gguf file or a model folder"),
        (("check-config", str(tmp_path / "keys.yaml")), 78, "api_key_file: /absent"),
        (("serve", "--port", "0", "--model", SIM, "--chat-template", str(tmp_path)), 78, "cannot be read: Is a directory"),
    ]
    for arguments, code, said in cases:
        got, output = ends(*arguments)
        assert got == code and said in output, f"{arguments}: {got} {output[-500:]}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        got, output = ends("serve", "--port", port, "--model", SIM)
        assert got == 69 and port in output and len(output.splitlines()) == 1, output
    assert ends("version")[0] == 0
    for command in ("serve", "check-config", "bench", "doctor", "plan", "inspect", "version"):
        got, output = ends(command, "--help")
        assert got == 0 and f"inferd {command}: " in output and "-h,--help" in output, output


def test_flag_beats_variable_beats_file(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("models:\n  - {name: from-file, path: 'sim:seed=3'}\ncontext_length: 512\n", encoding="utf-8")
    with Daemon("--config", str(config), "--context-length", "256") as daemon:
        assert [m["id"] for m in httpx.get(daemon.url + "/v1/models").json()["data"]] == ["from-file"]
        assert httpx.post(daemon.url + "/tokenize", json={"prompt": "x"}).json()["max_model_len"] == 256


@pytest.mark.parametrize("round_", range(3))
def test_killed_outright_it_starts_again(round_):
    daemon = Daemon("--model", SIM).__enter__()
    httpx.post(daemon.url + "/v1/completions", json={"prompt": "x", "max_tokens": 2})
    daemon.kill()
    with Daemon("--model", SIM) as again:
        assert httpx.get(again.url + "/health").status_code == 200


def test_an_idle_server_uses_no_cpu(sim):
    def ticks():
        with open(f"/proc/{sim.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    time.sleep(0.5)
    before = ticks()
    time.sleep(2)
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.1
