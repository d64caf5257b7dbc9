#!/usr/bin/env bash
# Writes the parts of docs/user/ that are made from the code; tests fail when they are stale.
#
#   make_reference.sh [BIN]    BIN: the directory of the built programs (out/bin)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${1:-$root/out/bin}

# replace PAGE: what follows the line "<!-- made from the code: ... -->" up to the end is standard input now.
replace() {
  local made
  made=$(mktemp)
  sed '/^<!-- made from the code/q' "$1" > "$made"
  { echo && cat; } >> "$made"
  cat "$made" > "$1"
  rm -f "$made"
}

"$bin/supervisor/gantryd" config reference | replace "$root/docs/user/configuration.md"
"$root/packaging/api_reference.py" | replace "$root/docs/user/api.md"
