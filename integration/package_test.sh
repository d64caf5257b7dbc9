#!/usr/bin/env bash
# The package, made from the programs and looked at; installing it is `./dev vm test`'s. Runs where the built programs are below the
# working directory.
set -uo pipefail
here=$(cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

failed=0
fail() {
  echo "FAILED: $*"
  failed=1
}

if ! command -v dpkg-shlibdeps readelf objcopy > /dev/null; then
  echo "skipped: needs dpkg-dev and binutils"
  exit 0
fi
GANTRY_PACKAGE_VERSION=1.2.3 GANTRY_PACKAGE_COMPRESSION=none "$here/../packaging/build_deb.sh" . "$work" > "$work/made" || {
  echo "FAILED: the package is not made"
  exit 1
}
read -r package < "$work/made"
dpkg-deb -R "$package" "$work/tree"
cd "$work/tree" || exit 1

[ "$(basename "$package")" = "gantry_1.2.3_$(dpkg --print-architecture).deb" ] || fail "the name is $package"
for file in usr/bin/ctl usr/bin/gantryd usr/libexec/gantry/gantry-shim usr/libexec/gantry/gantry-init lib/systemd/system/gantry.service \
  lib/systemd/system/gantry.socket lib/systemd/system/gantry-docker.socket usr/lib/sysusers.d/gantry.conf usr/lib/tmpfiles.d/gantry.conf \
  etc/gantry/config.toml usr/share/bash-completion/completions/ctl usr/share/zsh/vendor-completions/_ctl \
  usr/share/fish/vendor_completions.d/ctl.fish usr/share/man/man8/gantryd.8.gz usr/share/man/man5/gantry-config.toml.5.gz \
  usr/share/doc/gantry/grafana.json; do
  [ -s "$file" ] || fail "$file is missing"
done
[ "$(cat DEBIAN/conffiles)" = /etc/gantry/config.toml ] || fail "the configuration is no conffile"
grep -q '^Depends: .*libc6.*libcurl4.*libnftables1' DEBIAN/control || fail "$(grep ^Depends DEBIAN/control)"
md5sum --quiet -c DEBIAN/md5sums || fail "checksums"
readelf -S usr/bin/gantryd | grep -q '\.debug_info' && fail "gantryd is not stripped"

# What --help lists has a page.
for verb in $(usr/bin/ctl --help | sed -n 's/^  \([a-z]\+\)  .*/\1/p'); do
  [ -s "usr/share/man/man1/ctl-$verb.1.gz" ] || fail "ctl $verb has no manual page"
done
[ "$(usr/bin/ctl --help | grep -c '^  [a-z]\+  ')" -gt 40 ] || fail "ctl --help lists few verbs"
if command -v man > /dev/null; then
  for page in usr/share/man/man*/*.gz; do
    LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l "$page" > "$work/page" 2> "$work/warnings"
    [ ! -s "$work/warnings" ] || fail "$page: $(head -n 3 "$work/warnings")"
  done
  LC_ALL=C.UTF-8 MANWIDTH=80 man -l usr/share/man/man1/ctl-run.1.gz | col -b > "$work/page"
  grep -q -- '-p, --publish' "$work/page" || fail "ctl-run(1) does not have --publish"
fi

for script in postinst prerm postrm; do
  sh -n "DEBIAN/$script" || fail "$script"
done
# A purge deletes what Gantry made, also where config.toml says so, and nothing else.
host=$work/host
mkdir -p "$host"/{etc/gantry,var/lib/gantry/metadata,srv/containers/{metadata,volumes},srv/photos,fast/state/tasks}
touch "$host"/srv/containers/{uuid,mine} "$host/srv/photos/one"
printf 'root = "/srv/containers"  # more room\nstate = '"'/fast/state'"'\n[grpc]\nroot = "/srv/photos"\n' > "$host/etc/gantry/config.toml"
DPKG_ROOT=$host sh DEBIAN/postrm remove > "$work/removed" 2>&1 || fail "postrm remove: $(cat "$work/removed")"
[ -d "$host/srv/containers/metadata" ] || fail "a removal deletes data"
rm "$host/etc/gantry/config.toml"
DPKG_ROOT=$host sh DEBIAN/postrm purge > "$work/purged" 2>&1 || fail "postrm purge: $(cat "$work/purged")"
[ ! -e "$host/var/lib/gantry" ] || fail "a purge leaves /var/lib/gantry"
[ ! -e "$host/fast/state" ] || fail "a purge leaves the state directory of config.toml"
[ "$(ls "$host/srv/containers")" = mine ] || fail "a purge leaves in the root directory of config.toml: $(ls "$host/srv/containers")"
grep -q 'srv/containers holds other files' "$work/purged" || fail "what stays is not said: $(cat "$work/purged")"
[ -e "$host/srv/photos/one" ] || fail "a purge deletes what is not Gantry's"
mkdir -p "$host"/{etc/gantry,var/lib/gantry,srv/photos}
echo 'root = "/srv/photos"' > "$host/etc/gantry/config.toml"
DPKG_ROOT=$host sh DEBIAN/postrm remove && DPKG_ROOT=$host sh DEBIAN/postrm purge 2> "$work/purged"
[ -e "$host/srv/photos/one" ] && grep -q "does not look like Gantry's" "$work/purged" || fail "a directory of others: $(cat "$work/purged")"

if command -v systemd-analyze > /dev/null; then
  # Paths of the package are not the host's.
  for unit in lib/systemd/system/*; do sed -i "s|=/usr/bin/gantryd|=/bin/true|; /^Documentation/d" "$unit"; done
  SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no lib/systemd/system/* 2>&1 | grep -v 'Failed to \|Cannot add dependency\|cgroup' |
    grep gantry && fail "systemd-analyze"
fi
if command -v lintian > /dev/null; then
  lintian --fail-on error,warning --suppress-tags uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball "$package" > "$work/lintian" 2>&1 || fail "$(cat "$work/lintian")"
fi
exit $failed
