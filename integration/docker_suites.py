#!/usr/bin/env python3
"""./dev test docker: foreign suites and programs on Gantry's Docker door, as their authors wrote them.

    docker-py         the integration tests of docker's Python library, but what docker_suites.list leaves out, each with its reason
    testcontainers    containers that wait for their log, a port and a command, as the library's users write them
    docker-compose-1  docker-compose 1.29 as Debian has it: a project's life

foreign.sh brings them; what cannot be had is left out by name. The images that they pull from Docker Hub come from a registry on loopback,
made of busybox. The last line is "N passed, N failed, N left out".

The daemon runs in a network and a mount namespace of its own, with root, state and sockets below a temporary directory.

Environment: GANTRY_BIN (built programs, default out/bin), SUITES_ONLY (a suite's name, or one and a word behind a colon: only the tests with
it in their names), SUITES_TESTS (a directory with other integration tests of docker-py), SUITES_LOG (a file for the daemon's log).
"""
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "bench"))
sys.path.insert(0, HERE)
from peers import Daemon, enter_namespaces, have, install, make_state, mount_free_controllers, unmount_below  # noqa: E402
from parity import make_busybox, start_registry  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
ONLY, _, WORD = os.environ.get("SUITES_ONLY", "").partition(":")
LIST = os.path.join(HERE, "docker_suites.list")
IMAGE = "bb:1"
REGISTRY = "127.0.0.1:5055"
HUB = ["alpine:3.10", "alpine:latest", "busybox:latest", "busybox:1", "hello-world:latest"]
SECONDS = 900  # for one suite


def make_hub_image(work, ctl, name):
    """One of Docker Hub's as far as the suites look at it, each with a digest of its own. hello-world is not here before it is pulled."""
    root = work + "/busybox"
    for directory in ("etc", "var/opt", "proc", "sys", "dev", "root", "home", "usr/bin"):
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    open(root + "/etc/passwd", "w").write("root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70::/home:/bin/sh\n")
    open(root + "/etc/group", "w").write("root:x:0:\npostgres:x:70:\n")
    open(root + "/etc/name", "w").write(name + "\n")
    subprocess.run(["tar", "-C", root, "-cf", work + "/hub.tar", "."], check=True)
    there = "%s/library/%s" % (REGISTRY, name)
    command = 'CMD ["echo", "hello"]' if name.startswith("hello") else 'CMD ["sh"]'
    subprocess.run(ctl + ["import", "-c", command, work + "/hub.tar", there], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(ctl + ["push", there], check=True, stdout=subprocess.DEVNULL)
    if not name.startswith("hello"):
        subprocess.run(ctl + ["tag", there, name], check=True)
    subprocess.run(ctl + ["rmi", there], check=True, stdout=subprocess.DEVNULL)


class World:
    def __init__(self, work, sock, ctl):
        self.work, self.sock, self.ctl = work, sock, ctl
        self.env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=work + "/config", PYTHONDONTWRITEBYTECODE="1")
        for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
            self.env.pop(name, None)
        os.makedirs(work + "/config")


def foreign(name):
    done = subprocess.run([HERE + "/foreign.sh", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    print("left out: %s: %s" % (name, done.stderr.strip().split("\n")[-1]))
    return None


def left_out():
    """Patterns of docker_suites.list."""
    out = []
    for line in open(LIST):
        line = line.strip()
        if line and not line.startswith("#"):
            pattern, _, why = line.partition(" ||| ")
            assert why, line
            out.append(pattern)
    return out


def docker_py(w, kept):
    tests = os.environ.get("SUITES_TESTS", kept + "/tests")
    place = w.work + "/docker-py"
    os.makedirs(place)
    shutil.copytree(tests, place + "/tests")
    # The version that dockerd had when these tests were written.
    env = dict(w.env, PYTHONPATH=kept + "/lib", HOME=place, DOCKER_TEST_API_VERSION="1.41")
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", place, "-W", "ignore::DeprecationWarning"]
    found = subprocess.run(pytest + ["--collect-only", "tests/integration"], cwd=place, env=env, stdout=subprocess.PIPE, text=True).stdout
    names = [line for line in found.split("\n") if "::" in line]
    patterns = left_out()
    used, run, left = set(), [], 0
    for name in names:
        matching = [pattern for pattern in patterns if fnmatch.fnmatch(name, pattern)]
        if matching:
            used.update(matching)
            left += 1
        elif not WORD or WORD in name:
            run.append(name)
    for pattern in patterns:
        if pattern not in used:
            print("docker_suites.list: no test is called %s" % pattern)
    print("docker-py: %d tests, %d left out" % (len(names), left), flush=True)
    if not run:
        return 0, 1, left
    done = subprocess.run(pytest + ["-rfE", "--tb=short", "-o", "faulthandler_timeout=120"] + run, cwd=place, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
    print(done.stdout[-60000:], flush=True)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout.strip().split("\n")[-1])}
    failed = counts.get("failed", 0) + counts.get("error", 0)
    return counts.get("passed", 0), failed if counts else 1, left + counts.get("skipped", 0)


TESTCONTAINERS = """
import time, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import wait_for_logs
from testcontainers.core.image import DockerImage

def check(name, function):
    function()
    print("passed:", name, flush=True)

def log():
    with DockerContainer("busybox:latest").with_command("sh -c 'sleep 1; echo ready; sleep 600'") as one:
        wait_for_logs(one, "ready", timeout=30)
        assert one.exec(["echo", "in"]).output == b"in\\n"
        assert one.exec(["sh", "-c", "exit 3"]).exit_code == 3

def port():
    web = DockerContainer("busybox:latest").with_exposed_ports(80).with_env("TEXT", "hello").with_command(
        "sh -c 'mkdir /www; echo $TEXT > /www/index.html; busybox httpd -f -p 80 -h /www'")
    with web:
        url = "http://%s:%s/" % (web.get_container_host_ip(), web.get_exposed_port(80))
        for attempt in range(100):
            try:
                text = urllib.request.urlopen(url, timeout=5).read()
                break
            except OSError as error:
                last = error
                time.sleep(0.1)
        else:
            raise last
        assert text == b"hello\\n", text

def network():
    with Network() as net:
        with DockerContainer("busybox:latest").with_network(net).with_network_aliases("first").with_command("sleep 600"):
            with DockerContainer("busybox:latest").with_network(net).with_command("sleep 600") as second:
                assert second.exec(["nslookup", "first"]).exit_code == 0

def volume(tmp):
    with open(tmp + "/note", "w") as note:
        note.write("noted")
    with DockerContainer("busybox:latest").with_volume_mapping(tmp, "/data", "ro").with_command("sleep 600") as one:
        assert one.exec(["cat", "/data/note"]).output == b"noted"
        assert one.exec(["touch", "/data/x"]).exit_code != 0

def build(tmp):
    with open(tmp + "/Dockerfile", "w") as file:
        file.write("FROM busybox:latest\\nRUN echo built > /built\\nCMD [\\"cat\\", \\"/built\\"]\\n")
    with DockerImage(path=tmp, tag="tc-built:1") as image:
        with DockerContainer(str(image)) as one:
            wait_for_logs(one, "built", timeout=30)

import sys
check("log", log)
check("port", port)
check("network", network)
check("volume", lambda: volume(sys.argv[1]))
check("build", lambda: build(sys.argv[2]))
"""


def testcontainers(w, kept):
    env = dict(w.env, PYTHONPATH=kept + "/lib", TESTCONTAINERS_RYUK_DISABLED="true", TESTCONTAINERS_HOST_OVERRIDE="127.0.0.1", no_proxy="*")
    directories = [w.work + "/tc-volume", w.work + "/tc-build"]
    for directory in directories:
        os.makedirs(directory)
    done = subprocess.run([sys.executable, "-c", TESTCONTAINERS] + directories, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=SECONDS)
    print(done.stdout, flush=True)
    passed = len([line for line in done.stdout.split("\n") if line.startswith("passed:")])
    return passed, 0 if done.returncode == 0 else 1, 0


PROJECT = """
version: "2.4"
services:
  db:
    image: busybox:latest
    command: sh -c "touch /tmp/up; sleep 600"
    healthcheck: {test: ["CMD", "test", "-e", "/tmp/up"], interval: 1s, timeout: 5s, retries: 20}
    volumes: ["data:/data"]
  web:
    image: busybox:latest
    command: sh -c "echo served; mkdir -p /www; echo page > /www/index.html; busybox httpd -f -p 80 -h /www"
    depends_on: {db: {condition: service_healthy}}
    environment: {NAME: web}
    ports: ["80"]
    networks: {default: {aliases: [front]}}
  built:
    build: .
    command: sleep 600
volumes:
  data:
"""


def docker_compose_1(w, kept):
    directory = w.work + "/project1"
    os.makedirs(directory)
    open(directory + "/docker-compose.yml", "w").write(PROJECT)
    open(directory + "/Dockerfile", "w").write("FROM busybox:latest\nRUN echo built > /built\n")
    env = dict(w.env, PYTHONPATH=kept + "/lib", COMPOSE_HTTP_TIMEOUT="60")

    def compose(*argv, code=0):
        done = subprocess.run([sys.executable, kept + "/bin/docker-compose"] + list(argv), cwd=directory, env=env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=180)
        if code is not None and done.returncode != code:
            raise AssertionError("docker-compose %s: code %d\n%s\n%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
        return done

    def ids():
        return sorted(compose("ps", "-q").stdout.split())

    def true(value, what):
        if not value:
            raise AssertionError(what)

    def up():
        compose("up", "-d")
        true(len(ids()) == 3, compose("ps").stdout)

    def again():
        before = ids()
        done = compose("up", "-d")
        true(ids() == before and "up-to-date" in done.stderr, done.stderr)

    def looked_at():
        text = compose("ps").stdout
        true("Up (healthy)" in text and "80/tcp" in text, text)
        true("served" in compose("logs", "web").stdout, "logs")
        true("sleep 600" in compose("top", "db").stdout, "top")
        true(":" in compose("port", "web", "80").stdout, "port")
        true("busybox" in compose("images").stdout, "images")
        compose("config", "-q")

    def used():
        true(compose("exec", "-T", "built", "cat", "/built").stdout == "built\n", "exec")
        compose("exec", "-T", "db", "busybox", "nslookup", "front")
        true(compose("exec", "-T", "db", "sh", "-c", "exit 7", code=None).returncode == 7, "exit code of exec")
        true("web" in compose("run", "--rm", "-T", "web", "sh", "-c", "echo $NAME").stdout, "run")

    def changed():
        compose("up", "-d", "--scale", "built=3")
        true(len(ids()) == 5, compose("ps").stdout)
        compose("up", "-d", "--scale", "built=1")
        compose("restart", "-t", "0", "web")
        compose("pause", "db")
        compose("unpause", "db")
        compose("stop", "-t", "0", "db")
        compose("start", "db")
        compose("kill", "built")
        compose("rm", "-f", "built")
        file = open(directory + "/docker-compose.yml").read()
        open(directory + "/docker-compose.yml", "w").write(file.replace("NAME: web", "NAME: other"))
        before = ids()
        compose("up", "-d", "-t", "0")
        true(len(set(before) & set(ids())) == 1, "only what changed is made anew")
        compose("pull", "web")

    def down():
        compose("down", "-v", "-t", "0", "--rmi", "local")
        true(ids() == [], "containers are left")
        left = subprocess.run(w.ctl + ["volume", "ls", "-q"], stdout=subprocess.PIPE, text=True).stdout
        true("project1_data" not in left, left)

    passed = failed = 0
    for step in (up, again, looked_at, used, changed, down):
        try:
            step()
            passed += 1
            print("passed: %s" % step.__name__, flush=True)
        except Exception:
            failed += 1
            print("FAILED: %s" % step.__name__)
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
    return passed, failed, 0


SUITES = {"docker-py": docker_py, "testcontainers": testcontainers, "docker-compose-1": docker_compose_1}


def main():
    enter_namespaces()
    wanted = {name: foreign(name) for name in SUITES if ONLY in ("", name)}
    passed, failed, left = 0, 0, sum(kept is None for kept in wanted.values())
    if not have("docker-registry"):
        raise SystemExit("suites: docker-registry is not installed: ./dev setup")
    work = tempfile.mkdtemp(prefix="gantry-suites.", dir="/tmp")
    daemons = []
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        daemons.append(start_registry(work))
        # Docker Hub is the registry here.
        os.makedirs(work + "/hosts/docker.io")
        open(work + "/hosts/docker.io/hosts.toml", "w").write(
            'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' % (REGISTRY, REGISTRY))
        open(work + "/config.toml", "w").write('[registry]\nconfig_path = "%s/hosts"\n' % work)
        sock, address = state + "/docker.sock", state + "/gantry.sock"
        ctl = [programs + "/ctl", "--address", address]
        daemon = Daemon([programs + "/gantryd", "--config", work + "/config.toml", "--root", work + "/root", "--state", state + "/gantry", "--address",
                         address, "--docker-address", sock, "--shim", programs + "/gantry-shim"], ctl + ["version"], work + "/gantryd.log")
        daemon.start()
        daemons.append(daemon)
        subprocess.run(ctl + ["load", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        for name in HUB:
            make_hub_image(work, ctl, name)
        world = World(work, sock, ctl)
        for name, kept in wanted.items():
            if kept is None:
                continue
            begin = time.monotonic()
            print("== %s" % name, flush=True)
            try:
                p, f, l = SUITES[name](world, kept)
            except subprocess.TimeoutExpired as late:
                print("FAILED: %s did not end\n%s" % (name, (late.stdout or b"")[-20000:]))
                p, f, l = 0, 1, 0
            passed, failed, left = passed + p, failed + f, left + l
            print("%s: %d passed, %d failed, %d left out, %.0f s" % (name, p, f, l, time.monotonic() - begin), flush=True)
        ids = subprocess.run(ctl + ["ps", "-aq"], stdout=subprocess.PIPE, text=True).stdout.split()
        if ids:
            subprocess.run(ctl + ["rm", "-f"] + ids, stdout=subprocess.DEVNULL)
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
        if os.environ.get("SUITES_LOG") and os.path.exists(work + "/gantryd.log"):
            shutil.copy(work + "/gantryd.log", os.environ["SUITES_LOG"])
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    print("%d passed, %d failed, %d left out" % (passed, failed, left))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
