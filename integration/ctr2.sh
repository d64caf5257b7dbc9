#!/usr/bin/env bash
# Builds a current ctr from containerd's Go module and prints where it is. Done once: the result is kept below
# ${XDG_CACHE_HOME:-~/.cache}/gantry. Needs a Go toolchain and a module proxy, and about a minute the first time; when one of them is
# missing, standard error says so in one line, after what Go said.
set -euo pipefail

version=v2.4.2
needs_go=1.26
limit=300 # seconds, for a network that swallows packets
kept=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/ctr-$version
if [ -x "$kept/ctr" ]; then
  echo "$kept/ctr"
  exit 0
fi

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

go=$(command -v go || true)
if [ -z "$go" ] && [ -x /usr/local/go/bin/go ]; then go=/usr/local/go/bin/go; fi
if [ -z "$go" ]; then fail "no Go toolchain: put one of $needs_go or later in PATH"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$go" mod init scratch > /dev/null 2>&1
if ! timeout "$limit" "$go" get "github.com/containerd/containerd/v2/cmd/ctr@$version" > go.log 2>&1; then
  tail -n 20 go.log >&2
  fail "containerd's module $version does not come with $("$go" version); it wants Go $needs_go and a module proxy (GOPROXY)"
fi
if ! CGO_ENABLED=0 timeout "$limit" "$go" build -o ctr github.com/containerd/containerd/v2/cmd/ctr > go.log 2>&1; then
  tail -n 20 go.log >&2
  fail "containerd's module $version does not build with $("$go" version)"
fi
mkdir -p "$kept"
mv ctr "$kept/ctr.new"
mv "$kept/ctr.new" "$kept/ctr"
echo "$kept/ctr"
