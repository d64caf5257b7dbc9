#!/usr/bin/env bash
# ./dev vm test: Gantry on a real host of users: Debian 12 with systemd and cgroup v2, in a virtual machine.
#
#   test.sh [--timeout SECONDS]
#
# Prints one line per behaviour, and "N passed, N failed" last. The environment is in common.sh.
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
"$vmhost" run "$base" "$work/payload" --timeout "$timeout" -- bash ./guest-test.sh
