"""Puts the figures of bench_gpu and gpu_peers side by side, as a page: python3 scripts/gpu_report.py bench.json peers.json [REMARK...]
The remarks, such as that one of the two failed, stand above the figures.
"""
import datetime
import json
import pathlib
import subprocess
import sys


def read(path):
    text = pathlib.Path(path).read_text() if pathlib.Path(path).exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def device():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown GPU"


def main():
    bench, peers = read(sys.argv[1]), read(sys.argv[2])
    by_case = {(p["kernel"], p["shape"]): p for p in peers}
    copy = next((p["gb_s"] for p in peers if p["kernel"] == "copy"), None)
    matmul = next((p["tflop_s"] for p in peers if p["kernel"] == "matmul bfloat16"), None)
    print(f"# Measured\n\n{datetime.date.today()}, {device()}. Medians of 50 bursts of 8 launches; buffers take turns beyond the L2 cache.")
    if copy and matmul:
        print(f"Ceilings here, by PyTorch: copy {copy:.0f} GB/s, bf16 matmul of 8192 {matmul:.0f} TFLOP/s.")
    for remark in sys.argv[3:]:
        print(f"\n**{remark}**")
    print("\n| kernel | shape | µs | GB/s | of copy | TFLOP/s | of matmul | PyTorch µs | PyTorch / inferd |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in bench:
        peer = by_case.get((case["kernel"], case["shape"]))
        share = lambda value, ceiling: f"{100 * value / ceiling:.0f}%" if ceiling and value else "-"
        beside = (f"{peer['us']:.1f}", f"{peer['us'] / case['us']:.2f}") if peer else ("-", "-")
        print(f"| {case['kernel']} | {case['shape']} | {case['us']:.1f} | {case['gb_s']:.0f} | "
              f"{share(case['gb_s'], copy)} | {case['tflop_s']:.1f} | {share(case['tflop_s'], matmul)} | "
              f"{beside[0]} | {beside[1]} |")
    own = {(c["kernel"], c["shape"]): c for c in bench}
    pairs = [(own.get((c["kernel"].removeprefix("cublaslt "), c["shape"])), c) for c in bench
             if c["kernel"].startswith("cublaslt ")]
    if pairs:
        print("\nOwn kernels beside cuBLASLt through inferd (batch_invariant: false):")
        print("\n| kernel | shape | own µs | cuBLASLt µs | own / cuBLASLt |\n|---|---|---|---|---|")
    for ours, theirs in pairs:
        if ours:
            print(f"| {ours['kernel']} | {ours['shape']} | {ours['us']:.1f} | {theirs['us']:.1f} | "
                  f"{ours['us'] / theirs['us']:.2f} |")


if __name__ == "__main__":
    main()
