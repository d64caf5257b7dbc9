# What the guest's scripts share. Runs on the virtual machine, as root, in /payload. Sourced, not run.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The console's login prompt, when it starts, hangs up every process that writes there: this script, and the tool that would report its
# status. So the prompt is masked, what we say goes to a descriptor of our own, and so does the status, in the tool's words.
[ "$(systemctl is-enabled serial-getty@ttyS0)" = masked ] || systemctl mask -q --now serial-getty@ttyS0
exec > /dev/ttyS0 2>&1
# What the kernel has to say of an OOM kill is not for there.
dmesg -n 1
trap 'echo "VMHOST-EXIT $?"' EXIT

# Waits up to $1 seconds until the command succeeds.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" > /run/eventually.out 2>&1; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "  not within its time: $*"
      sed 's/^/  /' /run/eventually.out
      return 1
    fi
    read -rt 0.2 <> /run/eventually.tick || true
  done
}
[ -p /run/eventually.tick ] || mkfifo /run/eventually.tick

# Installs the programs and their service, as a package would. Other services of the host only cost time; one of them has the
# registry's usual port.
install_gantry() {
  local program changed=
  if systemctl is-enabled -q docker-registry containerd 2> /run/install.out; then
    systemctl disable -q --now docker-registry containerd
    changed=1
  fi
  # A disk that is kept has them from its first boot.
  for program in bin/*; do
    [ -f "$program" ] || continue
    install -m 0755 "$program" /usr/bin/
    changed=1
  done
  cmp -s gantry.service /etc/systemd/system/gantry.service || {
    install -m 0644 gantry.service /etc/systemd/system/gantry.service
    systemctl daemon-reload
  }
  # The host's own files are not what a power cut is to damage.
  if [ -n "$changed" ]; then sync; fi
}

start_gantry() {
  systemctl start gantry || {
    journalctl --no-pager -b -u gantry | tail -40
    return 1
  }
}

passed=0 failed=0
# check NAME COMMAND...: one behaviour.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@" > /run/check.out 2>&1; then
    passed=$((passed + 1))
    echo "ok      $name ($((SECONDS - start)) s)"
  else
    failed=$((failed + 1))
    echo "FAILED  $name ($((SECONDS - start)) s)"
    tail -25 /run/check.out | sed 's/^/        /'
  fi
}

equal() {
  [ "$1" = "$2" ] || {
    printf 'got  "%s"\nwant "%s"\n' "$1" "$2"
    return 1
  }
}

exits_with() {
  local want=$1 got=0
  shift
  "$@" || got=$?
  equal "$got" "$want"
}
shows() { "${@:2}" | tee /dev/stderr | grep -q -- "$1"; }

# Containers of the image that make_image brings in.
image=busybox:vm
state_of() { ctl inspect --format '{{.State.Status}}' "$1"; }
state_is() { equal "$(state_of "$1")" "$2"; }
exit_code_is() { equal "$(ctl inspect --format '{{.State.ExitCode}}' "$1")" "$2"; }
pid_of() { ctl inspect --format '{{.State.Pid}}' "$1"; }
logs_have_no_gap() {
  ctl logs "$1" | awk '$2 != n++ { print "line " n " is: " $0; bad = 1 } END { print n " lines"; exit bad || n < 3 }'
}

make_image() {
  local applet
  mkdir -p /run/rootfs/{bin,etc,tmp,proc,sys,dev}
  cp /bin/busybox /run/rootfs/bin/busybox
  for applet in awk cat echo env grep head httpd ip ls mkdir nslookup ps seq sh sleep stat stty tail test nc touch true tty; do
    ln -sf busybox "/run/rootfs/bin/$applet"
  done
  echo 'root:x:0:0:root:/:/bin/sh' > /run/rootfs/etc/passwd
  tar -C /run/rootfs -cf /run/busybox.tar . && ctl import /run/busybox.tar "$image" > /run/import.out
}

# The last line of the page at $1, asked for by the command that follows, or by the host.
page_of() {
  local at=$1
  shift
  printf 'GET / HTTP/1.0\r\n\r\n' | "$@" busybox nc -w 5 "${at%:*}" "${at##*:}" | tail -n 1
}
page_at() { equal "$(page_of "$1")" "$2"; }

# The last words of a test.
verdict() {
  if [ "$failed" != 0 ]; then
    echo "-- the daemon's log"
    journalctl --no-pager -b -u gantry | tail -60
  fi
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
