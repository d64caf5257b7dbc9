#!/usr/bin/env bash
# ./dev vm test: Gantry on a real host of users: Debian 12 with systemd and cgroup v2, in a virtual machine.
#
#   test.sh [--timeout SECONDS]
#
# Prints one line per behaviour, as soon as it was tried, and "N passed, N failed" last. The environment is in common.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

timeout=3600
while [ $# -gt 0 ]; do
  case $1 in
    --timeout) timeout=${2:?seconds} && shift 2 ;;
    *) die "unknown option $1" ;;
  esac
done

base=$(base_disk)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make_payload "$work/payload"
cp "$here/guest-test.sh" "$work/payload/"

# The machine's output is printed in the end only. Until then its console, a file among the tool's own, tells how far it is.
mkdir "$work/tmp"
TMPDIR=$work/tmp "$vmhost" run "$base" "$work/payload" --timeout "$timeout" -- bash ./guest-test.sh > "$work/output" &
machine=$!
until console=$(compgen -G "$work/tmp/*/console") || ! kill -0 "$machine" 2> /dev/null; do sleep 0.2; done
if [ -n "$console" ]; then
  tail -n +1 -f --pid="$machine" "$console" |
    sed -u -n '/VMHOST-BEGIN/,/VMHOST-EXIT/{//d; s/\r//g; p}' | tee "$work/printed"
fi
printed=0
if [ -s "$work/printed" ]; then printed=1; fi
status=0
wait "$machine" || status=$?
# What the tool has to say of a machine that never got so far, or ran out of time (124).
if [ "$printed" = 0 ] || [ "$status" = 124 ]; then cat "$work/output"; fi
exit "$status"
