#!/usr/bin/env bash
# Builds one of the clients that come as Go modules and prints where it is: go_client.sh NAME. Done once: the result is kept below
# ${XDG_CACHE_HOME:-~/.cache}/gantry. Needs a Go toolchain and a module proxy, and about a minute the first time; when one of them is
# missing, standard error says so in one line, after what Go said.
set -euo pipefail

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

name=${1:-}
case $name in
  ctr) version=v2.4.2 package=github.com/containerd/containerd/v2/cmd/ctr ;;
  nerdctl) version=v1.7.7 package=github.com/containerd/nerdctl/cmd/nerdctl ;;
  buildkitd | buildctl) version=v0.26.3 package=github.com/moby/buildkit/cmd/$name ;;
  # Kubernetes' suite for CRI is a test program; ginkgo runs it as several processes.
  critest | crictl) version=v1.37.0 package=sigs.k8s.io/cri-tools/cmd/$name ;;
  ginkgo) version=v2.32.1 package=github.com/onsi/ginkgo/v2/ginkgo ;;
  docker-compose) version=v2.40.3 package=github.com/docker/compose/v2/cmd ;;
  buildx) version=v0.29.1 package=github.com/docker/buildx/cmd/buildx ;;
  # docker 29's daemon, and a runc that knows what it writes; Debian's does not.
  dockerd) version=v2.0.0-beta.24 package=github.com/moby/moby/v2/cmd/dockerd ;;
  runc) version=v1.3.3 package=github.com/opencontainers/runc ;;
  *) fail "go_client.sh: ctr, nerdctl, buildkitd, buildctl, critest, crictl, ginkgo, docker-compose, buildx, dockerd or runc, not \"$name\"" ;;
esac
needs_go=1.26
limit=300        # seconds, for a network that swallows packets
build_limit=1200 # seconds; the largest takes a minute, or many on a machine that builds something else
kept=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/$name-$version
if [ -x "$kept/$name" ]; then
  echo "$kept/$name"
  exit 0
fi

go=$(command -v go || true)
if [ -z "$go" ] && [ -x /usr/local/go/bin/go ]; then go=/usr/local/go/bin/go; fi
if [ -z "$go" ]; then fail "no Go toolchain: put one of $needs_go or later in PATH"; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$go" mod init scratch > /dev/null 2>&1
get=("$go" get) build=("$go" build)
# It says its version to compose, which asks for one.
if [ "$name" = buildx ]; then build+=(-ldflags "-X github.com/docker/buildx/version.Version=$version"); fi
if [ "$name" = critest ]; then get+=(-t) build=("$go" test -c); fi
if ! timeout "$limit" "${get[@]}" "$package@$version" > go.log 2>&1; then
  tail -n 20 go.log >&2
  fail "$package $version does not come with $("$go" version); Go $needs_go and a module proxy (GOPROXY) are needed"
fi
# runc enters namespaces in C.
cgo=0
if [ "$name" = runc ]; then cgo=1 build+=(-tags seccomp); fi
if ! CGO_ENABLED=$cgo timeout "$build_limit" "${build[@]}" -o "$name" "$package" > go.log 2>&1; then
  tail -n 20 go.log >&2
  fail "$package $version does not build with $("$go" version)"
fi
mkdir -p "$kept"
mv "$name" "$kept/$name.new"
mv "$kept/$name.new" "$kept/$name"
echo "$kept/$name"
