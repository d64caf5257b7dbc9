#!/usr/bin/env bash
# Brings a foreign program or suite that is used in tests and prints its directory: foreign.sh NAME. Done once: the result is kept below
# ${XDG_CACHE_HOME:-~/.cache}/gantry, nothing is installed. Needs pip and a package index, or apt's; when they are missing, standard
# error says so in its last line.
#
#   docker-py         lib: docker's Python library and pytest; tests: the integration tests of the library
#   testcontainers    lib: testcontainers for Python
#   docker-compose-1  lib: docker-compose 1.29 and what it is made of, as Debian has it; bin/docker-compose
set -euo pipefail

docker_py=7.1.0
docker_py_tests=6.1.3 # the last one whose archive has them
testcontainers=4.15.0
compose=1.29.2
compose_packages=(
  docker-compose python3-attr python3-cached-property python3-certifi python3-chardet python3-charset-normalizer python3-distro
  python3-docker python3-dockerpty python3-docopt python3-dotenv python3-idna python3-jsonschema python3-pkg-resources
  python3-pyrsistent python3-requests python3-six python3-texttable python3-urllib3 python3-websocket python3-yaml
)

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

name=${1:-}
case $name in
  docker-py) version=$docker_py-$docker_py_tests ;;
  testcontainers) version=$testcontainers ;;
  docker-compose-1) version=$compose ;;
  *) fail "foreign.sh: docker-py, testcontainers or docker-compose-1, not \"$name\"" ;;
esac
limit=300 # seconds, for a network that swallows packets
kept=${XDG_CACHE_HOME:-$HOME/.cache}/gantry/$name-$version
if [ -d "$kept" ]; then
  echo "$kept"
  exit 0
fi
mkdir -p "$(dirname "$kept")"
work=$(mktemp -d "$kept.XXXXXX")
trap 'rm -rf "$work"' EXIT

# try WHAT COMMAND...: the command, or the reason why there is none of it.
try() {
  local what=$1
  shift
  if ! timeout "$limit" "$@" > "$work/log" 2>&1; then
    tail -n 20 "$work/log" >&2
    fail "$what cannot be had here"
  fi
}

pip=(python3 -m pip --disable-pip-version-check --quiet)
case $name in
  docker-py)
    try "docker $docker_py for Python" "${pip[@]}" install --target "$work/lib" "docker==$docker_py" pytest paramiko websocket-client
    try "the tests of docker $docker_py_tests for Python" "${pip[@]}" download --no-deps --no-binary :all: -d "$work" "docker==$docker_py_tests"
    tar -C "$work" -xzf "$work/docker-$docker_py_tests.tar.gz" --strip-components 1 "docker-$docker_py_tests/tests"
    rm -f "$work/docker-$docker_py_tests.tar.gz"
    ;;
  testcontainers)
    try "testcontainers $testcontainers for Python" "${pip[@]}" install --target "$work/lib" "testcontainers==$testcontainers"
    ;;
  docker-compose-1)
    cd "$work"
    try "Debian's docker-compose" apt-get -o APT::Sandbox::User=root download "${compose_packages[@]}"
    for package in ./*.deb; do dpkg -x "$package" root; done
    mv root/usr/lib/python3/dist-packages lib
    mkdir bin
    mv root/usr/bin/docker-compose bin/
    rm -rf root ./*.deb
    ;;
esac
rm -f "$work/log"
chmod 755 "$work"
mv "$work" "$kept"
trap - EXIT
echo "$kept"
