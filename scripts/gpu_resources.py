"""Holds what ptxas says of every kernel to kernels/cuda/registry.def: registers, no spills, shared memory.
  scripts/gpu_resources.py BUILD            checks the files BUILD/cuda/*.ptxas.txt
  scripts/gpu_resources.py BUILD --write    also writes docs/gpu/resources.md
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def registry():
    """Kernel -> (file, threads, registers, dynamic shared bytes)."""
    text = (ROOT / "kernels/cuda/registry.def").read_text()
    kernels = {}
    for name, file, *numbers in re.findall(r"^KERNEL\((\w+),\s*(\w+),\s*(\d+),\s*(\d+),\s*(\d+)\)", text, re.M):
        kernels[name] = (file, *map(int, numbers))
    if len(kernels) != len(re.findall(r"^KERNEL\(", text, re.M)):
        sys.exit("kernels/cuda/registry.def: a line is not KERNEL(entry, file, threads, registers, shared)")
    return kernels


def measured(build):
    """(kernel, arch) -> (registers, stack, spill bytes, static shared bytes)."""
    found = {}
    manifest = (pathlib.Path(build) / "cuda/manifest.txt").read_text()  # reports of kernels that are gone may lie about
    for path in (pathlib.Path(line.split()[2]).with_suffix(".ptxas.txt") for line in manifest.splitlines()):
        entry = None
        for line in path.read_text().splitlines():
            if m := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'", line):
                entry, stack, spill = (m[1], int(m[2])), 0, 0
            elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                stack, spill = int(m[1]), int(m[2]) + int(m[3])
            elif m := re.search(r"Used (\d+) registers", line):
                shared = re.search(r"(\d+) bytes smem", line)
                found[entry] = (int(m[1]), stack, spill, int(shared[1]) if shared else 0)
    return found


def main():
    build = sys.argv[1]
    kernels, found = registry(), measured(build)
    faults = [f"{name}: no ptxas report; is it in kernels/cuda/{file}.cu?" for name, (file, *_) in kernels.items()
              if not any(entry == name for entry, _ in found)]
    for (name, arch), (registers, stack, spill, shared) in found.items():
        where = f"{name} on sm_{arch}"
        if name not in kernels:
            faults.append(f"{where}: not in kernels/cuda/registry.def")
            continue
        _, threads, most, dynamic = kernels[name]
        if registers > most:
            faults.append(f"{where}: expected at most {most} registers, found {registers}")
        if spill or stack:
            faults.append(f"{where}: expected no spills and no stack, found {spill} bytes of spills, {stack} of stack")
        if arch == 75 and re.fullmatch(r"linear_\w+_prefill", name):
            continue  # never launched there (linear_mma.cpp)
        if arch == 75 and name in ("attention_tiles_q8_0_256", "attention_tiles_fp8_256"):
            dynamic = 61568  # half the rows (tile_rows in attention_params.h)
        limit = 65536 if arch == 75 else 101376  # what every chip of that generation gives a block
        if shared + dynamic > limit:
            faults.append(f"{where}: {shared} + {dynamic} bytes of shared memory, a block may have {limit}")
        if registers * threads > 65536:
            faults.append(f"{where}: a block does not fit an SM: {registers} registers x {threads} threads")
    if faults:
        sys.exit("\n".join(faults))
    archs = sorted({arch for _, arch in found})
    print(f"{len(kernels)} kernels x {len(archs)} architectures: registers within budget, no spills")
    if "--write" in sys.argv:
        out = ROOT / "docs/gpu/resources.md"
        out.parent.mkdir(exist_ok=True)
        head = "| kernel | threads | dynamic shared | " + " | ".join(f"sm_{a}" for a in archs) + " |"
        lines = ["# Resources of the CUDA kernels", "",
                 "Registers of a thread + static shared bytes of a block, as ptxas reports them. No kernel spills. Written by",
                 "`scripts/gpu_resources.py BUILD --write`.", "", head, "|" + "---|" * (3 + len(archs))]
        for name, (_, threads, _, dynamic) in sorted(kernels.items()):
            cells = [f"{found[name, a][0]} + {found[name, a][3]}" if (name, a) in found else "-" for a in archs]
            lines.append(f"| {name} | {threads} | {dynamic} | " + " | ".join(cells) + " |")
        out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
