#!/usr/bin/env bash
# Builds Kubernetes' programs, which come as Go modules, and prints the directory they are in. Done once: they are kept below
# ${XDG_CACHE_HOME:-~/.cache}/gantry. Needs a Go toolchain and a module proxy. The first time takes 15 to 30 minutes on two cores and 5 GB in Go's
# caches.
set -euo pipefail

version=1.37.2 # of Kubernetes; needs at least the Go that its go.mod names
programs=(kubectl kubelet kube-proxy kube-apiserver kube-controller-manager kube-scheduler)

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

kept=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/kubernetes-$version
missing=()
for program in "${programs[@]}"; do
  if [ ! -x "$kept/$program" ]; then missing+=("$program"); fi
done
if [ ${#missing[@]} = 0 ]; then
  echo "$kept"
  exit 0
fi

go=$(command -v go || true)
if [ -z "$go" ] && [ -x /usr/local/go/bin/go ]; then go=/usr/local/go/bin/go; fi
if [ -z "$go" ]; then fail "no Go toolchain: put one of 1.26 or later in PATH"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
if ! "$go" mod download -json "k8s.io/kubernetes@v$version" > module.json 2> go.log; then
  sed -n 's/^\t"Error": //p' module.json >&2
  tail -n 20 go.log >&2
  fail "Kubernetes $version does not come with $("$go" version); a module proxy (GOPROXY) is needed"
fi
source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' module.json)

# Kubernetes takes the libraries that are developed with it from directories beside it, which its module does not contain. Each is also published as a
# module of its own, v0.MINOR.PATCH.
{
  printf 'module scratch\n\n'
  sed -n '/^go /p; /^godebug /p' "$source/go.mod"
  printf 'require k8s.io/kubernetes v%s\n' "$version"
  sed -nE "s|^\t(k8s\.io/[a-z-]+) => \./staging/.*|replace \1 => \1 v0.${version#1.}|p" "$source/go.mod"
} > go.mod
cp "$source/go.sum" go.sum
{
  printf '//go:build scratch\n\npackage scratch\n\nimport (\n'
  printf '\t_ "k8s.io/kubernetes/cmd/%s"\n' "${programs[@]}"
  printf ')\n'
} > programs.go
if ! "$go" mod tidy > go.log 2>&1; then
  tail -n 20 go.log >&2
  fail "the modules of Kubernetes $version do not come with $("$go" version); a module proxy (GOPROXY) is needed"
fi

# What `kubectl version` and the nodes say.
stamp=k8s.io/component-base/version
minor=${version#*.}
mkdir -p "$kept"
for program in "${missing[@]}"; do
  echo "building $program $version" >&2
  if ! CGO_ENABLED=0 nice -n 10 "$go" build -trimpath -o "$program" \
    -ldflags "-s -w -X $stamp.gitVersion=v$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%.*}" \
    "k8s.io/kubernetes/cmd/$program" > go.log 2>&1; then
    tail -n 20 go.log >&2
    fail "$program $version does not build with $("$go" version)"
  fi
  mv "$program" "$kept/$program.new"
  mv "$kept/$program.new" "$kept/$program"
done
echo "$kept"
