#!/usr/bin/env bash
# Makes gantry_VERSION_ARCH.deb and gantry-dbgsym_VERSION_ARCH.deb from built programs: `./dev package`.
#
#   build_deb.sh BIN OUT
#
# BIN is the directory of the built programs (out/bin), OUT receives the packages; their names are printed. Environment:
#   GANTRY_PACKAGE_VERSION   instead of the version that gantryd reports
#   DEBFULLNAME, DEBEMAIL    the maintainer; else the author of the last commit
#   GANTRY_PACKAGE_COMPRESSION  xz, or what dpkg-deb -Z takes
#   SOURCE_DATE_EPOCH        time of every file; else that of the last commit
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(realpath "${1:?the directory of the programs}")
mkdir -p "${2:?the directory for the packages}"
out=$(realpath "$2")

version=${GANTRY_PACKAGE_VERSION:-$("$bin/supervisor/gantryd" --version | awk '{ print $2 }')}
architecture=$(dpkg --print-architecture)
last_commit() { git -C "$here" log -1 --format="$1" 2> /dev/null || true; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(last_commit %ct)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$here/build_deb.sh")}
maintainer="${DEBFULLNAME:-} <${DEBEMAIL:-}>"
if [ -z "${DEBEMAIL:-}" ]; then maintainer=$(last_commit '%an <%ae>'); fi
maintainer=${maintainer:-Gantry maintainers <root@localhost.localdomain>}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
tree=$work/gantry symbols=$work/gantry-dbgsym
mkdir -p "$tree/DEBIAN" "$symbols/DEBIAN"

# install_program FROM TO: stripped, with its symbols in the other package.
build_ids=()
install_program() {
  local from=$1 to=$tree/$2 id file
  id=$(readelf -n "$from" | awk '/Build ID:/ { print $3 }')
  file=$symbols/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
  mkdir -p "$(dirname "$to")" "$(dirname "$file")"
  objcopy --only-keep-debug --compress-debug-sections "$from" "$file"
  chmod 644 "$file"
  strip --strip-unneeded --remove-section=.comment --remove-section=.note -o "$to" "$from"
  chmod 755 "$to"
  build_ids+=("$id")
}

# install_text FROM TO, with the words between @ replaced.
install_text() {
  mkdir -p "$(dirname "$tree/$2")"
  sed -e "s|@VERSION@|$version|g" -e "s|@MAINTAINER@|$maintainer|g" \
    -e "s|@DATE@|$(date -u -R -d "@$SOURCE_DATE_EPOCH")|g" "$here/$1" > "$tree/$2"
}

install_program "$bin/ctl/ctl" usr/bin/ctl
install_program "$bin/supervisor/gantryd" usr/bin/gantryd
install_program "$bin/shim/gantry-shim" usr/libexec/gantry/gantry-shim
install_program "$bin/shim/gantry-init" usr/libexec/gantry/gantry-init

for unit in gantry.service gantry.socket gantry-docker.socket; do install_text "systemd/$unit" "lib/systemd/system/$unit"; done
install_text systemd/sysusers.conf usr/lib/sysusers.d/gantry.conf
install_text systemd/tmpfiles.conf usr/lib/tmpfiles.d/gantry.conf
install_text grafana.json usr/share/doc/gantry/grafana.json
install_text config.toml etc/gantry/config.toml
install_text debian/copyright usr/share/doc/gantry/copyright
install_text debian/changelog.in usr/share/doc/gantry/changelog
install_text debian/lintian-overrides usr/share/lintian/overrides/gantry
gzip -9n "$tree/usr/share/doc/gantry/changelog"

# Made by the programs themselves, from the tables that they work by.
completions=(bash usr/share/bash-completion/completions/ctl
  zsh usr/share/zsh/vendor-completions/_ctl
  fish usr/share/fish/vendor_completions.d/ctl.fish)
for ((i = 0; i < ${#completions[@]}; i += 2)); do
  mkdir -p "$(dirname "$tree/${completions[i + 1]}")"
  "$bin/ctl/ctl" completion "${completions[i]}" > "$tree/${completions[i + 1]}"
done
mkdir "$work/man"
"$bin/ctl/ctl" __man "$work/man"
"$bin/supervisor/gantryd" __man "$work/man"
for page in "$work/man"/*; do
  directory=$tree/usr/share/man/man${page##*.}
  mkdir -p "$directory"
  gzip -9nc "$page" > "$directory/$(basename "$page").gz"
done

for script in postinst prerm postrm; do install -m 755 "$here/debian/$script" "$tree/DEBIAN/$script"; done
echo /etc/gantry/config.toml > "$tree/DEBIAN/conffiles"

# dpkg-shlibdeps wants a source tree's control file.
mkdir -p "$work/source/debian"
printf 'Source: gantry\n\nPackage: gantry\nArchitecture: any\n' > "$work/source/debian/control"
shlibs=$(cd "$work/source" && dpkg-shlibdeps -O -e"$tree/usr/bin/ctl" -e"$tree/usr/bin/gantryd" -e"$tree/usr/libexec/gantry/gantry-shim" |
  sed -n 's/^shlibs:Depends=//p')
[ -n "$shlibs" ]

# finish DIRECTORY CONTROL: control file, checksums, one time for all files, and the package.
finish() {
  local size name
  size=$(du -sk --exclude=DEBIAN "$1" | cut -f1)
  sed -e "s|@VERSION@|$version|" -e "s|@ARCHITECTURE@|$architecture|" -e "s|@MAINTAINER@|$maintainer|" -e "s|@SIZE@|$size|" \
    -e "s|@SHLIBS@|$shlibs|" -e "s|@BUILD_IDS@|${build_ids[*]}|" "$here/debian/$2" > "$1/DEBIAN/control"
  (cd "$1" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums)
  find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  name=$(basename "$1")_${version}_$architecture.deb
  dpkg-deb --root-owner-group "-Z${GANTRY_PACKAGE_COMPRESSION:-xz}" --build "$1" "$out/$name" > "$work/dpkg-deb.out" || {
    cat "$work/dpkg-deb.out" >&2
    return 1
  }
  echo "$out/$name"
}

# /usr/share/doc of the symbols is that of the package.
mkdir -p "$symbols/usr/share/doc"
ln -s gantry "$symbols/usr/share/doc/gantry-dbgsym"
finish "$tree" control.in
finish "$symbols" control-dbgsym.in
