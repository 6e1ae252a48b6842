#!/usr/bin/env bash
# Everything to run where a GPU is: every kernel against its reference, sanitizers, benchmarks, whole models.
#   scripts/gpu_check.sh --prepare                      builds and collects what a machine without compilers needs: build-gpu/carry
#   scripts/gpu_check.sh --part correctness [--out DIR] kernel tests, whole-model tests, compute-sanitizer where it is installed
#   scripts/gpu_check.sh --part bench [--out DIR]       kernels and, where PyTorch is, PyTorch; writes DIR/measured.md
#   scripts/gpu_check.sh --part e2e [--out DIR]         generated 0.5B and 7B models beside transformers on the same GPU
# A part ends by itself after 460 seconds and names what it did not get to; at most six files come out of it. Without a
# GPU, correctness runs on the PTX interpreter and the rest says so. The tracked files and build-gpu/carry are enough.
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
    -h | --help) sed -n '2,8s/^# //p' "$0"; exit 0 ;;
    *) printf 'gpu_check: unknown option %s\n' "$1" >&2; exit 64 ;;
  esac
  shift
done

carry=build-gpu/carry
archive=$carry/gpu.tar.xz
unpacked=build-gpu/unpacked
most_bytes=$((64 << 20))  # of carry and the tracked files together: what is sent to a lent machine
budget_s=${GPU_CHECK_SECONDS:-460}
left() { echo $((budget_s - SECONDS)); }

# ---- --prepare

# Programs, the libraries beside those of C and C++, and PTX for architectures that the GPU's own images are not of.
collect() {
  local stage=$1 program
  mkdir -p "$stage/bin" "$stage/lib" "$stage/gcc" "$stage/ptx"
  for program in build-gpu/kernels_cuda_* build-gpu/cuda_* build-gpu/bench_gpu build-gpu/inferd; do
    case "$program" in *_mutants | */kernels_cuda_driver | */kernels_cuda_pack | */cuda_tensor_parallel) continue ;; esac
    if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
    strip -o "$stage/bin/$(basename "$program")" "$program"
    ldd "$program" | awk '$3 ~ /^\// {print $3}' | grep -Ev '/(libc|libm|libpthread|libdl|librt|libcuda)\.so' |
      while read -r library; do
        case "$library" in
          */libstdc++.so.* | */libgcc_s.so.*) cp -Lu "$library" "$stage/gcc/" ;;
          *) [ -e "$stage/lib/$(basename "$library")" ] || strip -o "$stage/lib/$(basename "$library")" "$library" ;;
        esac
      done
  done
  cp build-gpu/cuda/*.ptx "$stage/ptx/"
}

tracked_bytes() { git ls-files -z --cached --others --exclude-standard | xargs -0 stat -Lc %s 2>/dev/null | awk '{n += $1} END {print n}'; }

prepare() {
  local stage=build-gpu/stage carried tracked
  mkdir -p build-gpu
  cmake --preset gpu >build-gpu/configure.log 2>&1 || { cat build-gpu/configure.log; die "configuring failed"; }
  cmake --build --preset gpu --target cuda_tests bench_gpu inferd
  rm -rf "$carry" "$stage" "$unpacked"
  collect "$stage"
  mkdir -p "$carry"
  tar -C "$stage" --sort=name --owner=0 --group=0 -cf - . | xz --lzma2=preset=6,dict=64MiB >"$archive"
  rm -rf "$stage"
  carried=$(stat -c %s "$archive")
  tracked=$(tracked_bytes)
  say "$((carried >> 20)) MiB in $carry, $((tracked >> 20)) MiB of tracked files"
  [ $((carried + tracked)) -le "$most_bytes" ] ||
    die "$carried bytes in $carry and $tracked of tracked files are more than $((most_bytes >> 20)) MiB"
}

# ---- the parts

# A GPU is there if the driver lists one.
gpu_there() { command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; }

add_library_path() { export LD_LIBRARY_PATH=$1${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; }

programs=build-dev
carried=0
# Where this machine's own libraries of C++ are too old, or missing, those of the build are used.
unpack() {
  [ -f "$archive" ] || return 0
  carried=1
  if [ ! -f "$unpacked/done" ] || [ "$archive" -nt "$unpacked/done" ]; then
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    tar -C "$unpacked" -xJf "$archive" 2>/dev/null || python3 -m tarfile -e "$archive" "$unpacked"
    touch "$unpacked/done"
  fi
  programs=$root/$unpacked/bin
  add_library_path "$root/$unpacked/lib"
  if ! "$programs/inferd" --version >/dev/null 2>&1; then
    add_library_path "$root/$unpacked/gcc"
    "$programs/inferd" --version >/dev/null || die "the programs of $archive do not start here (built with glibc $(glibc))"
  fi
  export INFERD_PTX_DIR=$root/$unpacked/ptx
}
glibc() { getconf GNU_LIBC_VERSION 2>/dev/null || echo "unknown here"; }

# The driver's library goes before the fake one that tests were linked to find, and cuBLASLt comes with PyTorch, in a
# folder of its own.
find_libraries() {
  local folder="" known
  if known=$(ldconfig -p 2>/dev/null) || known=$(/sbin/ldconfig -p 2>/dev/null); then
    folder=$(awk '$1 == "libcuda.so.1" && !found {sub("/[^/]*$", "", $NF); print $NF; found = 1}' <<<"$known")
  fi
  if [ -z "$folder" ]; then
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib ""; do [ ! -e "$folder/libcuda.so.1" ] || break; done
  fi
  if [ -n "$folder" ]; then export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; fi
  if ! folder=$(python3 -c 'import glob, site; print(*[p[: p.rindex("/")] for d in site.getsitepackages()
    for p in sorted(glob.glob(d + "/nvidia/*/lib/libcublasLt.so.1[23]"))][-1:])' 2>/dev/null); then folder=""; fi
  if [ -n "$folder" ]; then export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; fi
}

logs=""
failed=0
not_run=()
note() {
  say "$*"
  printf '%s\n' "$*" >>"$out/correctness.txt"
}

# attempt NAME MOST_SECONDS COMMAND...: runs it if there is time, notes its last words; its exit status.
attempt() {
  local name=$1 most=$2 have status=0
  shift 2
  have=$(left)
  if [ "$have" -lt 10 ]; then
    not_run+=("$name")
    return 0
  fi
  if [ "$have" -lt "$most" ]; then most=$have; fi
  timeout "$most" "$@" >"$logs/$name.log" 2>&1 || status=$?
  if [ $status = 124 ] && [ "$(left)" -lt 10 ]; then
    not_run+=("$name (begun)")
    status=0
  elif [ $status = 124 ]; then
    note "$name: cut off after $most s"
  elif [ $status = 0 ]; then
    note "$name: $(tail -n 2 "$logs/$name.log" | tr -d '\n')"
  fi
  return $status
}

# test_program PROGRAM NAME ARGUMENT...: one that has to pass.
test_program() {
  local program=$1 name=$2
  shift 2
  [ -x "$programs/$program" ] || return 0
  attempt "$name" 240 "$programs/$program" "$@" && return 0
  failed=1
  note "$name: FAILED, its log ends:"
  tail -n 40 "$logs/$name.log" | tee -a "$out/correctness.txt"
}

# Kernels that everything runs through come first.
kernel_programs() {
  local name
  for name in rows norm to_activation linear_mma linear_exact linear attention_mma attention qkv_post rope sample embedding; do
    [ ! -x "$programs/kernels_cuda_$name" ] || echo "kernels_cuda_$name"
  done
  for name in "$programs"/kernels_cuda_*; do
    name=$(basename "$name")
    case "$name" in
      *_mutants | *_driver | *_pack) ;;  # need no GPU
      *_rows | *_norm | *_to_activation | *_linear_mma | *_linear_exact | *_linear | *_attention_mma | *_qkv_post | *_rope | *_sample) ;;
      kernels_cuda_attention | kernels_cuda_embedding) ;;
      *) [ ! -x "$programs/$name" ] || echo "$name" ;;
    esac
  done
}

# Tests marked [fake] look at the fake driver itself, or need two GPUs.
model_tests() {
  local name
  for name in cuda_golden cuda_engine cuda_encoders cuda_blas cuda_memory cuda_tensor_parallel cuda_real; do
    if [ $name = cuda_real ] && [ ! -f models/SmolLM2-135M-Instruct.Q4_1.gguf ]; then
      note "cuda_real: skipped, its model is not in models/"
    elif [ $name = cuda_tensor_parallel ] && gpu_there; then
      note "cuda_tensor_parallel: skipped, it tests the fake GPUs"
    elif gpu_there; then
      test_program $name $name '~[fake]'
    elif [ $carried = 1 ]; then
      note "$name: skipped, no GPU, and the fake one was not carried here"
    else
      test_program $name $name
    fi
  done
}

sanitize() {
  local program tool
  command -v compute-sanitizer >/dev/null || { note "compute-sanitizer is not installed"; return 0; }
  for program in rows norm qkv_post to_activation attention linear sample; do
    [ -x "$programs/kernels_cuda_$program" ] || continue
    for tool in memcheck initcheck racecheck; do
      attempt "$tool-$program" 60 compute-sanitizer --tool $tool --error-exitcode 9 "$programs/kernels_cuda_$program" && continue
      grep -m 5 '=========' "$logs/$tool-$program.log" | tee -a "$out/correctness.txt" || note "$tool-$program: no finding in its log"
    done
  done
}

correctness() {
  local program own=""
  logs=$(mktemp -d)
  : >"$out/correctness.txt"
  if gpu_there; then
    find_libraries
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee -a "$out/correctness.txt"
    export INFERD_TEST_GPU=1
    own=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  else
    note "no GPU: kernels run on the PTX interpreter"
  fi
  # The GPU's own images; then models; then PTX of older architectures, which the driver compiles first.
  for program in $(kernel_programs); do INFERD_TEST_ARCH=$own test_program "$program" "$program"; done
  model_tests
  if gpu_there; then
    INFERD_TEST_ARCH=$own sanitize
    for program in $(kernel_programs); do INFERD_TEST_ARCH=-$own test_program "$program" "$program-older"; done
  fi
  if [ ${#not_run[@]} -gt 0 ]; then note "not run, the $budget_s s were over: ${not_run[*]}"; fi
  tar -C "$logs" -czf "$out/correctness-logs.tar.gz" .
  rm -rf "$logs"
  return $failed
}

# in_time WHAT SECONDS COMMAND...: being cut off is no failure. What did not end well is added to `remarks`.
remarks=()
in_time() {
  local what=$1 most=$2 status=0
  shift 2
  timeout "$most" "$@" || status=$?
  case $status in
    0) ;;
    124) remarks+=("$what: cut off after $most s") ;;
    *) remarks+=("$what: FAILED with $status"); failed=1 ;;
  esac
}

has_torch() { python3 -c 'import torch, transformers, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }

bench() {
  if ! gpu_there; then
    say "no GPU: benchmarks are skipped"
    return 0
  fi
  find_libraries
  in_time bench_gpu $(($(left) * 2 / 3)) "$programs/bench_gpu" >"$out/bench.json"
  if has_torch; then
    in_time gpu_peers "$(left)" python3 scripts/gpu_peers.py >"$out/peers.json"
  else
    : >"$out/peers.json"
    remarks+=("no PyTorch that finds the GPU: nothing to compare with")
  fi
  python3 scripts/gpu_report.py "$out/bench.json" "$out/peers.json" ${remarks[@]+"${remarks[@]}"} | tee "$out/measured.md"
  return $failed
}

e2e() {
  if ! gpu_there; then
    say "no GPU: whole models beside transformers are skipped"
    return 0
  fi
  find_libraries
  has_torch || die "whole models are compared with PyTorch and transformers: python3 has none that finds the GPU"
  {
    INFERD_BIN=${INFERD_BIN:-$programs/inferd} in_time gpu_e2e "$(left)" python3 scripts/gpu_e2e.py --out "$out" 0.5B 7B
    if [ ${#remarks[@]} -gt 0 ]; then printf '%s\n' "${remarks[@]}"; fi
    exit "$failed"
  } | tee "$out/e2e.md"
}

case "$part" in
  prepare) prepare ;;
  correctness | bench | e2e)
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    unpack
    "$part"
    ;;
  *) printf 'gpu_check: expected --prepare or --part correctness|bench|e2e\n' >&2; exit 64 ;;
esac
