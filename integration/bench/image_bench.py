"""What `./dev bench pull` and `./dev bench import` share: an image, a registry, Gantry and its peers, and the comparison.

The image is made of the files of Debian packages installed on this machine: six layers of about 140 MB, gzip -6 and zstd -3, more than 300 MB
compressed. Every contender starts with an empty store for every repetition; contenders take turns, so load hits all alike; read the ratios.
Everything lives on a tmpfs of the benchmark's own (BENCH_DISK=DIR: the stores on that file system instead, each in a fresh directory that is
removed at the very end only, because ext4 avoids inodes that were freed a moment ago).

Peers: Debian's containerd with ctr, podman, and with BENCH_CONTAINERD2=DIR (holding containerd and ctr) containerd 2 with igzip in PATH and four
parallel unpacks, its best configuration.
Environment: GANTRY_BIN (out/bin), BENCH_REPEAT (5), BENCH_VARIANTS ("gzip zstd"), BENCH_ONLY (names of contenders), BENCH_IMAGE (directory where the
image is kept for the next run), BENCH_DISK, BENCH_CONTAINERD2.
"""
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.abspath(os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin")))
REPEAT = int(os.environ.get("BENCH_REPEAT", "5"))
VARIANTS = os.environ.get("BENCH_VARIANTS", "gzip zstd").split()
ONLY = os.environ.get("BENCH_ONLY", "")
LAYERS = 6
LAYER_BYTES = 140 << 20
LARGEST_PACKAGE_KIB = 60 << 10
MEDIA = {"gzip": "application/vnd.oci.image.layer.v1.tar+gzip", "zstd": "application/vnd.oci.image.layer.v1.tar+zstd"}
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TICK = os.sysconf("SC_CLK_TCK")


def into_private_mounts():
    """Starts this program again where its mounts are its own."""
    if os.environ.get("GANTRY_BENCH_INSIDE") != "1":
        os.environ["GANTRY_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, os.path.abspath(sys.argv[0])])


def digest_of(path):
    with open(path, "rb") as f:
        return "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()


# --- the image

def package_files(limit):
    """Lists of files, one per layer, of installed packages in the order of their names, dealt out like cards."""
    sizes = subprocess.check_output(["dpkg-query", "-W", "-f", "${Installed-Size} ${Package}:${Architecture}\n"], text=True)
    packages = [line.split() for line in sizes.splitlines()]
    names = sorted(name for kib, name in packages if kib.isdigit() and int(kib) <= LARGEST_PACKAGE_KIB)
    layers, sizes, seen = [["usr"] for _ in range(LAYERS)], [0] * LAYERS, set()
    turn = 0
    for name in names:
        while turn < LAYERS * 10000 and sizes[turn % LAYERS] >= limit:
            turn += 1
            if all(size >= limit for size in sizes):
                return layers
        k = turn % LAYERS
        turn += 1
        listing = subprocess.run(["dpkg-query", "-L", name.replace(":all", "")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        for path in listing.splitlines():
            # Where the file really is: packages still speak of /lib and /bin, which are links today.
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            if not path.startswith("/usr/") or path in seen or not os.path.lexists(path):
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                layers[k].append(path[1:])  # every layer says what its directories look like
                continue
            seen.add(path)
            layers[k].append(path[1:])
            sizes[k] += os.lstat(path).st_size
    return layers


def make_image(where):
    """Layers, configuration, manifests and archives of both variants below `where`; makes what is missing."""
    os.makedirs(where, exist_ok=True)
    done = os.path.join(where, "image.json")
    if os.path.exists(done):
        return json.load(open(done))
    print("making the image: %d layers of %d MB from installed packages" % (LAYERS, LAYER_BYTES >> 20), flush=True)
    image = {"layers": [], "variants": {}}
    for k, files in enumerate(package_files(LAYER_BYTES)):
        tar = os.path.join(where, "layer%d.tar" % k)
        listing = "\0".join(dict.fromkeys(files)).encode()
        subprocess.run(["tar", "-C", "/", "--no-recursion", "--null", "-T", "-", "-cf", tar], input=listing, check=True, stderr=subprocess.DEVNULL)
        image["layers"].append({"tar": tar, "diff_id": digest_of(tar), "size": os.path.getsize(tar), "entries": len(files)})
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/usr/bin/true"]},
                         "rootfs": {"type": "layers", "diff_ids": [layer["diff_id"] for layer in image["layers"]]}}).encode()
    for variant in ("gzip", "zstd"):
        blobs = []
        for layer in image["layers"]:
            out = layer["tar"] + "." + variant
            command = ["gzip", "-6nc"] if variant == "gzip" else ["zstd", "-3qc", "--single-thread"]
            with open(out, "wb") as f:
                subprocess.run(command + [layer["tar"]], stdout=f, check=True)
            blobs.append({"path": out, "digest": digest_of(out), "size": os.path.getsize(out)})
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": "sha256:" + hashlib.sha256(config).hexdigest(), "size": len(config)},
            "layers": [{"mediaType": MEDIA[variant], "digest": b["digest"], "size": b["size"]} for b in blobs]}).encode()
        tree = os.path.join(where, "oci-" + variant)
        os.makedirs(tree + "/blobs/sha256", exist_ok=True)
        for b in blobs:
            os.link(b["path"], tree + "/blobs/sha256/" + b["digest"][7:])
        for text in (config, manifest):
            open(tree + "/blobs/sha256/" + hashlib.sha256(text).hexdigest(), "wb").write(text)
        open(tree + "/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
        json.dump({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": "sha256:" + hashlib.sha256(manifest).hexdigest(), "size": len(manifest),
             "annotations": {"io.containerd.image.name": "docker.io/library/bench:" + variant, "org.opencontainers.image.ref.name": variant}}]},
            open(tree + "/index.json", "w"))
        archive = os.path.join(where, variant + ".tar")
        subprocess.run(["tar", "-C", tree, "-cf", archive, "oci-layout", "index.json", "blobs"], check=True)
        shutil.rmtree(tree)
        image["variants"][variant] = {"blobs": blobs, "archive": archive, "size": sum(b["size"] for b in blobs),
                                      "manifest": manifest.decode(), "config": config.decode()}
    json.dump(image, open(done, "w"))
    return image


# --- processes

class Daemon:
    running = []

    def __init__(self, argv, ready, log, env=None):
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        Daemon.running.append(self)
        deadline = time.monotonic() + 60
        while ready() is not True:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("bench: %s did not start; see %s:\n%s" % (argv[0], log, open(log, errors="replace").read()[-2000:]))
            time.sleep(0.005)

    def cpu(self):
        """Seconds of this process and of its children that have ended."""
        fields = open("/proc/%d/stat" % self.process.pid).read().rsplit(")", 1)[1].split()
        return sum(int(fields[k]) for k in (11, 12, 13, 14)) / TICK

    def peak_mib(self):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024

    def stop(self):
        if self in Daemon.running:
            Daemon.running.remove(self)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def measured(argv, env=None):
    """Seconds, processor seconds and peak MiB of a command."""
    with tempfile.TemporaryFile() as errors:
        begin = time.monotonic()
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise SystemExit("bench: %s: %s" % (" ".join(argv), errors.read().decode(errors="replace")[-2000:]))
    return took, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def answers(*argv, env=None):
    return lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env).returncode == 0


# --- contenders: start(directory) with an empty store, then one pull or load

class Gantry:
    name = "gantry"
    stages = {}

    def start(self, at):
        sock = at + "/sock"
        self.ctl = [BIN + "/ctl/ctl", "--address", sock]
        self.daemon = Daemon([BIN + "/supervisor/gantryd", "--config", "/dev/null", "--root", at + "/root", "--state", at + "/state",
                              "--address", sock, "--docker-address", at + "/docker.sock", "--shim", BIN + "/shim/gantry-shim"],
                             answers(*self.ctl, "version"), at + "/log")

    def pull(self, ref):
        return self.ctl + ["pull", "-q", ref]

    def load(self, archive):
        return self.ctl + ["load", "-q", "-i", archive]

    def stop(self):
        self.daemon.stop()
        # "... stages resolve=3ms ..." of the daemon's own account of the transfer
        for line in open(self.daemon.log, errors="replace"):
            found = re.search(r" stages: (.*)", line)
            if found:
                for stage, seconds in re.findall(r"(\S+)=([0-9.]+)s", found.group(1)):
                    self.stages.setdefault(stage, []).append(float(seconds))


class Containerd:
    def __init__(self, name, directory="", best=False):
        self.name, self.best = name, best
        self.containerd = os.path.join(directory, "containerd") if directory else "containerd"
        self.client = os.path.join(directory, "ctr") if directory else "ctr"
        self.env = dict(os.environ)
        if not best:
            self.env["CONTAINERD_DISABLE_IGZIP"] = "1"

    def start(self, at):
        config = 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' % (at, at)
        config += '[grpc]\naddress = "%s/sock"\n[ttrpc]\naddress = "%s/sock.ttrpc"\n' % (at, at)
        if self.best:
            config += '[plugins."io.containerd.transfer.v1.local"]\nmax_concurrent_unpacks = 4\n'
        open(at + "/config.toml", "w").write(config)
        self.ctr = [self.client, "--address", at + "/sock"]
        self.daemon = Daemon([self.containerd, "--config", at + "/config.toml"], answers(*self.ctr, "version"), at + "/log", self.env)

    def pull(self, ref):
        return self.ctr + ["images", "pull", "--plain-http", ref]

    def load(self, archive):
        return self.ctr + ["images", "import", archive]

    def stop(self):
        self.daemon.stop()


class Podman:
    name = "podman"
    daemon = None

    def start(self, at):
        self.at = at
        self.podman = ["podman", "--root", at + "/root", "--runroot", at + "/run", "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
        # The store exists, empty, as the daemons' do.
        subprocess.run(self.podman + ["images", "-q"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def pull(self, ref):
        return self.podman + ["pull", "-q", "--tls-verify=false", ref]

    def load(self, archive):
        return self.podman + ["load", "-q", "-i", archive]

    def stop(self):
        subprocess.run(["umount", "-l", self.at + "/root/overlay"], stderr=subprocess.DEVNULL)


def contenders():
    found = [Gantry()]
    if shutil.which("containerd") and shutil.which("ctr"):
        found.append(Containerd("containerd"))
    second = os.environ.get("BENCH_CONTAINERD2")
    if second:
        found.append(Containerd("containerd 2", second))
        found.append(Containerd("containerd 2 at its best", second, best=True))
    if shutil.which("podman"):
        found.append(Podman())
    return [c for c in found if not ONLY or c.name in ONLY.split(",")]


# --- the registry

class Registry:
    def __init__(self, at):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.host = "127.0.0.1:%d" % self.port
        open(at + "/registry.yml", "w").write(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s/registry\nhttp:\n  addr: %s\n"
            % (at, self.host))

        def ready():
            try:
                return self.call("GET", "/v2/")[0] == 200
            except OSError:
                return False
        self.daemon = Daemon(["docker-registry", "serve", at + "/registry.yml"], ready, at + "/registry.log")

    def call(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.getheader("Location")

    def put_blob(self, digest, body, size):
        _, location = self.call("POST", "/v2/bench/blobs/uploads/")
        path = re.sub(r"^https?://[^/]*", "", location)
        status, _ = self.call("PUT", "%s%sdigest=%s" % (path, "&" if "?" in path else "?", digest), body,
                              {"Content-Length": str(size), "Content-Type": "application/octet-stream"})
        if status != 201:
            raise SystemExit("bench: the registry answers %d to blob %s" % (status, digest))

    def put_image(self, tag, variant):
        for blob in variant["blobs"]:
            with open(blob["path"], "rb") as f:
                self.put_blob(blob["digest"], f, blob["size"])
        config = variant["config"].encode()
        self.put_blob("sha256:" + hashlib.sha256(config).hexdigest(), config, len(config))
        status, _ = self.call("PUT", "/v2/bench/manifests/" + tag, variant["manifest"].encode(), {"Content-Type": MANIFEST})
        if status != 201:
            raise SystemExit("bench: the registry answers %d to the manifest" % status)


# --- the floor

def floor_parts(image, variant, work):
    """Processor seconds of what cannot be left out: inflate, two sha256, files."""
    parts = {"inflate": 0.0, "sha256 compressed": 0.0, "sha256 uncompressed": 0.0, "files": 0.0}
    inflate = ["zstd", "-qdc"] if variant == "zstd" else (["igzip", "-dc"] if shutil.which("igzip") else ["gzip", "-dc"])

    def hashing(path):
        before = time.process_time()
        with open(path, "rb") as f:
            h = hashlib.sha256()
            piece = bytearray(1 << 20)
            while n := f.readinto(piece):
                h.update(memoryview(piece)[:n])
        return time.process_time() - before
    target = tempfile.mkdtemp(prefix="floor.", dir=work)
    for layer, blob in zip(image["layers"], image["variants"][variant]["blobs"]):
        parts["inflate"] += measured(inflate + [blob["path"]])[1]
        parts["sha256 compressed"] += hashing(blob["path"])
        parts["sha256 uncompressed"] += hashing(layer["tar"])
        parts["files"] += measured(["tar", "-C", target, "--overwrite", "-xf", layer["tar"]])[1]
    if not os.environ.get("BENCH_DISK"):
        shutil.rmtree(target)
    return parts


# --- the comparison

def compare(title, limit):
    """`title`: pull or import. `limit`: how many times faster than each peer Gantry has to be."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    work = tempfile.mkdtemp(prefix="gantry-bench.")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "bench", work], check=True)
    disk = os.environ.get("BENCH_DISK")
    stores = tempfile.mkdtemp(prefix="gantry-bench.", dir=disk) if disk else work
    if disk:
        subprocess.run(["chattr", "+T", stores], stderr=subprocess.DEVNULL)  # spread what is made here over the disk
    registry = None
    try:
        image = make_image(os.path.abspath(os.environ.get("BENCH_IMAGE") or work + "/image"))
        # Read from memory, whatever the machine does with its page cache.
        if title == "pull":
            registry = Registry(work)
            for variant in VARIANTS:
                registry.put_image(variant, image["variants"][variant])
        else:
            for variant in VARIANTS:
                shutil.copy(image["variants"][variant]["archive"], work + "/" + variant + ".tar")
        print("%s: %d layers, %d entries, %d MB unpacked; load average %s; %d repetitions; stores on %s" % (
            title, LAYERS, sum(layer["entries"] for layer in image["layers"]), sum(layer["size"] for layer in image["layers"]) // 1000000,
            open("/proc/loadavg").read().split()[0], REPEAT, disk or "tmpfs"), flush=True)
        verdicts = []
        for variant in VARIANTS:
            Gantry.stages.clear()
            results = {}
            for repetition in range(REPEAT):
                for contender in contenders():
                    at = tempfile.mkdtemp(prefix="store.", dir=stores)
                    contender.start(at)
                    daemon = contender.daemon
                    before = daemon.cpu() if daemon else 0
                    argv = contender.pull("%s/bench:%s" % (registry.host, variant)) if title == "pull" else contender.load(work + "/" + variant + ".tar")
                    took, cpu, peak = measured(argv, getattr(contender, "env", None))
                    if daemon:
                        cpu += daemon.cpu() - before
                        peak = daemon.peak_mib()
                    contender.stop()
                    results.setdefault(contender.name, []).append((took, cpu, peak))
                    if not disk:
                        shutil.rmtree(at)
            print("\n%s, %s (%d MB)\n  %-24s %8s %8s %8s %8s %10s" % (title, variant, image["variants"][variant]["size"] // 1000000, "", "median", "min",
                                                                    "cpu", "cpu min", "peak MiB"))
            for name, rows in results.items():
                took, cpu, peak = zip(*rows)
                print("  %-24s %6.2f s %6.2f s %6.2f s %6.2f s %10.0f" % (name, statistics.median(took), min(took), statistics.median(cpu), min(cpu), max(peak)))
            if "gantry" not in results:
                continue
            ours = results["gantry"]
            parts = floor_parts(image, variant, stores)
            total = sum(parts.values())
            print("  parts by themselves: %s; together %.2f s" % (", ".join("%s %.2f s" % part for part in parts.items()), total))
            if Gantry.stages:
                medians = {stage: statistics.median(times) for stage, times in Gantry.stages.items()}
                print("  stages of gantry: %s" % ", ".join("%s %.2f s" % item for item in medians.items()))
            for name, rows in results.items():
                if name == "gantry":
                    continue
                # Neighbours in time are compared with each other, so that load cancels out.
                ratio = statistics.median(theirs[0] / mine[0] for theirs, mine in zip(rows, ours))
                least = min(r[0] for r in rows) / min(r[0] for r in ours)
                need = 1.5 if name.endswith("its best") else limit
                verdicts.append(("%s %s: times as fast as %s (by minima %.2f)" % (title, variant, name, least), ratio, ">=", need, ratio >= need))
            share = statistics.median(r[1] for r in ours) / total
            verdicts.append(("%s %s: processor time / sum of the parts" % (title, variant), share, "<=", 1.3, share <= 1.3))
            peak = max(r[2] for r in ours)
            verdicts.append(("%s %s: peak memory of the daemon, MiB" % (title, variant), peak, "<=", 95, peak <= 95))
        print("\nbudgets")
        for what, value, sign, need, met in verdicts:
            print("  %-74s %7.2f  (%s %g)  %s" % (what, value, sign, need, "met" if met else "MISSED"))
    finally:
        for daemon in list(Daemon.running):
            daemon.stop()
        if disk:
            shutil.rmtree(stores, ignore_errors=True)
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        for mount in sorted((m for m in mounts if m.startswith(work)), reverse=True):
            subprocess.run(["umount", "-l", mount])
        os.rmdir(work)
