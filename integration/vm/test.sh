#!/usr/bin/env bash
# ./dev vm test: Gantry on a real host of users: Debian 12 with systemd and cgroup v2, in a virtual machine.
#
#   test.sh [--timeout SECONDS] [lifecycle|package|cri]
#
# Stages, each on a fresh host: the lifecycle of containers, the package from its installation to its purge, and, where Go can build the clients, what Kubernetes' suite for CRI needs another kernel for. Prints one line per behaviour, as soon as it was tried, and "N passed, N failed" last. The environment is in common.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

timeout=3600
stages=(lifecycle package cri)
while [ $# -gt 0 ]; do
  case $1 in
    --timeout) timeout=${2:?seconds} && shift 2 ;;
    lifecycle | package | cri) stages=("$1") && shift ;;
    *) die "unknown option $1" ;;
  esac
done

base=$(base_disk)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_payload "$work/payload"
cp "$here/guest-test.sh" "$here/guest-package.sh" "$work/payload/"
case " ${stages[*]} " in
  *" package "*)
    # The second is an upgrade of the first, with the same programs.
    for version in 0.9.0 0.9.1; do
      GANTRY_PACKAGE_VERSION=$version GANTRY_PACKAGE_COMPRESSION=gzip "$root/packaging/build_deb.sh" "$bin" "$work/packages" > "$work/made"
    done
    cp "$work"/packages/gantry_*.deb "$work/payload/"
    ;;
esac
case " ${stages[*]} " in
  *" cri "*)
    critest=$("$root/integration/go_client.sh" critest) && crictl=$("$root/integration/go_client.sh" crictl) || die "cri: no critest and crictl"
    cp "$critest" "$crictl" "$here/guest-cri.sh" "$work/payload/"
    cp -r "$root/integration/cri" "$work/payload/cri"
    g++ -std=c++20 -O1 -static -o "$work/payload/stand_ins" "$root/integration/cri/stand_ins.cc"
    ;;
esac

# run_stage SCRIPT. The machine's output is printed in the end only. Until then its console, a file among the tool's own, tells how far
# it is.
run_stage() {
  local console printed=0 status=0 machine
  rm -rf "$work/tmp" && mkdir "$work/tmp"
  TMPDIR=$work/tmp "$vmhost" run "$base" "$work/payload" --timeout "$timeout" -- bash "./$1" > "$work/output" &
  machine=$!
  until console=$(compgen -G "$work/tmp/*/console") || ! kill -0 "$machine" 2> /dev/null; do sleep 0.2; done
  : > "$work/printed"
  if [ -n "$console" ]; then
    tail -n +1 -f --pid="$machine" "$console" |
      sed -u -n '/VMHOST-BEGIN/,/VMHOST-EXIT/{//d; s/\r//g; p}' | tee "$work/printed"
  fi
  if [ -s "$work/printed" ]; then printed=1; fi
  wait "$machine" || status=$?
  # What the tool has to say of a machine that never got so far, or ran out of time (124).
  if [ "$printed" = 0 ] || [ "$status" = 124 ]; then cat "$work/output"; fi
  return "$status"
}

failed=0
for stage in "${stages[@]}"; do
  say "== $stage"
  case $stage in
    lifecycle) run_stage guest-test.sh || failed=1 ;;
    package) run_stage guest-package.sh || failed=1 ;;
    cri) run_stage guest-cri.sh || failed=1 ;;
  esac
done
exit "$failed"
