#!/usr/bin/env python3
"""What docker compose's users rely on, thirty cases of it, and watching: each typed as a person types it, on a daemon of its own.

    compose_facts_test.py BIN [CASE...]      BIN: the directory of the built programs

A case is a function whose name begins with its number and whose first line says what is so. It is given an empty directory. Runs in the
namespaces and with the daemon of docs_test.py. The last line is "N passed, N failed".
"""
import inspect
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import docs_test

PATIENCE = 60


class Wrong(Exception):
    pass


class Bench:
    """One case's directory, and ctl compose in it."""

    def __init__(self, world, directory):
        self.world, self.directory = world, directory
        directory.mkdir(parents=True)

    def write(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return self

    def file(self, text):
        return self.write("compose.yaml", text)

    def run(self, *argv, env={}, status=0, where=None):
        done = subprocess.run(argv, cwd=where or self.directory, env={**self.world.environment, **env}, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=2 * PATIENCE)
        if status is not None and done.returncode != status:
            raise Wrong("%s ended with %d, not %d\n%s%s" % (" ".join(argv), done.returncode, status, done.stdout, done.stderr))
        return done

    def compose(self, *args, **options):
        return self.run("ctl", "compose", *args, **options)

    def config(self, *args, **options):
        return json.loads(self.compose(*args, "config", "--format", "json", **options).stdout)

    def web(self, *args, **options):
        return self.config(*args, **options)["services"]["web"]

    def ctl(self, *args, **options):
        return self.run("ctl", *args, **options).stdout.strip()

    def id(self, name):
        return self.ctl("inspect", "-f", "{{.Id}}", name)

    def names(self, *args):
        return self.ctl("ps", "--format", "{{.Names}}", *args).split()

    def spawn(self, *args):
        return subprocess.Popen(["ctl", "compose", *args], cwd=self.directory, env=self.world.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def same(got, wanted):
    if got != wanted:
        raise Wrong("%r, expected %r" % (got, wanted))


def has(text, *parts):
    for part in parts:
        if part not in text:
            raise Wrong("no %r in:\n%s" % (part, text))


def lacks(text, part):
    if part in text:
        raise Wrong("%r in:\n%s" % (part, text))


def eventually(wanted, what):
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        if time.monotonic() > deadline:
            raise Wrong("not within %d s: %s" % (PATIENCE, what))
        time.sleep(0.1)


def volumes_of(service):
    return [(one["source"], one["target"]) for one in service.get("volumes", [])]


def ports_of(service):
    return [(one.get("published"), one["target"]) for one in service.get("ports", [])]


SLEEP = "image: busybox\n    command: sleep 1000\n    stop_signal: SIGKILL\n"


def case01(b):
    """The project's name is the directory's, made fit; one that is given must fit."""
    odd = Bench(b.world, b.directory / "My App.v2").file("services: {web: {image: x}}")
    same(odd.config()["name"], "myappv2")
    has(odd.compose("-p", "My", "config", status=1).stderr, 'invalid project name "My": must consist only of lowercase alphanumeric')


def case02(b):
    """Of compose.yaml and docker-compose.yml the former is used, and both are named."""
    b.file("services: {web: {image: one}}").write("docker-compose.yml", "services: {web: {image: two}}")
    done = b.compose("config")
    has(done.stdout, "image: one")
    has(done.stderr, "Found multiple config files with supported names: ", "Using ")


def case03(b):
    """Relative paths of every file begin at the first file's directory."""
    b.write("a/compose.yml", "name: p\nservices: {web: {image: x}}").write("b/o.yml", "services: {web: {volumes: ['./x:/d']}}")
    same(volumes_of(b.web("-f", "a/compose.yml", "-f", "b/o.yml")), [(str(b.directory / "a/x"), "/d")])


def case04(b):
    """With -f no override file is read; without it is."""
    b.file("services: {web: {image: one}}").write("compose.override.yaml", "services: {web: {image: two}}")
    same(b.web("-f", "compose.yaml")["image"], "one")
    same(b.web()["image"], "two")


def case05(b):
    """The environment comes before .env; of several --env-file the last counts, and .env is not read."""
    b.file("services: {web: {image: 'x:${TAG}'}}").write(".env", "TAG=2\n").write("e1", "TAG=3\n").write("e2", "TAG=4\n")
    same(b.web(env={"TAG": "1"})["image"], "x:1")
    same(b.web()["image"], "x:2")
    same(b.web("--env-file", "e1", "--env-file", "e2")["image"], "x:4")


def case06(b):
    """Defaults nest; - asks whether a variable is set, :- and :+ whether it is not empty."""
    b.file("services: {web: {image: x, labels: {a: '${A:-${B:-c}}', b: '${A-x}', c: '${A:+y}'}}}")
    same(b.web()["labels"], {"a": "c", "b": "x", "c": ""})
    same(b.web(env={"A": ""})["labels"], {"a": "c", "b": "", "c": ""})


def case07(b):
    """$$ is a dollar, and config prints it doubled."""
    b.file("services: {web: {image: busybox, command: ['echo', 'cost $$5']}}")
    has(b.compose("config").stdout, "cost $$5")
    has(b.compose("run", "--rm", "-T", "web").stdout, "cost $5")


def case08(b):
    """.env: single quotes are literal, double quotes have escapes, a blank and # begin a comment."""
    b.file("services: {web: {image: x, labels: {a: '${P1}', b: '${P2}', c: '${P3}', d: '${P4}'}}}")
    b.write(".env", "P1='a$b'\nP2=\"a\\tb\"\nP3=a # c\nP4=a#c\n")
    labels = b.web()["labels"]
    same({key: value.replace("$$", "$") for key, value in labels.items()}, {"a": "a$b", "b": "a\tb", "c": "a", "d": "a#c"})


def case09(b):
    """A variable without a value that is set nowhere takes the image's away."""
    b.file("services: {web: {build: {dockerfile_inline: \"FROM busybox\\nENV FOO=1\\n\"}, environment: [FOO], command: env}}")
    lacks(b.compose("run", "--rm", "--build", "-T", "web").stdout, "FOO")
    same(b.ctl("run", "--rm", "case09-web", "sh", "-c", "echo $FOO"), "1")


def case10(b):
    """Ports of an override are added, !override replaces them, !reset takes them away."""
    b.file("services: {web: {image: x, ports: ['8080:80']}}")
    b.write("add.yaml", "services: {web: {ports: ['8081:80']}}").write("over.yaml", "services: {web: {ports: !override ['8081:80']}}")
    b.write("reset.yaml", "services: {web: {ports: !reset []}}")
    same(ports_of(b.web("-f", "compose.yaml", "-f", "add.yaml")), [("8080", 80), ("8081", 80)])
    same(ports_of(b.web("-f", "compose.yaml", "-f", "over.yaml")), [("8081", 80)])
    same(ports_of(b.web("-f", "compose.yaml", "-f", "reset.yaml")), [])


def case11(b):
    """A volume of an override takes the place of the one with its target."""
    b.file("services: {web: {image: x, volumes: ['./a:/data']}}").write("o.yaml", "services: {web: {volumes: ['./b:/data']}}")
    same(volumes_of(b.web("-f", "compose.yaml", "-f", "o.yaml")), [(str(b.directory / "b"), "/data")])


def case12(b):
    """A command is replaced, environments are merged by name, in either form."""
    b.file("services: {web: {image: x, command: old one, environment: {A: 1, B: 2}}}")
    b.write("o.yaml", "services: {web: {command: x, environment: [B=3, C=4]}}")
    web = b.web("-f", "compose.yaml", "-f", "o.yaml")
    same(web["command"], ["x"])
    same(web["environment"], {"A": "1", "B": "3", "C": "4"})


def case13(b):
    """Another log driver takes the old one's options away."""
    b.file("services: {web: {image: x, logging: {driver: json-file, options: {max-size: 1m}}}}")
    b.write("o.yaml", "services: {web: {logging: {driver: local}}}")
    same(b.web("-f", "compose.yaml", "-f", "o.yaml")["logging"], {"driver": "local"})


def case14(b):
    """What an extended service depends on has to be in the project."""
    b.write("base.yaml", "services: {base: {image: x, depends_on: [db]}, db: {image: y}}")
    b.file("services: {web: {extends: {file: base.yaml, service: base}}}")
    has(b.compose("config", status=1).stderr, 'service "web" depends on undefined service "db"')


def case15(b):
    """A service of the file itself is merged over one of its name that is included."""
    b.write("more.yaml", "services: {web: {image: included, labels: {a: 1}}}")
    b.file("include: [more.yaml]\nservices: {web: {image: own}}")
    same((b.web()["image"], b.web()["labels"]), ("own", {"a": "1"}))


def case16(b):
    """Anchors and merge keys work; x-foo is an extension at the top and a service among services."""
    b.file("x-common: &c {restart: always}\nservices:\n  web: {image: x, <<: *c}\n  x-foo: {image: y}\n")
    config = b.config()
    same(config["services"]["web"]["restart"], "always")
    same(sorted(config["services"]), ["web", "x-foo"])


def case17(b):
    """A service that is named runs without its profile being asked for."""
    b.file("services:\n  debug:\n    profiles: [dev]\n    %s" % SLEEP)
    b.compose("up", "-d", "debug")
    same(b.names(), ["case17-debug-1"])


def case18(b):
    """Volumes that nobody uses are not made."""
    b.file("services:\n  web:\n    %svolumes: {v: }\n" % SLEEP)
    b.compose("up", "-d")
    same(b.ctl("volume", "ls", "-q"), "")


def case19(b):
    """A second up changes nothing; build and depends_on make nothing anew, another value makes its service anew only."""
    text = "services:\n  web:\n    %s    environment: {A: %s}\n%s  db:\n    %s"
    b.file(text % (SLEEP, "1", "", SLEEP)).compose("up", "-d")
    before = b.id("case19-web-1"), b.id("case19-db-1")
    has(b.compose("up", "-d").stderr, "Container case19-web-1 Running ", "Container case19-db-1 Running ")
    b.file(text % (SLEEP, "1", "    build: {context: .}\n    depends_on: [db]\n", SLEEP)).compose("up", "-d")
    same((b.id("case19-web-1"), b.id("case19-db-1")), before)
    b.file(text % (SLEEP, "2", "", SLEEP)).compose("up", "-d")
    same(b.id("case19-db-1"), before[1])
    if b.id("case19-web-1") == before[0]:
        raise Wrong("another value of a variable makes nothing anew")


def case20(b):
    """Data of an anonymous volume outlives a container made anew, but not up -V."""
    text = "services:\n  web:\n    %s    volumes: [/data]\n    environment: {A: %s}\n"
    b.file(text % (SLEEP, "1")).compose("up", "-d")
    b.compose("exec", "-T", "web", "touch", "/data/kept")
    b.file(text % (SLEEP, "2")).compose("up", "-d")
    same(b.compose("exec", "-T", "web", "ls", "/data").stdout, "kept\n")
    b.file(text % (SLEEP, "3")).compose("up", "-d", "-V")
    same(b.compose("exec", "-T", "web", "ls", "/data").stdout, "")


def case21(b):
    """Another image under the same name makes containers anew although the file is the same."""
    b.ctl("tag", "busybox", "moving:latest")
    b.file("services:\n  web:\n    %s" % SLEEP.replace("busybox", "moving:latest")).compose("up", "-d")
    before = b.id("case21-web-1")
    b.run("sh", "-c", "printf 'FROM busybox\\nRUN echo new > /new\\n' | ctl build -q -t moving:latest -")
    b.compose("up", "-d")
    if b.id("case21-web-1") == before:
        raise Wrong("the container still runs the old image")
    b.compose("exec", "-T", "web", "cat", "/new")


def case22(b):
    """--scale holds for one up: the next one goes back to the file's number."""
    b.file("services:\n  web:\n    %s" % SLEEP).compose("up", "-d", "--scale", "web=3")
    same(sorted(b.names()), ["case22-web-1", "case22-web-2", "case22-web-3"])
    b.compose("up", "-d")
    same(b.names(), ["case22-web-1"])


def case23(b):
    """Two containers cannot have one port: the second fails, the first runs on."""
    b.file("services:\n  web:\n    %s    scale: 2\n    ports: ['18123:80']\n" % SLEEP)
    has(b.compose("up", "-d", status=1).stderr, "port is already allocated")
    same(len(b.names()), 1)


def case24(b):
    """Who waits for a service that is unhealthy stays created, and the error names the container."""
    b.file("services:\n  db:\n    %s    healthcheck: {test: 'false', interval: 200ms, retries: 1}\n"
           "  web:\n    %s    depends_on: {db: {condition: service_healthy}}\n" % (SLEEP, SLEEP))
    has(b.compose("up", "-d", status=1).stderr, "dependency failed to start: container case24-db-1 is unhealthy")
    same(b.ctl("inspect", "-f", "{{.State.Status}}", "case24-web-1"), "created")


def case25(b):
    """A service that had to complete and failed is named with its status."""
    b.file("services:\n  migrate: {image: busybox, command: sh -c 'exit 3'}\n"
           "  web:\n    %s    depends_on: {migrate: {condition: service_completed_successfully}}\n" % SLEEP)
    has(b.compose("up", "-d", status=1).stderr, 'service "migrate" didn\'t complete successfully: exit 3')


def case26(b):
    """--exit-code-from gives that service's status, and everything has stopped."""
    b.file("services:\n  t: {image: busybox, command: sh -c 'exit 6'}\n  db:\n    %s" % SLEEP)
    b.compose("up", "--exit-code-from", "t", status=6)
    same(b.names(), [])


def case27(b):
    """A one-off publishes no port, has a name of its own, gives its status and is gone."""
    b.file("services: {web: {image: busybox, command: sleep 1000, ports: ['18124:80']}}")
    one_off = b.spawn("run", "--rm", "-T", "web", "sh", "-c", "sleep 2; exit 9")
    eventually(lambda: any(re.fullmatch(r"case27-web-run-[0-9a-f]{12}", name) for name in b.names()), "the one-off runs")
    same(b.ctl("ps", "--format", "{{.Ports}}"), "")
    same(b.compose("ps", "--format", "{{.Name}}").stdout.strip(), "")
    same(one_off.wait(PATIENCE), 9)
    same(b.names("-a"), [])


def case28(b):
    """A container whose service has left the file is named and runs on, until --remove-orphans."""
    b.file("services:\n  web:\n    %s  old:\n    %s" % (SLEEP, SLEEP)).compose("up", "-d")
    b.file("services:\n  web:\n    %s" % SLEEP)
    has(b.compose("up", "-d").stderr, "Found orphan containers (case28-old-1) for this project")
    same(sorted(b.names()), ["case28-old-1", "case28-web-1"])
    b.compose("up", "-d", "--remove-orphans")
    same(b.names(), ["case28-web-1"])


def case29(b):
    """A network that others use stays, which is said and no failure."""
    b.file("services:\n  web:\n    %s" % SLEEP).compose("up", "-d")
    b.ctl("run", "-d", "--name", "foreign", "--network", "case29_default", "--stop-signal", "KILL", "busybox", "sleep", "1000")
    has(b.compose("down").stderr, "Resource is still in use")
    has(b.ctl("network", "ls", "--format", "{{.Name}}"), "case29_default")


def case30(b):
    """A secret of the environment is a file of mode 0444 with exactly its bytes; a read-only service cannot have one."""
    text = "services:\n  web:\n    %s    secrets: [token]\n%ssecrets: {token: {environment: TOKEN}}\n"
    b.file(text % (SLEEP, "")).compose("up", "-d", env={"TOKEN": "s3cret"})
    same(b.compose("exec", "-T", "web", "sh", "-c", "cat /run/secrets/token; stat -c %a /run/secrets/token").stdout, "s3cret444\n")
    b.file(text % (SLEEP, "    read_only: true\n"))
    has(b.compose("up", "-d", status=1, env={"TOKEN": "s3cret"}).stderr, 'cannot create secret "token" in read-only service web')


# --- watching

def watched(b, action, more="", dockerfile="FROM busybox\nCOPY src /app\nCMD [\"sleep\", \"1000\"]\nSTOPSIGNAL SIGKILL\n"):
    b.write("src/one", "1").write("Dockerfile", dockerfile)
    b.file("services:\n  web:\n    build: .\n    develop:\n      watch:\n        - {path: ./src, action: %s, target: /app%s}\n" % (action, more))
    b.compose("up", "-d", "--build")
    process = b.spawn("watch", "--no-up")
    deadline = time.monotonic() + PATIENCE
    said = ""
    while "Watch enabled" not in said:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        data = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not data:
            raise Wrong("watch does not begin: " + said)
        said += data.decode(errors="replace")
    return process


def cat(b, service, path):
    return b.compose("exec", "-T", service, "cat", path, status=None).stdout


def end(process):
    process.send_signal(signal.SIGINT)
    same(process.wait(PATIENCE), 130)


def case31(b):
    """sync+exec copies what changed, then runs a command in the container, which stays."""
    watch = watched(b, "sync+exec", ", exec: {command: sh -c 'cat /app/one > /seen'}")
    before = b.id("case31-web-1")
    b.write("src/one", "2")
    eventually(lambda: cat(b, "web", "/seen") == "2", "the command has run after the copy")
    same(b.id("case31-web-1"), before)
    end(watch)


def case32(b):
    """rebuild builds the image and makes that service's containers anew."""
    watch = watched(b, "rebuild")
    before = b.id("case32-web-1")
    b.write("src/one", "2")
    eventually(lambda: cat(b, "web", "/app/one") == "2", "the new image runs")
    if b.id("case32-web-1") == before:
        raise Wrong("the container is the old one")
    same(b.names("-a"), ["case32-web-1"])
    end(watch)


def case33(b):
    """sync+restart copies and restarts; restart only restarts."""
    for action in ("sync+restart", "restart"):
        watch = watched(b, action)
        started = b.ctl("inspect", "-f", "{{.State.StartedAt}}", "case33-web-1")
        b.write("src/one", action)
        eventually(lambda: b.ctl("inspect", "-f", "{{.State.StartedAt}} {{.State.Running}}", "case33-web-1") not in
                   (started + " true", started + " false"), action + ": it has started again")
        eventually(lambda: cat(b, "web", "/app/one") == (action if action == "sync+restart" else "1"), action)
        end(watch)
        b.compose("down", "--rmi", "local")


# --- what one tool makes, and digests

def case34(b):
    """config --resolve-image-digests and --lock-image-digests name images by what their registry has."""
    b.file("services: {web: {image: 'localhost:5000/busybox', labels: {a: 1}}}")
    digest = re.search(r"sha256:[0-9a-f]{64}", b.ctl("manifest", "inspect", "-v", "localhost:5000/busybox"))[0]
    image = "localhost:5000/busybox:latest@" + digest
    web = b.config()["services"]["web"]
    same(web["image"], "localhost:5000/busybox")
    has(b.compose("config", "--resolve-image-digests").stdout, "image: " + image, "labels:")
    same(b.compose("config", "--lock-image-digests").stdout, "services:\n  web:\n    image: %s\n" % image)
    has(b.file("services: {web: {image: 'localhost:5000/none'}}").compose("config", "--resolve-image-digests", status=1).stderr,
        "services.web.image: localhost:5000/none")


CASES = {name: function for name, function in sorted(globals().items()) if re.fullmatch(r"case\d\d", name)}


def clear(world):
    """What a case leaves does not reach the next one."""
    subprocess.run("ctl ps -aq | xargs -r ctl rm -f; ctl network prune -f; ctl volume ls -q | xargs -r ctl volume rm -f", shell=True,
                   env=world.environment, capture_output=True)


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    results = docs_test.Results()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve())
    try:
        for name in sys.argv[2:] or CASES:
            if name == "case34" and world.registry is None:
                print("left out: %s, without docker-registry" % name)
                continue
            begin = time.monotonic()
            try:
                CASES[name](Bench(world, world.work / name))
                results.one(True, name, "")
            except (Wrong, subprocess.TimeoutExpired, KeyError, IndexError, TypeError) as problem:
                results.one(False, name, inspect.getdoc(CASES[name]), "%s: %s" % (type(problem).__name__, problem))
            clear(world)
            if time.monotonic() - begin > 20:
                print("%s took %.0f s" % (name, time.monotonic() - begin))
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
