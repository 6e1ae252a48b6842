"""What PyTorch reaches on the GPU for the cases of bench_gpu: one JSON line a case, the two ceilings first.
  python3 scripts/gpu_peers.py > peers.json       (torch with CUDA)
"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

BURST, REPETITIONS = 8, 50


def median_us(run):
    for i in range(BURST):
        run(i)
    times = []
    for repetition in range(REPETITIONS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for i in range(BURST):
            run(repetition * BURST + i)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / BURST)
    return statistics.median(times)


def report(kernel, shape, us, moved=0.0, flops=0.0):
    print(json.dumps({"kernel": kernel, "shape": shape, "us": round(us, 2), "gb_s": round(moved / us / 1e3, 1),
                      "tflop_s": round(flops / us / 1e6, 2)}), flush=True)


def ceilings():
    a = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    b = torch.empty_like(a)
    report("copy", "1 GiB", median_us(lambda i: b.copy_(a)), 2.0 * a.numel() * 4)
    del a, b
    for dtype in (torch.bfloat16, torch.float16):
        x, y = (torch.randn(8192, 8192, dtype=dtype, device="cuda") for _ in range(2))
        report(f"matmul {str(dtype)[6:]}", "8192x8192x8192", median_us(lambda i: x @ y), 0, 2.0 * 8192**3)


def linears(dtype, name, rows, columns, tokens):
    count = max(1, (256 << 20) // (rows * columns * 2))
    weights = [torch.randn(rows, columns, device="cuda").to(dtype) for _ in range(count)]
    for m in tokens:
        x = torch.randn(m, columns, device="cuda").to(dtype)
        us = median_us(lambda i: F.linear(x, weights[i % count]))
        report(f"linear {name}", f"{m}x{rows}x{columns}", us, 2.0 * rows * columns + m * (2.0 * columns + 2.0 * rows),
               2.0 * m * rows * columns)


def attention(queries, context, heads, kv_heads, head_dim):
    q = torch.randn(1, heads, queries, head_dim, dtype=torch.float16, device="cuda")
    k, v = (torch.randn(1, kv_heads, context, head_dim, dtype=torch.float16, device="cuda") for _ in range(2))
    us = median_us(lambda i: F.scaled_dot_product_attention(q, k, v, is_causal=queries == context and queries > 1,
                                                            enable_gqa=True))
    seen = context - (queries - 1) / 2
    report("decode attention" if queries == 1 else "prefill attention",
           f"1 sequences, {queries} of {context}, heads {heads}/{kv_heads} of {head_dim}", us,
           4.0 * kv_heads * context * head_dim, 4.0 * queries * heads * head_dim * seen)


def main():
    print(f"gpu_peers: torch {torch.__version__}, {torch.cuda.get_device_name()}", file=sys.stderr)
    ceilings()
    few, many = (1, 4, 8, 16, 32, 64), (1, 8, 64, 128, 512, 2048, 4096)
    for dtype, name in ((torch.bfloat16, "BF16"), (torch.float16, "F16")):
        linears(dtype, name, 14336, 4096, many)
    linears(torch.bfloat16, "BF16", 4096, 14336, many)
    linears(torch.bfloat16, "BF16", 1152, 896, few)
    linears(torch.bfloat16, "BF16", 151936, 896, few)
    for context in (512, 4096, 32768):
        attention(1, context, 32, 8, 128)
    for prompt in (512, 2048, 4096):
        attention(prompt, prompt, 32, 8, 128)


if __name__ == "__main__":
    main()
