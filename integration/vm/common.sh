# What the scripts of this directory share: programs, base disk, payload. Sourced, not run.
#
#   GANTRY_VMHOST   the program that builds a Debian host and boots it under qemu
#   GANTRY_BIN      where the built programs are (out/bin)
#   GANTRY_VM_CACHE where base disks are kept ($XDG_CACHE_HOME/gantry/vm)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
vmhost=${GANTRY_VMHOST:-$root/../shared/tools/vmhost}
bin=${GANTRY_BIN:-$root/out/bin}
cache=${GANTRY_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gantry/vm}

# Beside what every Debian host has: the runtimes, the libraries that our programs load, a root
# file system to run, and the foreign programs that the tests talk to.
guest_packages=(
  apparmor busybox-static containerd containernetworking-plugins criu crun docker-registry gzip iproute2 iptables libcurl4 libisal2
  libnftables1 nftables python3 runc tar util-linux
)

say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

# Prints the base disk's path; builds it when this list of packages has none yet.
base_disk() {
  local key base
  [ -x "$vmhost" ] || die "set GANTRY_VMHOST to the program that boots the machine"
  key=$(printf '%s\n' "${guest_packages[@]}" | cat - "$vmhost" | sha256sum | cut -c1-12)
  base=$cache/base-$key.qcow2
  mkdir -p "$cache"
  exec 9> "$cache/lock"
  flock 9
  if [ ! -f "$base" ]; then
    say "building the base disk $base (some minutes, once)"
    # Built under another name: a base disk that exists is whole.
    "$vmhost" build "$cache/new.qcow2" "${guest_packages[@]}" >&2
    mv "$cache/new.qcow2.kernel" "$base.kernel"
    mv "$cache/new.qcow2.initrd" "$base.initrd"
    mv "$cache/new.qcow2" "$base"
  fi
  exec 9>&-
  printf '%s\n' "$base"
}

# Fills directory $1 with what every guest needs: the programs and their service.
make_payload() {
  local program
  mkdir -p "$1/bin"
  for program in supervisor/gantryd shim/gantry-shim shim/gantry-init ctl/ctl; do
    [ -x "$bin/$program" ] || die "$bin/$program is missing: ./dev build, or set GANTRY_BIN"
    strip -o "$1/bin/$(basename "$program")" "$bin/$program"
  done
  cp "$root/packaging/systemd/gantry.service" "$1/"
  cp "$here/guest.sh" "$1/"
}
