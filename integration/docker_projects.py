#!/usr/bin/env python3
"""./dev test docker: ten projects as people have them, driven by docker compose v2 and by docker-compose 1.29 through Gantry's Docker door, by
ctl compose, and by two of them in turn.

Each project (docker/projects.py) is brought up, looked at in its own way, listed, logged, executed in, run once, restarted, stopped, started,
brought up a second time, which must change nothing, and taken down, which must leave nothing. One more must be refused: a service in a
network that nobody declares. Where two take turns, what one has made the other lists, leaves as it is, changes and takes down. The last line is "N passed, N failed, N left out".

The daemon runs in a network and a mount namespace of its own, with root, state and sockets below a temporary directory.

Environment: GANTRY_BIN (built programs, default out/bin), GANTRY_COMPOSE (the program of go_client.sh docker-compose), PROJECTS_ONLY (a
comma-separated list of projects), PROJECTS_TOOLS (of v2, v1, ctl, v2+ctl and ctl+v2; default all), PROJECTS_LOG (a file for the daemon's log).
"""
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
for directory in ("bench", "docker", "."):
    sys.path.insert(0, os.path.join(HERE, directory))
from peers import Daemon, enter_namespaces, install, make_state, mount_free_controllers, unmount_below  # noqa: E402
from parity import make_busybox  # noqa: E402
from projects import IMAGES, PROJECTS, context_of  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
ONLY = [name for name in os.environ.get("PROJECTS_ONLY", "").split(",") if name]
IMAGE = "bb:1"
UNDECLARED = "version: \"3.8\"\nservices:\n  web:\n    image: nginx\n    networks: [frontend]\n  db:\n    image: redis\n"


class Run:
    """A project that a compose program has brought up."""

    def __init__(self, tool, env, name, directory):
        self.tool, self.env, self.name, self.directory = tool, env, name, directory

    def program(self, argv, code=0):
        done = subprocess.run(argv, cwd=self.directory, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                              timeout=240)
        if code is not None and done.returncode != code:
            raise AssertionError("%s: code %d, not %d\n%s\n%s" % (" ".join(argv[-8:]), done.returncode, code, done.stdout, done.stderr))
        return done

    def compose(self, *argv, code=0):
        return self.program(self.tool + list(argv), code)

    def docker(self, *argv):
        return self.program(["docker"] + list(argv)).stdout

    def ids(self, service=None, every=False):
        argv = ["ps", "-q", "--no-trunc", "--filter", "label=com.docker.compose.project=" + self.name, "--filter", "label=com.docker.compose.oneoff=False"]
        if service:
            argv += ["--filter", "label=com.docker.compose.service=" + service]
        return self.docker(*(argv + (["-a"] if every else []))).split()

    def inspect(self, service):
        ids = self.ids(service, every=True)
        self.holds(ids, "%s has no container" % service)
        return json.loads(self.docker("inspect", ids[0]))[0]

    def exec(self, service, *argv):
        return self.compose("exec", "-T", service, *argv).stdout

    def logs(self, service):
        return self.compose("logs", service).stdout

    def serves(self, service, port, text, path="/name"):
        self.until(lambda: text in self.program(self.tool + ["exec", "-T", service, "wget", "-q", "-O", "-", "http://127.0.0.1:%d%s" % (port, path)], None).stdout,
                   "%s does not serve %r at %d%s" % (service, text, port, path))

    def fetches(self, url, text):
        self.until(lambda: subprocess.run(["curl", "-s", "--max-time", "5", url], stdout=subprocess.PIPE, text=True).stdout == text,
                   "%s does not give %r" % (url, text))

    def until(self, condition, what):
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError("%s\n%s" % (what, self.compose("logs", code=None).stdout[-2000:]))
            time.sleep(0.2)

    @staticmethod
    def holds(what, why):
        if not what:
            raise AssertionError(why)

    @staticmethod
    def same(a, b):
        if a != b:
            raise AssertionError("%r, not %r" % (a, b))

    def state(self):
        """What a second up must not change: containers with the starts of those that run, networks, volumes."""
        containers = []
        for one in json.loads(self.docker("inspect", *self.ids(every=True))):
            containers.append((one["Name"], one["Id"], one["State"]["Status"], one["State"]["StartedAt"] if one["State"]["Running"] else ""))
        return (sorted(containers), sorted(self.docker("network", "ls", "-q", "--no-trunc").split()), sorted(self.docker("volume", "ls", "-q").split()))


def life(p, check):
    p.compose("config", "-q")
    p.compose("up", "-d")
    check(p)
    before = p.state()
    p.compose("up", "-d")
    settled(p, before)
    running = len(p.ids())
    p.same(len(p.compose("ps", "-q").stdout.split()) >= running, True)
    p.holds(p.compose("logs").stdout, "no logs")
    p.compose("top")
    p.compose("restart", "-t", "3")
    p.until(lambda: len(p.ids()) >= running, "not all run after a restart")
    p.compose("stop", "-t", "3")
    p.same(p.ids(), [])
    p.compose("start")
    p.until(lambda: len(p.ids()) >= running, "not all run after a start")


def one_project(tool, env, work, name):
    check, files = PROJECTS[name]
    directory = os.path.join(work, name)
    os.makedirs(directory)
    for file, text in files.items():
        open(os.path.join(directory, file), "w").write(text)
    p = Run(tool, env, name, directory)
    others = (p.docker("network", "ls", "-q"), p.docker("volume", "ls", "-q"))
    try:
        life(p, check)
    finally:
        p.compose("down", "-v", "-t", "3", "--rmi", "local", code=None)
        left = p.ids(every=True)
        if left:
            p.docker("rm", "-f", *left)
    p.same(left, [])
    # Anonymous volumes of the images' VOLUMEs go with their containers, too.
    p.same((p.docker("network", "ls", "-q"), p.docker("volume", "ls", "-q")), others)
    shutil.rmtree(directory)


def settled(p, before):
    """An `up` has changed nothing, but that what had run to its end has run again."""
    ended = {name for name, _, status, _ in before[0] if status != "running"}
    p.until(lambda: [one for one in p.state()[0] if one[0] not in ended] == [one for one in before[0] if one[0] not in ended], "an up has changed containers")
    after = p.state()
    p.same([one[:2] for one in after[0]], [one[:2] for one in before[0]])
    p.same(after[1:], before[1:])


def both(first, second, env, work, name):
    """What `first` has made `second` lists, leaves as it is, changes and takes down."""
    check, files = PROJECTS[name]
    directory = os.path.join(work, name)
    os.makedirs(directory)
    for file, text in files.items():
        open(os.path.join(directory, file), "w").write(text)
    p, q = Run(first, env, name, directory), Run(second, env, name, directory)
    others = (p.docker("network", "ls", "-q"), p.docker("volume", "ls", "-q"))
    try:
        p.compose("up", "-d")
        check(p)
        before = p.state()
        p.same(sorted(q.compose("ps", "-a", "--format", "{{.Name}}").stdout.split()), sorted(p.compose("ps", "-a", "--format", "{{.Name}}").stdout.split()))
        q.compose("up", "-d")
        settled(p, before)
        # A change by the other, which the first then leaves as it is.
        service = sorted(p.compose("ps", "--services").stdout.split())[0]
        more = os.path.join(directory, "more.yaml")
        open(more, "w").write("services: {%s: {labels: {changed: 'yes'}}}\n" % service)
        changed = ["-f", "docker-compose.yml", "-f", more]
        q.compose(*changed, "up", "-d", "-t", "3")
        p.same(p.inspect(service)["Config"]["Labels"].get("changed"), "yes")
        before = p.state()
        p.compose(*changed, "up", "-d", "-t", "3")
        settled(p, before)
    finally:
        q.compose("down", "-v", "-t", "3", "--rmi", "local", code=None)
        left = p.ids(every=True)
        if left:
            p.docker("rm", "-f", *left)
    p.same(left, [])
    p.same(p.docker("network", "ls", "-q"), others[0])
    volumes = set(p.docker("volume", "ls", "-q").split()) - set(others[1].split())
    if second[-1:] != ["compose"]:
        # docker compose leaves anonymous volumes that a container has taken over from its predecessor: they are mounted by name.
        volumes = {one for one in volumes if not re.fullmatch("[0-9a-f]{64}", one)}
    p.same(volumes, set())
    shutil.rmtree(directory, ignore_errors=True)


def impossible(name):
    """Why this machine cannot run a project; "" if it can."""
    capable = int(re.search("CapEff:\t([0-9a-f]+)", open("/proc/self/status").read())[1], 16) >> 24 & 1
    if name == "elastic" and not capable and resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] != resource.RLIM_INFINITY:
        return "it wants memlock without a limit, which needs CAP_SYS_RESOURCE"
    return ""


def undeclared(tool, env, work):
    directory = os.path.join(work, "undeclared")
    os.makedirs(directory)
    open(directory + "/docker-compose.yml", "w").write(UNDECLARED)
    p = Run(tool, env, "undeclared", directory)
    for command in (["up", "-d"], ["config"], ["ps"]):
        done = p.compose(*command, code=1)
        p.holds("undefined network" in done.stderr, done.stderr)
    p.same(p.ids(every=True), [])
    shutil.rmtree(directory)


def tools():
    found = {}
    v2 = os.environ.get("GANTRY_COMPOSE", "")
    if v2:
        found["v2"] = [v2]
    else:
        print("left out: docker compose v2: GANTRY_COMPOSE names no program")
    v1 = subprocess.run([HERE + "/foreign.sh", "docker-compose-1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if v1.returncode == 0:
        found["v1"] = [sys.executable, v1.stdout.strip() + "/bin/docker-compose"]
        os.environ["PYTHONPATH"] = v1.stdout.strip() + "/lib"
    else:
        print("left out: docker-compose 1.29: %s" % v1.stderr.strip().split("\n")[-1])
    return found


def main():
    enter_namespaces()
    wanted = os.environ.get("PROJECTS_TOOLS", "v2,v1,ctl,v2+ctl,ctl+v2").split(",")
    found = tools() if "v1" in wanted else {"v2": [os.environ["GANTRY_COMPOSE"]]}
    found["ctl"] = []
    wanted, missing = [one for one in wanted if set(one.split("+")) <= set(found)], [one for one in wanted if not set(one.split("+")) <= set(found)]
    work = tempfile.mkdtemp(prefix="gantry-projects.", dir="/tmp")
    passed, failed, left = 0, 0, len(missing)
    daemon = None
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        sock, address = state + "/docker.sock", state + "/gantry.sock"
        ctl = [programs + "/ctl", "--address", address]
        daemon = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address, "--docker-address", sock,
                         "--shim", programs + "/gantry-shim"], ctl + ["version"], work + "/gantryd.log")
        daemon.start()
        subprocess.run(ctl + ["load", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        for name in IMAGES:
            context = os.path.join(work, "context")
            os.makedirs(context)
            for file, text in context_of(name, IMAGE).items():
                open(os.path.join(context, file), "w").write(text)
            subprocess.run(ctl + ["build", "-q", "-t", name, context], check=True, stdout=subprocess.DEVNULL)
            shutil.rmtree(context)
        found["ctl"] = ctl + ["compose"]
        for tool in wanted:
            argv = [found[one] for one in tool.split("+")]
            env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=work + "/config", SOCK=sock, COMPOSE_BAKE="false")
            directory = os.path.join(work, tool)
            os.makedirs(directory)
            work_on = one_project if len(argv) == 1 else both
            checks = [(name, lambda name=name: work_on(*argv, env, directory, name)) for name in PROJECTS]
            if len(argv) == 1:
                checks.append(("undeclared", lambda: undeclared(argv[0], env, directory)))
            for name, check in checks:
                if ONLY and name not in ONLY:
                    continue
                if impossible(name):
                    left += 1
                    print("left out: %s by compose %s: %s" % (name, tool, impossible(name)))
                    continue
                begin = time.monotonic()
                try:
                    check()
                    passed += 1
                    print("passed: %s by compose %s (%.1f s)" % (name, tool, time.monotonic() - begin), flush=True)
                except Exception:
                    failed += 1
                    print("FAILED: %s by compose %s" % (name, tool))
                    traceback.print_exc(file=sys.stdout)
                    sys.stdout.flush()
        ids = subprocess.run(ctl + ["ps", "-aq"], stdout=subprocess.PIPE, text=True).stdout.split()
        if ids:
            subprocess.run(ctl + ["rm", "-f"] + ids, stdout=subprocess.DEVNULL)
    finally:
        if daemon is not None:
            daemon.stop()
        if os.environ.get("PROJECTS_LOG") and os.path.exists(work + "/gantryd.log"):
            shutil.copy(work + "/gantryd.log", os.environ["PROJECTS_LOG"])
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    print("%d passed, %d failed, %d left out" % (passed, failed, left))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
