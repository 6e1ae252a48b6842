"""Checks the include arrows server -> engine -> kernels -> base, and bans what the house does not use."""
import re
import subprocess
import sys

# folder -> folders it may include from; config may be included by server/main and server/commands only.
ALLOWED = {
    "base": {"base"},
    "kernels": {"kernels", "base"},
    "engine": {"engine", "kernels", "base"},
    "config": {"config", "server", "engine", "kernels", "base"},
    "server": {"server", "engine", "kernels", "base"},
}
CONFIG_READERS = re.compile(r"server/(main\.cpp|commands/)")
CONFIG_MAY_INCLUDE_FROM_SERVER = {"server/options.h"}
ONLY_IN = {  # header -> pattern of files that may include it
    "httplib.h": re.compile(r"server/(http_server\.cpp|connection\.(h|cpp)|httplib_anchor\.cpp)$"),
    "regex": re.compile(r"$^"),
}
BANNED = [(re.compile(r"std::regex"), "std::regex recurses on hostile input"),
          (re.compile(r"\bTODO\b|\bFIXME\b"), "finish it or file it")]


def main() -> int:
    files = subprocess.run(["git", "ls-files", "*.cpp", "*.h"], capture_output=True, text=True, check=True).stdout.split()
    faults = []
    for path in files:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        if not lines[0].startswith("//"):
            faults.append(f"{path}:1: a file opens with one line that says what it holds")
        folder = path.split("/")[0]
        for number, line in enumerate(lines, 1):
            for pattern, why in BANNED:
                if pattern.search(line):
                    faults.append(f"{path}:{number}: {pattern.pattern}: {why}")
            include = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
            if not include:
                continue
            target = include.group(1)
            name = target.split("/")[-1]
            if name in ONLY_IN and not path.startswith("tests/") and not ONLY_IN[name].search(path):
                faults.append(f"{path}:{number}: {name} is not included here")
            top = target.split("/")[0]
            if folder not in ALLOWED or top not in ALLOWED:
                continue
            allowed = top in ALLOWED[folder]
            if top == "config" and folder == "server":
                allowed = bool(CONFIG_READERS.match(path))
            if folder == "config" and top == "server":
                allowed = target in CONFIG_MAY_INCLUDE_FROM_SERVER
            if not allowed:
                faults.append(f"{path}:{number}: {folder} may not include {target}")
    print("\n".join(faults) if faults else f"{len(files)} files: includes run one way")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
