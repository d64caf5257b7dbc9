"""What the benchmarks here share: daemons with roots of their own, an image for all of them, memory, cleaning up."""
import json
import os
import shutil
import subprocess
import sys
import time


def enter_namespaces():
    """Mounts and a network of their own for all contenders, so that the machine keeps its own as they are: daemons make bridges and firewall
    rules, and crun refuses a cgroup v2 tree that holds a controller beside v1, which a private mount namespace may mount as v1."""
    if os.environ.get("GANTRY_BENCH_INSIDE") != "1":
        os.environ["GANTRY_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "-n", "--propagation", "private", sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def mount_free_controllers(work):
    """Mounts as v1 the controllers that v2 holds without a user; see enter_namespaces()."""
    if os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers"):
        for controller in open("/sys/fs/cgroup/unified/cgroup.controllers").read().split():
            os.makedirs(os.path.join(work, controller))
            subprocess.run(["mount", "-t", "cgroup", "-o", controller, "none", os.path.join(work, controller)], check=True)


def unmount_below(work):
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
    for mount in sorted((m for m in mounts if m.startswith(work)), reverse=True):
        subprocess.run(["umount", "-l", mount])


def have(program):
    return shutil.which(program) is not None


def sh(*argv, **kw):
    return subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kw)


class Daemon:
    def __init__(self, argv, ready, log):
        self.argv, self.ready, self.log = argv, ready, log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while subprocess.run(self.ready, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("bench: %s did not start; see %s" % (self.argv[0], self.log))
            time.sleep(0.005)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                print("bench: %s did not stop within 20 s of SIGTERM; killed" % self.argv[0], file=sys.stderr)
                self.process.kill()
                self.process.wait()

    def memory_kib(self):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmRSS"):
                return int(line.split()[1])


def private_kib(pid):
    total = 0
    for line in open("/proc/%d/smaps_rollup" % pid):
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1])
    return total


def make_state(work):
    """A tmpfs for the state of the running, as /run is on every host."""
    state = os.path.join(work, "run")
    os.mkdir(state)
    subprocess.run(["mount", "-t", "tmpfs", "none", state], check=True)
    return state


def install(built, work):
    """Copies of the programs, in one directory, as a package puts them: a file as the linker wrote it lies in the page cache in other pieces."""
    programs = os.path.join(work, "bin")
    os.mkdir(programs)
    for program in ("supervisor/gantryd", "shim/gantry-shim", "shim/gantry-init", "ctl/ctl"):
        shutil.copy(os.path.join(built, program), programs)
    return programs


def start_containerd(work, socket, state=None):
    open(work + "/containerd.toml", "w").write(
        'version = 2\nroot = "%s/croot"\nstate = "%s/containerd"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        '[grpc]\naddress = "%s"\n[ttrpc]\naddress = "%s.ttrpc"\n' % (work, state or work, socket, socket))
    daemon = Daemon(["containerd", "--config", work + "/containerd.toml"], ["ctr", "--address", socket, "version"], work + "/containerd.log")
    daemon.start()
    return daemon


def make_image(work):
    root = os.path.join(work, "image")
    os.makedirs(root + "/bin")
    os.makedirs(root + "/etc")
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    for applet in ("sh", "true", "sleep", "echo"):
        os.symlink("busybox", root + "/bin/" + applet)
    layer = os.path.join(work, "layer.tar")
    sh("tar", "-C", root, "-cf", layer, ".")
    digest = subprocess.check_output(["sha256sum", layer]).split()[0].decode()
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
                         "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]}})
    open(os.path.join(work, "config.json"), "w").write(config)
    open(os.path.join(work, "manifest.json"), "w").write(
        json.dumps([{"Config": "config.json", "RepoTags": ["bench:latest"], "Layers": ["layer.tar"]}]))
    archive = os.path.join(work, "image.tar")
    sh("tar", "-C", work, "-cf", archive, "manifest.json", "config.json", "layer.tar")
    return root, archive
