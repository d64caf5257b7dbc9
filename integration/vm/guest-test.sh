#!/usr/bin/env bash
# The test of `./dev vm test`, on the virtual machine: the lifecycle of containers under systemd and cgroup v2.
set -uo pipefail
. ./guest.sh

oom_score_of() { cat "/proc/$(pid_of "$1")/oom_score_adj"; }
# The directory of a container's group in the v2 tree.
cgroup_of() { echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(pid_of "$1")/cgroup")"; }

cgroup_is_v2() {
  equal "$(stat -f -c %T /sys/fs/cgroup)" cgroup2fs &&
    shows 'Cgroup Version: 2' ctl info && shows 'Cgroup Driver: cgroupfs' ctl info
}

prints() { equal "$(ctl run --rm --runtime "$runtime" "$image" echo hello)" hello; }
reads_stdin() { equal "$(echo through | ctl run -i --rm --runtime "$runtime" "$image" cat)" through; }
returns_code() { exits_with 42 ctl run --rm --runtime "$runtime" "$image" sh -c 'exit 42'; }
missing_command() { exits_with 127 ctl run --rm --runtime "$runtime" "$image" /no/such/command; }

has_terminal() {
  local out
  out=$(script -qec "ctl run -t --rm --runtime $runtime $image sh -c 'tty; stty size'" /dev/null < /dev/null | tr -d '\r')
  shows '^/dev/pts/0$' printf '%s\n' "$out"
}

lives_detached() {
  ctl run -d --runtime "$runtime" --name "life-$runtime" "$image" \
    sh -c 'trap "exit 7" TERM; i=0; while true; do echo "line $i"; i=$((i + 1)); sleep 0.5; done' &&
    state_is "life-$runtime" running &&
    eventually 60 shows '^line 2$' ctl logs "life-$runtime" &&
    equal "$(ctl exec "life-$runtime" echo inside)" inside &&
    exits_with 3 ctl exec "life-$runtime" sh -c 'exit 3' &&
    shows 'line' ctl top "life-$runtime"
}
execs_with_terminal() {
  shows '/dev/pts/' script -qec "ctl exec -t life-$runtime tty" /dev/null < /dev/null
}
stops() {
  ctl stop -t 60 "life-$runtime" && state_is "life-$runtime" exited && exit_code_is "life-$runtime" 7
}
removes() {
  ctl rm "life-$runtime" && ! ctl inspect "life-$runtime"
}
is_killed() {
  ctl run -d --runtime "$runtime" --name "killed-$runtime" "$image" sleep 1000 &&
    ctl kill "killed-$runtime" && eventually 60 state_is "killed-$runtime" exited &&
    exit_code_is "killed-$runtime" 137 && ctl rm "killed-$runtime"
}

limits_are_set() {
  ctl run -d --runtime "$runtime" --name "limited-$runtime" -m 64m --cpus 0.5 --pids-limit 20 --cpu-shares 512 \
    "$image" sleep 1000 || return 1
  local group
  group=$(cgroup_of "limited-$runtime")
  equal "$(cat "$group/memory.max")" 67108864 && equal "$(cat "$group/cpu.max")" "50000 100000" &&
    equal "$(cat "$group/pids.max")" 20 && equal "$(cat "$group/cpu.weight")" 20 &&
    equal "$(ctl exec "limited-$runtime" cat /sys/fs/cgroup/memory.max)" 67108864
}
# The service has a score of its own, which is not for containers.
oom_scores_are_their_own() {
  equal "$(oom_score_of "limited-$runtime")" 0 &&
    equal "$(ctl exec "limited-$runtime" cat /proc/self/oom_score_adj)" 0 &&
    equal "$(ctl run --rm --runtime "$runtime" --oom-score-adj 300 "$image" cat /proc/self/oom_score_adj)" 300
}
# Where the driver of this round puts a container's group.
group_is_where_it_belongs() {
  local id group
  id=$(ctl inspect --format '{{.Id}}' "limited-$runtime")
  group=$(cgroup_of "limited-$runtime")
  case $driver in
    cgroupfs) equal "$group" "/sys/fs/cgroup/gantry/$id" ;;
    systemd)
      equal "$(systemctl is-active "gantry-$id.scope")" active || return 1
      # crun leaves the scope to systemd and sets the limits in a group within; runc has systemd set them.
      case $runtime in
        crun) equal "$group" "/sys/fs/cgroup/system.slice/gantry-$id.scope/container" ;;
        runc)
          equal "$group" "/sys/fs/cgroup/system.slice/gantry-$id.scope" &&
            equal "$(systemctl show -P MemoryMax "gantry-$id.scope")" 67108864 &&
            equal "$(systemctl show -P TasksMax "gantry-$id.scope")" 20
          ;;
      esac
      ;;
  esac
}
limits_change() {
  local group
  group=$(cgroup_of "limited-$runtime")
  ctl update -m 96m --memory-swap 96m --pids-limit 30 "limited-$runtime" &&
    equal "$(cat "$group/memory.max")" 100663296 && equal "$(cat "$group/pids.max")" 30
}
pids_are_limited() {
  local group
  group=$(cgroup_of "limited-$runtime")
  ctl exec "limited-$runtime" sh -c 'for i in $(seq 60); do sleep 30 & done' || true
  shows '^max [1-9]' cat "$group/pids.events"
}
pauses() {
  local group
  group=$(cgroup_of "limited-$runtime")
  ctl pause "limited-$runtime" && state_is "limited-$runtime" paused &&
    shows '^frozen 1$' cat "$group/cgroup.events" &&
    ctl unpause "limited-$runtime" && state_is "limited-$runtime" running &&
    eventually 10 shows '^frozen 0$' cat "$group/cgroup.events"
}
stats_are_read() {
  local out
  out=$(ctl stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}} {{.CPUPerc}}' "limited-$runtime")
  echo "$out"
  # A limit of the container, not of the machine, and something in use.
  grep -Eq '^limited-[a-z-]+ [1-9][0-9.]*[kKM]iB / (64|96)MiB [1-9]' <<< "$out"
}
stops_with_its_children() {
  local group
  group=$(cgroup_of "limited-$runtime")
  ctl rm -f "limited-$runtime" && [ ! -e "$group" ]
}
oom_is_told() {
  exits_with 137 ctl run --runtime "$runtime" --name "oom-$runtime" -m 24m --memory-swap 24m "$image" tail /dev/zero &&
    equal "$(ctl inspect --format '{{.State.OOMKilled}}' "oom-$runtime")" true && ctl rm "oom-$runtime"
}
is_read_only() {
  exits_with 1 ctl run --rm --runtime "$runtime" --read-only --tmpfs /tmp "$image" sh -c 'echo x > /tmp/x && echo x > /x'
}

# lifecycle RUNTIME DRIVER
lifecycle() {
  runtime=$1 driver=$2
  local round="$runtime, $driver:"
  check "$round prints" prints
  check "$round reads its stdin" reads_stdin
  check "$round ends with its code" returns_code
  check "$round a command that is not there ends with 127" missing_command
  check "$round a terminal" has_terminal
  check "$round lives in the background; exec, logs, top" lives_detached
  check "$round an exec with a terminal" execs_with_terminal
  check "$round stops when asked" stops
  check "$round is removed" removes
  check "$round is killed" is_killed
  check "$round memory, cpu and pids are limited" limits_are_set
  check "$round its group is where the driver puts it" group_is_where_it_belongs
  check "$round OOM scores are its own" oom_scores_are_their_own
  check "$round limits change while it runs" limits_change
  check "$round stats are its own" stats_are_read
  check "$round forks end at the limit" pids_are_limited
  check "$round pauses and goes on" pauses
  check "$round is removed with all its processes" stops_with_its_children
  check "$round an OOM kill is reported" oom_is_told
  check "$round read-only" is_read_only
}

# Containers of the checks that follow; $1 of them.
start_counters() {
  local i
  for i in $(seq "$1"); do
    ctl run -d --name "counter$i" "$image" \
      sh -c 'trap "exit 5" TERM; i=0; while true; do echo "n $i"; i=$((i + 1)); sleep 0.3; done' || return 1
  done
}
daemon_is_another() { [ "$(systemctl show -P MainPID gantry)" != "$1" ] && ctl version; }

survives_restart() {
  local pid daemon
  pid=$(pid_of counter1)
  daemon=$(systemctl show -P MainPID gantry)
  "$@" && eventually 60 daemon_is_another "$daemon" || return 1
  state_is counter1 running && state_is counter2 running && state_is counter3 running &&
    equal "$(pid_of counter1)" "$pid" && logs_have_no_gap counter1 &&
    equal "$(ctl exec counter2 echo still)" still
}
# systemd has the daemon in the service's group, and nothing that outlives it.
group_is_the_daemons() {
  local pid
  for pid in $(pgrep -f '^gantry-shim|gantry-shim --zygote'); do
    shows '^0::/gantry-shims$' cat "/proc/$pid/cgroup" || return 1
  done
  equal "$(cat /sys/fs/cgroup/system.slice/gantry.service/cgroup.procs)" "$(systemctl show -P MainPID gantry)"
}
# After so long systemd kills what did not stop.
set_patience() {
  mkdir -p /run/systemd/system/gantry.service.d
  printf '[Service]\nTimeoutStopSec=%s\n' "$1" > /run/systemd/system/gantry.service.d/patience.conf
  systemctl daemon-reload
}
stops_when_told() {
  local pid
  pid=$(pid_of counter1)
  systemctl stop gantry && equal "$(systemctl show -P Result gantry)" success &&
    equal "$(systemctl show -P ExecMainStatus gantry)" 0 && kill -0 "$pid" && systemctl start gantry &&
    state_is counter1 running && equal "$(pid_of counter1)" "$pid"
}
shim_is_killed() {
  local pid id shim
  pid=$(pid_of counter2)
  id=$(ctl inspect --format '{{.Id}}' counter2)
  shim=$(pgrep -f "gantry-shim --namespace default --id $id")
  kill -KILL "$shim" && eventually 60 state_is counter2 exited && exit_code_is counter2 137 &&
    eventually 60 test ! -e "/proc/$pid" && shows shim ctl inspect --format '{{.State.Error}}' counter2 &&
    state_is counter1 running && ctl start counter2 && state_is counter2 running
}
systemd_is_content() { ! shows 'left-over process\|remains running\|unclean termination' journalctl --no-pager -b -u gantry; }

exit_while_daemon_is_away() {
  local pid
  pid=$(pid_of counter3)
  systemctl stop gantry && kill -TERM "$pid" && eventually 60 test ! -e "/proc/$pid" && systemctl start gantry &&
    eventually 60 state_is counter3 exited && exit_code_is counter3 5 && logs_have_no_gap counter3
}
restart_policy_holds() {
  ctl run -d --name again --restart always "$image" sh -c 'sleep 0.3; exit 1' &&
    eventually 90 shows '^[1-9]' ctl inspect --format '{{.RestartCount}}' again && ctl rm -f again
}
# With the container's fields, and the priorities of output and errors.
journal_line() { journalctl --no-pager -o export CONTAINER_NAME=journal PRIORITY="$1"; }
reaches_the_journal() {
  ctl run -d --name journal --log-driver journald --log-opt tag=tagged "$image" \
    sh -c 'echo to the journal; echo oops >&2' &&
    eventually 60 shows '^MESSAGE=to the journal$' journal_line 6 &&
    shows '^CONTAINER_TAG=tagged$' journal_line 6 && shows '^CONTAINER_ID_FULL=' journal_line 6 &&
    eventually 60 shows '^MESSAGE=oops$' journal_line 3 &&
    equal "$(ctl logs journal 2> /dev/null)" 'to the journal' && ctl rm -f journal
}
config_reloads() { systemctl reload gantry && ctl version && systemctl is-active gantry; }

# The runtime is left to choose itself: the driver is what is set for the one that is chosen.
use_driver() {
  mkdir -p /etc/gantry
  printf '[runtimes.%s]\nsystemd_cgroup = true\n' crun runc > /etc/gantry/config.toml
  [ "$1" = systemd ] || rm /etc/gantry/config.toml
  systemctl restart gantry && shows "Cgroup Driver: $1" ctl info
}
# Its spec is written for the driver it was made with.
outlives_its_driver() {
  ctl run -d --name "old-$1" "$image" sleep 1000 && use_driver "$2" && state_is "old-$1" running &&
    equal "$(ctl exec "old-$1" echo in)" in && ctl stop -t 0 "old-$1" && ctl start "old-$1" &&
    state_is "old-$1" running && ctl rm -f "old-$1"
}
scopes_are_gone() { equal "$(systemctl list-units --no-legend --full --all 'gantry-*.scope')" ""; }

ctr_works() {
  ctr -a /run/gantry/gantry.sock -n vm images import --base-name vm /run/saved.tar &&
    shows busybox ctr -a /run/gantry/gantry.sock -n vm images ls -q || return 1
  local name
  name=$(ctr -a /run/gantry/gantry.sock -n vm images ls -q | grep busybox | head -1)
  equal "$(ctr -a /run/gantry/gantry.sock -n vm run --rm "$name" one echo through-ctr)" through-ctr &&
    ctr -a /run/gantry/gantry.sock -n vm images rm "$name"
}

# A shell that counts goes on, under another name, where its checkpoint left it: it does not start a second time.
ctr_checkpoints() {
  ctr() { command ctr -a /run/gantry/gantry.sock -n vm "$@"; }
  file_of() { cat "/proc/$(ctr tasks ls | awk -v name="$1" '$1 == name { print $2 }')/root/$2"; }
  counted() { [ "$(file_of "$1" count)" -gt "$2" ]; }
  local name at status=0
  ctr images import --base-name vm /run/saved.tar &&
    name=$(ctr images ls -q | grep busybox | head -1) &&
    ctr run -d --runc-binary runc "$name" counter \
      sh -c 'echo started >> /starts; i=0; while true; do i=$((i + 1)); echo $i > /count; sleep 0.1; done' &&
    eventually 60 counted counter 10 &&
    ctr containers checkpoint --rw --task counter vm/checkpoint:1 &&
    ctr tasks kill -s KILL counter && eventually 60 ctr tasks rm counter && ctr containers rm counter &&
    ctr containers restore --rw --live again vm/checkpoint:1 &&
    at=$(file_of again count) && [ "$at" -gt 10 ] && eventually 60 counted again "$at" &&
    equal "$(file_of again starts)" started || status=1
  ctr tasks rm -f again
  ctr containers rm again
  ctr images rm "$name" vm/checkpoint:1
  unset -f ctr
  return $status
}

# Networks: the host has systemd's and Debian's own set-up; a client stands in a network namespace of its own, as another host.
page_at_for_client() { equal "$(page_of "$1" ip netns exec client)" "$2"; }
page_at_for_neighbour() { equal "$(page_of "$2" ctl run -i --rm --network "$1" "$image")" "$3"; }
server_address() { ctl inspect --format '{{.NetworkSettings.Networks.web.IPAddress}}' server; }
network_is_made() {
  ctl network create --subnet 10.77.0.0/24 web && ctl network create --subnet 10.78.0.0/24 other &&
    ip netns add client && ip link add client0 type veth peer name eth0 netns client && ip addr add 10.99.0.1/24 dev client0 &&
    ip link set client0 up && ip -n client addr add 10.99.0.2/24 dev eth0 && ip -n client link set eth0 up &&
    ip -n client route add default via 10.99.0.1
}
server_runs() {
  ctl run -d --name server --network web --network-alias pages -p 8080:80 -p 127.0.0.1:8081:80 "$image" \
    sh -c 'mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www' && eventually 60 page_at 127.0.0.1:8080 page
}
published_as_it_should_be() {
  page_at 127.0.0.1:8081 page && page_at_for_client 10.99.0.1:8080 page &&
    ! page_at_for_client 10.99.0.1:8081 page && ! page_at_for_client "$(server_address):80" page
}
neighbours_find_each_other() {
  local address
  address=$(server_address)
  page_at_for_neighbour web "$address:80" page && ! page_at_for_neighbour other "$address:80" page &&
    shows "$address" ctl run --rm --network web "$image" nslookup server &&
    shows "$address" ctl run --rm --network web "$image" nslookup pages &&
    ! shows "$address" ctl run --rm --network other "$image" nslookup server
}
network_is_added() {
  ctl network connect --ip 10.78.0.9 other server && page_at 10.78.0.9:80 page && page_at 127.0.0.1:8080 page &&
    page_at_for_neighbour other 10.78.0.9:80 page && ctl network disconnect other server && page_at 127.0.0.1:8080 page
}
rules_come_back() {
  nft flush ruleset && eventually 30 page_at 127.0.0.1:8080 page && systemctl restart nftables &&
    eventually 30 page_at_for_client 10.99.0.1:8080 page && ! page_at_for_client "$(server_address):80" page
}
network_outlives_the_daemon() {
  local daemon
  daemon=$(systemctl show -P MainPID gantry)
  systemctl kill -s KILL --kill-who=main gantry && page_at 127.0.0.1:8080 page && eventually 60 daemon_is_another "$daemon" &&
    page_at_for_client 10.99.0.1:8080 page
}
# Devices on top of one of the host's; a VLAN of it is made and removed with its network.
wires_are_shared() {
  local address
  ip link add wire0 type veth peer name wire1 && ip link set wire0 up && ip link set wire1 up &&
    ctl network create -d ipvlan -o parent=wire0 --subnet 10.79.0.0/24 lan &&
    ctl network create -d macvlan -o parent=wire0.10 --subnet 10.80.0.0/24 vlan && ip -d link show wire0.10 | grep 'vlan .* id 10' &&
    ctl run -d --name wired --network lan --network vlan "$image" \
      sh -c 'mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www' || return 1
  for network in lan vlan; do
    address=$(ctl inspect --format "{{.NetworkSettings.Networks.$network.IPAddress}}" wired)
    eventually 30 page_at_for_neighbour "$network" "$address:80" page || return 1
  done
  exits_with 1 ctl network create -d ipvlan -o parent=wire0 --subnet 10.81.0.0/24 second &&
    ctl rm -f wired && ctl network rm lan vlan && ! ip link show wire0.10 && ip link del wire0
}
default_network_is_a_bridge() {
  shows 'inet 172\.' ctl run --rm "$image" ip addr show eth0 && ! ctl run --rm --network none "$image" ip addr show eth0
}
networks_are_gone() {
  ctl rm -f server && ctl network rm web other && ip netns del client && eventually 30 no_pairs &&
    equal "$(ip -o link show type bridge | grep -v ' gantry0:')" ""
}
no_pairs() { ! ip -o link | grep ': veth'; }

cgroups() { find /sys/fs/cgroup -type d | grep -v '/vmhost.service' | sort; }
# Groups that systemd made for something else are no business of ours; what all containers of a namespace are in stays.
foreign='/(init\.scope|user\.slice|system\.slice/[^/]*\.(service|mount|socket|slice)|vm)$'
# Those of containers: the daemon keeps a zygote and a standby. One ends by itself once its container is removed.
shims() { pgrep -x gantry-shim -a | grep -Ev -- '--(zygote|standby)'; }
shims_are_gone() { equal "$(shims)" ""; }
nothing_is_left() {
  local left
  equal "$(ctl ps -aq)" "" && eventually 20 shims_are_gone &&
    equal "$(findmnt -rno TARGET | grep -E '^/(run|var/lib)/gantry/' | grep -v -E '^/run/gantry/(tasks|pods)$')" "" || return 1
  left=$(comm -13 /run/cgroups.before <(cgroups) | grep -Ev "$foreign")
  equal "$left" "" && equal "$(find /run/gantry/tasks /run/gantry/s -mindepth 2)" ""
}
stops_with_the_service() {
  systemctl stop gantry && equal "$(systemctl show -P Result gantry)" success && ! ctl version
}

# Sizes of volumes and of a container's layer, by a daemon of its own on a file system with project quotas.
sized() { ctl --address /run/gantry-sized/gantry.sock "$@"; }
sized_daemon_runs() {
  truncate -s 400M /var/sized.img && mkfs.ext4 -q -O project,quota -E quotatype=prjquota /var/sized.img && mkdir -p /mnt/sized &&
    mount -o loop,prjquota /var/sized.img /mnt/sized &&
    systemd-run -q --unit gantry-sized gantryd --root /mnt/sized/root --state /run/gantry-sized \
      --address /run/gantry-sized/gantry.sock --default-network none &&
    eventually 60 sized version && sized load -q -i /run/saved.tar
}
# Writes more than there is room for.
overfill() { sized run --rm "${@:2}" "$image" sh -c "dd if=/dev/zero of=$1 bs=1M count=64 2>&1; true"; }
volume_is_held_to_its_size() {
  sized volume create -o size=8m small && shows 'No space left\|quota exceeded' overfill /data/x -v small:/data &&
    shows ' 8192 ' sized run --rm -v small:/data "$image" busybox df -k /data &&
    [ "$(stat -c %s /mnt/sized/root/volumes/small/_data/x)" -le 8388608 ] && sized run --rm -v small:/data "$image" busybox rm /data/x &&
    sized volume rm small
}
layer_is_held_to_its_size() {
  shows 'No space left\|quota exceeded' overfill /x --storage-opt size=16m && shows '67108864' sized run --rm "$image" sh -c \
    'dd if=/dev/zero of=/x bs=1M count=64 2> /dev/null; stat -c %s /x'
}
sized_daemon_is_gone() {
  systemctl stop gantry-sized && eventually 30 umount /mnt/sized && rm /var/sized.img
}

install_gantry
echo "systemd $(systemctl --version | awk 'NR == 1 { print $2 }'), kernel $(uname -r), $(crun --version | head -1), $(runc --version | head -1)"
check "starts as a service of systemd" start_gantry
check "this is cgroup v2, and info says so" cgroup_is_v2
check "an image comes in" make_image
# The first container may leave the parents of all groups, which stay.
check "the first container" ctl run --rm "$image" true
cgroups > /run/cgroups.before

lifecycle crun cgroupfs
lifecycle runc cgroupfs

check "counters run" start_counters 3
check "the service's group holds the daemon and no shim" group_is_the_daemons
patience=$(systemctl show -P TimeoutStopUSec gantry)
set_patience 5s
check "systemctl stop ends it within 5 s, containers run on" stops_when_told
set_patience "$patience"
check "containers survive systemctl restart" survives_restart systemctl restart gantry
check "containers survive kill -9 of the daemon, which comes back" survives_restart systemctl kill -s KILL --kill-who=main gantry
check "containers survive kill -9 of all that is in the service's group" survives_restart systemctl kill -s KILL gantry
check "a killed shim's container is dead, with a reason" shim_is_killed
check "an exit while the daemon is away is not lost" exit_while_daemon_is_away
check "systemctl reload" config_reloads
check "counters stop" ctl stop -t 60 counter1 counter2
check "counters are removed" ctl rm counter1 counter2 counter3
check "a restart policy holds" restart_policy_holds

check "a container outlives the change to systemd's driver" outlives_its_driver cgroupfs systemd
lifecycle crun systemd
lifecycle runc systemd
check "scoped counters run" start_counters 3
check "scoped containers survive systemctl restart" survives_restart systemctl restart gantry
check "scoped counters are removed" ctl rm -f counter1 counter2 counter3
check "a container outlives the change to cgroupfs" outlives_its_driver systemd cgroupfs
check "no scope stays" scopes_are_gone
check "systemd has nothing to complain of" systemd_is_content
check "the journal gets a container's lines" reaches_the_journal
check "saves an image" ctl save -o /run/saved.tar "$image"
if command -v ctr > /run/ctr.path; then check "ctr imports and runs" ctr_works; fi
if command -v ctr criu > /run/criu.path; then check "ctr makes a checkpoint and goes on from it" ctr_checkpoints; fi
check "networks and a client beside the host" network_is_made
check "a published port answers" server_runs
check "ports are reached from where they should be" published_as_it_should_be
check "neighbours find each other by name, strangers do not" neighbours_find_each_other
check "a network comes and goes while the container runs" network_is_added
check "rules come back after a flush and with the host's firewall" rules_come_back
check "ports answer while the daemon is dead" network_outlives_the_daemon
check "ipvlan, and macvlan on a VLAN of the parent" wires_are_shared
check "the default network is a bridge" default_network_is_a_bridge
check "networks leave nothing" networks_are_gone
check "nothing is left behind" nothing_is_left
check "stops with its service" stops_with_the_service
check "a daemon on a file system with project quotas" sized_daemon_runs
check "a volume is held to its size" volume_is_held_to_its_size
check "a container's layer is held to its size" layer_is_held_to_its_size
check "it leaves its file system free" sized_daemon_is_gone

verdict
