"""How speed grows with the batch, and falls with prompt length and context: runs `inferd bench`, and draws docs/scaling/*.svg.

    plot_scaling.py --model smollm2 --sweep batch|prompt|context --keep DIR     one sweep of one model, as JSON in DIR
    plot_scaling.py --plot DIR                                                  draws what DIR holds
    plot_scaling.py                                                             everything, then draws
INFERD_BIN names the binary (default build/inferd). Needs only Python's standard library.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
MODELS = {"smollm2": ("SmolLM2-135M Q4_1", ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"),
          "qwen": ("Qwen2.5-0.5B Q4_K_M", ROOT / "models/Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")}
LENGTHS = "128,256,512,1024,2048,4096,8000"
# sweep -> arguments of bench, what x is in its JSON, title, axis
SWEEPS = {"batch": (["--prompt", "0", "--generate", "32", "--batch", "1,2,4,8,16,32,64"], "batch", "Decode: output of all streams", "streams at once"),
          "prompt": (["--prompt", LENGTHS, "--generate", "0"], "tokens_per_stream", "Prefill", "prompt tokens"),
          "context": (["--prompt", "0", "--generate", "32", "--batch", "1", "--depth", LENGTHS], "depth", "Decode: one stream", "tokens in the context")}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 340, 70, 20, 40, 50
COLOURS = ("#1f6f8b", "#c8553d")


def measure(model, sweep, folder, repetitions):
    command = [os.environ.get("INFERD_BIN", str(ROOT / "build/inferd")), "bench", "--model", str(MODELS[model][1]), "--json",
               "--repetitions", str(repetitions), *SWEEPS[sweep][0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()}")
    (folder / f"{sweep}-{model}.json").write_text(done.stdout, encoding="utf-8")


def round_up(value):
    """The next number of the form 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10 ** (len(str(int(value))) - 1)
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def svg(title, axis, note, series):
    """A chart of tok/s over a logarithmic axis; series: [(name, [(x, y)])]."""
    xs = sorted({x for _, points in series for x, _ in points})
    top = round_up(max(y for _, points in series for _, y in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place_x(x):  # the lengths double from step to step: equal distances
        return LEFT + wide * (xs.index(x) / max(1, len(xs) - 1))

    def place_y(y):
        return TOP + high * (1 - y / top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', f'<text x="{LEFT}" y="18" font-size="14">{title} (tok/s)</text>',
           f'<text x="{LEFT}" y="32" fill="#666" font-size="10">{note}</text>']
    for tick in range(6):
        y = top * tick / 5
        out.append(f'<path d="M{LEFT} {place_y(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
                   f'<text x="{LEFT - 6}" y="{place_y(y) + 4:.1f}" text-anchor="end">{y:,.0f}</text>')
    for x in xs:
        out.append(f'<text x="{place_x(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:,}</text>')
    out.append(f'<text x="{LEFT + wide / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{axis}</text>')
    for index, (name, points) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        line = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{colour}"><title>{x:,}: {y:,.1f} tok/s</title></circle>' for x, y in points]
        out.append(f'<text x="{WIDTH - RIGHT - 6}" y="{TOP + 14 + 16 * index}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"


def plot(folder):
    target = ROOT / "docs/scaling"
    target.mkdir(parents=True, exist_ok=True)
    for sweep, (_, key, title, axis) in SWEEPS.items():
        series, note = [], ""
        for model, (name, _) in MODELS.items():
            path = folder / f"{sweep}-{model}.json"
            if path.exists():
                report = json.loads(path.read_text(encoding="utf-8"))
                series.append((name, [(test[key], test["tok_per_s"]) for test in report["tests"]]))
                note = f"{report['backend']}, KV cache {report['kv_cache_type']}, steps of {report['max_batch_tokens']} tokens"
        if series:
            (target / f"{sweep}.svg").write_text(svg(title, axis, note, series), encoding="utf-8")
            print(target / f"{sweep}.svg")
            for name, points in series:
                print("  " + name + ": " + ", ".join(f"{x:,}: {y:,.0f}" for x, y in points))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--sweep", choices=SWEEPS)
    parser.add_argument("--keep", metavar="DIR", help="folder of the measurements (default: a temporary one)")
    parser.add_argument("--plot", metavar="DIR", help="draw the measurements of this folder, measure nothing")
    parser.add_argument("--repetitions", type=int, default=1)
    args = parser.parse_args()
    if args.plot:
        plot(pathlib.Path(args.plot))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(args.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for model in [args.model] if args.model else MODELS:
            for sweep in [args.sweep] if args.sweep else SWEEPS:
                measure(model, sweep, folder, args.repetitions)
        if not args.model and not args.sweep:
            plot(folder)


if __name__ == "__main__":
    main()
