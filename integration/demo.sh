#!/usr/bin/env bash
# ./dev demo: Gantry on real images, from nothing. Starts a private daemon under a temporary root, makes two images out of what
# Debian has (busybox-static and a debootstrap root), runs containers, kills the daemon under them, and removes everything again.
#
# Environment: GANTRY_BIN, the directory of the built programs (out/bin); GANTRY_DEMO_SMALL=1 leaves the Debian image out.
set -euo pipefail

bin=${GANTRY_BIN:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/out/bin}
work=$(mktemp -d /tmp/gantry-demo.XXXXXX)
export GANTRY_ADDRESS=$work/gantry.sock
daemon=""

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
step() { printf '\n$ %s\n' "ctl $*"; "$bin/ctl/ctl" "$@"; }
ctl() { "$bin/ctl/ctl" "$@"; }

start_daemon() {
  "$bin/supervisor/gantryd" --root "$work/root" --state "$work/state" --address "$GANTRY_ADDRESS" \
    --shim "$bin/shim/gantry-shim" --default-network none 2>> "$work/gantryd.log" &
  daemon=$!
  for _ in $(seq 200); do
    if ctl version > "$work/version" 2>&1; then return; fi
    if ! kill -0 "$daemon" 2> "$work/err"; then break; fi
    read -rt 0.05 < "$work/tick" || true
  done
  cat "$work/gantryd.log" >&2
  echo "demo: the daemon does not answer" >&2
  exit 1
}

cleanup() {
  local status=$?
  trap - EXIT
  if [ -n "$daemon" ] && kill -0 "$daemon" 2> "$work/err"; then
    for id in $(ctl ps -aq 2> "$work/err" || true); do ctl rm -f "$id" > "$work/out" 2>&1 || cat "$work/out" >&2; done
    kill "$daemon" && wait "$daemon" || true
  fi
  if mountpoint -q "$work/state/tasks"; then umount "$work/state/tasks"; fi
  if [ "$status" != 0 ]; then
    echo "demo: failed; the daemon's last words:" >&2
    tail -20 "$work/gantryd.log" >&2 || true
  fi
  rm -rf --one-file-system "$work"
  exit "$status"
}
trap cleanup EXIT
# What `read -t` waits at: it is never written to.
mkfifo "$work/tick"
exec 9<> "$work/tick"

say "1. A private daemon"
start_daemon
step version

say "2. An image from busybox-static"
mkdir -p "$work/busybox/bin" "$work/busybox/etc" "$work/busybox/tmp"
cp "$(command -v busybox)" "$work/busybox/bin/busybox"
for applet in $("$work/busybox/bin/busybox" --list); do
  if [ ! -e "$work/busybox/bin/$applet" ]; then ln -s busybox "$work/busybox/bin/$applet"; fi
done
echo 'root:x:0:0:root:/:/bin/sh' > "$work/busybox/etc/passwd"
echo 'root:x:0:' > "$work/busybox/etc/group"
tar -C "$work/busybox" -cf "$work/busybox.tar" .
step import "$work/busybox.tar" busybox:demo
step images

say "3. Containers run, print, and end with their codes"
step run --rm busybox:demo echo "hello from a container"
printf '\n$ ctl run --rm busybox:demo sh -c "exit 42"; echo $?\n'
code=0
ctl run --rm busybox:demo sh -c "exit 42" || code=$?
echo "$code"
[ "$code" = 42 ]
step run --rm busybox:demo sh -c 'echo "pid $$ on $(hostname), $(grep -c . /proc/mounts) mounts"'

say "4. In the background: exec, logs, limits, numbers"
step run -d --name ticker -m 64m busybox:demo sh -c 'i=0; while true; do echo "tick $i"; i=$((i+1)); sleep 0.2; done'
step exec ticker sh -c 'echo "exec sees $(ps | grep -c tick) ticking"'
step ps
step top ticker
step stats --no-stream ticker

say "5. The daemon is killed; the container does not notice, and no line of its log is lost"
kill -9 "$daemon"
wait "$daemon" 2> "$work/err" || true
read -rt 1 < "$work/tick" || true
start_daemon
step ps
step logs --tail 3 ticker
lines=$(ctl logs ticker | awk '$2 != n++ { bad = 1 } END { if (bad) exit 1; print n }')
echo "$lines lines, numbered without a gap"
step stop -t 1 ticker
step ps -a
step rm ticker

if [ "${GANTRY_DEMO_SMALL:-}" != 1 ]; then
  say "6. Debian itself, made by debootstrap"
  mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { print $2; exit }' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> "$work/err" | head -1)
  debootstrap --variant=minbase bookworm "$work/debian" "${mirror:?no Debian mirror configured}" > "$work/debootstrap.log" 2>&1 \
    || { tail -5 "$work/debootstrap.log" >&2; exit 1; }
  tar -C "$work/debian" --xattrs --xattrs-include='*' -cf "$work/debian.tar" .
  rm -rf --one-file-system "$work/debian"
  step import "$work/debian.tar" debian:12
  step run --rm debian:12 sh -c '. /etc/os-release; echo "$PRETTY_NAME, $(dpkg -l | grep -c ^ii) packages, kernel $(uname -r)"'
  step run --rm debian:12 perl -e 'print "perl $^V works\n"'
fi

say "7. Where the disk went, and nothing left behind"
step system df
step ps -a
[ -z "$(ctl ps -aq)" ]
if compgen -G "$work/state/tasks/*/*" > "$work/out"; then
  echo "demo: bundles were left behind:" >&2
  cat "$work/out" >&2
  exit 1
fi

say "Done. What to try next"
cat <<END
  Start a daemon of your own:   $bin/supervisor/gantryd &
  A shell in a container:       tar -C ROOT -c . | $bin/ctl/ctl import - mine; $bin/ctl/ctl run -it --rm mine sh
  Other people's clients:       ctr --address /run/gantry/gantry.sock images ls
  Everything else:              $bin/ctl/ctl --help
END
