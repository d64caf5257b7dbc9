#!/usr/bin/env bash
# The guest's side of `./dev vm powercut`. Looks at what the last cut left, then takes images in, and makes and fills volumes, until the
# power goes.
#
#   guest-powercut.sh fill               make the registry's contents, into out/registry
#   guest-powercut.sh cycle PRESENT ABSENT UNFINISHED
#   guest-powercut.sh last PRESENT ABSENT UNFINISHED
#
# PRESENT, ABSENT and UNFINISHED are comma-separated names that were reported taken in, or removed, before the cut, or whose taking in
# was begun and not reported ended. Reports to the host's side in lines of the console, which a power cut cannot undo. Each ends
# in " ;", so that the host can tell a whole line from one that the cut ended early (record.sh):
#   taking NAME, taken NAME, removing NAME, removed NAME    before and after each
#   checked N images, S s         every listed image and volume is intact, S seconds after the start
#   resumed NAME                  an image whose transfer was interrupted is complete now
#   filled, emptied               the end of `fill` and of `last`
#   broken WHAT                   a check failed
set -uo pipefail
. ./guest.sh

report() { echo "$* ;"; }

fail() {
  report "broken $*"
  tail -25 /run/step.out | sed 's/^/    /'
  journalctl --no-pager -b -u gantry | tail -25 | sed 's/^/    /'
  exit 1
}
# The image's own list of digests is looked at from inside: what was unpacked, not only what was stored.
readonly look='cd /data && sha256sum -c SUMS > /tmp/sums && grep -c OK /tmp/sums'

start_registry() {
  cat > /run/registry.yml <<CONFIG
version: 0.1
log: {level: error}
storage:
  filesystem: {rootdirectory: $1}
http: {addr: "127.0.0.1:5055"}
CONFIG
  docker-registry serve /run/registry.yml > /run/registry.log 2>&1 &
  eventually 60 bash -c 'exec 3<> /dev/tcp/127.0.0.1/5055' || {
    cp /run/registry.log /run/step.out
    fail "the registry does not start"
  }
}

listed() { ctl images --format '{{.Repository}}:{{.Tag}}' && ctl volume ls --format 'volume:{{.Name}}'; }

# A volume is empty, unless it is known to have been filled, or has all that the image has.
check_volume() {
  local name=$1 filled=${2:-} at got
  at=$(ctl volume inspect --format '{{.Mountpoint}}' "${name#volume:}" 2> /run/step.out) || fail "$name cannot be inspected"
  if [ -z "$(ls -A "$at")" ]; then
    [ -z "$filled" ] || fail "$name was filled before the cut and is empty"
    return
  fi
  got=$(cd "$at" && sha256sum -c SUMS 2> /run/step.out | grep -c ': OK$')
  [ "$got" = "$(cat images/files)" ] || fail "$name has $got whole files, not $(cat images/files)"
}

# What is listed verifies, and what was unpacked is what was packed.
check_one() {
  local name=$1 got
  if [[ $name == volume:* ]]; then
    check_volume "$name"
    return
  fi
  ctl image verify "$name" > /run/step.out 2>&1 || fail "$name does not verify"
  got=$(ctl run --rm --network none "$name" sh -c "$look" 2> /run/step.out < /dev/null) || fail "$name does not run (\"$got\")"
  [ "$got" = "$(cat images/files)" ] || fail "$name has $got whole files, not $(cat images/files)"
}

check_all() {
  local name
  listed > /run/listed 2> /run/step.out || fail "images cannot be listed"
  for name in ${1//,/ }; do
    cp /run/listed /run/step.out
    grep -qxF "$name" /run/listed || fail "$name was taken in before the cut and is gone"
    if [[ $name == volume:* ]]; then check_volume "$name" filled; fi
  done
  for name in ${2//,/ }; do
    cp /run/listed /run/step.out
    if grep -qxF "$name" /run/listed; then fail "$name was removed before the cut and is back"; fi
  done
  while read -r name; do check_one "$name"; done < /run/listed
  [ -z "$(ctl ps -aq)" ] || {
    ctl ps -a > /run/step.out
    fail "containers of before the cut are left"
  }
  report "checked $(wc -l < /run/listed) images, $SECONDS s"
}

# What the cut left half done goes on.
resume() {
  local name
  for name in ${1//,/ }; do
    grep -qxF "$name" /run/listed && continue
    take "$name"
    check_one "$name"
    report "resumed $name"
  done
}

take() {
  local name=$1
  report "taking $name"
  case $name in
    # One that removes itself leaves the volume, and its content, behind.
    volume:*)
      { ctl volume create "${name#volume:}" &&
        ctl run --rm --network none -v "${name#volume:}:/data" filler:vm true < /dev/null; } > /run/step.out 2>&1 ||
        fail "$name cannot be made"
      ;;
    "$registry"/*) ctl pull -q "$name" > /run/step.out 2>&1 || fail "$name cannot be pulled" ;;
    *) ctl load -q -i "images/${name%:*}.tar" > /run/step.out 2>&1 || fail "$name cannot be loaded" ;;
  esac
  report "taken $name"
}
drop() {
  report "removing $1"
  case $1 in
    volume:*) ctl volume rm "${1#volume:}" > /run/step.out 2>&1 || fail "$1 cannot be removed" ;;
    *) ctl rmi "$1" > /run/step.out 2>&1 || fail "$1 cannot be removed" ;;
  esac
  report "removed $1"
}

registry=localhost:5055
names=("$registry/one:vm" "$registry/two:vm" "$registry/three:vm" one:vm volume:first volume:second)

install_gantry
start_gantry > /run/step.out 2>&1 || fail "the daemon does not start"

case $1 in
  fill)
    mkdir -p out/registry
    start_registry "$PWD/out/registry"
    for name in one two three; do
      ctl load -q -i "images/$name.tar" > /run/step.out 2>&1 || fail "$name cannot be loaded"
      ctl tag "$name:vm" "$registry/$name:vm" > /run/step.out 2>&1 || fail "$name cannot be tagged"
      ctl push -q "$registry/$name:vm" > /run/step.out 2>&1 || fail "$name cannot be pushed"
      ctl rmi "$name:vm" "$registry/$name:vm" > /run/step.out 2>&1 || fail "$name cannot be removed"
    done
    # Volumes are filled from it; it stays.
    ctl load -q -i images/filler.tar > /run/step.out 2>&1 || fail "filler cannot be loaded"
    ctl gc > /run/step.out 2>&1 || fail "gc"
    systemctl stop gantry
    report "filled"
    ;;
  cycle)
    start_registry "$PWD/registry"
    check_all "$2" "$3"
    resume "$4"
    while true; do
      for name in $(shuf -e "${names[@]}"); do
        # What is there is taken away first, most of the time with its blobs and snapshots.
        listed > /run/now 2> /run/step.out || fail "images cannot be listed"
        if grep -qxF "$name" /run/now; then
          drop "$name"
          [ $((RANDOM % 3)) = 0 ] || ctl gc > /run/step.out 2>&1 || fail "gc"
        fi
        take "$name"
      done
    done
    ;;
  last)
    start_registry "$PWD/registry"
    check_all "$2" "$3"
    resume "$4"
    # Everything that was interrupted goes on, and in the end all of it can be removed.
    for name in "${names[@]}"; do take "$name"; done
    check_all "" ""
    for name in "${names[@]}" filler:vm; do drop "$name"; done
    ctl gc > /run/step.out 2>&1 || fail "gc"
    find /var/lib/gantry/content/blobs -type f > /run/step.out
    [ ! -s /run/step.out ] || fail "blobs that nothing refers to are left"
    find /var/lib/gantry/snapshots -mindepth 3 -maxdepth 3 > /run/step.out
    [ ! -s /run/step.out ] || fail "snapshots that nothing refers to are left"
    systemctl stop gantry
    report "emptied"
    ;;
esac
