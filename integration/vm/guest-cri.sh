#!/usr/bin/env bash
# Kubernetes' part of `./dev vm test`, on the virtual machine: what the build machine's kernel does not have. AppArmor, cgroup v2 with
# systemd's driver, pressure, CRIU.
set -uo pipefail
. ./guest.sh

export GANTRY_BIN=/payload/tree GANTRY_CRITEST=/payload/critest GANTRY_CRICTL=/payload/crictl GANTRY_CRI_STAND_INS=/payload/stand_ins
export GANTRY_CRI_CANNOT_PASS=/run/cannot_pass.txt
grep -v AppArmor cri/cannot_pass.txt > "$GANTRY_CRI_CANNOT_PASS"

# Specs whose name has the pattern, with these lines more in the configuration; crictl's verbs follow.
suite() { GANTRY_CRI_CONFIG=$2 timeout 3000 cri/run.sh "--ginkgo.focus=$1" > /run/suite.out 2>&1; }
last() { tail -n 30 /run/suite.out; }
apparmor_specs() {
  suite '\[k8s.io\] AppArmor ' ''
  last
  equal "$(grep -c '^critest: 9 passed, 0 failed, 0 skipped' /run/suite.out)" 1
}
systemd_specs() {
  suite 'basic operations on|adding container|ulimits|resources|OOM|cgroup' \
    '[runtimes.crun]
path = "crun"
systemd_cgroup = true
[runtimes.runc]
path = "runc"
systemd_cgroup = true'
  local status=$?
  last
  [ "$status" = 0 ]
}

crictl() { command /payload/crictl --config /run/crictl.yaml --runtime-endpoint unix:///run/gantry/gantry.sock --timeout 60s "$@"; }
pod() {
  printf '{"metadata": {"name": "%s", "namespace": "default", "uid": "uid-%s"}, "log_directory": "/run", "linux": {"cgroup_parent": "%s",
    "security_context": {"namespace_options": {"network": 2, "pid": 1}}}}' "$1" "$1" "$2" > "/run/$1.json"
}
# A container that counts; its id in /run/NAME.id.
starts() {
  printf '{"metadata": {"name": "main"}, "image": {"image": "%s"}, "command": ["sh", "-c", "%s"], "log_path": "%s.log",
    "linux": {"security_context": {"namespace_options": {"pid": 1}}}}' "$image" "$3" "$1" > "/run/$1-main.json"
  crictl runp --runtime "$2" "/run/$1.json" > "/run/$1.pod" &&
    crictl create --no-pull "$(cat "/run/$1.pod")" "/run/$1-main.json" "/run/$1.json" > "/run/$1.id" &&
    crictl start "$(cat "/run/$1.id")"
}
pod_is_in_its_slice() {
  touch /run/crictl.yaml
  pod sliced /gantrypods.slice/gantrypods-one.slice && starts sliced crun 'while true; do :; done' || return 1
  local pid
  pid=$(crictl inspect "$(cat /run/sliced.id)" | sed -n 's/^ *"pid": \([0-9]*\),*$/\1/p' | head -1)
  shows '^0::/gantrypods.slice/gantrypods-one.slice/' cat "/proc/$pid/cgroup"
}
pod_tells_pressure() {
  eventually 30 shows '"psi"' crictl statsp -o json --id "$(cat /run/sliced.pod)" &&
    shows '"usageCoreNanoSeconds"' cat /run/eventually.out
}
counter_goes_on() {
  local before
  before=$(cpu_of_pod) && crictl stop -t 0 "$(cat /run/sliced.id)" && [ "$before" -gt 0 ] && [ "$(cpu_of_pod)" -ge "$before" ]
}
cpu_of_pod() {
  crictl statsp -o json --id "$(cat /run/sliced.pod)" | python3 -c '
import json, sys
print(json.load(sys.stdin)["stats"][0]["linux"]["cpu"]["usageCoreNanoSeconds"]["value"])'
}
freezes() {
  pod frozen "" && starts frozen runc 'i=0; while true; do i=$((i + 1)); echo $i > /count; sleep 0.2; done' && sleep 3 &&
    crictl checkpoint --export /run/frozen.tar "$(cat /run/frozen.id)" &&
    shows '^checkpoint/pstree.img$' tar -tf /run/frozen.tar && shows '^spec.dump$' tar -tf /run/frozen.tar &&
    shows '^rootfs-diff.tar$' tar -tf /run/frozen.tar && shows count tar -xOf /run/frozen.tar rootfs-diff.tar &&
    shows CONTAINER_RUNNING crictl inspect "$(cat /run/frozen.id)"
}
pods_go() { crictl rmp -fa && equal "$(crictl pods -q)" ""; }

# The suite loads its profiles by sudo.
printf '#!/bin/sh\nexec "$@"\n' > /usr/local/bin/sudo
chmod 0755 /usr/local/bin/sudo
mkdir -p "$GANTRY_BIN/supervisor" "$GANTRY_BIN/shim"
ln -sf /usr/bin/gantryd "$GANTRY_BIN/supervisor/gantryd"
ln -sf /usr/bin/gantry-shim "$GANTRY_BIN/shim/gantry-shim"
install_gantry
shows '^Y' cat /sys/module/apparmor/parameters/enabled
check "critest: AppArmor" apparmor_specs
check "containers have the default profile" shows '^docker-default ' cat /sys/kernel/security/apparmor/profiles
check "critest: a part of it with systemd's cgroup driver" systemd_specs
mkdir -p /etc/gantry
printf '[runtimes.%s]\nsystemd_cgroup = true\n' crun runc > /etc/gantry/config.toml
check "starts as a service" start_gantry
# The image in the namespace of pods.
ctl() { command ctl -n k8s.io "$@"; }
check "an image comes in" make_image
check "a pod is in the slice that it names" pod_is_in_its_slice
check "a pod tells of pressure" pod_tells_pressure
check "a pod's CPU time does not go back" counter_goes_on
check "a container is frozen into an archive, and runs on" freezes
check "pods are removed" pods_go

verdict
