#!/usr/bin/env python3
"""./dev test docker: docker's Python library, docker compose and builds with buildx against Gantry's Docker door.

Each check is one function below; the last line is "N passed, N failed, N left out". What needs a client that is not there is left out by
name: docker-py comes with `pip install docker`, compose with a Go toolchain (go_client.sh docker-compose).

The daemon runs in a network and a mount namespace of its own, with root, state and sockets below a temporary directory.

Environment: GANTRY_BIN (built programs, default out/bin), GANTRY_COMPOSE, GANTRY_BUILDX (the programs of go_client.sh), CLIENTS_ONLY (a
word: only checks with it in their names).
"""
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "bench"))
sys.path.insert(0, HERE)
from peers import Daemon, enter_namespaces, have, install, make_state, mount_free_controllers, unmount_below  # noqa: E402
from parity import make_busybox, start_registry  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
ONLY = os.environ.get("CLIENTS_ONLY", "")
IMAGE = "bb:1"
REGISTRY = "127.0.0.1:5055"


class World:
    def __init__(self, work, sock, compose):
        self.work, self.sock, self.compose_program = work, sock, compose
        self.env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=work + "/config")
        self.client = None
        try:
            import docker
            self.docker = docker
            self.client = docker.DockerClient(base_url="unix://" + sock, version="auto", timeout=60)
        except (ImportError, AttributeError):  # a directory of that name is a module, too
            self.docker = None

    def compose(self, directory, *argv, code=0):
        done = subprocess.run([self.compose_program] + list(argv), cwd=directory, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, timeout=180)
        if code is not None and done.returncode != code:
            raise AssertionError("compose %s: code %d\n%s\n%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
        return done

    # The command line with its plugins.
    def docker_cli(self, directory, *argv, code=0, env=None, binary=False):
        done = subprocess.run(["docker"] + list(argv), cwd=directory, env=dict(self.env, **(env or {})), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=not binary, timeout=180)
        if done.returncode != code:
            raise AssertionError("docker %s: code %d\n%s\n%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
        return done

    def spawn_docker(self, directory, *argv):
        return subprocess.Popen(["docker"] + list(argv), cwd=directory, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)

    def project(self, name, text, **files):
        directory = os.path.join(self.work, name)
        os.makedirs(directory)
        open(directory + "/compose.yaml", "w").write(text)
        for file, content in files.items():
            open(os.path.join(directory, file), "w").write(content)
        return directory


def equal(a, b):
    if a != b:
        raise AssertionError("%r, not %r" % (a, b))


def true(value, what=""):
    if not value:
        raise AssertionError(what or "not so")


# --- docker-py

def py_system(w):
    true(w.client.ping())
    equal(w.client.version()["ApiVersion"], "1.51")
    info = w.client.info()
    equal(info["Swarm"]["LocalNodeState"], "inactive")
    true(["driver-type", "io.containerd.snapshotter.v1"] in info["DriverStatus"], "the image store does not say what it is")
    true("Images" in w.client.df())


def py_images(w):
    image = w.client.images.get(IMAGE)
    true(IMAGE in image.tags)
    true(image.tag("py/image", "2"))
    equal([one.id for one in w.client.images.list(name="py/image")], [image.id])
    true(len(image.history()) >= 1)
    equal(w.client.images.get("py/image:2").id, image.id)
    w.client.images.remove("py/image:2")
    try:
        w.client.images.get("py/image:2")
        raise AssertionError("a removed image is there")
    except w.docker.errors.ImageNotFound:
        pass


def py_save_load(w):
    image = w.client.images.get(IMAGE)
    archive = b"".join(image.save(named=True))
    true(len(archive) > 100000)
    loaded = w.client.images.load(archive)
    equal([one.id for one in loaded], [image.id])


def py_import(w):
    with open(w.work + "/root.tar", "rb") as data:
        w.client.api.import_image_from_data(data.read(), repository="py-imported", tag="1")
    equal(w.client.containers.run("py-imported:1", ["echo", "in"], remove=True), b"in\n")
    w.client.images.remove("py-imported:1")


def py_push_pull(w):
    w.client.images.get(IMAGE).tag(REGISTRY + "/py", "1")
    lines = list(w.client.images.push(REGISTRY + "/py", "1", stream=True, decode=True))
    true(any("aux" in line for line in lines), lines)
    true(not any("error" in line for line in lines), lines)
    w.client.images.remove(REGISTRY + "/py:1")
    pulled = w.client.images.pull(REGISTRY + "/py", tag="1")
    true(REGISTRY + "/py:1" in pulled.tags, pulled.tags)
    true(w.client.images.get_registry_data(REGISTRY + "/py:1").id.startswith("sha256:"))
    w.client.images.remove(REGISTRY + "/py:1")


def py_run(w):
    equal(w.client.containers.run(IMAGE, ["echo", "hello"], remove=True), b"hello\n")
    try:
        w.client.containers.run(IMAGE, ["sh", "-c", "exit 7"], remove=True)
        raise AssertionError("no error")
    except w.docker.errors.ContainerError as error:
        equal(error.exit_status, 7)


def py_life(w):
    box = w.client.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2; sleep 600"], name="py-life", detach=True, labels={"a": "b"})
    try:
        equal([one.name for one in w.client.containers.list(filters={"label": "a=b"})], ["py-life"])
        code, output = box.exec_run(["echo", "inside"])
        equal((code, output), (0, b"inside\n"))
        deadline = time.monotonic() + 20
        while b"err" not in box.logs() and time.monotonic() < deadline:
            pass
        equal(box.logs(stderr=False), b"out\n")
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            info = tarfile.TarInfo("note")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"note"))
        true(box.put_archive("/tmp", data.getvalue()))
        bits, stat = box.get_archive("/tmp/note")
        equal(stat["size"], 4)
        true(len(b"".join(bits)) >= 1024)
        true(box.stats(stream=False)["memory_stats"]["usage"] > 0)
        box.pause()
        box.unpause()
        box.rename("py-life2")
        box.stop(timeout=0)
        box.reload()
        equal(box.status, "exited")
    finally:
        box.remove(force=True, v=True)


def py_network(w):
    network = w.client.networks.create("py-net", driver="bridge", labels={"n": "1"}, ipam=w.docker.types.IPAMConfig(
        pool_configs=[w.docker.types.IPAMPool(subnet="10.88.0.0/16", gateway="10.88.0.1")]))
    box = w.client.containers.run(IMAGE, ["sleep", "600"], detach=True, network="py-net")
    try:
        network.reload()
        equal([one.id for one in network.containers], [box.id])
        equal([one.name for one in w.client.networks.list(filters={"label": "n=1"})], ["py-net"])
        network.disconnect(box)
        network.connect(box, aliases=["other"], ipv4_address="10.88.0.77")
        box.reload()
        equal(box.attrs["NetworkSettings"]["Networks"]["py-net"]["IPAddress"], "10.88.0.77")
        try:
            network.remove()
            raise AssertionError("a network in use was removed")
        except w.docker.errors.APIError as error:
            equal(error.status_code, 403)
    finally:
        box.remove(force=True)
        network.remove()


def py_volume(w):
    volume = w.client.volumes.create("py-vol", labels={"v": "1"})
    try:
        w.client.containers.run(IMAGE, ["sh", "-c", "echo kept > /d/x"], remove=True, volumes={"py-vol": {"bind": "/d", "mode": "rw"}})
        equal(w.client.containers.run(IMAGE, ["cat", "/d/x"], remove=True, volumes={"py-vol": {"bind": "/d", "mode": "ro"}}), b"kept\n")
        equal([one.name for one in w.client.volumes.list(filters={"label": "v=1"})], ["py-vol"])
    finally:
        volume.remove()
    try:
        w.client.volumes.get("py-vol")
        raise AssertionError("a removed volume is there")
    except w.docker.errors.NotFound:
        pass


def py_events(w):
    events = w.client.events(decode=True, filters={"type": "container", "image": IMAGE})
    seen = []

    def follow():
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    w.client.containers.run(IMAGE, ["true"], remove=True)
    thread.join(20)
    events.close()
    equal([one for one in seen if one in ("create", "start", "die", "destroy")], ["create", "start", "die", "destroy"])


def py_commit(w):
    box = w.client.containers.create(IMAGE, ["true"])
    try:
        image = box.commit("py-made", "1", message="note", author="me", conf={"Cmd": ["echo", "made"], "Env": ["A=b c"]})
        equal(image.attrs["Config"]["Cmd"], ["echo", "made"])
        true("A=b c" in image.attrs["Config"]["Env"], image.attrs["Config"])
        equal(w.client.containers.run("py-made:1", remove=True), b"made\n")
    finally:
        box.remove()
        w.client.images.remove("py-made:1")


# --- compose

TWO = """
services:
  web:
    image: bb:1
    command: ["sh", "-c", "echo ready; exec busybox httpd -f -p 80 -h /srv"]
    ports: ["127.0.0.1:18123:80"]
    volumes: ["./index.html:/srv/index.html:ro", "data:/data"]
    environment: {WHO: web}
    depends_on:
      db: {condition: service_healthy}
  db:
    image: bb:1
    command: ["sleep", "600"]
    healthcheck: {test: ["CMD", "true"], interval: 1s, retries: 3}
    networks: {default: {aliases: [database]}}
volumes:
  data:
"""


def compose_two(w):
    directory = w.project("two", TWO, **{"index.html": "hello from compose\n"})
    try:
        w.compose(directory, "up", "-d")
        listed = w.compose(directory, "ps", "--format", "{{.Service}} {{.State}}").stdout.split("\n")
        equal(sorted(line for line in listed if line), ["db running", "web running"])
        true("ready" in w.compose(directory, "logs", "--no-log-prefix", "web").stdout)
        equal(w.compose(directory, "exec", "-T", "web", "sh", "-c", "echo $WHO").stdout, "web\n")
        true(w.compose(directory, "exec", "-T", "web", "busybox", "nslookup", "database").returncode == 0)
        page = subprocess.run(["curl", "-s", "--max-time", "10", "http://127.0.0.1:18123/"], stdout=subprocess.PIPE, text=True).stdout
        equal(page, "hello from compose\n")
        again = w.compose(directory, "up", "-d").stderr
        true("Recreate" not in again and "Started" not in again, "the second up changed something: " + again)
        equal(w.compose(directory, "run", "--rm", "-T", "db", "echo", "once").stdout, "once\n")
        w.compose(directory, "restart", "-t", "0", "db")
        equal(w.compose(directory, "port", "web", "80").stdout, "127.0.0.1:18123\n")
        w.compose(directory, "stop", "-t", "0")
        w.compose(directory, "start")
    finally:
        w.compose(directory, "down", "-v", "-t", "0")
    equal(w.compose(directory, "ps", "-aq").stdout, "")
    equal([one for one in w.client.volumes.list() if one.name.startswith("two_")] if w.client else [], [])


def compose_scale(w):
    directory = w.project("scale", "services:\n  w:\n    image: bb:1\n    command: [sleep, '600']\n")
    try:
        w.compose(directory, "up", "-d", "--scale", "w=3")
        equal(len(w.compose(directory, "ps", "-q").stdout.split()), 3)
        w.compose(directory, "up", "-d", "--scale", "w=1", "-t", "0")
        equal(len(w.compose(directory, "ps", "-q").stdout.split()), 1)
    finally:
        w.compose(directory, "down", "-t", "0")


def compose_recreate(w):
    text = "services:\n  w:\n    image: bb:1\n    command: [sleep, '600']\n    environment: {A: '%s'}\n    init: true\n"
    directory = w.project("recreate", text % "1")
    try:
        w.compose(directory, "up", "-d")
        first = w.compose(directory, "ps", "-q").stdout
        open(directory + "/compose.yaml", "w").write(text % "2")
        w.compose(directory, "up", "-d", "-t", "0")
        second = w.compose(directory, "ps", "-q").stdout
        true(first != second, "the container was not made anew")
        equal(w.compose(directory, "exec", "-T", "w", "sh", "-c", "echo $A").stdout, "2\n")
    finally:
        w.compose(directory, "down", "-t", "0")


def compose_attached(w):
    directory = w.project("attached", "services:\n  a:\n    image: bb:1\n    command: [echo, from-a]\n  b:\n    image: bb:1\n"
                          "    command: [sh, -c, 'exit 3']\n    depends_on: {a: {condition: service_completed_successfully}}\n")
    try:
        done = w.compose(directory, "up", "--exit-code-from", "b", code=None)
        equal(done.returncode, 3)
        true("from-a" in done.stdout, done.stdout)
    finally:
        w.compose(directory, "down", "-t", "0")


def compose_networks(w):
    directory = w.project("nets", """
services:
  front:
    image: bb:1
    command: [sleep, '600']
    networks: [outer]
  middle:
    image: bb:1
    command: [sleep, '600']
    networks: {outer: {}, inner: {ipv4_address: 10.99.0.9}}
  back:
    image: bb:1
    command: [sleep, '600']
    networks: [inner]
networks:
  outer:
  inner: {internal: true, ipam: {config: [{subnet: 10.99.0.0/24}]}}
""")
    try:
        w.compose(directory, "up", "-d")
        w.compose(directory, "exec", "-T", "front", "busybox", "nslookup", "middle")
        true(w.compose(directory, "exec", "-T", "front", "busybox", "nslookup", "back", code=None).returncode != 0, "back is seen from outside")
        true("10.99.0.9" in w.compose(directory, "exec", "-T", "back", "busybox", "nslookup", "middle").stdout)
    finally:
        w.compose(directory, "down", "-t", "0")


# --- builds

DOCKERFILE = """FROM bb:1 AS base
ARG V=1
RUN echo built $V > /out
FROM bb:1
COPY --from=base /out /out
COPY . /c
RUN --mount=type=secret,id=tok wc -c < /run/secrets/tok > /s
CMD ["cat", "/out", "/c/file", "/s"]
"""


def build_project(w, name):
    directory = os.path.join(w.work, name)
    os.makedirs(directory)
    for file, content in {"Dockerfile": DOCKERFILE, "file": "content\n", "x.log": "no\n", ".dockerignore": "*.log\nDockerfile\n", "tok": "s3cret"}.items():
        open(os.path.join(directory, file), "w").write(content)
    return directory


def build_docker(w):
    directory = build_project(w, "docker-build")
    argv = ["build", "--progress", "plain", "--secret", "id=tok,src=tok", "--build-arg", "V=7", "-t", "built:1"]
    done = w.docker_cli(directory, *argv, ".")
    true("naming to built:1" in done.stderr, done.stderr)
    equal(w.docker_cli(directory, "run", "--rm", "built:1").stdout, "built 7\ncontent\n6\n")
    equal(w.docker_cli(directory, "run", "--rm", "built:1", "ls", "-A", "/c").stdout, ".dockerignore\nfile\ntok\n")
    true("CACHED" in w.docker_cli(directory, *argv, ".").stderr, "nothing came from the cache")
    w.docker_cli(directory, *argv, "--iidfile", "id", "--metadata-file", "meta", ".")
    true(open(directory + "/id").read().startswith("sha256:"))
    true("containerimage.digest" in open(directory + "/meta").read())
    w.docker_cli(directory, "build", "--target", "base", "-o", "files", ".")
    equal(open(directory + "/files/out").read(), "built 1\n")
    with tarfile.open(fileobj=io.BytesIO(w.docker_cli(directory, "build", "--target", "base", "-o", "type=tar", ".", binary=True).stdout)) as tar:
        true("out" in tar.getnames(), tar.getnames())
    open(directory + "/bad", "w").write("FROM bb:1\nRUN exit 3\n")
    failed = w.docker_cli(directory, "build", "-f", "bad", ".", code=1)
    true(">>> RUN exit 3" in failed.stderr and "exit code: 3" in failed.stderr, failed.stderr)


def build_buildx(w):
    directory = build_project(w, "buildx")
    open(directory + "/bake.hcl", "w").write('group "default" { targets = ["x", "y"] }\ntarget "x" {\n  target = "base"\n  tags = ["x:1"]\n}\n'
                                            'target "y" {\n  target = "base"\n  args = { V = "2" }\n  tags = ["y:1"]\n}\n')
    w.docker_cli(directory, "buildx", "bake", "-f", "bake.hcl")
    equal(w.docker_cli(directory, "run", "--rm", "y:1", "cat", "/out").stdout, "built 2\n")
    true("linux/" in w.docker_cli(directory, "buildx", "inspect").stdout)
    true("RUN" in w.docker_cli(directory, "buildx", "du", "--verbose").stdout)
    true("Completed" in w.docker_cli(directory, "buildx", "history", "ls").stdout)
    w.docker_cli(directory, "builder", "prune", "-af")
    true("RUN" not in w.docker_cli(directory, "buildx", "du", "--verbose").stdout)


def build_interrupted(w):
    directory = build_project(w, "interrupted")
    open(directory + "/slow", "w").write("FROM bb:1\nRUN sleep 600\n")
    for how in (signal.SIGINT, signal.SIGKILL):
        build = w.spawn_docker(directory, "build", "-f", "slow", ".")
        deadline = time.monotonic() + 60
        while not w.docker_cli(directory, "ps", "-q").stdout and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(build.pid, how)
        build.wait(timeout=60)
        while w.docker_cli(directory, "ps", "-aq").stdout and time.monotonic() < deadline:
            time.sleep(0.1)
        equal(w.docker_cli(directory, "ps", "-aq").stdout, "")


def build_compose(w):
    directory = build_project(w, "compose-build")
    open(directory + "/compose.yaml", "w").write("services:\n  a:\n    build: {context: ., target: base, args: {V: '9'}}\n    command: cat /out\n"
                                                 "  b:\n    build:\n      context: .\n      dockerfile_inline: |\n        FROM bb:1\n        RUN echo inline > /in\n"
                                                 "    command: cat /in\n")
    for bake in ("true", "false"):
        try:
            w.docker_cli(directory, "compose", "build", "--no-cache", env={"COMPOSE_BAKE": bake})
            done = w.docker_cli(directory, "compose", "up", "--build", env={"COMPOSE_BAKE": bake})
            true("built 9" in done.stdout and "inline" in done.stdout, done.stdout)
        finally:
            w.docker_cli(directory, "compose", "down", "--rmi", "all", "-t", "0")


CHECKS = [one for name, one in list(globals().items()) if name.startswith(("py_", "compose_", "build_")) and name != "build_project"]


# Makes buildx and compose plugins of docker's command line. False: one of these is not there.
def add_plugins(work, compose):
    buildx = os.environ.get("GANTRY_BUILDX", "")
    if not compose or not buildx or shutil.which("docker") is None:
        return False
    version = subprocess.run(["docker", "--version"], stdout=subprocess.PIPE, text=True).stdout.split()
    if len(version) < 3 or int(version[2].split(".")[0]) < 23:
        return False
    os.makedirs(work + "/config/cli-plugins")
    shutil.copy(buildx, work + "/config/cli-plugins/docker-buildx")
    shutil.copy(compose, work + "/config/cli-plugins/docker-compose")
    return True


def main():
    enter_namespaces()
    compose = os.environ.get("GANTRY_COMPOSE", "")
    work = tempfile.mkdtemp(prefix="gantry-clients.", dir="/tmp")
    daemons, passed, failed, left = [], 0, 0, 0
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        registry = have("docker-registry")
        if registry:
            daemons.append(start_registry(work))
        sock = state + "/docker.sock"
        address = state + "/gantry.sock"
        ctl = [programs + "/ctl", "--address", address]
        daemon = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address, "--docker-address", sock,
                         "--shim", programs + "/gantry-shim"], ctl + ["version"], work + "/gantryd.log")
        daemon.start()
        daemons.append(daemon)
        subprocess.run(ctl + ["load", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        world = World(work, sock, compose)
        plugins = add_plugins(work, compose)
        for check in CHECKS:
            name = check.__name__
            if ONLY not in name:
                continue
            if name.startswith("build_") and not plugins:
                print("left out: %s: no docker command line 23 or later, buildx or docker-compose" % name)
                left += 1
                continue
            if (name.startswith("py_") and world.client is None) or (name.startswith("compose_") and not compose) or (
                    name == "py_push_pull" and not registry):
                print("left out: %s: %s" % (name, "no docker-py" if name.startswith("py_") else "no docker-compose"))
                left += 1
                continue
            begin = time.monotonic()
            try:
                check(world)
                passed += 1
                print("passed: %s (%.1f s)" % (name, time.monotonic() - begin), flush=True)
            except Exception:
                failed += 1
                print("FAILED: %s" % name)
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
        ids = subprocess.run(ctl + ["ps", "-aq"], stdout=subprocess.PIPE, text=True).stdout.split()
        if ids:
            subprocess.run(ctl + ["rm", "-f"] + ids, stdout=subprocess.DEVNULL)
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
        if os.environ.get("CLIENTS_LOG"):
            shutil.copy(work + "/gantryd.log", os.environ["CLIENTS_LOG"])
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    print("%d passed, %d failed, %d left out" % (passed, failed, left))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
