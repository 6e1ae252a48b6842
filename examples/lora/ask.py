"""Asks a server about labelled tickets and says how many of its answers are the label.

    python ask.py MODEL [--pairs pairs.jsonl] [--url http://127.0.0.1:8080]

MODEL is the adapter's name, or the base's to see what it answers without. Needs nothing but Python.
"""
import argparse
import json
import os
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def ask(url, model, text):
    body = {"model": model, "prompt": f"Ticket: {text}\nQueue:", "temperature": 0, "max_tokens": 8}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--pairs", default=os.path.join(HERE, "pairs.jsonl"))
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    args = parser.parse_args()
    with open(args.pairs, encoding="utf-8") as file:
        pairs = [json.loads(line) for line in file if line.strip()]
    right = 0
    for pair in pairs:
        answer = ask(args.url, args.model, pair["prompt"])
        right += answer.strip() == pair["label"]
        print(f"{pair['label']:8s} {answer!r:24s} {pair['prompt']}")
    print(f"{right} of {len(pairs)} right")


if __name__ == "__main__":
    main()
