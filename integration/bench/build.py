#!/usr/bin/env python3
"""./dev bench build: builds beside docker's classic builder (dockerd) and buildkitd (where go_client.sh has built it), in one run.

Measured, each contender in turn and then again: a rebuild of 20 steps with a context of 10,000 files where nothing changed; the same with one
changed file; a build of 10 steps without the cache; the rate at which a large file of the context is sent, beside tar through a unix socket (packed on
one side and unpacked on the other) and beside a plain copy of its bytes; what a RUN costs over `ctl run` of the same command. At the end the highest memory of each daemon. Figures are medians of whole commands.

Environment: GANTRY_BIN (built programs, default out/bin), BENCH_REPEAT (5), BENCH_FILES (10000), BENCH_MB (200), BENCH_PEERS ("dockerd buildkitd").
"""
import glob
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from peers import Daemon, enter_namespaces, install, make_state, mount_free_controllers, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
REPEAT = int(os.environ.get("BENCH_REPEAT", "5"))
FILES = int(os.environ.get("BENCH_FILES", "10000"))
MEGABYTES = int(os.environ.get("BENCH_MB", "200"))
PEERS = os.environ.get("BENCH_PEERS", "dockerd buildkitd").split()
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "gantry")

enter_namespaces()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as out:
        out.write(text)


# Every build begins with the same files, since the daemons have no image in common.
BASE = "FROM scratch\nCOPY bin /bin\n"


def make_contexts(work):
    contexts = {}
    for name in ("many", "cold", "large", "runs"):
        directory = contexts[name] = os.path.join(work, "context-" + name)
        os.makedirs(directory + "/bin")
        shutil.copy(shutil.which("busybox"), directory + "/bin/busybox")
        for applet in ("sh", "true", "echo", "cat"):
            os.symlink("busybox", directory + "/bin/" + applet)
    many = contexts["many"]
    for index in range(FILES):
        write("%s/src/d%d/f%d" % (many, index // 100, index), "%d\n" % index * 100)
    steps = ["RUN echo %d > /step%d\n" % (i, i) for i in range(17)]
    write(many + "/Dockerfile", BASE + "WORKDIR /w\n" + "".join(steps[:8]) + "COPY src /w/src\n" + "".join(steps[8:]))
    write(contexts["cold"] + "/Dockerfile", BASE + "".join("RUN echo %d > /step%d\n" % (i, i) for i in range(9)))
    write(contexts["runs"] + "/Dockerfile", BASE + 'RUN ["true"]\n' * 20)
    write(contexts["large"] + "/Dockerfile", BASE)
    return contexts


class Contender:
    def __init__(self, name, daemon, build, kept):
        # `build` is the command without the context's directory; `kept` what turns the cache off.
        self.name, self.daemon, self.command, self.no_cache = name, daemon, build, kept
        self.figures = {}

    def build(self, directory, cached=True):
        argv = [a.replace("@", directory) for a in self.command + ([] if cached else self.no_cache)]
        before = time.monotonic()
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env())
        after = time.monotonic()
        if done.returncode != 0:
            raise SystemExit("bench: %s: %s\n%s" % (self.name, " ".join(argv), done.stdout.decode(errors="replace")[-2000:]))
        return after - before

    def env(self):
        return dict(os.environ, DOCKER_BUILDKIT="0", DOCKER_CONFIG=self.daemon.log + ".config")

    def add(self, measure, seconds):
        self.figures.setdefault(measure, []).append(seconds)

    def peak_mib(self):
        for line in open("/proc/%d/status" % self.daemon.process.pid):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024


def contenders(work, state, programs):
    all_of_them = []
    address = work + "/gantry.sock"
    write(work + "/gantry.toml", '[network]\ndefault = "none"\n')
    ctl = [programs + "/ctl", "--address", address]
    daemon = Daemon([programs + "/gantryd", "--config", work + "/gantry.toml", "--root", work + "/gantry", "--state", state + "/gantry", "--address",
                     address, "--docker-address", work + "/gantry-docker.sock", "--shim", programs + "/gantry-shim"], ctl + ["version"],
                    work + "/gantryd.log")
    daemon.start()
    all_of_them.append(Contender("gantry", daemon, ctl + ["build", "-q", "-t", "bench", "@"], ["--no-cache"]))
    all_of_them[0].ctl = ctl
    if "dockerd" in PEERS and shutil.which("dockerd"):
        docker = ["/usr/bin/docker", "-H", "unix://" + work + "/docker.sock"]
        daemon = Daemon(["dockerd", "--data-root", work + "/docker", "--exec-root", state + "/docker", "--pidfile", work + "/docker.pid", "-H",
                         "unix://" + work + "/docker.sock", "--bridge", "none", "--iptables=false", "--ip6tables=false"], docker + ["version"],
                        work + "/dockerd.log")
        daemon.start()
        all_of_them.append(Contender("dockerd classic", daemon, docker + ["build", "--network", "none", "-q", "-t", "bench", "@"], ["--no-cache"]))
    found = sorted(glob.glob(CACHE + "/buildkitd-*/buildkitd")), sorted(glob.glob(CACHE + "/buildctl-*/buildctl"))
    if "buildkitd" in PEERS and all(found):
        address = "unix://" + work + "/buildkit.sock"
        buildctl = [found[1][-1], "--addr", address]
        daemon = Daemon([found[0][-1], "--root", work + "/buildkit", "--addr", address, "--containerd-worker=false", "--oci-worker-binary", "runc",
                         "--oci-worker-snapshotter", "overlayfs"], buildctl + ["debug", "workers"], work + "/buildkitd.log")
        daemon.start()
        all_of_them.append(Contender("buildkitd", daemon, buildctl + [
            "build", "--progress", "plain", "--frontend", "dockerfile.v0", "--opt", "force-network-mode=none", "--local", "context=@", "--local",
            "dockerfile=@", "--output", "type=image,name=bench"], ["--no-cache"]))
    return all_of_them


def socket_copy_seconds(path):
    """What the machine allows: a file through a unix socket into another file."""
    left, right = socket.socketpair()

    def send():
        with left, open(path, "rb") as source:
            while block := source.read(256 << 10):
                left.sendall(block)

    before = time.monotonic()
    sender = threading.Thread(target=send)
    sender.start()
    with open(path + ".copy", "wb") as out:
        while block := right.recv(256 << 10):
            out.write(block)
    sender.join()
    right.close()
    after = time.monotonic()
    os.unlink(path + ".copy")
    return after - before


def socket_tar_seconds(directory):
    """The same with two tar programs, which is how a classic builder gets its context."""
    left, right = socket.socketpair()
    unpacked = directory + ".unpacked"
    os.mkdir(unpacked)
    before = time.monotonic()
    with left, right:
        packer = subprocess.Popen(["tar", "-C", directory, "-cf", "-", "."], stdout=left)
        unpacker = subprocess.Popen(["tar", "-C", unpacked, "-xf", "-"], stdin=right)
    if packer.wait() != 0 or unpacker.wait() != 0:
        raise SystemExit("bench: tar through a socket failed")
    after = time.monotonic()
    shutil.rmtree(unpacked)
    return after - before


def rewrite(path, size_bytes):
    with open(path, "wb") as out:
        for _ in range(size_bytes >> 20):
            out.write(os.urandom(1 << 20))


def measure(all_of_them, contexts):
    for one in all_of_them:
        one.add("first build, %d files" % FILES, one.build(contexts["many"]))
    for _ in range(REPEAT):
        for one in all_of_them:
            one.add("rebuild, nothing changed", one.build(contexts["many"]))
    for index in range(REPEAT):
        write(contexts["many"] + "/src/d0/f0", "changed %d\n" % index)
        for one in all_of_them:
            one.add("rebuild, one file changed", one.build(contexts["many"]))
    for _ in range(REPEAT):
        for one in all_of_them:
            one.add("10 steps, no cache", one.build(contexts["cold"], cached=False))
    for one in all_of_them:
        one.build(contexts["runs"])
    for _ in range(REPEAT):
        for one in all_of_them:
            one.add("20 RUN true, no cache", one.build(contexts["runs"], cached=False))
    # What is sent is ignored by every step, so nothing but the transfer is paid for.
    large = contexts["large"] + "/large"
    for _ in range(max(1, REPEAT // 2)):
        rewrite(large, MEGABYTES << 20)
        for one in all_of_them:
            one.add("context of %d MB" % MEGABYTES, one.build(contexts["large"]))
        all_of_them[0].add("tar through a socket", socket_tar_seconds(contexts["large"]))
        all_of_them[0].add("a copy through a socket", socket_copy_seconds(large))


def show(all_of_them):
    measures = list(all_of_them[0].figures)
    print("%-30s" % "median seconds" + "".join("%18s" % one.name for one in all_of_them) + "   gantry / others")
    for measure in measures:
        medians = [statistics.median(one.figures[measure]) if measure in one.figures else None for one in all_of_them]
        ratios = "  ".join("%.2f×" % (medians[0] / other) for other in medians[1:] if other)
        print("%-30s" % measure + "".join("%18s" % ("" if m is None else "%.3f" % m) for m in medians) + "   " + ratios)
    print("%-30s" % "peak memory, MiB" + "".join("%18.1f" % one.peak_mib() for one in all_of_them))


def main():
    work = tempfile.mkdtemp(prefix="gantry-bench-build-")
    running = []
    try:
        mount_free_controllers(work)
        running = contenders(work, make_state(work), install(BIN, work))
        contexts = make_contexts(work)
        measure(running, contexts)
        gantry = running[0]
        for _ in range(20):
            before = time.monotonic()
            subprocess.run(gantry.ctl + ["run", "--rm", "--log-driver", "none", "bench", "true"], check=True)
            gantry.add("ctl run --rm true", time.monotonic() - before)
        show(running)
        per_step = (statistics.median(gantry.figures["20 RUN true, no cache"]) - statistics.median(gantry.figures["rebuild, nothing changed"])) / 20
        print("a RUN costs %.1f ms, `ctl run --rm` of the same command %.1f ms" % (per_step * 1000,
                                                                                  statistics.median(gantry.figures["ctl run --rm true"]) * 1000))
    finally:
        for one in running:
            one.daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


main()
