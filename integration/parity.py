"""What ./dev test docker and ./dev test parity share: the peers, shapes of what was printed, and lists of reviewed differences.

A Stage is a network and a mount namespace with Debian's dockerd, Gantry and a registry in it, all of them below one temporary directory.
A case is a name and command lines, which both sides run in order, at the same time. "!" in front of a line: its output
is not compared, only its exit status. Words are quoted as in a shell; {name} stands for one of Stage.words, {own} for a directory and {port} for a
port that only one of the sides uses.

Environment: GANTRY_BIN (built programs, default out/bin), DOCKER (the command line, default /usr/bin/docker), PARITY_ONLY (a word: only
cases with it in their names), PARITY_VERBOSE=1 (print what both answered where they differ).
"""
import concurrent.futures
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "bench"))
from peers import Daemon, enter_namespaces, have, install, make_state, mount_free_controllers, start_containerd, unmount_below  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
DOCKER = os.environ.get("DOCKER", "/usr/bin/docker")
ONLY = os.environ.get("PARITY_ONLY", "")
VERBOSE = os.environ.get("PARITY_VERBOSE") == "1"
IMAGE = "bb:1"
# Another dockerd than Debian's, and the runc that it is to use.
DOCKERD = os.environ.get("PARITY_DOCKERD", "")
RUNC = os.environ.get("PARITY_RUNC", "runc")
SECONDS = 60  # for one command line


# --- shapes

WORDS = [
    (r"sha256:[0-9a-f]{64}", "<digest>"),
    (r"\b[0-9a-f]{64}\b", "<id>"),
    (r"\b[0-9a-f]{12}\b", "<id>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4})?( ?UTC|Z)?", "<time>"),
    (r"\b(About an? (minute|hour)|Less than a second|\d+ (seconds?|minutes?|hours?|days?|weeks?|months?|years?))( ago)?", "<age>"),
    (r"\b\d+(\.\d+)?([kMGT]i?)?B\b", "<size>"),
    (r"\b\d+(\.\d+)?%", "<percent>"),
    (r"\b\d+\.\d+\.\d+\.\d+(/\d+)?(:\d+)?", "<address>"),
    (r"\[[0-9a-f:]+\]:\d+", "<address>"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"/tmp/gantry-parity[^ \"]*", "<path>"),
    (r"size: \d+", "size: <number>"),
    (r"\b1809[89]\b", "<port>"),  # one for each of the two
    (r"\b\d{19}\b|\b1[789]\d{8}\b", "<moment>"),
]


def shape(text):
    """Its lines, with a word for everything that is another one each time."""
    for pattern, word in WORDS:
        text = re.sub(pattern, word, text)
    return [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]


def kinds(value, path="$", out=None):
    """The keys and types of a document; elements of a list as one."""
    out = {} if out is None else out
    if isinstance(value, dict):
        out.setdefault(path, set()).add("object")
        for key, one in value.items():
            # Names, ids and ports are keys too.
            key = re.sub(r"^([0-9a-f]{64}|\d+/(tcp|udp))$", "*", key)
            kinds(one, path + "." + key, out)
    elif isinstance(value, list):
        out.setdefault(path, set()).add("array")
        for one in value:
            kinds(one, path + "[]", out)
    else:
        kind = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}[type(value)]
        out.setdefault(path, set()).add(kind)
    return out


def compare_kinds(theirs, ours):
    """Lines that say where our document differs."""
    a, b = kinds(theirs), kinds(ours)
    for path in sorted(set(a) | set(b)):
        if path not in b:
            # What lies below something that is missing, or empty on one side, says nothing more.
            if parent(path) in b and b[parent(path)] & {"object"}:
                yield "missing key " + path
        elif path not in a:
            if parent(path) in a and a[parent(path)] & {"object"}:
                yield "further key " + path
        elif a[path] != b[path]:
            yield "type of %s: %s, not %s" % (path, "|".join(sorted(b[path])), "|".join(sorted(a[path])))


def parent(path):
    return re.sub(r"(\.[^.\[]*|\[\])$", "", path)


def parse_json(text):
    try:
        return [json.loads(text)]
    except ValueError:
        pass
    try:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [lines] if lines else None
    except ValueError:
        return None


# --- running

def fill(line, words):
    """The words of a command line."""
    argv = []
    for word in shlex.split(line):
        # The command line cuts moments to seconds: what happened in this one would be missing.
        for name, value in list(words.items()) + [("soon", str(int(time.time()) + 2))]:
            word = word.replace("{%s}" % name, value)
        argv.append(word)
    return argv


def run(argv, env):
    """(exit status, stdout, stderr)"""
    started = time.monotonic()
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, timeout=SECONDS)
        if VERBOSE and time.monotonic() - started > 3:
            print("    %.1f s: %s" % (time.monotonic() - started, " ".join(argv)))
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return "no end", "", ""


def own(sock, work):
    """Words that only the side with this socket has: a directory and a port."""
    return {"own": work + "/" + os.path.basename(sock) + ".own", "port": "18099" if sock.endswith("/docker.sock") else "18098"}


def docker(sock, line, words):
    """What the docker command line makes of it with the daemon at this socket."""
    env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=words["work"] + "/config",
               DOCKER_CLI_EXPERIMENTAL="enabled", DOCKER_BUILDKIT="0", LC_ALL="C")
    if not DOCKERD:
        env["DOCKER_API_VERSION"] = "1.41"
    return run([DOCKER] + fill(line, dict(words, **own(sock, words["work"]))), env)


def compare(theirs, ours):
    """Lines that say how our answer, (code, stdout), differs."""
    if theirs[0] != ours[0]:
        yield "status %s, not %s" % (ours[0], theirs[0])
        return
    a, b = parse_json(theirs[1]), parse_json(ours[1])
    if a is not None and b is not None and (isinstance(a[0], (dict, list)) or isinstance(b[0], (dict, list))):
        yield from compare_kinds(a[0], b[0])
        return
    a, b = shape(theirs[1]), shape(ours[1])
    if a != b:
        for line in [x for x in a if x not in b][:6]:
            yield "stdout lacks: " + line
        for line in [x for x in b if x not in a][:6]:
            yield "stdout has: " + line
        if sorted(a) == sorted(b):
            yield "stdout in another order"
        elif not [x for x in a if x not in b] and not [x for x in b if x not in a]:
            yield "stdout has %d lines, not %d" % (len(b), len(a))


def differences(cases, theirs, ours, further=lambda a, b: ()):
    """(case, command line, difference, their answer, our answer) of everything. `theirs` and `ours` run a line; `further` yields more
    differences of two answers."""
    for name, lines in cases:
        if ONLY not in name:
            continue
        def answers_of(side):
            side("load -q -i {archive}")  # whatever a case before has removed
            return [side(line.lstrip("!")) for line in lines]
        with concurrent.futures.ThreadPoolExecutor() as both:
            answers = list(both.map(answers_of, (theirs, ours)))
        for line, a, b in zip(lines, *answers):
            if line.startswith("!"):
                a, b = (a[0], "", a[2]), (b[0], "", b[2])
            for text in list(compare(a, b)) + list(further(a, b)):
                yield name, line, text, a, b
            if a[0] != 0 and b[0] == a[0] and a[2] != "" and b[2] == "":
                yield name, line, "no message on stderr", a, b


def reviewed(path):
    """(case pattern, command pattern, difference pattern, reason)."""
    entries = []
    if os.path.exists(path):
        for number, line in enumerate(open(path), 1):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            parts = [part.strip() for part in line.split("|||")]
            if len(parts) != 4 or not parts[3]:
                raise SystemExit("%s:%d: not CASE ||| COMMAND ||| DIFFERENCE ||| REASON" % (path, number))
            entries.append(parts)
    return entries


def wild(text, pattern):
    """Only * is special in a pattern: what is compared has brackets in it."""
    return fnmatch.fnmatchcase(text.replace("[", "("), pattern.replace("[", "("))


def report(found, path, lines):
    """Prints what the list at `path` does not have, and what it has for nothing. The exit status of the run."""
    entries = reviewed(path)
    used = set()
    fresh = []
    for name, line, text, theirs, ours in found:
        hit = [i for i, entry in enumerate(entries) if wild(name, entry[0]) and wild(line.strip(), entry[1]) and wild(text.strip(), entry[2])]
        used.update(hit)
        if not hit:
            fresh.append((name, line, text, theirs, ours))
    for name, line, text, theirs, ours in fresh:
        print("%s ||| %s ||| %s" % (name, line, text))
        if VERBOSE:
            print("    dockerd: %.400s\n    Gantry:  %.400s" % (theirs, ours))
    stale = [] if ONLY else [entry for i, entry in enumerate(entries) if i not in used and not entry[3].startswith("sometimes: ")]
    for entry in stale:
        print("nothing differs any more as the list says: %s" % " ||| ".join(entry))
    print("parity: %d command lines and calls, %d differences, %d of them reviewed" % (lines, len(found), len(found) - len(fresh)))
    return 1 if fresh or stale else 0


# --- the peers

def make_busybox(work):
    """A root file system with all of busybox, and an archive of an image of it."""
    root = os.path.join(work, "busybox")
    for directory in ("bin", "etc", "tmp"):
        os.makedirs(os.path.join(root, directory))
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    for applet in subprocess.check_output([root + "/bin/busybox", "--list"], text=True).split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(root, "bin", applet))
    open(root + "/etc/passwd", "w").write("root:x:0:0:root:/:/bin/sh\n")
    open(root + "/etc/group", "w").write("root:x:0:\n")
    subprocess.run(["tar", "-C", root, "-cf", work + "/root.tar", "."], check=True)
    digest = subprocess.check_output(["sha256sum", work + "/root.tar"]).split()[0].decode()
    archive = os.path.join(work, "archive")
    os.mkdir(archive)
    os.link(work + "/root.tar", archive + "/layer.tar")
    config = {"architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
              "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"made": "here"}},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
              "history": [{"created": "2020-01-01T00:00:00Z", "created_by": "made by hand"}]}
    json.dump(config, open(archive + "/config.json", "w"))
    json.dump([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}], open(archive + "/manifest.json", "w"))
    subprocess.run(["tar", "-C", archive, "-cf", work + "/image.tar", "manifest.json", "config.json", "layer.tar"], check=True)
    return work + "/image.tar"


def make_app(work):
    """The application of docker's "get started": something to build that answers on port 3000."""
    os.mkdir(work + "/app")
    open(work + "/app/index.html", "w").write("<h1>Get started</h1>\n")
    open(work + "/app/Dockerfile", "w").write("FROM %s\nWORKDIR /app\nCOPY . .\nRUN echo built > built\nEXPOSE 3000\nCMD [\"httpd\", \"-f\", \"-p\", \"3000\"]\n"
                                              % IMAGE)


def start_registry(work):
    open(work + "/registry.yml", "w").write(
        "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: 127.0.0.1:5055}\n" % work)
    daemon = Daemon(["docker-registry", "serve", work + "/registry.yml"], ["curl", "-sf", "http://127.0.0.1:5055/v2/"], work + "/registry.log")
    daemon.start()
    return daemon


class Stage:
    """`with Stage() as stage`: everything runs inside, and nothing is left after it."""

    def __enter__(self):
        for program in (DOCKER, "dockerd", "containerd", "curl", "busybox", "docker-registry"):
            if not have(program):
                raise SystemExit("parity: %s is not installed: ./dev setup" % program)
        enter_namespaces()
        self.work = work = tempfile.mkdtemp(prefix="gantry-parity.", dir="/tmp")
        self.daemons = []
        try:
            self.start(work)
        except BaseException:
            self.end(True)
            raise
        return self

    def start(self, work):
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        self.programs = install(BIN, work)
        archive = make_busybox(work)
        open(work + "/note", "w").write("note\n")
        make_app(work)
        self.daemons.append(start_registry(work))
        self.ours = state + "/gantry-docker.sock"
        self.address = state + "/gantry.sock"
        gantry = Daemon([self.programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", self.address,
                         "--docker-address", self.ours, "--shim", self.programs + "/gantry-shim"],
                        [self.programs + "/ctl", "--address", self.address, "version"], work + "/gantryd.log")
        gantry.start()
        self.daemons.append(gantry)
        containerd_socket = state + "/containerd.sock"
        self.daemons.append(start_containerd(work, containerd_socket, state))
        self.theirs = state + "/docker.sock"
        kind = [DOCKERD, "--add-runtime", "newest=" + RUNC, "--default-runtime", "newest", "--userland-proxy=false"] if DOCKERD else [
            "dockerd", "--storage-driver", "overlay2"]
        dockerd = Daemon(kind + ["--containerd", containerd_socket, "--data-root", work + "/docker", "--exec-root", state + "/docker",
                          "--pidfile", state + "/docker.pid", "-H", "unix://" + self.theirs],
                         [DOCKER, "-H", "unix://" + self.theirs, "version"], work + "/dockerd.log")
        dockerd.start()
        self.daemons.append(dockerd)
        self.words = {"work": work, "archive": archive, "registry": "127.0.0.1:5055", "exit": "exit 7",
                      "both": "echo out; sleep 0.3; echo err >&2", "change": 'CMD ["true"]', "env": "env | sort"}

        for side in (self.theirs, self.ours):
            os.mkdir(work + "/" + os.path.basename(side) + ".own")

    def docker_on(self, sock):
        """A function that runs a line of docker's command line with the daemon at `sock`."""
        return lambda line: docker(sock, line, self.words)

    def __exit__(self, kind, value, trace):
        self.end(kind is not None and not (kind is SystemExit and value.code == 0))

    def end(self, failed):
        if self.daemons[1:]:
            env = dict(os.environ, GANTRY_ADDRESS=self.address)
            left = subprocess.run([self.programs + "/ctl", "ps", "-aq"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env).stdout.split()
            if left:
                subprocess.run([self.programs + "/ctl", "rm", "-f"] + left, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        for daemon in reversed(self.daemons):
            daemon.stop()
        if failed and os.environ.get("PARITY_LOG"):
            shutil.copy(self.work + "/gantryd.log", os.environ["PARITY_LOG"])
        unmount_below(self.work)
        shutil.rmtree(self.work, ignore_errors=True)
