#!/usr/bin/env bash
# ./dev vm powercut: the power goes while images are taken in and volumes are made, filled and removed. After each boot every listed image
# must verify and run, a volume must have all of its content or none, what was reported loaded must be there, what was reported removed
# must not, and what was interrupted must go on.
#
#   powercut.sh [--cuts N] [--seed N]
#
# 20 cuts unless told otherwise, at random moments of `ctl pull` (from a registry in the guest), `ctl load`, `ctl rmi`, `ctl gc`,
# `ctl volume create`, `ctl run -v`, `ctl volume rm` and of what follows them. The disk is kept from boot to boot. A line per cut says
# what was found after it and what went on when the power went the next time; the last line is "N passed, N failed". The environment is
# in common.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$here/record.sh"

cuts=20 seed=$RANDOM
while [ $# -gt 0 ]; do
  case $1 in
    --cuts) cuts=${2:?number} && shift 2 ;;
    --seed) seed=${2:?number} && shift 2 ;;
    *) die "unknown option $1" ;;
  esac
done
RANDOM=$seed
say "seed $seed"

base=$(base_disk)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
payload=$work/payload

# Writes $payload/images/NAME.tar, what `docker save` writes: a layer that all share, and two with files of its own.
make_image() {
  local name=$1 layer ids=() files=()
  local dir=$work/image-$name
  mkdir -p "$dir" "$payload/images"
  local number=0
  for layer in "$work/shared" "$work/$name-a" "$work/$name-b"; do
    number=$((number + 1))
    tar -C "$layer" --sort=name --mtime=@1700000000 --owner=0 --group=0 -cf "$dir/layer$number.tar" .
    ids+=("\"sha256:$(sha256sum < "$dir/layer$number.tar" | cut -d' ' -f1)\"")
    # A compressed one among plain ones.
    if [ "$number" = 2 ]; then gzip -n1 "$dir/layer$number.tar" && mv "$dir/layer$number.tar.gz" "$dir/layer$number.tar"; fi
    files+=("\"layer$number.tar\"")
  done
  local IFS=,
  printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "${ids[*]}" > "$dir/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s:vm"],"Layers":[%s]}]' "$name" "${files[*]}" > "$dir/manifest.json"
  unset IFS
  tar -C "$dir" -cf "$payload/images/$name.tar" manifest.json config.json layer1.tar layer2.tar layer3.tar
}

# A layer of files: large ones, small ones, in directories.
make_files() {
  local i
  mkdir -p "$1/data/$2"
  head -c 2000000 /dev/urandom > "$1/data/$2/large"
  for i in $(seq 40); do
    mkdir -p "$1/data/$2/$((i % 5))"
    head -c $((i * 200)) /dev/urandom > "$1/data/$2/$((i % 5))/small$i"
  done
}

make_payload "$payload"
cp "$here/guest-powercut.sh" "$payload/"
mkdir -p "$work/shared"/{bin,etc,tmp,proc,sys,dev}
cp "$(command -v busybox)" "$work/shared/bin/busybox"
for applet in sh sha256sum grep cat ls true; do ln -s busybox "$work/shared/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' > "$work/shared/etc/passwd"
for name in one two three filler; do
  make_files "$work/$name-a" a
  make_files "$work/$name-b" b
  (cd "$work/$name-a/data" && find a -type f -exec sha256sum {} +) > "$work/sums"
  (cd "$work/$name-b/data" && find b -type f -exec sha256sum {} +) >> "$work/sums"
  cp "$work/sums" "$work/$name-b/data/SUMS"
  make_image "$name"
done
wc -l < "$work/sums" > "$payload/images/files"

# boot LOG OPTIONS... -- ARGUMENTS of the guest's script
boot() {
  local log=$1 status=0
  shift
  local options=()
  while [ "$1" != -- ]; do options+=("$1") && shift; done
  shift
  "$vmhost" run "$base" "$payload" --disk "$work/disk.qcow2" --memory 2048 "${options[@]}" -- \
    bash ./guest-powercut.sh "$@" > "$log.console" 2>&1 || status=$?
  whole_records < "$log.console" > "$log"
  return "$status"
}

say "filling the registry"
boot "$work/fill" --timeout 1200 --collect "$work/out" -- fill || {
  cat "$work/fill.console" >&2
  die "the first boot failed"
}
registry=$(find "$work/out" -maxdepth 3 -type d -name registry | head -1)
[ -n "$registry" ] || die "the first boot left no registry"
mv "$registry" "$payload/registry"
# They are on the disk now; without them each boot is quicker.
rm -r "$payload/bin"

# The last record of each name says whether it must be listed. After "taking" or "removing" both are right.
declare -A last=()
follow() {
  local word name
  while read -r word name _; do
    case $word in
      taking | taken | removing | removed) last[$name]=$word ;;
    esac
  done < "$1"
}
those() {
  local name list=()
  for name in "${!last[@]}"; do
    if [ "${last[$name]}" = "$1" ]; then list+=("$name"); fi
  done
  local IFS=,
  printf '%s' "${list[*]}"
}
state_arguments() { arguments=("$(those taken)" "$(those removed)" "$(those taking)"); }

# What was going on when the power went, by the last word.
moment() {
  local word name kind=pull
  read -r word name _ < <(grep -E '^(taking|taken|removing|removed|checked) ' "$1" | tail -1)
  case $name in */*) ;; volume:*) kind="volume's making" ;; *) kind=load ;; esac
  case $word in
    taking) echo "in a $kind" ;;
    taken) echo "after a $kind" ;;
    removing) echo "in a removal" ;;
    removed) echo "after a removal" ;;
    *) echo "after the checks" ;;
  esac
}

passed=0 failed=0 early=0 check_time=25 cut=0
declare -A moments=()
printf '%-7s %3s %6s  %-8s %-7s %-5s  %s\n' '' cut after verified resumed taken 'the power went'
while [ "$cut" -lt "$cuts" ]; do
  after=$((check_time + RANDOM % 12))
  log=$work/cut-$cut
  state_arguments
  boot "$log" --cut-after "$after" --timeout $((after + 900)) -- cycle "${arguments[@]}" || true
  if grep -q '^broken ' "$log" || ! grep -q 'power cut after' "$log.console"; then
    failed=$((failed + 1))
    echo "FAILED  boot after cut $cut"
    tail -60 "$log.console" | sed 's/^/        /'
    break
  fi
  if ! grep -q '^checked' "$log"; then
    # The power went before the look at the last cut was over: that look is due again.
    early=$((early + 1))
    check_time=$((check_time + 10))
    [ "$early" -lt 10 ] || die "the guest does not come to an end of its checks"
    continue
  fi
  follow "$log"
  # "checked N images, S s"
  read -r _ verified _ seconds _ < <(grep '^checked' "$log" | tail -1)
  check_time=$((seconds + 2))
  cut=$((cut + 1))
  passed=$((passed + 1))
  at=$(moment "$log")
  moments[$at]=$((${moments[$at]:-0} + 1))
  printf '%-7s %3d %4d s  %-8d %-7d %-5d  %s\n' ok "$cut" "$after" "$verified" \
    "$(grep -c '^resumed' "$log" || true)" "$(grep -c '^taken' "$log" || true)" "$at"
done

if [ "$failed" = 0 ]; then
  state_arguments
  if boot "$work/last" --timeout 1800 -- last "${arguments[@]}" && grep -q '^emptied' "$work/last"; then
    passed=$((passed + 1))
    echo "ok      after the last cut: everything verifies, runs, goes on, and can be removed"
  else
    failed=$((failed + 1))
    echo "FAILED  after the last cut"
    tail -60 "$work/last.console" | sed 's/^/        /'
  fi
fi
for at in "${!moments[@]}"; do echo "${moments[$at]} cuts $at"; done | sort -rn
if [ "$early" != 0 ]; then echo "$early cuts came before the checks were over and do not count"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
