#!/usr/bin/env python3
"""Makes tests/golden/sampler/cases.json: rows of logits, rules, and what float64 numpy samples from them.

Independent of the engine: Philox is written from the paper, every rule over the full sorted row.
Run: python tests/reference/make_sampler_cases.py
"""
import json
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "golden" / "sampler" / "cases.json"
MASK = 0xFFFFFFFF


def philox_4x32(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & MASK, (p0 >> 32) ^ c[3] ^ k[1], p0 & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def uniform(seed, position):
    seed &= (1 << 64) - 1
    w = philox_4x32([position & MASK, position >> 32, 0, 0], [seed & MASK, seed >> 32])
    return ((w[1] << 32 | w[0]) >> 11) * 2.0**-53


def formula_row(salt, size):
    """A row both sides compute, for vocabularies too large to store: 20-bit integers over 2^16."""
    ids = np.arange(size, dtype=np.uint64)
    x = (ids * np.uint64(2654435761) + np.uint64(salt) * np.uint64(40503)) & np.uint64(MASK)
    x = x ^ (x >> np.uint64(15))
    x = (x * np.uint64(2246822519)) & np.uint64(MASK)
    x = x ^ (x >> np.uint64(13))
    return ((x & np.uint64(0xFFFFF)).astype(np.float64) / 65536.0 - 8.0).astype(np.float32)


def survivors(row, p):
    """Ids (rising) and probabilities after all rules; None if all are banned."""
    x = row.astype(np.float64).copy()
    for token, bias in p["logit_bias"]:
        x[token] = -np.inf if bias <= -100 else x[token] + bias
    for token in p["banned"]:
        x[token] = -np.inf
    for token in sorted(set(p["prompt"]) | set(p["output"])):
        if x[token] == -np.inf:
            continue
        x[token] = x[token] / p["repetition_penalty"] if x[token] > 0 else x[token] * p["repetition_penalty"]
        n = p["output"].count(token)
        if n:
            x[token] -= p["presence_penalty"] + p["frequency_penalty"] * n
    if np.all(x == -np.inf):
        return None
    if p["temperature"] == 0:
        return [int(np.argmax(x))], [1.0]
    w = np.exp((x - x.max()) / p["temperature"])
    sorting = p["top_p"] < 1 or 0 < p["top_k"] < len(x)
    order = np.lexsort((np.arange(len(x)), -x)) if sorting else np.arange(len(x))
    order = order[w[order] > 0]
    if 0 < p["top_k"] < len(x):
        order = order[: p["top_k"]]
    if p["top_p"] < 1:
        before = np.concatenate(([0.0], np.cumsum(w[order])[:-1])) / w[order].sum()
        keep = before < p["top_p"]
        keep[0] = True
        order = order[keep]
    order = np.sort(order[w[order] >= p["min_p"]])
    return [int(i) for i in order], [float(v) for v in w[order] / w[order].sum()]


def walk(ids, probabilities, u):
    """The token at u, and how far u is from the nearest border (a case too near is dropped)."""
    edges = np.cumsum(probabilities)
    at = min(int(np.searchsorted(edges, u, side="right")), len(ids) - 1)
    return ids[at], float(np.min(np.abs(edges[:-1] - u))) if len(ids) > 1 else 1.0


def logprobs(row, top):
    x = row.astype(np.float64)
    lp = x - x.max() - np.log(np.exp(x - x.max()).sum())
    order = np.lexsort((np.arange(len(x)), -x))[:top]
    return lp, [[int(i), float(lp[i])] for i in order]


def make_case(rng, name, row_spec, row, **rules):
    p = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
         "frequency_penalty": 0.0, "logit_bias": [], "banned": [], "prompt": [], "output": []}
    p.update(rules)
    for key in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty"):
        p[key] = float(np.float32(p[key]))
    case = {"name": name, "row": row_spec, "params": p, "draws": []}
    found = survivors(row, p)
    case["all_banned"] = found is None
    if found is not None:
        ids, probabilities = found
        case["kept"] = len(ids)
        lp, case["top"] = logprobs(row, 20)
        for _ in range(40):
            seed, position = int(rng.integers(-2**62, 2**62)), int(rng.integers(0, 100000))
            token, margin = walk(ids, probabilities, uniform(seed, position))
            if margin < 1e-5:
                continue
            case["draws"].append({"seed": seed, "position": position, "token": token, "logprob": float(lp[token])})
            if len(case["draws"]) == 12:
                break
    return case


def main():
    rng = np.random.default_rng(20260101)
    cases = []

    def small(name, size=40, scale=2.0, **rules):
        row = (rng.standard_normal(size) * scale).astype(np.float32)
        cases.append(make_case(rng, name, {"values": [float(v) for v in row]}, row, **rules))

    def large(name, size, **rules):
        salt = int(rng.integers(1, 1 << 20))
        cases.append(make_case(rng, name, {"formula": salt, "size": size}, formula_row(salt, size), **rules))

    small("plain")
    small("one token", size=1)
    small("greedy", temperature=0.0)
    small("cold", temperature=0.1)
    small("hot", temperature=1.9)
    small("very cold", temperature=1e-4)
    for k in (1, 2, 5, 39, 40, 400):
        small(f"top_k {k}", top_k=k)
    for p in (0.0, 0.01, 0.3, 0.9, 0.999, 1.0):
        small(f"top_p {p}", top_p=p)
    for p in (0.0, 0.05, 0.5, 1.0):
        small(f"min_p {p}", min_p=p)
    small("top_k then top_p", top_k=10, top_p=0.8)
    small("top_k then top_p then min_p", top_k=12, top_p=0.95, min_p=0.1, temperature=0.7)
    small("top_p then min_p", top_p=0.9, min_p=0.2)
    prompt, output = [1, 2, 3, 3, 7], [3, 4, 4, 4, 9]
    small("repetition", repetition_penalty=1.5, prompt=prompt, output=output)
    small("repetition below one", repetition_penalty=0.8, prompt=prompt, output=output)
    small("presence", presence_penalty=1.2, prompt=prompt, output=output)
    small("negative presence", presence_penalty=-1.5, prompt=prompt, output=output)
    small("frequency", frequency_penalty=0.7, prompt=prompt, output=output)
    small("all penalties", repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.4, prompt=prompt,
          output=output, top_p=0.9)
    small("greedy with penalties", temperature=0.0, repetition_penalty=2.0, frequency_penalty=1.0, prompt=prompt,
          output=list(range(20)))
    small("bias", logit_bias=[[5, 6.0], [6, -3.0]])
    small("bias bans", logit_bias=[[i, -100.0] for i in range(35)])
    small("bias of repeated", logit_bias=[[3, 2.0], [4, -100.0]], repetition_penalty=1.4, prompt=prompt, output=output)
    small("banned stops", banned=[0, 1, 2, 3, 4, 5])
    small("all banned", size=6, banned=[0, 1, 2], logit_bias=[[3, -100.0], [4, -100.0], [5, -100.0]])
    small("all but one banned", size=6, banned=[0, 1, 2, 3, 4])
    small("flat", scale=0.0)
    small("flat top_k", scale=0.0, top_k=7)
    small("flat top_p", scale=0.0, top_p=0.5)
    small("flat greedy", scale=0.0, temperature=0.0)
    small("steep", scale=60.0)
    small("everything", temperature=0.8, top_k=20, top_p=0.95, min_p=0.02, repetition_penalty=1.1,
          presence_penalty=0.3, frequency_penalty=0.2, logit_bias=[[11, 1.5]], banned=[0], prompt=prompt, output=output)
    large("large plain", 151936)
    large("large greedy", 151936, temperature=0.0)
    large("large top_k", 151936, top_k=50)
    large("large top_k 3000", 32003, top_k=3000)
    large("large top_p", 151936, top_p=0.3)
    large("large top_p wide", 50257, top_p=0.97)
    large("large top_p cold", 151936, top_p=0.9, temperature=0.2)
    large("large min_p", 151936, min_p=0.3)
    large("large everything", 49152, temperature=0.7, top_k=40, top_p=0.9, min_p=0.05, repetition_penalty=1.2,
          prompt=list(range(0, 4000, 3)), output=list(range(0, 600, 5)))

    OUT.parent.mkdir(parents=True, exist_ok=True)
    kat = [{"counter": c, "key": k, "out": philox_4x32(c, k)} for c, k in (
        ([0, 0, 0, 0], [0, 0]), ([MASK] * 4, [MASK] * 2),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0]))]
    OUT.write_text(json.dumps({"philox": kat, "cases": cases}, separators=(",", ":")) + "\n")
    print(f"{len(cases)} cases, {sum(len(c['draws']) for c in cases)} draws, {OUT.stat().st_size} bytes")
    print([[hex(v) for v in k["out"]] for k in kat])


if __name__ == "__main__":
    main()
