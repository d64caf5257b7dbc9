#!/usr/bin/env bash
# The package's part of `./dev vm test`, on the virtual machine: installed, upgraded, downgraded, removed, purged, as a user does it.
set -uo pipefail
. ./guest.sh

export DEBIAN_FRONTEND=noninteractive
first=./gantry_0.9.0_amd64.deb second=./gantry_0.9.1_amd64.deb
sockets=(/run/gantry/gantry.sock /run/gantry/docker.sock /run/docker.sock)

apt_get() { apt-get -q -y -o Dpkg::Use-Pty=0 "$@"; }
version_is() { equal "$(dpkg-query -W -f '${Version}' gantry)" "$1"; }
active() { equal "$(systemctl is-active "$1")" active; }
enabled() { equal "$(systemctl is-enabled "$1")" enabled; }

installs() {
  apt_get install "$first" && version_is 0.9.0 && active gantry.service && active gantry.socket && active gantry-docker.socket &&
    enabled gantry.service && enabled gantry.socket && enabled gantry-docker.socket && shows 'ctl version 0' ctl --version
}
# From the end of the installation, with an image that is there, to a page through a published port.
first_container() {
  ctl run -d --name web -p 8080:80 "$image" sh -c 'mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www' &&
    eventually 60 page_at 127.0.0.1:8080 page
}
sockets_are_the_groups() {
  local socket
  for socket in "${sockets[@]}"; do
    equal "$(stat -c '%a %U %G %F' "$socket")" "660 root docker socket" || return 1
  done
  shows web setpriv --reuid nobody --regid nogroup --groups docker ctl ps &&
    ! setpriv --reuid nobody --regid nogroup --clear-groups ctl ps
}
docker_answers() {
  python3 - "$1" << 'END'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n")
answer = b""
while True:
    part = s.recv(65536)
    if not part:
        break
    answer += part
print(answer.decode())
sys.exit(0 if b" 200 OK" in answer and b'"/web"' in answer else 1)
END
}
docker_is_served() { docker_answers /run/gantry/docker.sock && docker_answers /var/run/docker.sock; }
files_are_there() {
  local file
  for file in /etc/gantry/config.toml /usr/share/bash-completion/completions/ctl /usr/share/zsh/vendor-completions/_ctl \
    /usr/share/fish/vendor_completions.d/ctl.fish /usr/libexec/gantry/gantry-shim; do
    [ -s "$file" ] || {
      echo "$file"
      return 1
    }
  done
  # The base may leave manual pages out, as container images do.
  equal "$(dpkg-query -L gantry | grep -c '/man1/ctl.*\.1\.gz$')" "$(dpkg-deb -c "$first" | grep -c '/man1/ctl.*\.1\.gz$')"
}
# Systemd holds the socket: the next call starts the daemon.
starts_on_demand() {
  systemctl stop gantry.service && ! active gantry.service && ctl version && active gantry.service && shows web ctl ps
}
set_watchdog() {
  mkdir -p /run/systemd/system/gantry.service.d
  printf '[Service]\nWatchdogSec=%s\n' "$1" > /run/systemd/system/gantry.service.d/watchdog.conf
  systemctl daemon-reload && systemctl restart gantry
}
restarts() { systemctl show -P NRestarts gantry; }
watchdog_is_content() {
  set_watchdog 15s || return 1
  local end=$((SECONDS + 40)) before
  before=$(restarts)
  while [ $SECONDS -lt $end ]; do read -rt 1 <> /run/eventually.tick || true; done
  equal "$(restarts)" "$before"
}
restarted_since() { [ "$(restarts)" -gt "$1" ]; }
watchdog_acts() {
  local before pid
  before=$(restarts) pid=$(pid_of web)
  kill -STOP "$(systemctl show -P MainPID gantry)" && eventually 120 restarted_since "$before" &&
    eventually 60 state_is web running && equal "$(pid_of web)" "$pid"
  local status=$?
  rm -f /run/systemd/system/gantry.service.d/watchdog.conf
  systemctl daemon-reload
  return $status
}
edits_configuration() {
  sed -i 's/^log_level = "info"/log_level = "debug"/' /etc/gantry/config.toml && systemctl restart gantry && ctl version
}
# changes_version PACKAGE VERSION: containers, ports, logs and callers do not notice.
changes_version() {
  local pid daemon failures=0
  pid=$(pid_of web) daemon=$(systemctl show -P MainPID gantry)
  rm -f /run/changed
  (
    while [ ! -e /run/changed ]; do ctl ps -q > /run/calls.out 2> /run/calls.err || cat /run/calls.err; done
  ) > /run/calls.failed &
  local caller=$!
  apt_get install --allow-downgrades "$1"
  local status=$?
  touch /run/changed
  wait $caller
  [ $status = 0 ] && version_is "$2" && [ "$(systemctl show -P MainPID gantry)" != "$daemon" ] && active gantry.service &&
    state_is web running && equal "$(pid_of web)" "$pid" && page_at 127.0.0.1:8080 page && logs_have_no_gap counter &&
    grep '^log_level = "debug"' /etc/gantry/config.toml && equal "$(cat /run/calls.failed)" ""
}
removes_package() {
  local pid
  pid=$(pid_of web)
  echo "$pid" > /run/web.pid
  apt_get remove gantry > /run/removed 2>&1
  cat /run/removed
  shows 'containers of ctl run on' cat /run/removed && [ ! -e /usr/bin/ctl ] && [ ! -e "${sockets[0]}" ] && [ ! -e "${sockets[2]}" ] &&
    [ -d /var/lib/gantry/content ] && [ -e /etc/gantry/config.toml ] && kill -0 "$pid" && page_at 127.0.0.1:8080 page &&
    ! active gantry.service
}
comes_back() {
  apt_get install "$second" && active gantry.service && state_is web running && equal "$(pid_of web)" "$(cat /run/web.pid)" &&
    page_at 127.0.0.1:8080 page && grep '^log_level = "debug"' /etc/gantry/config.toml
}
purges() {
  local left
  apt_get purge gantry || return 1
  for left in /var/lib/gantry /etc/gantry /run/gantry /run/docker.sock /usr/bin/gantryd /usr/libexec/gantry /sys/fs/cgroup/gantry \
    /sys/fs/cgroup/gantry-shims /etc/systemd/system/multi-user.target.wants/gantry.service; do
    [ ! -e "$left" ] || {
      echo "$left is left"
      return 1
    }
  done
  ! kill -0 "$(cat /run/web.pid)" && ! pgrep -a gantry && ! ip link show gantry0 && ! nft list table inet gantry &&
    equal "$(findmnt -rno TARGET | grep gantry)" ""
}
leaves_docker_alone() {
  # A Docker that is there has its usual path.
  printf '#!/bin/sh\n' > /usr/sbin/dockerd && chmod +x /usr/sbin/dockerd && apt_get install "$first" && active gantry.service &&
    ! active gantry-docker.socket && [ ! -e /run/docker.sock ] && ctl version
  local status=$?
  rm -f /usr/sbin/dockerd
  return $status
}

systemctl disable -q --now docker-registry containerd 2> /run/disabled.out
check "apt installs it, and it runs" installs
check "an image comes in" make_image
begin=$SECONDS
check "the first container answers at a published port" first_container
echo "        $((SECONDS - begin)) s from the installed package to the page, under emulation"
check "the sockets are the group's" sockets_are_the_groups
check "docker's clients are served, at docker's path too" docker_is_served
check "its files are there" files_are_there
check "a stopped daemon starts on demand" starts_on_demand
check "the watchdog leaves a daemon that answers alone" watchdog_is_content
check "the watchdog restarts one that does not" watchdog_acts
check "the configuration is edited" edits_configuration
check "a container that counts" ctl run -d --name counter "$image" sh -c 'i=0; while true; do echo "n $i"; i=$((i + 1)); sleep 0.3; done'
check "an upgrade is not noticed" changes_version "$second" 0.9.1
check "a downgrade is not noticed" changes_version "$first" 0.9.0
check "a removal leaves containers and data" removes_package
check "an installation finds them again" comes_back
check "a purge leaves nothing" purges
check "an installation beside docker leaves its socket alone" leaves_docker_alone
check "a purge again" purges
verdict
