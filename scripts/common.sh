# Shared by scripts/{setup,run,test}: messages, the repository root, the one-line failure.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
me=$(basename "$0")

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() {
  printf '%s: error: %s\n' "$me" "$*" >&2
  exit 1
}

# need_disk MIB PATH: fails with one line when PATH's file system has less room.
need_disk() {
  local have
  have=$(df -Pm "$2" | awk 'NR == 2 {print $4}')
  [ "$have" -ge "$1" ] || die "not enough disk space in $2: needs $1 MiB, has $have MiB"
}
