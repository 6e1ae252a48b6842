"""Holds the lists of survivors to the kernels' sources: every line names a kernel that there is, and a line of its code.
  tests/kernels_cuda/check_survivors.py
"""
import fnmatch
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    kernels = re.findall(r"^KERNEL\((\w+)", (ROOT / "kernels/cuda/registry.def").read_text(), re.M)
    code = {}  # file name -> its lines, a space between words
    for path in (ROOT / "kernels/cuda").rglob("*.cu*"):
        code.setdefault(path.name, set()).update(" ".join(line.split()) for line in path.read_text().splitlines())
    faults = []
    for path in sorted((ROOT / "tests/kernels_cuda/survivors").glob("*.txt")):
        for line in path.read_text().splitlines():
            if not line or line.startswith("#"):
                continue
            key = line.split("  #")[0]
            names, place = key.split("|")[0], re.search(r" in ([\w.]+): (.*)$", key)
            if not fnmatch.filter(kernels, names):
                faults.append(f"{path.name}: no kernel is {names}")
            if place and place[2] not in code.get(place[1], ()):
                faults.append(f"{path.name}: {place[1]} has no line: {place[2]}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
