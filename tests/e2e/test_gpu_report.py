"""scripts/gpu_report.py on figures whose shares and ratios were worked out by hand."""
import json
import os
import subprocess
import sys

from daemon import ROOT


def report(tmp_path, bench, peers):
    paths = [tmp_path / "bench.json", tmp_path / "peers.json"]
    for path, cases in zip(paths, (bench, peers)):
        if cases is not None:
            path.write_text("".join(json.dumps(dict(zip(("kernel", "shape", "us", "gb_s", "tflop_s"), case))) + "\n"
                                    for case in cases) + "cut off: {")
    clean = {"PATH": str(tmp_path)}  # no nvidia-smi
    said = subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "gpu_report.py"), *map(str, paths)], env=clean,
                          capture_output=True, text=True, check=True)
    return said.stdout.splitlines()


BENCH = [("linear BF16", "1x14336x4096", 50.0, 2350.0, 2.35), ("linear Q4_K", "1x14336x4096", 20.0, 1650.0, 5.9),
         ("cublaslt linear BF16", "1x14336x4096", 40.0, 2937.5, 2.94), ("cublaslt linear BF16", "8x8x8", 1.0, 1.0, 1.0)]
PEERS = [("copy", "1 GiB", 700.0, 3000.0, 0.0), ("matmul bfloat16", "8192x8192x8192", 1400.0, 0.0, 800.0),
         ("linear BF16", "1x14336x4096", 45.0, 2611.1, 2.61)]


def test_cases_stand_beside_ceilings_and_peers(tmp_path):
    lines = report(tmp_path, BENCH, PEERS)
    assert "unknown GPU" in lines[2]
    assert "Ceilings here, by PyTorch: copy 3000 GB/s, bf16 matmul of 8192 800 TFLOP/s." in lines
    assert "| linear BF16 | 1x14336x4096 | 50.0 | 2350 | 78% | 2.4 | 0% | 45.0 | 0.90 |" in lines
    assert "| linear Q4_K | 1x14336x4096 | 20.0 | 1650 | 55% | 5.9 | 1% | - | - |" in lines
    own = lines.index("Own kernels beside cuBLASLt through inferd (batch_invariant: false):")
    assert lines[own + 4:] == ["| linear BF16 | 1x14336x4096 | 50.0 | 40.0 | 1.25 |"]  # the other has nothing beside it


def test_without_peers_shares_are_left_out(tmp_path):
    lines = report(tmp_path, BENCH[:1], None)
    assert not any("Ceilings" in line or "cuBLASLt" in line for line in lines)
    assert lines[-1] == "| linear BF16 | 1x14336x4096 | 50.0 | 2350 | - | 2.4 | - | - | - |"
