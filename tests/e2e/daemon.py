"""Starts and stops the real daemon for a test, and reads what it says."""
import os
import re
import signal
import subprocess
import tempfile
import time

import httpx

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SMOLLM2 = os.path.join(ROOT, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
MINILM = os.path.join(ROOT, "models", "all-MiniLM-L6-v2")


def binary():
    path = os.environ.get("INFERD_BIN", os.path.join(ROOT, "build", "inferd"))
    assert os.access(path, os.X_OK), f"{path} is not there: build it, or set INFERD_BIN"
    return path


class Daemon:
    """`inferd serve` with `arguments` on a free port of 127.0.0.1. Use as a context manager; ready when entered."""

    def __init__(self, *arguments, wait_ready=True, timeout_s=60, environment=None):
        self.arguments, self.wait_ready, self.timeout_s = arguments, wait_ready, timeout_s
        self.environment = environment or {}
        self.port, self.process = None, None

    def __enter__(self):
        self.log_file = tempfile.NamedTemporaryFile("w+b", prefix="inferd-e2e-", suffix=".log", delete=False)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INFERD_")} | self.environment
        self.process = subprocess.Popen([binary(), "serve", "--host", "127.0.0.1", "--port", "0", *self.arguments],
                                        stdin=subprocess.DEVNULL, stdout=self.log_file, stderr=self.log_file, env=environment)
        try:
            self._find_port()
            if self.wait_ready:
                self.wait_for_status("/health", 200)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"did not end on SIGTERM within 10 s; log:\n{self.log()[-3000:]}") from None
        code = self.process.returncode
        log = self.log()
        os.unlink(self.log_file.name)
        assert code == 0, f"ended with {code}; log:\n{log[-3000:]}"

    def _find_port(self):
        deadline = time.monotonic() + self.timeout_s
        while time.monotonic() < deadline:
            found = re.search(r"127\.0\.0\.1:(\d+)", self.log())
            if found and int(found[1]) != 0:
                self.port = int(found[1])
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no port announced (exit {self.process.poll()}); log:\n{self.log()[-3000:]}")

    def wait_for_status(self, path, status, timeout_s=None):
        deadline, last = time.monotonic() + (timeout_s or self.timeout_s), None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended early with {self.process.returncode}; log:\n{self.log()[-3000:]}"
            try:
                last = httpx.get(self.url + path, timeout=5).status_code
                if last == status:
                    return
            except httpx.TransportError as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"{path} never answered {status}, last {last}; log:\n{self.log()[-3000:]}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self):
        with open(self.log_file.name, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def wait_for_log(self, text, count=1, timeout_s=5):
        """Waits until `text` has been logged `count` times."""
        deadline = time.monotonic() + timeout_s
        while self.log().count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} not logged {count} times; log:\n{self.log()[-3000:]}"
            time.sleep(0.02)

    def forget_peak(self):
        """Starts peak_rss_bytes() anew."""
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as f:
            f.write("5")

    def peak_rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmHWM:\s+(\d+) kB", f.read())[1]) * 1024

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def metrics(self):
        """{sample name: value summed over its labels}."""
        out = {}
        for line in httpx.get(self.url + "/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{", 1)[0]
                out[name] = out.get(name, 0.0) + float(value)
        return out
