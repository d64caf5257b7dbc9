#!/usr/bin/env python3
"""./dev test docker: the same docker command lines against Debian's dockerd and against Gantry's Docker door.

Compared are exit codes, the shape of what is printed (ids, times, sizes and addresses count as one word each), and of JSON its keys and
types. What differs and stands in docker_parity.list, with its reason, is passed over; anything else is printed and fails the run, and so
does an entry of the list that nothing matches any more.

Both daemons run in a network and a mount namespace of their own, with roots, states and sockets below a temporary directory.

Environment: GANTRY_BIN (built programs, default out/bin), DOCKER (the command line, default /usr/bin/docker), PARITY_ONLY (a word: only
cases with it in their names), PARITY_VERBOSE=1 (print what both answered where they differ).
"""
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench"))
from peers import Daemon, enter_namespaces, have, install, make_state, mount_free_controllers, start_containerd, unmount_below  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
DOCKER = os.environ.get("DOCKER", "/usr/bin/docker")
ONLY = os.environ.get("PARITY_ONLY", "")
VERBOSE = os.environ.get("PARITY_VERBOSE") == "1"
LIST = os.path.join(HERE, "docker_parity.list")
IMAGE = "bb:1"
SECONDS = 60  # for one command line


# --- the cases: a name, and command lines. "!" in front: its output is not compared, only its exit code.

CASES = [
    ("version", ["version --format {{json .Server.Os}}"]),
    ("info", ["info --format {{json .}}"]),
    ("image-ls", ["images", "images -q", "images --no-trunc", "images --digests", "images -a", "images nothing-here",
                  "images --filter dangling=true", "images --filter reference=b*", "images --filter nonsense=1",
                  "images --format {{.Repository}}:{{.Tag}}", "image ls --filter before=bb:1", "image ls --filter label=made=here"]),
    ("image-inspect", ["image inspect bb:1", "image inspect --format {{.Os}}/{{.Architecture}} bb:1", "image inspect none:1",
                       "inspect bb:1", "inspect --type image none:1"]),
    ("image-history", ["history --no-trunc --human=false bb:1", "history -q bb:1", "history none:1"]),
    ("image-tag", ["tag bb:1 bb:2", "tag bb:1 other/name:tag", "tag none:1 x", "tag bb:1 Bad:Name", "images --format {{.Repository}}:{{.Tag}}",
                   "rmi bb:2", "rmi other/name:tag", "rmi none:1"]),
    ("image-save-load", ["!save -o {work}/saved.tar bb:1", "tag bb:1 keep:1", "load -i {work}/saved.tar", "load -q -i {work}/saved.tar",
                         "save -o {work}/none.tar none:1", "rmi keep:1", "load -i /dev/null"]),
    ("image-import", ["import {work}/root.tar imported:1", "import -c {change} -m note {work}/root.tar imported:2",
                      "image inspect --format {{json .Config.Cmd}} imported:2", "run --rm imported:2", "rmi imported:1 imported:2"]),
    ("image-in-use", ["!create --name user bb:1 true", "tag bb:1 second:1", "rmi second:1", "rmi bb:1", "rm user"]),
    ("image-prune", ["image prune -f", "image prune -f --filter until=1h", "image prune -f --filter nonsense=1"]),
    ("pull", ["pull 127.0.0.1:1/none:1", "pull BAD", "push 127.0.0.1:1/none:1", "pull {registry}/none:1"]),
    ("push-pull", ["tag bb:1 {registry}/bb:1", "push {registry}/bb:1", "push -q {registry}/bb:1", "rmi {registry}/bb:1",
                   "pull {registry}/bb:1", "pull {registry}/bb:1", "pull -q {registry}/bb:1", "images --format {{.Repository}}:{{.Tag}}",
                   "rmi {registry}/bb:1", "pull -a {registry}/bb", "rmi {registry}/bb:1"]),
    ("commit", ["!run --name c1 bb:1 touch /made", "commit -m note -a me c1 made:1", "image inspect --format {{.Comment}}|{{.Author}} made:1",
                "commit -c {change} c1 made:2", "image inspect --format {{json .Config.Cmd}} made:2", "run --rm made:1 ls /made",
                "commit none made:3", "rm c1", "rmi made:1 made:2"]),
    ("network", ["network ls", "network ls -q", "network create n1", "network create n1", "network create --subnet 10.77.0.0/16 n2",
                 "network inspect n2", "network ls --filter driver=bridge --format {{.Name}}", "network ls --filter name=n --format {{.Name}}",
                 "network inspect none-such", "network rm n1", "network rm n1", "network rm bridge", "network create host",
                 "network create --subnet 10.77.1.0/24 n3", "network create --subnet 10.77.0.5/16 n4", "network create -d nonsense n5",
                 "network rm n2", "network prune -f", "network ls --filter nonsense=1"]),
    ("network-connect", ["network create n1", "!run -d --name c1 bb:1 sleep 600", "network connect --alias a --ip 10.1.1.1 n1 c1",
                         "network connect --alias a n1 c1", "network connect n1 c1", "network inspect n1", "network disconnect n1 c1",
                         "network disconnect n1 c1", "network connect none-such c1", "network connect n1 none-such", "network connect n1 c1",
                         "network rm n1", "rm -f c1", "network rm n1"]),
    ("volume", ["volume ls", "volume create v1", "volume create v1", "volume create --label a=b v2", "volume inspect v1", "volume inspect v2",
                "volume ls -q", "volume ls --filter label=a", "volume ls --filter dangling=true -q", "volume inspect none-such",
                "volume create bad/name", "volume create -d nonsense v3", "volume rm v1", "volume rm v1", "volume rm -f v1",
                "volume prune -f", "volume ls -q"]),
    ("volume-use", ["!create --name c1 -v v1:/d bb:1 true", "volume rm v1", "rm c1", "volume rm v1"]),
    ("run", ["run --rm bb:1 echo hello", "run --rm bb:1 sh -c {exit}", "run --rm bb:1 nonsense", "run --rm bb:1 /etc",
             "run --rm --name r1 bb:1 true", "run -d --name r2 bb:1 sleep 600", "run --name r2 bb:1 true", "rm r2", "rm -f r2",
             "run --rm none.example/x:1 true", "run --rm -e A=b bb:1 sh -c {env}", "run --rm -w /tmp bb:1 pwd", "run --rm -h h1 bb:1 hostname"]),
    ("container-life", ["create --name l1 bb:1 sleep 600", "start l1", "start l1", "pause l1", "pause l1", "unpause l1", "unpause l1",
                        "restart -t 0 l1", "rename l1 l2", "kill l2", "kill l2", "wait l2", "start l2", "stop -t 0 l2", "stop l2",
                        "inspect --format {{.State.Status}}|{{.State.ExitCode}} l2", "rm l2", "rm l2", "start none", "stop none"]),
    ("container-ls", ["run -d --name p1 -l a=b bb:1 sleep 600", "ps", "ps -q", "ps -a --no-trunc", "ps --filter label=a=b --format {{.Names}}",
                      "ps --filter name=p --format {{.Names}}|{{.State}}", "ps --filter nonsense=1", "ps --format {{json .}}", "ps -s",
                      "ps -n 1 -q", "rm -f p1"]),
    ("container-inspect", ["run -d --name i1 --memory 64m --restart no -p 18099:80 bb:1 sleep 600", "inspect i1", "inspect none",
                           "port i1", "port i1 80", "top i1 -o comm", "diff i1", "inspect -s --format {{.Name}} i1", "rm -f i1"]),
    ("logs", ["!run --name g1 bb:1 sh -c {both}", "logs g1", "logs --tail 1 g1", "logs -t --tail 1 g1", "logs --since 1h g1", "logs none",
              "rm g1"]),
    ("exec", ["run -d --name e1 bb:1 sleep 600", "exec e1 echo hello", "exec e1 sh -c {exit}", "exec e1 nonsense", "exec -e A=b e1 sh -c {env}",
              "exec -d e1 true", "exec -w /tmp e1 pwd", "exec none true", "kill e1", "exec e1 true", "rm e1"]),
    ("cp", ["create --name f1 bb:1 true", "cp {work}/note f1:/note", "cp f1:/note {work}/back", "cp f1:/none {work}/back2",
            "cp none:/x {work}/back3", "!export -o {work}/exported.tar f1", "rm f1"]),
    ("stats", ["run -d --name s1 bb:1 sleep 600", "stats --no-stream --format {{json .}} s1", "stats --no-stream --no-trunc s1",
               "stats --no-stream none", "rm -f s1"]),
    ("update", ["run -d --name u1 bb:1 sleep 600", "update --memory 128m --memory-swap 128m u1", "update --restart always u1",
                "inspect --format {{.HostConfig.Memory}}|{{.HostConfig.RestartPolicy.Name}} u1", "update --memory 1 u1", "rm -f u1"]),
    ("events", ["run --rm --name ev1 bb:1 true", "events --since 1m --until {soon} --filter container=ev1 --format {{.Type}}|{{.Action}}",
                "events --since 1m --until {soon} --filter type=network --filter event=none", "events --since 1m --until {soon} --filter nonsense=1",
                "events --since nonsense"]),
    ("system", ["system df", "system df --format {{json .}}", "system df -v", "container prune -f", "system prune -f"]),
    ("absent", ["node ls", "service ls", "stack ls", "secret ls", "config ls", "swarm leave", "plugin ls", "plugin inspect none"]),
    ("search", ["search nonsense"]),
]

# What the API itself answers: method, path, body. Status and the keys and types of the JSON are compared.
CALLS = [
    ("api-ping", [("GET", "/_ping", None), ("HEAD", "/_ping", None), ("GET", "/v1.41/_ping", None), ("GET", "/v1.10/_ping", None),
                  ("GET", "/v1.99/_ping", None), ("GET", "/nothing", None), ("POST", "/_ping", None)]),
    ("api-system", [("GET", "/v1.41/info", None), ("GET", "/v1.41/version", None), ("GET", "/v1.41/system/df", None),
                    ("POST", "/v1.41/auth", {"username": "a", "password": "b", "serveraddress": "127.0.0.1:1"}),
                    ("GET", "/v1.41/events?since=1&until=2", None), ("GET", "/v1.41/events?since=3&until=2", None),
                    ("GET", "/v1.41/events?filters=nonsense", None)]),
    ("api-images", [("GET", "/v1.41/images/json", None), ("GET", "/v1.41/images/json?shared-size=1", None),
                    ("GET", "/v1.41/images/json?filters=nonsense", None), ("GET", "/v1.41/images/json?filters={\"x\":[\"y\"]}", None),
                    ("GET", "/v1.41/images/bb:1/json", None), ("GET", "/v1.41/images/bb:1/history", None),
                    ("GET", "/v1.41/images/none/json", None), ("POST", "/v1.41/images/create", None),
                    ("POST", "/v1.41/images/bb:1/tag?repo=t&tag=1", None), ("DELETE", "/v1.41/images/t:1", None),
                    ("DELETE", "/v1.41/images/none", None), ("GET", "/v1.41/images/none/get", None), ("POST", "/v1.41/images/prune", None),
                    ("POST", "/v1.41/images/none/push", None)]),
    ("api-networks", [("GET", "/v1.41/networks", None), ("GET", "/v1.41/networks/bridge", None), ("GET", "/v1.41/networks/none-such", None),
                      ("POST", "/v1.41/networks/create", {"Name": "a1"}), ("POST", "/v1.41/networks/create", {"Name": "a1", "CheckDuplicate": True}),
                      ("GET", "/v1.41/networks/a1", None), ("DELETE", "/v1.41/networks/a1", None), ("DELETE", "/v1.41/networks/a1", None),
                      ("POST", "/v1.41/networks/create", {}), ("POST", "/v1.41/networks/create", [1]), ("POST", "/v1.41/networks/prune", None),
                      ("POST", "/v1.41/networks/bridge/connect", {"Container": "none"}), ("DELETE", "/v1.41/networks/host", None)]),
    ("api-volumes", [("GET", "/v1.41/volumes", None), ("POST", "/v1.41/volumes/create", {"Name": "av"}),
                     ("POST", "/v1.41/volumes/create", {}), ("GET", "/v1.41/volumes/av", None), ("DELETE", "/v1.41/volumes/av", None),
                     ("DELETE", "/v1.41/volumes/av", None), ("GET", "/v1.41/volumes/av", None), ("POST", "/v1.41/volumes/prune", None)]),
    ("api-absent", [("GET", "/v1.41/swarm", None), ("GET", "/v1.41/nodes", None), ("GET", "/v1.41/services", None),
                    ("GET", "/v1.41/plugins", None), ("POST", "/v1.41/build/prune", None)]),
    ("api-containers", [("GET", "/v1.41/containers/json?all=1", None), ("GET", "/v1.41/containers/none/json", None),
                        ("POST", "/v1.41/containers/create", {}), ("POST", "/v1.41/containers/create", {"Image": "none:1"}),
                        ("POST", "/v1.41/containers/create?name=ac", {"Image": "bb:1", "Cmd": ["true"]}),
                        ("GET", "/v1.41/containers/ac/json", None), ("GET", "/v1.41/containers/ac/logs", None),
                        ("DELETE", "/v1.41/containers/ac", None), ("POST", "/v1.41/containers/prune", None)]),
]


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
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "<mac>"),
    (r"/tmp/gantry-parity[^ \"]*", "<path>"),
    (r"size: \d+", "size: <number>"),
]


def shape(text):
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

def command(sock, line, words):
    argv = []
    for word in line.split():
        # The command line cuts moments to seconds: what happened in this one would be missing.
        for name, value in list(words.items()) + [("soon", str(int(time.time()) + 2))]:
            word = word.replace("{%s}" % name, value)
        argv.append(word)
    env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_API_VERSION="1.41", DOCKER_CONFIG=words["work"] + "/config",
               DOCKER_CLI_EXPERIMENTAL="enabled", LC_ALL="C")
    try:
        done = subprocess.run([DOCKER] + argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, timeout=SECONDS)
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return "no end", "", ""


def call(sock, method, path, body):
    argv = ["curl", "-s", "-g", "--max-time", "30", "--unix-socket", sock, "-o", "-", "-w", "\n%{http_code}", "http://d" + path.replace('"', "%22")]
    argv += ["-I"] if method == "HEAD" else ["-X", method]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    text, _, status = done.stdout.decode(errors="replace").rpartition("\n")
    return int(status or 0), "" if method == "HEAD" else text


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


def differences(theirs, ours, words):
    """(case, command, difference) of everything."""
    for name, lines in CASES:
        if ONLY not in name:
            continue
        answers = []
        for sock in (theirs, ours):
            command(sock, "load -q -i " + words["archive"], words)  # whatever a case before has removed
            seen = []
            for line in lines:
                quiet = line.startswith("!")
                result = command(sock, line.lstrip("!"), words)
                seen.append((result[0], "" if quiet else result[1], result[2]))
            answers.append(seen)
        for line, a, b in zip(lines, *answers):
            for text in compare(a, b):
                yield name, line, text, a, b
            if a[0] != 0 and b[0] == a[0] and a[2] != "" and b[2] == "":
                yield name, line, "no message on stderr", a, b
    for name, calls in CALLS:
        if ONLY not in name:
            continue
        for sock in (theirs, ours):
            command(sock, "load -q -i " + words["archive"], words)
        answers = [[call(sock, *one) for one in calls] for sock in (theirs, ours)]
        for (method, path, body), a, b in zip(calls, *answers):
            line = "%s %s%s" % (method, path, "" if body is None else " " + json.dumps(body))
            for text in compare(a, b):
                yield name, line, text, a + ("",), b + ("",)


def reviewed():
    """(case pattern, command pattern, difference pattern, reason)."""
    entries = []
    if os.path.exists(LIST):
        for number, line in enumerate(open(LIST), 1):
            line = line.rstrip("\n")
            if not line or line.startswith("#"):
                continue
            parts = [part.strip() for part in line.split("|||")]
            if len(parts) != 4 or not parts[3]:
                raise SystemExit("%s:%d: not CASE ||| COMMAND ||| DIFFERENCE ||| REASON" % (LIST, number))
            entries.append(parts)
    return entries


def wild(text, pattern):
    """Only * is special in a pattern: what is compared has brackets in it."""
    return fnmatch.fnmatchcase(text.replace("[", "("), pattern.replace("[", "("))


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


def start_registry(work):
    open(work + "/registry.yml", "w").write(
        "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: 127.0.0.1:5055}\n" % work)
    daemon = Daemon(["docker-registry", "serve", work + "/registry.yml"], ["curl", "-sf", "http://127.0.0.1:5055/v2/"], work + "/registry.log")
    daemon.start()
    return daemon


def main():
    for program in (DOCKER, "dockerd", "containerd", "curl", "busybox", "docker-registry"):
        if not have(program):
            raise SystemExit("parity: %s is not installed: ./dev setup" % program)
    enter_namespaces()
    work = tempfile.mkdtemp(prefix="gantry-parity.", dir="/tmp")
    daemons = []
    status = 1
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        open(work + "/note", "w").write("note\n")
        daemons.append(start_registry(work))
        ours = state + "/gantry-docker.sock"
        address = state + "/gantry.sock"
        gantry = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address, "--docker-address", ours,
                         "--shim", programs + "/gantry-shim"], [programs + "/ctl", "--address", address, "version"], work + "/gantryd.log")
        gantry.start()
        daemons.append(gantry)
        containerd_socket = state + "/containerd.sock"
        daemons.append(start_containerd(work, containerd_socket, state))
        theirs = state + "/docker.sock"
        dockerd = Daemon(["dockerd", "--containerd", containerd_socket, "--data-root", work + "/docker", "--exec-root", state + "/docker", "--pidfile",
                          state + "/docker.pid", "-H", "unix://" + theirs, "--storage-driver", "overlay2"],
                         [DOCKER, "-H", "unix://" + theirs, "version"], work + "/dockerd.log")
        dockerd.start()
        daemons.append(dockerd)
        words = {"work": work, "archive": archive, "registry": "127.0.0.1:5055", "exit": "exit 7", "both": "echo out; sleep 0.3; echo err >&2",
                 "change": 'CMD ["true"]', "env": "env | sort"}
        for sock in (theirs, ours):
            loaded = command(sock, "load -i " + archive, words)
            if loaded[0] != 0:
                raise SystemExit("parity: load: %s" % (loaded,))
        status = report(list(differences(theirs, ours, words)))
    finally:
        left = subprocess.run([DOCKER, "-H", "unix://" + work + "/run/gantry-docker.sock", "ps", "-aq"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout.split()
        if left:
            subprocess.run([DOCKER, "-H", "unix://" + work + "/run/gantry-docker.sock", "rm", "-f"] + left, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        for daemon in reversed(daemons):
            daemon.stop()
        if status != 0 and os.environ.get("PARITY_LOG"):
            shutil.copy(work + "/gantryd.log", os.environ["PARITY_LOG"])
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(status)


def report(found):
    entries = reviewed()
    used = set()
    fresh = []
    for name, line, text, theirs, ours in found:
        hit = [i for i, entry in enumerate(entries) if wild(name, entry[0]) and wild(line, entry[1]) and wild(text, entry[2])]
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
    lines = sum(len(lines) for name, lines in CASES + CALLS if ONLY in name)
    print("parity: %d command lines and calls, %d differences, %d of them reviewed" % (lines, len(found), len(found) - len(fresh)))
    return 1 if fresh or stale else 0


if __name__ == "__main__":
    main()
