"""What a service manager relies on: notifications, reloads, a model file that changes underneath, clients that vanish."""
import os
import shutil
import signal
import socket
import tempfile
import time

import httpx
import pytest
from conftest import SIM
from daemon import SMOLLM2, Daemon

COMPLETIONS = "/v1/completions"
WATCHDOG_S = 1.2
SLOW_SIM = SIM + ",step_ms=20"


# --- the key file ------------------------------------------------------------------------------------------------


def status_with(daemon, key):
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(daemon.url + COMPLETIONS, json={"prompt": "x", "max_tokens": 1}, headers=headers, timeout=20).status_code


@pytest.fixture
def keyed(tmp_path):
    """(daemon that takes "first-key", its key file)."""
    key_file = tmp_path / "keys"
    key_file.write_text("first-key\n", encoding="utf-8")
    key_file.chmod(0o600)
    with Daemon("--model", SLOW_SIM, "--api-key-file", str(key_file)) as daemon:
        assert (status_with(daemon, "first-key"), status_with(daemon, "second-key")) == (200, 401)
        yield daemon, key_file


def test_sighup_takes_over_the_new_keys(keyed):
    daemon, key_file = keyed
    key_file.write_text("second-key\n", encoding="utf-8")
    assert (status_with(daemon, "first-key"), status_with(daemon, "second-key")) == (200, 401), "before the signal"
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("reloaded: 1 API keys")
    assert (status_with(daemon, "first-key"), status_with(daemon, "second-key")) == (401, 200)
    assert "second-key" not in daemon.log() and "first-key" not in daemon.log()


@pytest.mark.parametrize("content", ["", "# nothing but a comment\n", "second-key\nsha256:no-hash\n", None],
                         ids=["empty", "comment", "half-good", "absent"])
def test_a_bad_key_file_leaves_the_old_keys(keyed, content):
    daemon, key_file = keyed
    if content is None:
        key_file.unlink()
    else:
        key_file.write_text(content, encoding="utf-8")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("reload failed, the old settings stay")
    assert (status_with(daemon, "first-key"), status_with(daemon, "second-key")) == (200, 401)
    line = next(line for line in daemon.log().splitlines() if "reload failed" in line)
    assert " error " in line and str(key_file) in line and "second-key" not in daemon.log()
    key_file.write_text("third-key\n", encoding="utf-8")  # and a mended one is taken
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_log("reloaded: 1 API keys")
    assert (status_with(daemon, "first-key"), status_with(daemon, "third-key")) == (401, 200)


def test_a_reload_cuts_no_stream(keyed):
    daemon, key_file = keyed
    body = {"prompt": "x", "max_tokens": 100, "ignore_eos": True, "stream": True}
    headers = {"Authorization": "Bearer first-key"}
    with httpx.stream("POST", daemon.url + COMPLETIONS, json=body, headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        key_file.write_text("second-key\n", encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for_log("reloaded: 1 API keys")
        metrics = httpx.get(daemon.url + "/metrics", headers={"Authorization": "Bearer second-key"}).text
        assert 'vllm:num_requests_running{model_name="sim"} 1' in metrics, "it ended before the reload"
        assert [line for line in lines if line][-1] == "data: [DONE]"


# --- the service manager's socket --------------------------------------------------------------------------------


class Manager:
    """A service manager's end of NOTIFY_SOCKET."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="inferd-notify-")  # not tmp_path: a socket's path has 107 bytes at most
        self.path = os.path.join(self.folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)

    def environment(self):
        return {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}

    def next(self, within_s=5):
        """The next message as a dict, or None."""
        self.socket.settimeout(within_s)
        try:
            text = self.socket.recv(4096).decode("utf-8")
        except TimeoutError:
            return None
        return dict(line.split("=", 1) for line in text.splitlines())

    def until(self, key, within_s=5):
        """(the next message that has `key`, those before it)."""
        deadline, before = time.monotonic() + within_s, []
        while time.monotonic() < deadline:
            message = self.next(max(deadline - time.monotonic(), 0.001))
            if message is not None and key in message:
                return message, before
            before.append(message)
        raise AssertionError(f"no {key} within {within_s} s, but {before}")

    def close(self):
        self.socket.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def manager():
    one = Manager()
    yield one
    one.close()


def test_the_service_manager_is_told_of_start_reload_and_end(manager):
    with Daemon("--model", SIM, wait_ready=False, environment=manager.environment()) as daemon:
        ready, before = manager.until("READY")
        assert ready["READY"] == "1" and not any("STOPPING" in m or "RELOADING" in m for m in before)
        assert httpx.get(daemon.url + "/health").status_code == 200, "READY=1 came before it was"
        daemon.process.send_signal(signal.SIGHUP)
        asked_us = time.monotonic_ns() // 1000
        reloading, before = manager.until("RELOADING")
        assert reloading["RELOADING"] == "1" and abs(int(reloading["MONOTONIC_USEC"]) - asked_us) < 5_000_000
        assert not any("READY" in m for m in before)
        assert manager.until("READY")[0]["READY"] == "1"
        daemon.process.send_signal(signal.SIGTERM)
        assert manager.until("STOPPING")[0]["STOPPING"] == "1"
        assert daemon.process.wait(10) == 0


def test_the_watchdog_is_fed_while_idle_and_while_busy(manager):
    with Daemon("--model", SLOW_SIM, environment=manager.environment()) as daemon:
        manager.until("READY")
        body = {"prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}
        for busy in (False, True):
            if busy:
                stream = httpx.stream("POST", daemon.url + COMPLETIONS, json=body, timeout=20)
                stream.__enter__()
            fed, last, end = 0, time.monotonic(), time.monotonic() + 2 * WATCHDOG_S
            while time.monotonic() < end:
                manager.until("WATCHDOG", within_s=WATCHDOG_S)
                assert time.monotonic() - last < WATCHDOG_S, "a watchdog would have killed it"
                last, fed = time.monotonic(), fed + 1
            assert fed >= 3
            if busy:
                stream.__exit__(None, None, None)


def test_a_stopped_process_does_not_feed_the_watchdog(manager):
    with Daemon("--model", SIM, environment=manager.environment()) as daemon:
        manager.until("WATCHDOG")
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.1)
            while manager.next(0.05) is not None:
                pass
            assert manager.next(2 * WATCHDOG_S) is None
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        manager.until("WATCHDOG")


def test_without_a_watchdog_or_a_manager_it_runs_all_the_same(manager):
    with Daemon("--model", SIM, environment={"NOTIFY_SOCKET": manager.path}) as daemon:
        manager.until("READY")
        assert httpx.get(daemon.url + "/health").status_code == 200
    with Daemon("--model", SIM, environment={"NOTIFY_SOCKET": manager.path + "-gone"}) as daemon:
        assert httpx.get(daemon.url + "/health").status_code == 200


# --- the model's file --------------------------------------------------------------------------------------------


def test_truncating_the_model_file_after_loading_does_no_harm(tmp_path):
    model = tmp_path / "model.gguf"
    shutil.copyfile(SMOLLM2, model)
    body = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
    with Daemon("--model", f"m={model}", "--context-length", "512") as daemon:
        def answer():
            return httpx.post(daemon.url + COMPLETIONS, json=body, timeout=30).json()["choices"][0]["text"]
        before = answer()
        os.truncate(model, 0)
        assert answer() == before
        model.unlink()
        assert answer() == before


def maps(process, path):
    with open(f"/proc/{process.pid}/maps", encoding="utf-8", errors="replace") as f:
        return str(path) in f.read()


def test_a_model_file_truncated_while_loading_ends_it_with_one_clear_line(tmp_path):
    model = tmp_path / "model.gguf"
    for _ in range(5):  # the moment between the mapping of the file and the end of loading can be missed
        shutil.copyfile(SMOLLM2, model)
        daemon = Daemon("--model", f"m={model}", wait_ready=False).__enter__()
        try:
            deadline = time.monotonic() + 10
            while not maps(daemon.process, model) and "ready" not in daemon.log() and time.monotonic() < deadline:
                pass
            daemon.process.send_signal(signal.SIGSTOP)
            os.truncate(model, 4096)
            daemon.process.send_signal(signal.SIGCONT)
            while daemon.process.poll() is None and "info ready" not in daemon.log() and time.monotonic() < deadline:
                time.sleep(0.02)
            if "info ready" in daemon.log():
                continue
            assert daemon.process.wait(5) == 74, daemon.log()
            last = daemon.log().splitlines()[-1]
            assert last.startswith("inferd: ") and "truncated" in last
            return
        finally:
            daemon.kill()
            os.unlink(daemon.log_file.name)
    raise AssertionError("loading was never caught in the act")


# --- clients that vanish -----------------------------------------------------------------------------------------


def in_use(daemon):
    metrics = daemon.metrics()
    return metrics["inferd:http_disconnects_total"], metrics["vllm:kv_cache_usage_perc"]


def wait_for_use(daemon, expected, within_s=2):
    deadline = time.monotonic() + within_s
    while in_use(daemon) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert in_use(daemon) == expected


@pytest.fixture(scope="module")
def slow():
    with Daemon("--model", SLOW_SIM) as daemon:
        yield daemon


def test_a_client_that_leaves_mid_stream_is_counted_and_frees_its_memory(slow):
    left, used = in_use(slow)
    body = {"prompt": "x" * 200, "max_tokens": 2000, "ignore_eos": True, "stream": True}
    for departures in (1, 2, 3):
        with httpx.stream("POST", slow.url + COMPLETIONS, json=body, timeout=20) as answer:
            lines = answer.iter_lines()  # kept: httpx hangs up when the iterator is dropped
            next(lines)
            assert in_use(slow)[1] > used
        wait_for_use(slow, (left + departures, used))


def test_a_client_that_leaves_before_a_whole_answer_is_counted(slow):
    left, used = in_use(slow)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(slow.url + COMPLETIONS, json={"prompt": "x", "max_tokens": 2000, "ignore_eos": True}, timeout=0.5)
    wait_for_use(slow, (left + 1, used))


def test_a_client_that_leaves_while_sending_is_counted(slow):
    left, used = in_use(slow)
    with socket.create_connection(("127.0.0.1", slow.port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.2)
    wait_for_use(slow, (left + 1, used))


def test_a_client_that_stays_to_the_end_is_not_counted(slow):
    before = in_use(slow)
    for stream in (False, True):
        body = {"prompt": "x", "max_tokens": 3, "ignore_eos": True, "stream": stream}
        assert httpx.post(slow.url + COMPLETIONS, json=body, timeout=20).status_code == 200
    with socket.create_connection(("127.0.0.1", slow.port)):
        time.sleep(0.1)  # came, said nothing, left
    time.sleep(0.3)
    assert in_use(slow) == before
