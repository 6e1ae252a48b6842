"""Makes tests/golden/fidelity/peer.json: llama.cpp's KL from float32 on the positions of the .bin files.

    python make_peer_fidelity.py --peer PEER_LOGITS --version TEXT [--scratch DIR] [--threads N] [--kv q8_0]

With --kv q8_0 (llama-server's -ctk q8_0 -ctv q8_0) the file is peer_q8_0.json.

PEER_LOGITS is peer_logits.cpp built against llama.cpp; --scratch is what make_fidelity.py kept, for the exact KL.
"""
import argparse
import json
import os
import subprocess

import fidelity_format
import numpy as np
from make_fidelity import MODELS, OUT, ROOT, passages


def peer_logits(process, ids, vocab_size):
    process.stdin.write(np.array([len(ids)], "<u4").tobytes() + ids.astype("<u4").tobytes())
    process.stdin.flush()
    data = process.stdout.read(4 * len(ids) * vocab_size)
    assert len(data) == 4 * len(ids) * vocab_size, "peer_logits ended early"
    return np.frombuffer(data, "<f4").reshape(len(ids), vocab_size)


def measure(name, file, args):
    reference, vocab_size = fidelity_format.read(os.path.join(OUT, name + ".bin"))
    exact = np.load(os.path.join(args.scratch, name + ".npz")) if args.scratch else None
    command = [args.peer, os.path.join(ROOT, "models", file), str(args.threads), args.kv]
    kl, agree, full, rows = [], [], [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for i, ((title, _), (ids, top_ids, p)) in enumerate(zip(passages(), reference, strict=True)):
            logits = peer_logits(process, ids, vocab_size)
            kl.append(fidelity_format.bucketed_kl(top_ids, p, logits))
            agree.append(logits.argmax(1) == top_ids[:, 0])
            if exact is not None:
                full.append(fidelity_format.full_kl(exact[f"arr_{i}"], logits))
            rows.append({"passage": title, "positions": len(ids), "mean_kl": round(float(kl[-1].mean()), 7)})
        process.stdin.close()
    kl, agree = np.concatenate(kl), np.concatenate(agree)
    out = {"file": file, "positions": len(kl), "mean_kl": round(float(kl.mean()), 7),
           "mean_kl_standard_error": round(float(kl.std() / np.sqrt(len(kl))), 7),
           "median_kl": round(float(np.median(kl)), 7), "p99_kl": round(float(np.quantile(kl, 0.99)), 6),
           "max_kl": round(float(kl.max()), 6), "top1_agreement": round(float(agree.mean()), 6)}
    if full:
        out["mean_kl_full_vocabulary"] = round(float(np.concatenate(full).mean()), 7)
    out["passages"] = rows
    print(name, {k: v for k, v in out.items() if k != "passages"}, flush=True)
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--scratch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv", choices=["f16", "q8_0"], default="f16")
    args = parser.parse_args()
    out = {"engine": "llama.cpp", "version": args.version, "settings": f"CPU, defaults ({args.kv} KV cache), batch 512"}
    out["models"] = {name: measure(name, file, args) for name, file in MODELS.items()}
    with open(os.path.join(OUT, "peer.json" if args.kv == "f16" else f"peer_{args.kv}.json"), "w", encoding="utf-8") as f:
        json.dump(out, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
