#!/usr/bin/env bash
# Every verb of crictl in the order of a pod's life: crictl.sh CRICTL FLAG...; one of the flags is
# --config FILE, a file that it may change. The last line has the counts.
set -uo pipefail

crictl=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
image=registry.k8s.io/e2e-test-images/busybox:1.29-2
web=registry.k8s.io/e2e-test-images/nginx:1.14-2

# verb NAME PATTERN ARG...: runs crictl; its output must contain the pattern ("" anything).
verb() {
  local name=$1 pattern=$2
  shift 2
  if timeout 60 "${crictl[@]}" "$@" > "$work/out" 2>&1 < /dev/null && { [ -z "$pattern" ] || grep -qe "$pattern" "$work/out"; }; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED crictl $name: crictl $*"
    sed 's/^/    /' "$work/out" | head -8
  fi
}
id_of() { tail -n 1 "$work/out"; }

cat > "$work/pod.json" << END
{"metadata": {"name": "verbs", "namespace": "default", "uid": "verbs-1", "attempt": 1}, "log_directory": "$work", "linux": {}}
END
cat > "$work/box.json" << END
{"metadata": {"name": "box"}, "image": {"image": "$image"}, "log_path": "box.log", "stdin": true,
 "command": ["sh", "-c", "echo started; while read line; do echo got \$line; done; sleep 1000"], "linux": {}}
END
cat > "$work/web.json" << END
{"metadata": {"name": "web"}, "image": {"image": "$web"}, "log_path": "web.log", "linux": {}}
END
cat > "$work/short.json" << END
{"metadata": {"name": "short"}, "image": {"image": "$image"}, "log_path": "short.log", "command": ["true"], "linux": {}}
END

verb version RuntimeApiVersion version
verb info RuntimeReady info
verb runtime-config . runtime-config
verb pull . pull "$image"
verb pull . pull "$web"
verb images busybox images
verb inspecti busybox inspecti "$image"
verb inspecti rootfs inspecti "$image"
verb imagefsinfo . imagefsinfo
verb runp '^[0-9a-f]*$' runp "$work/pod.json"
pod=$(id_of)
verb pods verbs pods
verb inspectp SANDBOX_READY inspectp "$pod"
verb create '^[0-9a-f]*$' create "$pod" "$work/box.json" "$work/pod.json"
box=$(id_of)
verb start "" start "$box"
verb ps Running ps
verb inspect CONTAINER_RUNNING inspect "$box"
verb exec hello exec "$box" echo hello
verb exec hello exec --sync "$box" echo hello
verb exec hello exec --transport websocket "$box" echo hello
verb logs started logs "$box"
verb update . update --cpu-share 512 "$box"
verb inspect 512 inspect "$box"
verb stats box stats --id "$box"
verb statsp verbs statsp --id "$pod"
verb metricdescs . metricdescs
verb metricsp . metricsp
verb create . create "$pod" "$work/web.json" "$work/pod.json"
server=$(id_of)
verb start "" start "$server"

# Attach: what one line of input makes of it.
# The container goes on, and so does crictl.
echo line | timeout -s KILL 5 "${crictl[@]}" attach -i "$box" > "$work/attached" 2>&1
if grep -q "got line" "$work/attached"; then
  passed=$((passed + 1))
else
  failed=$((failed + 1))
  echo "FAILED crictl attach"
  sed 's/^/    /' "$work/attached" | head -5
fi

# Exec: large data both ways, over both protocols; the exit code.
head -c 20000000 /dev/urandom > "$work/data"
want=$(md5sum < "$work/data")
for transport in spdy websocket; do
  got=$(timeout 120 "${crictl[@]}" exec -i --transport "$transport" "$box" cat < "$work/data" | md5sum)
  if [ "$got" = "$want" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAILED crictl exec -i --transport $transport: 20 MB came back changed"
  fi
done
timeout 60 "${crictl[@]}" exec "$box" sh -c 'exit 7' > "$work/out" 2>&1
if grep -q 'exit code 7\|exit status 7\|code: 7\|: 7' "$work/out"; then passed=$((passed + 1)); else
  failed=$((failed + 1))
  echo "FAILED crictl exec: exit code 7 is not told: $(cat "$work/out")"
fi

# Port-forward, over both protocols.
for transport in spdy websocket; do
  timeout 60 "${crictl[@]}" port-forward --transport "$transport" "$pod" 18080:80 > "$work/out" 2>&1 &
  forward=$!
  answer=""
  for _ in $(seq 50); do
    answer=$(busybox wget -q -O - http://127.0.0.1:18080/ 2> "$work/err") && break
    sleep 0.1
  done
  kill "$forward" 2> "$work/err"
  wait "$forward" 2> "$work/err"
  if [ "$answer" = ok ]; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED crictl port-forward --transport $transport: $(cat "$work/out")"
  fi
done

timeout 10 "${crictl[@]}" events > "$work/events" 2>&1 &
events=$!
sleep 0.5
verb create '^[0-9a-f]*$' create "$pod" "$work/short.json" "$work/pod.json"
short=$(id_of)
verb start "" start "$short"
sleep 1
kill "$events" 2> "$work/err"
wait "$events" 2> "$work/err"
if grep -q "$short" "$work/events"; then passed=$((passed + 1)); else
  failed=$((failed + 1))
  echo "FAILED crictl events: $(head -3 "$work/events")"
fi
verb ps Exited ps -a --state Exited

# Checkpoint: an archive with CRIU's images, or the reason why there is none.
timeout 60 "${crictl[@]}" checkpoint --export "$work/checkpoint.tar" "$box" > "$work/out" 2>&1
if tar -tf "$work/checkpoint.tar" 2> "$work/err" | grep -q '^checkpoint/pstree' || grep -qi criu "$work/out"; then
  passed=$((passed + 1))
else
  failed=$((failed + 1))
  echo "FAILED crictl checkpoint: $(cat "$work/out")"
fi

# Run: a pod and its container in one.
sed 's/verbs/both/g' "$work/pod.json" > "$work/both.json"
verb run '^[0-9a-f]*$' run --no-pull "$work/box.json" "$work/both.json"
verb ps "$(id_of | cut -c 1-13)" ps
verb pods both pods --name both
verb rmp "" rmp -f "$(timeout 60 "${crictl[@]}" pods -q --name both)"
verb update-runtime-config "" update-runtime-config --pod-cidr 10.88.0.0/16
verb completion crictl completion
verb stop "" stop -t 1 "$box"
verb rm "" rm -f "$box" "$server" "$short"
verb stopp "" stopp "$pod"
verb rmp "" rmp "$pod"
verb rmi "" rmi "$web"
verb config "" config --set timeout=7
verb config 7 config --get timeout
echo "crictl: $passed passed, $failed failed"
[ "$failed" = 0 ]
