#!/usr/bin/python3
"""./dev bench cri: pods by CRI on gantryd and on Debian's containerd, by this one client, in turn, in one run.

What is measured: a pod with a container from nothing to running and its removal; the CPU that the daemon and its shims take for ExecSync probes on
many pods; memory per idle pod, all processes of it together; the time of lists of many pods.
Environment: GANTRY_BIN (built programs, default out/bin), BENCH_PODS (50: of probes and memory), BENCH_LISTED (100), BENCH_ROUNDS (20), BENCH_SECONDS
(10, of probes), BENCH_DIR (where the stores are). Needs Debian's python3-grpcio, for which this is Debian's python3.
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from peers import Daemon, enter_namespaces, have, install, make_image, make_state, mount_free_controllers, sh, unmount_below  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
SOURCES = os.path.join(HERE, "..", "..")
IMAGE = "docker.io/library/bench:latest"
PODS = int(os.environ.get("BENCH_PODS", "50"))
LISTED = int(os.environ.get("BENCH_LISTED", "100"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "10"))

enter_namespaces()


def messages(work):
    """The client's messages, made of the project's own .proto files."""
    out = work + "/python"
    os.mkdir(out)
    files = [os.path.join("proto/cri/v1", name) for name in os.listdir(os.path.join(SOURCES, "proto/cri/v1"))]
    subprocess.run(["protoc", "-I", SOURCES, "--python_out", out] + files, check=True, cwd=SOURCES)
    sys.path.insert(0, out)


class Client:
    """One connection. Calls are by name: client.RunPodSandbox(request)."""

    def __init__(self, socket):
        import grpc
        from proto.cri.v1 import containers_pb2, pod_config_pb2, pods_pb2
        self.modules = [containers_pb2, pods_pb2, pod_config_pb2]
        self.channel = grpc.insecure_channel("unix:" + socket)

    def message(self, name):
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise SystemExit("bench: no message " + name)

    def __getattr__(self, method):
        request, response = self.message(method + "Request"), self.message(method + "Response")
        call = self.channel.unary_unary("/runtime.v1.RuntimeService/" + method, request_serializer=request.SerializeToString,
                                        response_deserializer=response.FromString)
        bound = lambda wait=120, **fields: call(request(**fields), timeout=wait)  # noqa: E731
        setattr(self, method, bound)
        return bound


class Contender:
    def __init__(self, name, client, daemon, shim):
        self.name, self.client, self.daemon, self.shim, self.made = name, client, daemon, shim, 0

    def run(self):
        """A pod on the host's network with a container that sleeps."""
        self.made += 1
        message = self.client.message
        config = message("PodSandboxConfig")(log_directory="/tmp")
        config.metadata.name, config.metadata.uid, config.metadata.namespace = "bench-%d" % self.made, "uid-%d" % self.made, "bench"
        options = config.linux.security_context.namespace_options
        options.network, options.pid = 2, 1
        pod = self.client.RunPodSandbox(config=config).pod_sandbox_id
        container = message("ContainerConfig")(command=["sleep", "100000"])
        container.metadata.name, container.image.image = "main", IMAGE
        container.linux.security_context.namespace_options.pid = 1
        made = self.client.CreateContainer(pod_sandbox_id=pod, config=container, sandbox_config=config).container_id
        self.client.StartContainer(container_id=made)
        return pod, made

    def remove(self, pod):
        self.client.StopPodSandbox(pod_sandbox_id=pod)
        self.client.RemovePodSandbox(pod_sandbox_id=pod)

    def pids(self):
        """The daemon, and what it and its shims are: all but what runs in containers."""
        found = [self.daemon.process.pid]
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = open("/proc/%s/cmdline" % pid).read().split("\0")
            except OSError:
                continue
            if os.path.basename(words[0]).startswith(self.shim) or words[0] == "/pause":
                found.append(int(pid))
        return found

    def cpu(self):
        """Seconds of the daemon and the shims, with children that they have waited for: the runtimes' are in these."""
        total = 0
        for pid in self.pids():
            try:
                fields = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += sum(int(fields[i]) for i in (11, 12, 13, 14))
        return total / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """KiB that are there because of these processes: shared pages count by their share."""
        total = 0
        for pid in self.pids():
            try:
                for line in open("/proc/%d/smaps_rollup" % pid):
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
            except OSError:
                continue
        return total


def start_gantry(work, state):
    programs = install(BIN, work)
    daemon = Daemon([programs + "/gantryd", "--root", work + "/groot", "--state", state + "/gantry", "--address", work + "/gantry.sock",
                     "--docker-address", "none", "--shim", programs + "/gantry-shim"],
                    ["ctr", "--address", work + "/gantry.sock", "version"], work + "/gantryd.log")
    daemon.start()
    return daemon


def start_containerd(work, state, pause):
    open(work + "/containerd.toml", "w").write(
        'version = 2\nroot = "%s/croot"\nstate = "%s/containerd"\n[grpc]\naddress = "%s/containerd.sock"\n[ttrpc]\naddress = "%s/containerd.sock.ttrpc"\n'
        '[plugins."io.containerd.grpc.v1.cri"]\nsandbox_image = "%s"\nrestrict_oom_score_adj = true\n'
        '[plugins."io.containerd.grpc.v1.cri".cni]\nconf_dir = "%s/none"\n' % (work, state, work, work, pause, work))
    daemon = Daemon(["containerd", "--config", work + "/containerd.toml"], ["ctr", "--address", work + "/containerd.sock", "version"],
                    work + "/containerd.log")
    daemon.start()
    return daemon


def pause_image(work):
    """What a pod of containerd's is held by: a program that does nothing."""
    place = work + "/pause"
    os.makedirs(place + "/root")
    open(place + "/pause.c", "w").write("#include <signal.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
                                        "static void end(int s) { (void)s; _exit(0); }\n"
                                        "int main(void) { signal(SIGTERM, end); signal(SIGINT, end); for (;;) pause(); }\n")
    sh("gcc", "-O2", "-static", "-s", "-o", place + "/root/pause", place + "/pause.c")
    sh("tar", "-C", place + "/root", "-cf", place + "/layer.tar", "pause")
    digest = subprocess.check_output(["sha256sum", place + "/layer.tar"]).split()[0].decode()
    json.dump({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/pause"]},
               "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]}}, open(place + "/config.json", "w"))
    json.dump([{"Config": "config.json", "RepoTags": ["docker.io/library/pause:bench"], "Layers": ["layer.tar"]}], open(place + "/manifest.json", "w"))
    sh("tar", "-C", place, "-cf", place + "/image.tar", "manifest.json", "config.json", "layer.tar")
    return place + "/image.tar"


def row(what, unit, ours, theirs, target):
    ratio = ours / theirs if theirs else float("nan")
    print("%-46s %10.2f %10s %8s   %s" % (what + ", " + unit, ours, "%.2f" % theirs if theirs else "-", "%.2f" % ratio if theirs else "-", target), flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    work = tempfile.mkdtemp(prefix="gantry-bench.", dir=os.environ.get("BENCH_DIR"))
    daemons, contenders = [], []
    try:
        messages(work)
        mount_free_controllers(work)
        _, archive = make_image(work)
        state = make_state(work)
        daemons.append(start_gantry(work, state))
        contenders.append(Contender("gantryd", Client(work + "/gantry.sock"), daemons[0], "gantry-shim"))
        sh("ctr", "--address", work + "/gantry.sock", "--namespace", "k8s.io", "images", "import", archive)
        if have("containerd"):
            daemons.append(start_containerd(work, state, "docker.io/library/pause:bench"))
            for image in (archive, pause_image(work)):
                sh("ctr", "--address", work + "/containerd.sock", "--namespace", "k8s.io", "images", "import", image)
            contenders.append(Contender("containerd", Client(work + "/containerd.sock"), daemons[1], "containerd-shim"))

        print("load average %s; medians of %d; gantryd beside Debian's containerd" % (open("/proc/loadavg").read().split()[0], ROUNDS))
        print("%-46s %10s %10s %8s   %s" % ("", "gantryd", "containerd", "ratio", "target"))
        up, down = {}, {}
        for _ in range(ROUNDS):  # in turn, so that both meet the same machine
            for one in contenders:
                begin = time.monotonic()
                pod, _made = one.run()
                up.setdefault(one.name, []).append(time.monotonic() - begin)
                begin = time.monotonic()
                one.remove(pod)
                down.setdefault(one.name, []).append(time.monotonic() - begin)
        def middle(values, name):
            return statistics.median(values[name]) * 1000 if name in values else 0
        row("pod with a container, nothing to running", "ms", middle(up, "gantryd"), middle(up, "containerd"), "<= 0.4")
        row("its removal", "ms", middle(down, "gantryd"), middle(down, "containerd"), "<= 0.4")

        memory, cpu, lists = {}, {}, {}
        for one in contenders:
            before = one.memory()
            pods = [one.run() for _ in range(PODS)]
            time.sleep(1)
            memory[one.name] = (one.memory() - before) / PODS / 1024
            begin, used, calls = time.monotonic(), one.cpu(), 0
            while time.monotonic() - begin < SECONDS:  # 20 a second
                one.client.ExecSync(container_id=pods[calls % PODS][1], cmd=["true"], timeout=10)
                calls += 1
                time.sleep(max(0, begin + calls / 20 - time.monotonic()))
            cpu[one.name] = (one.cpu() - used) / calls * 1000
            pods += [one.run() for _ in range(LISTED - PODS)]
            times = []
            for _ in range(50):
                begin = time.monotonic()
                listed = one.client.ListPodSandbox()
                one.client.ListContainers()
                times.append(time.monotonic() - begin)
            assert len(listed.items) >= LISTED
            lists[one.name] = statistics.median(times) * 1000
            for pod, _made in pods:
                one.remove(pod)
        row("CPU of a probe, %d pods" % PODS, "ms", cpu["gantryd"], cpu.get("containerd", 0), "<= 0.5")
        row("memory of an idle pod", "MiB", memory["gantryd"], memory.get("containerd", 0), "<= 0.3")
        row("lists of %d pods and their containers" % LISTED, "ms", lists["gantryd"], lists.get("containerd", 0), "<= 2 ms")
    finally:
        for daemon in daemons:
            daemon.stop()
        unmount_below(work)
        import shutil
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
