"""Loads an OpenAI-compatible server with streaming completions; prints TTFT, inter-token latency and throughput, as JSON too.

    bench_serving.py --base-url http://127.0.0.1:8080/v1 --streams 1,4,16 --prompt-words 110 --output-tokens 128

Closed loop: every stream sends its next request when the last one ended. Prompts differ from their first word on, so that no
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


def stream_once(url, model, prompt, output_tokens, api_key):
    """Sends one request; returns (seconds to first token, seconds between later events, seconds in all, usage)."""
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
    body = {"model": model, "prompt": prompt, "max_tokens": output_tokens, "temperature": 0, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True}}
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = "Bearer " + api_key
    began = time.perf_counter()
    connection.request("POST", url.path.rstrip("/") + "/completions", json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"HTTP {response.status}: {response.read(500)!r}")
    first, last, gaps, usage = None, None, [], None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        now = time.perf_counter()
        usage = event.get("usage") or usage
        if event.get("choices") and event["choices"][0].get("text"):
            if first is None:
                first = now - began
            else:
                gaps.append(now - last)
            last = now
    connection.close()
    return first, gaps, (last or time.perf_counter()) - began, usage


def run_level(args, url, streams, salt):
    results, lock = [], threading.Lock()
    per_stream = max(1, args.requests // streams)

    def worker(index):
        rng = random.Random(f"{salt}/{streams}/{index}")
        for _ in range(per_stream):
            prompt = " ".join(rng.choice(WORDS) for _ in range(args.prompt_words))
            outcome = stream_once(url, args.model, prompt, args.output_tokens, args.api_key)
            with lock:
                results.append(outcome)

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(streams)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    gaps = sorted(gap for _, gap_list, _, _ in results for gap in gap_list)
    ttft = [first for first, _, _, _ in results if first is not None]
    output = sum(usage["completion_tokens"] for _, _, _, usage in results)
    prompt = sum(usage["prompt_tokens"] for _, _, _, usage in results)
    decode = [usage["completion_tokens"] - 1 for _, _, _, usage in results]
    decode_s = [total - first for first, _, total, _ in results]
    return {
        "streams": streams, "requests": len(results), "wall_s": round(wall, 3),
        "output_tok_s": round(output / wall, 1),
        "prompt_tok_s_to_first_token": round(prompt / len(results) / statistics.median(ttft), 1),
        "decode_tok_s_per_stream": round(statistics.median(n / s for n, s in zip(decode, decode_s) if s > 0), 1),
        "ttft_median_s": round(statistics.median(ttft), 4),
        "itl_median_ms": round(statistics.median(gaps) * 1000, 2) if gaps else None,
        "itl_p99_ms": round(gaps[int(len(gaps) * 0.99)] * 1000, 2) if gaps else None,
        "prompt_tokens_mean": round(prompt / len(results), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--model", default="default")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--streams", default="1,4,16")
    parser.add_argument("--requests", type=int, default=16, help="per level of concurrency")
    parser.add_argument("--prompt-words", type=int, default=110)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--salt", default=str(time.time_ns()), help="seed of the prompts")
    args = parser.parse_args()
    url = urllib.parse.urlparse(args.base_url)
    run_level(argparse.Namespace(**{**vars(args), "requests": 1, "output_tokens": 8}), url, 1, "warm-up")
    levels = [run_level(args, url, int(level), args.salt) for level in args.streams.split(",")]
    print(f"{'streams':>7} {'out tok/s':>10} {'decode/stream':>14} {'prefill tok/s':>14} {'TTFT s':>8} {'ITL ms':>8} {'p99':>8}")
    for level in levels:
        print(f"{level['streams']:>7} {level['output_tok_s']:>10} {level['decode_tok_s_per_stream']:>14} "
              f"{level['prompt_tok_s_to_first_token']:>14} {level['ttft_median_s']:>8} {level['itl_median_ms']:>8} {level['itl_p99_ms']:>8}")
    print(json.dumps({"base_url": args.base_url, "levels": levels}))


if __name__ == "__main__":
    main()
