#!/usr/bin/env bash
# Builds a current ctr from containerd's Go module and prints where it is. Done once: the result is kept below
# ${XDG_CACHE_HOME:-~/.cache}/gantry. Needs a Go toolchain and a module proxy; says which of them is missing.
set -euo pipefail

version=v2.4.2
kept=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/ctr-$version
if [ -x "$kept/ctr" ]; then
  echo "$kept/ctr"
  exit 0
fi
go=$(command -v go || true)
if [ -z "$go" ] && [ -x /usr/local/go/bin/go ]; then go=/usr/local/go/bin/go; fi
if [ -z "$go" ]; then
  echo "ctr2.sh: no Go toolchain: install one, or put go in PATH" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$go" mod init scratch > /dev/null 2>&1
if ! "$go" get "github.com/containerd/containerd/v2/cmd/ctr@$version" > get.log 2>&1 ||
  ! CGO_ENABLED=0 "$go" build -o ctr github.com/containerd/containerd/v2/cmd/ctr > build.log 2>&1; then
  echo "ctr2.sh: containerd $version does not come or build ($("$go" version)):" >&2
  tail -n 20 ./*.log >&2
  exit 1
fi
mkdir -p "$kept"
mv ctr "$kept/ctr.new"
mv "$kept/ctr.new" "$kept/ctr"
echo "$kept/ctr"
