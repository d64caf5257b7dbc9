#!/usr/bin/env bash
# Which lines of a console are records of the guest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/record.sh"

failures=0
# expect_records NAME CONSOLE EXPECTED
expect_records() {
  local got
  got=$(printf "$2" | whole_records)
  if [ "$got" != "$(printf "$3")" ]; then
    printf 'FAILED %s: got "%s"\n' "$1" "$got"
    failures=$((failures + 1))
  fi
}

expect_records "whole lines" 'taking one:vm ;\r\ntaken one:vm ;\r\n' 'taking one:vm\ntaken one:vm'
expect_records "a cut inside a record" 'taken one:vm ;\r\ntaking two:vmvmhost: power cut after 9s\n' 'taken one:vm'
expect_records "a cut inside a name" 'taking localhost:5055/onvmhost: power cut after 9s\n' ''
expect_records "a cut before the end mark" 'removed one:vm vmhost: power cut after 9s\n' ''
expect_records "a cut before the end of the line" 'removed one:vm ;vmhost: power cut after 9s\n' ''
expect_records "a login prompt before a record" 'gantry-vm login: checked 3 images, 20 s ;\r\n' 'checked 3 images, 20 s'
expect_records "words without a name" 'filled ;\r\nemptied ;\r\n' 'filled\nemptied'
expect_records "other output" 'Debian GNU/Linux 12 gantry-vm ttyS0\r\nnothing taken ;\r\n' ''
[ "$failures" = 0 ]
