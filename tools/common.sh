# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts of this folder; sourced by bash. Enters the repository's root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
SECONDS=0

# "==> [  12 s] text": a progress line.
say() { printf '==> [%4d s] %s\n' "$SECONDS" "$*"; }
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}
# The comment at the top of a script is its help.
usage() { sed -n '/^# SPDX/d; /^#!/d; /^#/!q; s/^# \{0,1\}//p' "$0"; }

# Compiler processes at a time: one per core, but no more than memory carries (about 1.5 GiB each).
build_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable:/ {print int($2 / 1536 / 1024)}' /proc/meminfo 2>/dev/null) || memory=$cores
  if [ "${memory:-0}" -lt 1 ]; then memory=1; fi
  if [ "$memory" -lt "$cores" ]; then echo "$memory"; else echo "$cores"; fi
}

# build PRESET: configures and builds build/PRESET.
build() {
  say "configuring build/$1"
  cmake --preset "$1"
  say "building build/$1"
  cmake --build --preset "$1" -j "$(build_jobs)"
}
