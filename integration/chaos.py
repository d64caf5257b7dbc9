#!/usr/bin/env python3
"""./dev test chaos [MINUTES] [SEED]: random verbs beside random disturbances, then a look for what is wrong, lost or left.

A gantryd with root, state and socket of its own, on a small tmpfs in a mount namespace of its own. Four clients run random verbs of ctl, each
on containers of its own. Meanwhile the daemon, shims and the zygote are killed or stopped for a while, the daemon is restarted, and descriptors
and disk space are taken away. Each client notes what was acknowledged. When the time is over the disturbances end, and then:

  wrong   a state, exit code, output or file that contradicts what was acknowledged; a call that did not return; a daemon that does not stop
  lost    a container that was acknowledged and not removed does not exist
  left    a removed container exists; processes, mounts, cgroups, bundles, snapshots or blobs remain after everything was removed

Prints the seed first and "N passed, N failed" last: each client, and each check at the end, is one. After a failure the directory is kept, with
the journal of all calls and disturbances. The choices repeat with the seed, their timing does not.
Environment: GANTRY_BIN (built programs, default out/bin), CHAOS_CLIENTS (4), CHAOS_DISK (MB of the disk, 256),
CHAOS_ONLY (disturbances to choose from, for example restart_daemon,take_descriptors; names are those in the journal).
"""
import collections
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "bench"))
from peers import enter_namespaces, install, make_image, unmount_below

BIN = os.path.abspath(os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin")))
CLIENTS = int(os.environ.get("CHAOS_CLIENTS", "4"))
DISK_MB = int(os.environ.get("CHAOS_DISK", "256"))
ONLY = os.environ.get("CHAOS_ONLY", "")
IMAGE = "bench:latest"
CALL_LIMIT = 120  # seconds; what takes longer hangs
SETTLE = 60  # seconds that a state may take to become what it must be
KILLED = 128 + signal.SIGKILL


class Place:
    """Where everything is, the journal, and the failures found so far."""

    def __init__(self, seed):
        self.base = tempfile.mkdtemp(prefix="gantry-chaos.")
        self.root, self.state = self.base + "/root", self.base + "/state"
        self.socket = self.state + "/gantry.sock"
        self.namespace = "chaos%d" % os.getpid()
        self.begun = time.monotonic()
        self.journal_file = open(self.base + "/journal", "a", buffering=1)
        self.lock = threading.Lock()
        self.failures = []
        self.journal("seed %s" % seed)

    def journal(self, line):
        with self.lock:
            self.journal_file.write("%8.3f %s\n" % (time.monotonic() - self.begun, line))

    def fail(self, kind, what):
        self.journal("FAILED %s: %s" % (kind, what))
        print("%s: %s" % (kind, what), flush=True)
        with self.lock:
            self.failures.append("%s: %s" % (kind, what))


class Daemon:
    """The daemon, and everything that is done to it. One thread at a time."""

    def __init__(self, place):
        self.place = place
        self.process = None
        self.programs = install(BIN, place.base)
        self.log = place.base + "/gantryd.log"
        self.environment = dict(os.environ, GANTRY_ADDRESS=place.socket, GANTRY_NAMESPACE=place.namespace)

    def start(self):
        argv = [self.programs + "/gantryd", "--root", self.place.root, "--state", self.place.state, "--address", self.place.socket,
                "--docker-address", self.place.base + "/docker.sock", "--shim", self.programs + "/gantry-shim"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=dict(os.environ))
        deadline = time.monotonic() + 60
        while subprocess.run([self.programs + "/ctl", "version"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             timeout=60).returncode != 0:
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                self.place.fail("wrong", "the daemon does not answer 60 s after its start")
                return False
            time.sleep(0.02)
        return True

    def revive(self):
        """Starts it again where it ended. After a sync that failed on a full disk it ends without a signal; its supervisor starts it then."""
        for _ in range(20):
            if self.process.poll() is None or self.start():
                return
            time.sleep(0.5)
        self.place.fail("wrong", "the daemon does not start; see %s" % self.log)

    def ended_by_itself(self):
        """It does that, with status 1, once a failed sync leaves open what the disk has; a SIGTERM may come just then."""
        return self.process.returncode == 1 and "gantryd ends, so that nothing more is acknowledged" in self.last_words()

    def last_words(self):
        with open(self.log, errors="replace") as log:
            return "".join("    " + line for line in log.readlines()[-40:])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; containers run on."""
        self.process.terminate()
        try:
            status = self.process.wait(20)
            if status != 0 and not self.ended_by_itself():
                self.place.fail("wrong", "the daemon ended with %d on SIGTERM; its last words:\n%s" % (status, self.last_words()))
        except subprocess.TimeoutExpired:
            self.place.fail("wrong", "the daemon did not end within 20 s of SIGTERM")
            self.kill()


Result = collections.namedtuple("Result", "code out err")


class Ctl:
    def __init__(self, place, daemon):
        self.place, self.daemon = place, daemon

    def __call__(self, *args, stdin=None, limit=CALL_LIMIT):
        """code None: the call did not return, which is a failure."""
        began = time.monotonic()
        try:
            done = subprocess.run([self.daemon.programs + "/ctl", *args], env=self.daemon.environment, timeout=limit, input=stdin,
                                  stdin=subprocess.DEVNULL if stdin is None else None, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            result = Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        except subprocess.TimeoutExpired:
            self.place.fail("wrong", "no answer within %d s: ctl %s" % (limit, " ".join(args)))
            result = Result(None, "", "")
        self.place.journal("%-5s %6.0f ms  ctl %s%s" % (result.code, (time.monotonic() - began) * 1000, " ".join(args),
                                                        "  | " + result.err.strip().replace("\n", " | ") if result.err else ""))
        return result


def shims(place):
    """pid by container id."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open("/proc/%s/comm" % pid).read().strip() != "gantry-shim":
                continue
            words = [word.decode(errors="replace") for word in open("/proc/%s/cmdline" % pid, "rb").read().split(b"\0")]
            cwd = os.readlink("/proc/%s/cwd" % pid)
        except OSError:
            continue
        here = place.state + "/tasks/" + place.namespace + "/"
        for word in words + [cwd]:
            if here in word:
                found[word.split(here)[1].split("/")[0]] = int(pid)
    return found


def zygote(daemon):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = open("/proc/%s/stat" % pid).read()
            comm, rest = status[status.index("(") + 1:status.rindex(")")], status[status.rindex(")") + 2:].split()
            words = open("/proc/%s/cmdline" % pid, "rb").read().split(b"\0")
        except OSError:
            continue
        if comm.startswith("gantry-") and int(rest[1]) == daemon.process.pid and b"--zygote" in words:
            return int(pid)
    return None


class Disturber:
    """Does one thing after the other to the daemon and what belongs to it, until `over`; leaves everything as it should be."""

    def __init__(self, place, daemon, rng, over):
        self.place, self.daemon, self.rng, self.over = place, daemon, rng, over
        self.count = 0
        # Ids of containers whose shim was killed: theirs is any end.
        self.killed_shims = set()

    def work(self):
        ways = [self.kill_daemon] * 3 + [self.restart_daemon] * 2 + [self.stop_daemon_for_a_while] * 2 + [self.kill_shim] * 3 + [
            self.stop_shims_for_a_while] * 2 + [self.kill_zygote, self.take_descriptors, self.fill_disk, self.kill_daemon_with_stopped_shim]
        if ONLY:
            ways = [getattr(self, name) for name in ONLY.split(",")]
        while not self.over.wait(self.rng.uniform(0.2, 2.5)):
            way = self.rng.choice(ways)
            self.place.journal("-- " + way.__name__)
            self.count += 1
            try:
                way()
            except (OSError, ProcessLookupError) as gone:
                self.place.journal("-- %s: %s" % (way.__name__, gone))
            self.daemon.revive()

    def pause(self, least, most):
        time.sleep(self.rng.uniform(least, most))

    def signal(self, pid, number):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    def kill_daemon(self):
        self.daemon.kill()
        self.pause(0, 0.5)

    def restart_daemon(self):
        self.daemon.stop()

    def stop_daemon_for_a_while(self):
        self.signal(self.daemon.process.pid, signal.SIGSTOP)
        self.pause(0.1, 3)
        self.signal(self.daemon.process.pid, signal.SIGCONT)

    def some_shims(self, most):
        known = sorted(shims(self.place).items())
        return self.rng.sample(known, min(len(known), self.rng.randint(1, most)))

    def kill_shim(self):
        for container, pid in self.some_shims(1):
            self.place.journal("-- shim %d of %s" % (pid, container))
            self.killed_shims.add(container)
            self.signal(pid, signal.SIGKILL)

    def stop_shims_for_a_while(self):
        chosen = self.some_shims(3)
        for _, pid in chosen:
            self.signal(pid, signal.SIGSTOP)
        self.pause(0.1, 4)
        # One that does not answer may be killed by the daemon; then its number may be another's, who takes no harm from SIGCONT.
        for _, pid in chosen:
            self.signal(pid, signal.SIGCONT)
        self.stopped_for_long(chosen)

    def kill_daemon_with_stopped_shim(self):
        chosen = self.some_shims(2)
        for _, pid in chosen:
            self.signal(pid, signal.SIGSTOP)
        self.daemon.kill()
        resumed = threading.Timer(self.rng.uniform(0.5, 4), lambda: [self.signal(pid, signal.SIGCONT) for _, pid in chosen])
        resumed.start()
        self.daemon.revive()
        resumed.join()
        self.stopped_for_long(chosen)

    def stopped_for_long(self, chosen):
        """Removal may kill a shim that does not answer."""
        self.killed_shims.update(container for container, pid in chosen if not os.path.exists("/proc/%d" % pid))

    def kill_zygote(self):
        pid = zygote(self.daemon)
        if pid:
            self.signal(pid, signal.SIGKILL)

    def take_descriptors(self):
        pid = self.daemon.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir("/proc/%d/fd" % pid)) + self.rng.randint(0, 12), before[1]))
        self.pause(0.2, 2)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    def fill_disk(self):
        path = self.place.root + "/ballast"
        try:
            with open(path, "wb") as ballast:
                while True:
                    ballast.write(b"\0" * (1 << 20))
        except OSError:
            pass
        self.pause(0.2, 2)
        os.unlink(path)


class Container:
    """What is known of one container: `present` True (acknowledged), False (its removal was) or None (either may be)."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.present = None
        self.id = ""
        self.code = None  # that the process ends with by itself
        self.runs = None  # True, False, or None where either may be
        self.touched = False  # a stop, kill or restart was asked for: other exit codes are possible
        self.removal_asked = False
        self.files = {}


class Client:
    def __init__(self, number, place, ctl, rng, over, registry):
        self.number, self.place, self.ctl, self.rng, self.over, self.registry = number, place, ctl, rng, over, registry
        self.containers = []
        self.made = 0
        self.calls = 0
        self.disturber = None

    def work(self):
        while not self.over.is_set():
            self.calls += 1
            known = [c for c in self.containers if c.present is not False]
            if len(known) < 3 or (len(known) < 8 and self.rng.random() < 0.3):
                self.rng.choice([self.run_detached, self.run_to_end, self.run_removed, self.create, self.run_policy, self.run_rm_detached])()
            elif self.rng.random() < 0.1:
                self.rng.choice([self.load, self.pull, self.prune_images, self.list])()
            else:
                self.rng.choice([self.exec, self.exec, self.stop, self.kill, self.remove, self.rename, self.pause, self.logs, self.follow, self.wait,
                                 self.copy, self.copy, self.commit, self.start, self.remove])(self.rng.choice(known))

    def fresh(self, kind):
        self.made += 1
        container = Container("c%d-%d" % (self.number, self.made), kind)
        self.containers.append(container)
        return container

    def wrong(self, what):
        self.place.fail("wrong", "client %d: %s" % (self.number, what))

    def explained(self, result, what):
        if result.code == 125 and not result.err.strip():
            self.wrong("%s failed without a reason" % what)

    # --- making

    def run_detached(self):
        c = self.fresh("sleep")
        result = self.ctl("run", "-d", "--name", c.name, IMAGE, "sleep", "100000")
        if result.code == 0:
            c.present, c.id, c.runs = True, result.out.strip(), True
        self.explained(result, "run -d")

    def run_policy(self):
        c = self.fresh("policy")
        result = self.ctl("run", "-d", "--name", c.name, "--restart", self.rng.choice(["always", "unless-stopped"]), IMAGE, "sh", "-c",
                          "sleep %.1f; exit 3" % self.rng.uniform(0.1, 3))
        if result.code == 0:
            c.present, c.id = True, result.out.strip()

    def run_to_end(self):
        c = self.fresh("exit")
        code = self.rng.randint(0, 120)
        result = self.ctl("run", "-d", "--name", c.name, IMAGE, "sh", "-c", "echo begun; sleep %.1f; echo ended; exit %d" % (self.rng.uniform(0, 4), code))
        if result.code == 0:
            c.present, c.id, c.code = True, result.out.strip(), code

    def run_removed(self):
        c = self.fresh("rm")
        code = self.rng.randint(1, 120)
        token = "token-%d-%d" % (self.number, self.made)
        result = self.ctl("run", "--rm", "--name", c.name, IMAGE, "sh", "-c", "echo %s; exit %d" % (token, code))
        if result.code == code:
            if result.out != token + "\n":
                self.wrong("run --rm of %s ended with its code and printed %r" % (c.name, result.out))
        else:
            self.explained(result, "run --rm")

    def run_rm_detached(self):
        c = self.fresh("rm")
        self.ctl("run", "-d", "--rm", "--name", c.name, IMAGE, "sleep", "%.1f" % self.rng.uniform(0, 2))

    def create(self):
        c = self.fresh("sleep")
        result = self.ctl("create", "--name", c.name, IMAGE, "sleep", "100000")
        if result.code == 0:
            c.present, c.id, c.runs = True, result.out.strip(), False

    # --- using

    def start(self, c):
        result = self.ctl("start", c.name)
        if c.kind == "sleep":
            c.runs = True if result.code == 0 else None
        elif c.kind != "rm":
            c.touched = True

    def exec(self, c):
        token = "exec-%d" % self.calls
        result = self.ctl("exec", c.name, "echo", token)
        if result.code == 0 and result.out != token + "\n":
            self.wrong("exec in %s succeeded and printed %r" % (c.name, result.out))
        self.explained(result, "exec")

    def stop(self, c):
        result = self.ctl("stop", "-t", str(self.rng.choice([0, 1])), c.name)
        c.touched = True
        c.runs = False if result.code == 0 and c.kind == "sleep" else None
        self.explained(result, "stop")

    def kill(self, c):
        result = self.ctl("kill", c.name)
        c.touched = True
        c.runs = False if result.code == 0 and c.kind == "sleep" else None

    def pause(self, c):
        if self.ctl("pause", c.name).code == 0:
            time.sleep(self.rng.uniform(0, 0.5))
        for _ in range(20):
            result = self.ctl("unpause", c.name)
            if result.code == 0 or "not paused" in result.err or "is not running" in result.err or "o such container" in result.err:
                return
            time.sleep(0.5)
        c.touched, c.runs = True, None

    def remove(self, c):
        c.removal_asked = True
        result = self.ctl("rm", "-f", c.name)
        self.explained(result, "rm -f")
        if result.code == 0 or "o such container" in result.err:
            c.present = False
            if result.code == 0 and self.ctl("inspect", c.name).code == 0:
                self.wrong("%s exists after its removal was acknowledged" % c.name)

    def rename(self, c):
        name = c.name + "r"
        result = self.ctl("rename", c.name, name)
        if result.code == 0:
            c.name = name
        elif result.code is not None and c.present:
            # It may have happened all the same.
            for _ in range(40):
                if self.ctl("inspect", name).code == 0:
                    c.name = name
                    return
                if self.ctl("inspect", c.name).code == 0:
                    return
                time.sleep(0.5)

    def logs(self, c):
        result = self.ctl("logs", c.name)
        if result.code == 0 and c.kind == "exit" and result.out and not result.out.startswith("begun\n") and not c.touched:
            self.wrong("logs of %s: %r" % (c.name, result.out))

    def follow(self, c):
        if c.kind == "exit":
            self.ctl("logs", "-f", c.name)

    def wait(self, c):
        if c.kind != "exit":
            return
        result = self.ctl("wait", c.name)
        if result.code == 0 and c.present and not c.touched and result.out.strip() != str(c.code) and c.id not in self.disturber.killed_shims:
            self.wrong("wait for %s says %s, not %d" % (c.name, result.out.strip(), c.code))

    def copy(self, c):
        path = "%s/copy-%d" % (self.place.base, self.number)
        if c.files and self.rng.random() < 0.5:
            name, content = self.rng.choice(sorted(c.files.items()))
            result = self.ctl("cp", "%s:/%s" % (c.name, name), path)
            if result.code == 0 and open(path).read() != content:
                self.wrong("%s in %s is not what was copied there" % (name, c.name))
            elif result.code not in (0, None) and "ould not find" in result.err and c.present:
                self.wrong("%s in %s is lost: %s" % (name, c.name, result.err))
            return
        content = "%d %d\n" % (self.number, self.calls) * self.rng.randint(1, 1000)
        name = "file%d" % self.calls
        os.makedirs(path + ".in", exist_ok=True)
        with open(path + ".in/" + name, "w") as f:
            f.write(content)
        if self.ctl("cp", path + ".in/" + name, c.name + ":/" + name).code == 0:
            c.files[name] = content

    def commit(self, c):
        tag = "commit%d:%d" % (self.number, self.calls)
        if self.ctl("commit", c.name, tag).code == 0 and c.kind == "sleep":
            result = self.ctl("run", "--rm", tag, "echo", "whole")
            if result.code == 0 and result.out != "whole\n":
                self.wrong("the image made of %s runs and prints %r" % (c.name, result.out))
        self.ctl("rmi", "-f", tag)

    # --- images

    def load(self):
        self.ctl("load", "-q", "-i", self.place.base + "/image.tar")

    def pull(self):
        if self.registry:
            self.ctl("pull", "-q", self.registry)

    def prune_images(self):
        self.ctl("image", "prune", "-f")

    def list(self):
        result = self.ctl("ps", "-a", "--format", "{{.Names}}")
        if result.code != 0:
            return
        names = result.out.split()
        for c in self.containers:
            if c.present and not c.removal_asked and c.kind != "rm" and c.name not in names:
                self.place.fail("lost", "%s is not listed" % c.name)
            if c.present is False and c.name in names:
                self.place.fail("left", "%s is listed after its removal" % c.name)

    # --- at the end

    def check(self):
        for c in self.containers:
            problem = None
            deadline = time.monotonic() + SETTLE
            while True:
                problem = self.problem_of(c)
                if problem is None or time.monotonic() > deadline:
                    break
                time.sleep(1)
            if problem:
                self.place.fail(*problem)

    def problem_of(self, c):
        result = self.ctl("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", c.name)
        if result.code is None:
            return ("wrong", "inspect of %s does not return" % c.name)
        if result.code != 0:
            if "o such" not in result.err:
                return ("wrong", "%s cannot be looked at: %s" % (c.name, result.err))
            if c.present and not c.removal_asked and c.kind != "rm":
                return ("lost", "%s (%s) was acknowledged and does not exist" % (c.name, c.kind))
            return None
        status, code = result.out.split()
        where = "%s (%s, %s)" % (c.name, c.kind, c.id[:12])
        if c.present is False:
            return ("left", "%s exists after its removal was acknowledged" % where)
        if c.kind == "rm":
            return ("left", "%s has --rm and is %s" % (where, status))
        if status in ("removing", "dead") and c.present:
            return ("wrong", "%s is %s" % (where, status))
        disturbed = c.id in self.disturber.killed_shims
        if c.kind == "sleep" and c.present and not disturbed:
            if c.runs is True and status != "running":
                return ("wrong", "%s is %s %s, and nobody stopped it" % (where, status, code))
            if c.runs is False and status not in ("created", "exited"):
                return ("wrong", "%s is %s, and was stopped" % (where, status))
        if c.kind == "exit" and c.present and not disturbed and not c.touched:
            if status != "exited" or int(code) != c.code:
                return ("wrong", "%s is %s %s, not exited %d" % (where, status, code, c.code))
        return None


def eventually(look, limit=SETTLE):
    """Calls look() until it returns nothing, for `limit` seconds; what it returned last."""
    deadline = time.monotonic() + limit
    while True:
        left = look()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


def leaked_processes(place):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            line = open("/proc/%s/cmdline" % pid, "rb").read().replace(b"\0", b" ").decode(errors="replace")
            cgroup = open("/proc/%s/cgroup" % pid).read()
            cwd = os.readlink("/proc/%s/cwd" % pid)
            zombie = open("/proc/%s/stat" % pid).read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            continue
        if not zombie and (place.base in line or cwd.startswith(place.base) or any(c in cgroup for c in place.ids)) and "docker-registry" not in line:
            found.append("process %s: %s" % (pid, line))
    return found


def leaked_mounts(place):
    own = {place.root}
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    return ["mount %s" % m for m in mounts if m.startswith(place.base + "/") and m not in own and m != place.state]


def leaked_cgroups(place):
    found = []
    for top in ["/sys/fs/cgroup"] + ["/sys/fs/cgroup/" + name for name in os.listdir("/sys/fs/cgroup")]:
        group = top + "/gantry"
        if os.path.isdir(group):
            found += ["cgroup %s/%s" % (group, name) for name in os.listdir(group) if name in place.ids]
    return found


def leaked_files(place):
    found = []
    for directory, depth in (("state/tasks", 2), ("state/s", 1), ("root/content/blobs", 2), ("root/content/ingest", 1), ("root/snapshots", 3)):
        top = place.base + "/" + directory
        for path, directories, files in os.walk(top):
            level = path[len(top):].count("/")
            if level == depth - 1:
                found += [os.path.join(path, name) for name in directories + files]
                directories[:] = []
    return found


def start_registry(place, ctl):
    """docker-registry on a loopback port with the image in it; "" where there is none."""
    if not shutil.which("docker-registry"):
        return "", None
    import socket as sockets
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(place.base + "/registry.yml", "w") as config:
        json.dump({"version": "0.1", "log": {"level": "error"}, "storage": {"filesystem": {"rootdirectory": place.base + "/registry"}},
                   "http": {"addr": "127.0.0.1:%d" % port}}, config)
    process = subprocess.Popen(["docker-registry", "serve", place.base + "/registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    name = "localhost:%d/chaos:latest" % port
    ctl("tag", IMAGE, name)
    for _ in range(100):
        if ctl("push", "-q", name).code == 0:
            return name, process
        time.sleep(0.1)
    return "", process


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = sys.argv[2] if len(sys.argv) > 2 else str(random.SystemRandom().randrange(1 << 32))
    if os.geteuid() != 0:
        raise SystemExit("chaos: needs root")
    print("seed %s, %g minutes" % (seed, minutes), flush=True)
    place = Place(seed)
    os.makedirs(place.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % DISK_MB, "none", place.root], check=True)
    daemon = Daemon(place)
    ctl = Ctl(place, daemon)
    registry_process = None
    checks, failed_checks = 0, 0

    def verdict(name, before):
        nonlocal checks, failed_checks
        new = len(place.failures) - before
        checks += 1
        failed_checks += new > 0
        print("%-7s %s" % ("FAILED" if new else "ok", name), flush=True)

    try:
        if not daemon.start():
            raise SystemExit("chaos: the daemon does not start; see %s" % daemon.log)
        make_image(place.base)
        if ctl("load", "-q", "-i", place.base + "/image.tar").code != 0:
            raise SystemExit("chaos: the image cannot be loaded")
        registry, registry_process = start_registry(place, ctl)
        over = threading.Event()
        disturber = Disturber(place, daemon, random.Random(seed + "-disturber"), over)
        clients = [Client(k, place, ctl, random.Random("%s-%d" % (seed, k)), over, registry) for k in range(CLIENTS)]
        threads = [threading.Thread(target=client.work) for client in clients] + [threading.Thread(target=disturber.work)]
        for client in clients:
            client.disturber = disturber
        for thread in threads:
            thread.start()
        over.wait(minutes * 60)
        over.set()
        for thread in threads:
            thread.join()
        daemon.revive()
        print("%d verbs, %d disturbances, %d containers" % (sum(c.calls for c in clients), disturber.count, sum(c.made for c in clients)), flush=True)
        verdict("while it lasted", 0)

        before = len(place.failures)
        for client in clients:
            client.check()
        verdict("what was acknowledged holds", before)

        before = len(place.failures)
        place.ids = {c.id for client in clients for c in client.containers if c.id}
        place.ids |= set(ctl("ps", "-aq", "--no-trunc").out.split())

        def remove_all():
            left = ctl("ps", "-aq", "--no-trunc").out.split()
            if left:
                ctl("rm", "-f", *left)
            return ctl("ps", "-a", "--format", "{{.Names}} {{.Status}}").out.splitlines()
        for one in eventually(remove_all):
            place.fail("left", "cannot be removed: " + one)
        for name in ctl("images", "-q", "--no-trunc").out.split():
            ctl("rmi", "-f", name)

        def files():
            ctl("gc")
            return leaked_files(place)
        for one in eventually(files):
            place.fail("left", one)
        daemon.stop()
        for look in (leaked_processes, leaked_mounts, leaked_cgroups):
            for one in eventually(lambda: look(place), 20):
                place.fail("left", one)
        verdict("nothing is left when all is removed", before)
    finally:
        if registry_process:
            registry_process.kill()
            registry_process.wait()
        if daemon.process and daemon.process.poll() is None:
            daemon.kill()
        for pid in shims(place).values():
            os.kill(pid, signal.SIGKILL)
        if place.failures:
            print("kept: %s (journal, gantryd.log)" % place.base, flush=True)
        unmount_below(place.base)
        if not place.failures:
            shutil.rmtree(place.base, ignore_errors=True)
    print("%d passed, %d failed" % (checks - failed_checks, failed_checks), flush=True)
    sys.exit(1 if failed_checks else 0)


enter_namespaces()
main()
