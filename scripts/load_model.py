"""Starts inferd on a model file and says how long that took and how much memory it holds, against file + KV cache + 250 MB."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

ALLOWED_OVER = 250e6


def wait_until_ready(process, log):
    """The port it listens on."""
    while True:
        log.seek(0)
        said = log.read()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        if found and re.search(r"\bready\b", said):
            return found[1]
        if process.poll() is not None:
            sys.exit(f"inferd ended with {process.returncode}:\n{said}")
        time.sleep(0.05)


def load(binary, path, kv_bytes, context):
    """(seconds to ready, of processor time until then, of an answer of 4 tokens, peak bytes)"""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([binary, "serve", "--port", "0", "--model", path, "--kv-cache-memory", str(kv_bytes),
                                    "--context-length", str(context)], stdout=log, stderr=subprocess.STDOUT)
        try:
            port = wait_until_ready(process, log)
            ready = time.monotonic() - began
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
                ticks = stat.read().rsplit(")", 1)[1].split()[11:13]
            processor = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
            asked = time.monotonic()
            body = json.dumps({"prompt": [1, 2, 3, 4], "max_tokens": 4, "ignore_eos": True}).encode()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=600) as answer:
                assert json.load(answer)["usage"]["completion_tokens"] == 4
            answered = time.monotonic() - asked
            with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
                peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) * 1024
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return ready, processor, answered, peak


def report(binary, path, kv_bytes, context):
    """Loads, prints a line, and returns whether the memory is within its bound."""
    ready, processor, answered, peak = load(binary, path, kv_bytes, context)
    size = os.path.getsize(path)
    over = peak - size - kv_bytes
    print(f"file {size / 1e9:.2f} GB, ready after {ready:.1f} s ({processor:.1f} s of processor time), 4 + 4 tokens in {answered:.1f} s, "
          f"peak {peak / 1e9:.3f} GB = file + {(peak - size) / 1e6:+.0f} MB = file + KV {kv_bytes / 1e9:.2f} GB {over / 1e6:+.0f} MB "
          f"(allowed: +{ALLOWED_OVER / 1e6:.0f} MB)")
    return over <= ALLOWED_OVER
