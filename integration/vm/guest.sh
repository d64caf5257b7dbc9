# What the guest's scripts share. Runs on the virtual machine, as root, in /payload. Sourced, not run.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

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

# Installs the programs and their service, as a package would.
install_gantry() {
  local program changed=
  for program in gantryd gantry-shim gantry-init ctl; do
    cmp -s "bin/$program" "/usr/bin/$program" && continue
    install -m 0755 "bin/$program" "/usr/bin/$program"
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
