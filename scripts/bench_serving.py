"""Loads an OpenAI-compatible server with streaming completions; prints TTFT, inter-token latency and throughput, as JSON too.

    bench_serving.py --base-url http://127.0.0.1:8080/v1 --streams 1,4,16 --prompt-words 110 --output-tokens 128
    bench_serving.py --rate 0.5,2 --requests 40          # open loop

Closed loop (--streams): every stream sends its next request when the last one ended. Open loop (--rate): requests arrive at random
moments (Poisson), so many a second, whether or not the earlier ones have ended. Prompts differ from their first word on, so that no
prefix cache can serve them. Needs only Python's standard library and a server that honours `ignore_eos`.
"""
import argparse
import http.client
import json
import random
import statistics
import threading
import time
import urllib.parse

WORDS = ("river stone market window letter engine garden winter paper signal harbour candle bridge thunder orchard pocket "
         "ladder mirror velvet copper lantern meadow anchor barrel canyon drawer ember feather glacier hammer island jacket").split()
PERCENTILES = (50, 90, 99)


def stream_once(args, url, prompt, output_tokens):
    """Sends one request; returns its times in seconds, and the server's token counts."""
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
    body = {"model": args.model, "prompt": prompt, "max_tokens": output_tokens, "temperature": 0, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True}}
    headers = {"Content-Type": "application/json"}
    if args.api_key:
        headers["Authorization"] = "Bearer " + args.api_key
    began = time.perf_counter()
    first, last, gaps, usage = None, None, [], None
    try:
        connection.request("POST", url.path.rstrip("/") + "/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"HTTP {response.status}: {response.read(500)!r}")
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            now = time.perf_counter()
            if "error" in event:
                raise RuntimeError(f"error event: {event['error']}")
            usage = event.get("usage") or usage
            if event.get("choices") and event["choices"][0].get("text"):
                if first is None:
                    first = now
                else:
                    gaps.append(now - last)
                last = now
    finally:
        connection.close()
    if first is None or usage is None:
        raise RuntimeError("the stream ended without a token or without usage")
    return {"ttft": first - began, "gaps": gaps, "total": last - began, "prompt": usage["prompt_tokens"],
            "output": usage["completion_tokens"]}


def percentile(ordered, percent):
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


def percentiles(values, scale):
    ordered = sorted(values)
    return {f"p{p}": round(percentile(ordered, p) * scale, 3) for p in PERCENTILES} if ordered else None


def summary(outcomes, failures, wall):
    """One line of the report; throughput counts what the server says it made."""
    output, prompt = sum(o["output"] for o in outcomes), sum(o["prompt"] for o in outcomes)
    decode = [(o["output"] - 1) / (o["total"] - o["ttft"]) for o in outcomes if o["total"] > o["ttft"]]
    ttft = [o["ttft"] for o in outcomes]
    return {
        "requests": len(outcomes), "failed": len(failures), "failures": failures[:3], "wall_s": round(wall, 3),
        "requests_per_s": round(len(outcomes) / wall, 3),
        "output_tok_s": round(output / wall, 1), "total_tok_s": round((output + prompt) / wall, 1),
        "prompt_tok_s_to_first_token": round(prompt / len(outcomes) / statistics.median(ttft), 1),
        "decode_tok_s_per_stream": round(statistics.median(decode), 1) if decode else None,
        "ttft_ms": percentiles(ttft, 1000), "itl_ms": percentiles([gap for o in outcomes for gap in o["gaps"]], 1000),
        "e2e_ms": percentiles([o["total"] for o in outcomes], 1000),
        "prompt_tokens_mean": round(prompt / len(outcomes), 1), "output_tokens_mean": round(output / len(outcomes), 1),
    }


class Collector:
    """Runs requests in threads and keeps what came of them."""

    def __init__(self, args, url):
        self.args, self.url, self.lock, self.outcomes, self.failures = args, url, threading.Lock(), [], []

    def ask(self, rng):
        prompt = " ".join(rng.choice(WORDS) for _ in range(self.args.prompt_words))
        try:
            outcome = stream_once(self.args, self.url, prompt, self.args.output_tokens)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            with self.lock:
                self.failures.append(str(error))
            return
        with self.lock:
            self.outcomes.append(outcome)

    def report(self, wall):
        if not self.outcomes:
            raise SystemExit(f"bench_serving.py: every request failed, e.g.: {self.failures[0]}")
        return summary(self.outcomes, self.failures, wall)


def closed_loop(args, url, streams):
    collector = Collector(args, url)

    def worker(index):
        rng = random.Random(f"{args.salt}/{streams}/{index}")
        for _ in range(max(1, args.requests // streams)):
            collector.ask(rng)

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"loop": "closed", "streams": streams, **collector.report(time.perf_counter() - began)}


def open_loop(args, url, rate):
    collector, arrivals, threads = Collector(args, url), random.Random(f"{args.salt}/{rate}"), []
    began = due = time.perf_counter()
    for index in range(args.requests):
        time.sleep(max(0.0, due - time.perf_counter()))
        threads.append(threading.Thread(target=collector.ask, args=(random.Random(f"{args.salt}/{rate}/{index}"),)))
        threads[-1].start()
        due += arrivals.expovariate(rate)
    for thread in threads:
        thread.join()
    return {"loop": "open", "rate_per_s": rate, **collector.report(time.perf_counter() - began)}


def print_table(levels):
    print(f"{'load':>12} {'out tok/s':>10} {'decode/stream':>14} {'prefill tok/s':>14} {'TTFT ms p50':>12} {'p99':>9} {'ITL ms p50':>11} {'p99':>9} {'failed':>7}")
    for level in levels:
        load = f"{level['streams']} streams" if level["loop"] == "closed" else f"{level['rate_per_s']:g}/s"
        itl = level["itl_ms"] or {"p50": 0, "p99": 0}
        print(f"{load:>12} {level['output_tok_s']:>10} {level['decode_tok_s_per_stream'] or 0:>14} {level['prompt_tok_s_to_first_token']:>14} "
              f"{level['ttft_ms']['p50']:>12} {level['ttft_ms']['p99']:>9} {itl['p50']:>11} {itl['p99']:>9} {level['failed']:>7}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--model", default="default")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--streams", default="1,4,16", help="closed loop: levels of concurrency")
    parser.add_argument("--rate", default="", help="open loop: arrivals a second, e.g. 0.5,2 (then --streams does not count)")
    parser.add_argument("--requests", type=int, default=16, help="per level")
    parser.add_argument("--prompt-words", type=int, default=110)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--salt", default=str(time.time_ns()), help="seed of prompts and arrivals")
    parser.add_argument("--output", default="", help="write the JSON there instead of printing it")
    args = parser.parse_args()
    url = urllib.parse.urlparse(args.base_url)
    closed_loop(argparse.Namespace(**{**vars(args), "requests": 1, "output_tokens": 8, "salt": args.salt + "/warm-up"}), url, 1)
    if args.rate:
        levels = [open_loop(args, url, float(rate)) for rate in args.rate.split(",")]
    else:
        levels = [closed_loop(args, url, int(streams)) for streams in args.streams.split(",")]
    print_table(levels)
    report = json.dumps({"base_url": args.base_url, "prompt_words": args.prompt_words, "output_tokens": args.output_tokens, "levels": levels})
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            file.write(report + "\n")
    else:
        print(report)


if __name__ == "__main__":
    main()
