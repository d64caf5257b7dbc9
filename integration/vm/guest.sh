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
