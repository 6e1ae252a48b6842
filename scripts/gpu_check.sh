#!/usr/bin/env bash
# Everything to run where a GPU is: every kernel against its reference, sanitizers, benchmarks, whole models.
#   scripts/gpu_check.sh --prepare                      builds and collects what a machine without compilers needs: build-gpu/carry
#   scripts/gpu_check.sh --part correctness [--out DIR] kernel tests, whole-model tests, compute-sanitizer where it is installed
#   scripts/gpu_check.sh --part bench [--out DIR]       kernels and, where PyTorch is, PyTorch; writes DIR/measured.md
#   scripts/gpu_check.sh --part e2e [--out DIR]         generated 0.5B and 7B models beside transformers on the same GPU
# Parts take at most 8 minutes each. Without a GPU, correctness runs on the PTX interpreter and the rest says so.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
cd "$root"

part=""
out=build-gpu/out
while [ $# -gt 0 ]; do
  case "$1" in
    --prepare) part=prepare ;;
    --part) part=${2:-}; shift ;;
    --out) out=${2:?"--out: expected a folder"}; shift ;;
    -h | --help) sed -n '2,7s/^# //p' "$0"; exit 0 ;;
    *) printf 'gpu_check: unknown option %s\n' "$1" >&2; exit 64 ;;
  esac
  shift
done

carry="$root/build-gpu/carry"

prepare() {
  mkdir -p build-gpu
  cmake --preset gpu >build-gpu/configure.log 2>&1 || { cat build-gpu/configure.log; die "configuring failed"; }
  cmake --build --preset gpu --target cuda_tests bench_gpu inferd
  rm -rf "$carry"
  mkdir -p "$carry/bin" "$carry/lib" "$carry/ptx"
  local program
  for program in build-gpu/kernels_cuda_* build-gpu/cuda_* build-gpu/bench_gpu build-gpu/inferd; do
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    strip -o "$carry/bin/$(basename "$program")" "$program"
    # Libraries beside those every Linux has.
    ldd "$program" | awk '$3 ~ /^\// {print $3}' | grep -Ev '/(libc|libm|libpthread|libdl|librt|libcuda)\.so' |
      while read -r library; do cp -Lu "$library" "$carry/lib/"; done
  done
  cp build-gpu/cuda/*.ptx "$carry/ptx/"
  gzip -9 "$carry"/ptx/*.ptx
  du -sh "$carry" | awk '{print "gpu_check: " $1 " in build-gpu/carry"}'
}

# A GPU is there if the driver lists one.
gpu_there() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

programs=build-dev
if [ -d "$carry/bin" ]; then
  programs=$carry/bin
  export LD_LIBRARY_PATH=$carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
mkdir -p "$out"

# cuBLASLt comes with PyTorch, in a folder of its own.
find_cublaslt() {
  local folder
  if ! folder=$(python3 -c 'import glob, site; print(*[p[: p.rindex("/")] for d in site.getsitepackages()
    for p in sorted(glob.glob(d + "/nvidia/*/lib/libcublasLt.so.1[23]"))][-1:])' 2>/dev/null); then folder=""; fi
  if [ -n "$folder" ]; then export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; fi
}

correctness() {
  local failed=0 program name
  if gpu_there; then
    find_cublaslt
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
    export INFERD_TEST_GPU=1
    if [ -d "$carry/ptx" ]; then
      export INFERD_PTX_DIR=$out/ptx
      mkdir -p "$INFERD_PTX_DIR"
      for name in "$carry"/ptx/*.ptx.gz; do gzip -dc "$name" >"$INFERD_PTX_DIR/$(basename "${name%.gz}")"; done
    fi
  else
    say "no GPU: kernels run on the PTX interpreter"
  fi
  for program in "$programs"/kernels_cuda_* "$programs"/cuda_*; do
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    name=$(basename "$program")
    case "$name" in kernels_cuda_driver | *_mutants) continue ;; esac  # need no GPU
    if [ "$name" = cuda_tensor_parallel ] && gpu_there; then
      say "cuda_tensor_parallel: skipped, it tests two imitated GPUs"
      continue
    fi
    if [ "$name" = cuda_real ] && [ ! -f models/SmolLM2-135M-Instruct.Q4_1.gguf ]; then
      say "cuda_real: skipped, its model is not in models/"
      continue
    fi
    if timeout 240 "$program" >"$out/$name.log" 2>&1; then
      say "$name: $(tail -n 2 "$out/$name.log" | tr -d '\n')"
    else
      failed=1
      say "$name: FAILED, see $out/$name.log"
      tail -n 40 "$out/$name.log"
    fi
  done
  if gpu_there && command -v compute-sanitizer >/dev/null; then
    for program in "$programs"/kernels_cuda_{rows,norm,qkv_post,to_activation,attention,linear,sample}; do
      [ -x "$program" ] || continue
      for tool in memcheck initcheck racecheck; do
        name=$tool-$(basename "$program")
        if timeout 60 compute-sanitizer --tool "$tool" --error-exitcode 9 "$program" >"$out/$name.log" 2>&1; then
          say "$name: clean"
        else
          say "$name: exit $? (124: cut off after a minute), see $out/$name.log"
          grep -m 5 '=========' "$out/$name.log" || say "$name: no finding in its log"
        fi
      done
    done
  fi
  return $failed
}

bench() {
  if ! gpu_there; then
    say "no GPU: benchmarks are skipped"
    return 0
  fi
  find_cublaslt
  "$programs/bench_gpu" >"$out/bench.json"
  if python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    python3 scripts/gpu_peers.py >"$out/peers.json"
  fi
  python3 scripts/gpu_report.py "$out/bench.json" "$out/peers.json" | tee "$out/measured.md"
}

e2e() {
  if ! gpu_there; then
    say "no GPU: whole models beside transformers are skipped"
    return 0
  fi
  INFERD_BIN=${INFERD_BIN:-$programs/inferd} python3 scripts/gpu_e2e.py --out "$out" 0.5B 7B | tee "$out/e2e.md"
}

case "$part" in
  prepare | correctness | bench | e2e) "$part" ;;
  *) printf 'gpu_check: expected --prepare or --part correctness|bench|e2e\n' >&2; exit 64 ;;
esac
