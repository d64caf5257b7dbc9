#!/usr/bin/env bash
# Kubernetes' CRI suite, critest, and crictl's verbs against a daemon of its own in namespaces of its own, offline: the images are made here
# and served on loopback. run.sh [--parallel N] [CRITEST-ARG...], as `./dev test cri` calls it. The last lines have the counts.
#
# Environment: GANTRY_BIN, the directory of the built programs (out/bin); GANTRY_CRITEST and GANTRY_CRICTL, the built clients (else
# they are built); GANTRY_CRI_KEEP=1 keeps the daemon's log and the report. For other hosts: GANTRY_CRI_STAND_INS, the program of
# stand_ins.cc; GANTRY_CRI_CONFIG, more lines of the daemon's configuration; GANTRY_CRI_CANNOT_PASS, another list than cannot_pass.txt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${GANTRY_BIN:-$here/../../out/bin}
critest=${GANTRY_CRITEST:-$("$here/../go_client.sh" critest)}
crictl=${GANTRY_CRICTL:-$("$here/../go_client.sh" crictl)}
export GANTRY_CRITEST=$critest GANTRY_CRICTL=$crictl GANTRY_BIN=$bin

# The daemon makes bridges, rules and mounts: not in the machine's namespaces.
if [ "${GANTRY_CRI_INSIDE:-}" != 1 ]; then
  exec env GANTRY_CRI_INSIDE=1 unshare --mount --net --propagation private "${BASH_SOURCE[0]}" "$@"
fi
ip link set lo up

parallel=1
if [ "${1:-}" = --parallel ]; then
  parallel=$2
  shift 2
fi

work=$(mktemp -d /tmp/gantry-cri.XXXXXX)
# The root of a pod's user namespace is nobody here, and has to reach its files as in /run/gantry.
chmod 0711 "$work"
daemon="" registry=""
cleanup() {
  local status=$?
  trap - EXIT
  # Nothing of the suite's is left: what a failed spec leaves is removed before the daemon goes.
  if [ -n "$daemon" ] && kill -0 "$daemon" 2> "$work/err"; then
    "$crictl" "${endpoint[@]}" rmp -fa > "$work/rmp" 2>&1 || cat "$work/rmp" >&2
    kill "$daemon" && wait "$daemon" || true
  fi
  if [ -n "$registry" ]; then kill "$registry" && wait "$registry" 2> "$work/err" || true; fi
  if [ "${GANTRY_CRI_KEEP:-}" = 1 ]; then
    echo "cri: the daemon's log and the report are in $work" >&2
  else
    if mountpoint -q "$work/state/tasks"; then umount "$work/state/tasks"; fi
    rm -rf --one-file-system "$work" || true
  fi
  exit "$status"
}
trap cleanup EXIT

case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
if [ -n "${GANTRY_CRI_STAND_INS:-}" ]; then
  cp "$GANTRY_CRI_STAND_INS" "$work/stand_ins"
else
  g++ -std=c++20 -O1 -static -o "$work/stand_ins" "$here/stand_ins.cc"
fi
mkfifo "$work/port"
python3 "$here/images.py" "$(command -v busybox)" "$work/stand_ins" "$arch" > "$work/port" &
registry=$!
read -r port < "$work/port"

mkdir -p "$work/hosts" "$work/net.d"
for host in registry.k8s.io k8s.gcr.io gcr.io; do
  mkdir -p "$work/hosts/$host"
  printf 'server = "http://127.0.0.1:%s"\n' "$port" > "$work/hosts/$host/hosts.toml"
done
cat > "$work/net.d/10-pods.conflist" << END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$work/addresses", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.88.0.0/16"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
cat > "$work/config.toml" << END
root = "$work/root"
state = "$work/state"
address = "$work/gantry.sock"
[registry]
config_path = "$work/hosts"
[cni]
bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
conf_dir = "$work/net.d"
${GANTRY_CRI_CONFIG:-}
END
"$bin/supervisor/gantryd" --config "$work/config.toml" --shim "$bin/shim/gantry-shim" 2> "$work/gantryd.log" &
daemon=$!
touch "$work/crictl.yaml"
endpoint=(--config "$work/crictl.yaml" --runtime-endpoint "unix://$work/gantry.sock" --image-endpoint "unix://$work/gantry.sock" --timeout 30s)
for _ in $(seq 600); do
  if [ -S "$work/gantry.sock" ] || ! kill -0 "$daemon" 2> "$work/err"; then break; fi
  sleep 0.1
done
if ! timeout 60 "$crictl" "${endpoint[@]}" version; then
  tail -20 "$work/gantryd.log" >&2
  exit 1
fi

failed=0
printf 'defaultTestContainerImage: registry.k8s.io/e2e-test-images/busybox:1.29-2\nwebServerTestImage: registry.k8s.io/e2e-test-images/nginx:1.14-2\n' > "$work/images.yaml"
flags=(--runtime-endpoint "unix://$work/gantry.sock" --image-endpoint "unix://$work/gantry.sock"
  --test-images-file "$work/images.yaml" --registry-prefix registry.k8s.io --nri-socket "$work/state/nri.sock")
if [ "$parallel" -gt 1 ]; then
  PATH=$(dirname "$("$here/../go_client.sh" ginkgo)"):$PATH # which the suite runs itself under
  flags+=(--parallel "$parallel")
fi
(cd "$work" && "$critest" "${flags[@]}" --ginkgo.no-color --ginkgo.json-report="$work/report.json" "$@") > "$work/critest.log" 2>&1 || true
if [ ! -s "$work/report.json" ]; then
  tail -40 "$work/critest.log"
  exit 1
fi
python3 "$here/report.py" "$work/report.json" "${GANTRY_CRI_CANNOT_PASS:-$here/cannot_pass.txt}" || failed=1
"$here/crictl.sh" "$crictl" "${endpoint[@]}" || failed=1
exit "$failed"
