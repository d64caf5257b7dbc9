"""A Kubernetes cluster on one machine: a control plane and nodes, each in namespaces of its own, joined by a bridge in one more.

    fabric    the bridge, with nothing else in it
    control   10.77.0.10: etcd, kube-apiserver, kube-scheduler, kube-controller-manager, a registry
    node1     10.77.0.11: gantryd, kubelet, kube-proxy, pods 10.244.1.0/24
    node2     10.77.0.12: the same, pods 10.244.2.0/24

No interface, mount or rule is made in the machine's own namespaces. Cluster.close() removes everything.
"""
import ctypes
import fcntl
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CONTROL = "10.77.0.10"
API = "https://%s:6443" % CONTROL
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
PROGRAMS = {"gantryd": "supervisor/gantryd", "gantry-shim": "shim/gantry-shim", "gantry-init": "shim/gantry-init", "ctl": "ctl/ctl"}
PREFIX = "gantry-kubernetes."
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """Something is not as it should be; the text says what."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(argv, timeout=120, **kw):
    """Output of a program that must succeed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **kw)
    if done.returncode != 0:
        raise Failed("%s: status %d: %s" % (" ".join(argv), done.returncode, (done.stderr or done.stdout).strip()[-2000:]))
    return done.stdout


def wait_for(what, condition, seconds):
    """Calls condition until it returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed("%s: not within %d s" % (what, seconds))
        time.sleep(0.2)


class Process:
    """A long-running program inside a place."""

    def __init__(self, place, name, argv):
        self.name, self.log = name, "%s/%s.log" % (place.directory, name)
        with open(self.log, "ab") as log:
            self.entered = subprocess.Popen(place.enter + argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=place.join_cgroup)
        # nsenter waits for the program, which it forked into the process namespace.
        children = "/proc/%d/task/%d/children" % (self.entered.pid, self.entered.pid)
        self.pid = int(wait_for(name, lambda: self.check() and open(children).read().split()[:1], 10)[0])

    def check(self):
        if self.entered.poll() is not None:
            raise Failed("%s ended with status %d: %s" % (self.name, self.entered.returncode, self.last_words(5)))
        return True

    def last_words(self, lines):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:]).strip()

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)
        self.entered.wait(30)


class Place:
    """Namespaces, and the process that holds them."""

    def __init__(self, cluster, name, node=False):
        self.cluster, self.name, self.directory, self.processes, self.init = cluster, name, "%s/%s" % (cluster.work, name), {}, 0
        os.makedirs(self.directory, exist_ok=True)
        for path in (cluster.cgroup, "%s/%s" % (cluster.cgroup, name), "%s/%s/system" % (cluster.cgroup, name)):
            cluster.make_cgroup(path)
        log = self.directory + "/namespaces.log"
        with open(log, "wb") as errors:
            self.holder = subprocess.Popen(
                ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private",
                 sys.executable, HERE + "/place.py", name, self.directory] + (["--node"] if node else []),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=die_with_parent)
        cluster.places.append(self)
        if self.holder.stdout.readline() != "ready\n":
            with open(log) as errors:
                raise Failed("the namespaces of %s were not made: %s" % (name, errors.read()))
        self.init = int(open("/proc/%d/task/%d/children" % (self.holder.pid, self.holder.pid)).read().split()[0])
        self.enter = ["nsenter", "--target", str(self.init), "--net", "--mount", "--uts", "--pid", "--"]
        self.enter_network = ["nsenter", "--target", str(self.init), "--net", "--"]

    def join_cgroup(self):
        for mount in self.cluster.cgroup_mounts:
            with open("%s%s/%s/system/cgroup.procs" % (mount, self.cluster.cgroup, self.name), "w") as out:
                out.write("0")

    def run(self, *argv, **kw):
        return run(self.enter + list(argv), **kw)

    def start(self, name, *argv):
        self.processes[name] = Process(self, name, list(argv))

    def end(self):
        """Kills all that runs here."""
        if self.holder.poll() is None:
            os.kill(self.init or self.holder.pid, signal.SIGKILL)
            self.holder.wait(60)
        for process in self.processes.values():
            process.entered.wait(60)


class Node(Place):
    def __init__(self, cluster, name, number):
        self.number = number
        self.address, self.pods = "10.77.0.%d" % (10 + number), "10.244.%d.0/24" % number
        super().__init__(cluster, name, node=True)
        cluster.plug(self, self.address)
        for other in cluster.nodes.values():
            if other.name != name and other.holder.poll() is None:
                self.run("ip", "route", "replace", other.pods, "via", other.address)
                other.run("ip", "route", "replace", self.pods, "via", self.address)
        cluster.control.run("ip", "route", "replace", self.pods, "via", self.address)
        self.write_files()
        self.start_gantryd()
        self.start_kubelet()
        self.start("kube-proxy", cluster.programs + "/kube-proxy", "--config", self.directory + "/kube-proxy.yaml")

    def write_files(self):
        cluster, at = self.cluster, self.directory
        os.makedirs(at + "/net.d", exist_ok=True)
        with open(at + "/net.d/10-pods.conflist", "w") as out:
            json.dump({"cniVersion": "1.0.0", "name": "pods", "plugins": [
                {"type": "bridge", "bridge": "cni0", "isDefaultGateway": True, "hairpinMode": True,
                 "ipam": {"type": "host-local", "dataDir": at + "/addresses", "ranges": [[{"subnet": self.pods}]]}},
                {"type": "portmap", "capabilities": {"portMappings": True}}]}, out)
        with open(at + "/gantryd.toml", "w") as out:
            out.write('root = "%s/gantry"\ndocker_address = "none"\n[network]\ndefault = "none"\n[registry]\nconfig_path = "%s/hosts"\n'
                      '[cni]\nbin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]\nconf_dir = "%s/net.d"\n' % (at, cluster.work, at))
        with open(at + "/resolv.conf", "w") as out:
            out.write("search demo.test\n")
        cluster.certificate(self.name, "/O=system:nodes/CN=system:node:" + self.name, "IP:%s,DNS:%s" % (self.address, self.name))
        with open(at + "/kubelet.yaml", "w") as out:
            json.dump({
                "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
                "containerRuntimeEndpoint": "unix:///run/gantry/gantry.sock",
                "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                                   "x509": {"clientCAFile": cluster.work + "/ca.crt"}},
                "authorization": {"mode": "Webhook"},
                "tlsCertFile": "%s/%s.crt" % (cluster.work, self.name), "tlsPrivateKeyFile": "%s/%s.key" % (cluster.work, self.name),
                "resolvConf": at + "/resolv.conf", "volumePluginDir": at + "/volume-plugins",
                # Pods' groups are made below this one.
                "cgroupRoot": cluster.cgroup + "/" + self.name, "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False,
                "oomScoreAdj": 0, "evictionHard": {"memory.available": "50Mi"}, "imageGCHighThresholdPercent": 100,
                "makeIPTablesUtilChains": False, "serializeImagePulls": False,
                # With kube-controller-manager's grace period: a lost node is noticed within 15 s.
                "nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 8,
            }, out)
        cluster.kubeconfig("%s/kubelet.kubeconfig" % at, self.name)
        with open(at + "/kube-proxy.yaml", "w") as out:
            json.dump({
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": cluster.proxy_mode,
                "clientConnection": {"kubeconfig": cluster.work + "/kube-proxy.kubeconfig"}, "clusterCIDR": PODS,
                "hostnameOverride": self.name, "oomScoreAdj": 0,
                # This limit is the whole machine's.
                "conntrack": {"maxPerCore": 0, "min": 0},
            }, out)

    def start_gantryd(self):
        self.start("gantryd", self.cluster.bin + "/gantryd", "--config", self.directory + "/gantryd.toml")
        wait_for("gantryd on " + self.name, lambda: self.processes["gantryd"].check() and self.answers(), 30)

    def start_kubelet(self):
        self.start("kubelet", self.cluster.programs + "/kubelet", "--config", self.directory + "/kubelet.yaml",
                   "--kubeconfig", self.directory + "/kubelet.kubeconfig", "--root-dir", self.directory + "/kubelet",
                   "--hostname-override", self.name, "--node-ip", self.address, "--v", "2")

    def answers(self):
        return subprocess.run(self.enter + [self.cluster.bin + "/ctl", "version"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def ctl(self, *argv):
        return self.run(self.cluster.bin + "/ctl", *argv)


class Cluster:
    def __init__(self, bin_directory, programs, proxy_mode):
        self.programs, self.proxy_mode = programs, proxy_mode
        self.work = tempfile.mkdtemp(prefix=PREFIX, dir="/tmp")
        self.lock = open(self.work + "/lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.cgroup = "/" + os.path.basename(self.work)
        self.places, self.nodes, self.control, self.cgroup_mounts, self.hidden_cgroups = [], {}, None, [], []
        # Copies in one directory, as a package installs them, so that a build meanwhile does not change what runs.
        self.bin = self.work + "/bin"
        os.mkdir(self.bin)
        for name, path in PROGRAMS.items():
            shutil.copy(os.path.join(bin_directory, path), self.bin + "/" + name)

    # Certificates and what is made of them.

    def certificate(self, name, subject, names=None):
        path = self.work + "/" + name
        with open(self.work + "/openssl.conf", "w") as out:
            out.write("[req]\ndistinguished_name = subject\n[subject]\n")
        authority = name == "ca"
        argv = ["openssl", "req", "-x509", "-config", self.work + "/openssl.conf", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", path + ".key", "-out", path + ".crt", "-days", "2", "-subj", subject]
        if authority:
            argv += ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        else:
            argv += ["-CA", self.work + "/ca.crt", "-CAkey", self.work + "/ca.key", "-addext", "basicConstraints=critical,CA:FALSE",
                     "-addext", "extendedKeyUsage=clientAuth,serverAuth"]
        if names:
            argv += ["-addext", "subjectAltName=" + names]
        run(argv)

    def kubeconfig(self, path, user):
        with open(path, "w") as out:
            json.dump({
                "apiVersion": "v1", "kind": "Config", "current-context": "demo",
                "clusters": [{"name": "demo", "cluster": {"server": API, "certificate-authority": self.work + "/ca.crt"}}],
                "users": [{"name": user, "user": {"client-certificate": "%s/%s.crt" % (self.work, user),
                                                  "client-key": "%s/%s.key" % (self.work, user)}}],
                "contexts": [{"name": "demo", "context": {"cluster": "demo", "user": user, "namespace": "default"}}]}, out)

    # The network.

    def plug(self, place, address):
        """Connects a place to the bridge. A former interface of this name may still be there for a moment after its node ended."""
        subprocess.run(self.fabric.enter_network + ["ip", "link", "delete", place.name], stderr=subprocess.DEVNULL)
        run(self.fabric.enter_network + ["ip", "link", "add", place.name, "type", "veth", "peer", "name", "eth0", "netns", str(place.init)])
        run(self.fabric.enter_network + ["ip", "link", "set", place.name, "master", "fabric", "up"])
        place.run("ip", "address", "add", address + "/24", "dev", "eth0")
        place.run("ip", "link", "set", "eth0", "up")
        # The kernel wants a route to a Service's address before kube-proxy's rules rewrite it. Nothing is behind this gateway.
        place.run("ip", "route", "add", "default", "via", CONTROL if address != CONTROL else "10.77.0.1")

    # Starting.

    def make_cgroup(self, path):
        for mount in self.cgroup_mounts:
            group, parent = mount + path, mount + os.path.dirname(path)
            os.makedirs(group, exist_ok=True)
            # In a v2 tree a group has the controllers that its parent passes on. Where v1 is mounted too, it has those that are used: one that the v2
            # tree passes on could not be mounted there. In v1 a new cpuset is empty, and takes no process.
            if os.path.exists(parent + "/cgroup.controllers"):
                if len(self.cgroup_mounts) > 1:
                    continue
                self.copy_setting(parent + "/cgroup.controllers", parent + "/cgroup.subtree_control", lambda names: re.sub(r"(\S+)", r"+\1", names))
            elif os.path.exists(group + "/cpuset.cpus"):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    self.copy_setting("%s/%s" % (parent, name), "%s/%s" % (group, name))

    @staticmethod
    def copy_setting(source, target, change=str):
        with open(source) as read, open(target, "w") as write:
            write.write(change(read.read()))

    def start(self):
        with open("/proc/self/mountinfo") as mounts:
            lines = [line.split(" - ") for line in mounts]
        self.cgroup_mounts = sorted({left.split()[4] for left, right in lines if right.split()[0] in ("cgroup", "cgroup2")})
        self.remove_leftovers()
        self.certificate("ca", "/CN=demo")
        self.certificate("apiserver", "/CN=kube-apiserver", "IP:%s,IP:10.96.0.1,IP:127.0.0.1,DNS:kubernetes.default.svc" % CONTROL)
        for name, subject in (("admin", "/O=system:masters/CN=admin"), ("kube-proxy", "/CN=system:kube-proxy"),
                              ("kube-scheduler", "/CN=system:kube-scheduler"), ("kube-controller-manager", "/CN=system:kube-controller-manager")):
            self.certificate(name, subject)
            self.kubeconfig("%s/%s.kubeconfig" % (self.work, name), name)
        run(["openssl", "genrsa", "-out", self.work + "/tokens.key", "2048"])
        self.fabric = Place(self, "fabric")
        self.fabric.run("ip", "link", "add", "fabric", "type", "bridge")
        self.fabric.run("ip", "link", "set", "fabric", "up")
        self.control = Place(self, "control")
        self.plug(self.control, CONTROL)
        self.start_registry()
        self.start_control_plane()

    def add_node(self, number):
        name = "node%d" % number
        self.nodes[name] = Node(self, name, number)
        return self.nodes[name]

    def start_registry(self):
        at = self.control.directory
        with open(at + "/registry.yml", "w") as out:
            out.write("version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: %s/registry\n"
                      "http:\n  addr: %s:5000\n" % (at, CONTROL))
        # Images are named demo.test/NAME; this file maps that host name to the registry.
        os.makedirs(self.work + "/hosts/demo.test")
        with open(self.work + "/hosts/demo.test/hosts.toml", "w") as out:
            out.write('server = "http://%s:5000"\n' % CONTROL)
        self.control.start("registry", "docker-registry", "serve", at + "/registry.yml")

    def start_control_plane(self):
        control, work = self.control, self.work
        # etcd's files are in memory, because it syncs them with every write.
        control.start("etcd", "etcd", "--data-dir", "/run/etcd", "--listen-client-urls", "http://127.0.0.1:2379",
                      "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380")
        control.start("kube-apiserver", self.programs + "/kube-apiserver", "--etcd-servers", "http://127.0.0.1:2379",
                      "--bind-address", CONTROL, "--advertise-address", CONTROL, "--secure-port", "6443",
                      "--service-cluster-ip-range", SERVICES, "--authorization-mode", "Node,RBAC", "--allow-privileged",
                      "--client-ca-file", work + "/ca.crt", "--tls-cert-file", work + "/apiserver.crt",
                      "--tls-private-key-file", work + "/apiserver.key", "--kubelet-certificate-authority", work + "/ca.crt",
                      "--kubelet-client-certificate", work + "/admin.crt", "--kubelet-client-key", work + "/admin.key",
                      "--kubelet-preferred-address-types", "InternalIP",
                      "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", work + "/tokens.key",
                      "--service-account-signing-key-file", work + "/tokens.key",
                      "--default-not-ready-toleration-seconds", "5", "--default-unreachable-toleration-seconds", "5")
        wait_for("kube-apiserver", lambda: control.processes["kube-apiserver"].check() and self.try_kubectl("get", "--raw", "/readyz"), 120)
        control.start("kube-controller-manager", self.programs + "/kube-controller-manager",
                      "--kubeconfig", work + "/kube-controller-manager.kubeconfig", "--leader-elect=false", "--bind-address", "127.0.0.1",
                      "--use-service-account-credentials", "--service-account-private-key-file", work + "/tokens.key",
                      "--root-ca-file", work + "/ca.crt", "--service-cluster-ip-range", SERVICES,
                      "--flex-volume-plugin-dir", work + "/volume-plugins",
                      "--node-monitor-period", "1s", "--node-monitor-grace-period", "15s")
        control.start("kube-scheduler", self.programs + "/kube-scheduler", "--kubeconfig", work + "/kube-scheduler.kubeconfig",
                      "--leader-elect=false", "--bind-address", "127.0.0.1")

    # Talking to it.

    def kubectl_line(self):
        return self.control.enter_network + [self.programs + "/kubectl", "--kubeconfig", self.work + "/admin.kubeconfig"]

    def kubectl(self, *argv, timeout=120, **kw):
        return run(self.kubectl_line() + list(argv), timeout=timeout, **kw)

    def try_kubectl(self, *argv):
        """Output, or nothing where it failed."""
        try:
            return self.kubectl(*argv)
        except (Failed, subprocess.TimeoutExpired):
            return ""

    def get(self, *argv):
        return json.loads(self.kubectl("get", *argv, "-o", "json"))

    def fetch(self, url):
        """What the control plane's namespace gets from there."""
        script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"
        return run(self.control.enter_network + [sys.executable, "-c", script, url])

    def check(self):
        for place in self.places:
            if place.holder.poll() is None:
                for process in place.processes.values():
                    process.check()

    # Ending.

    def close(self):
        for place in reversed(self.places):
            place.end()
        self.remove(self.work)

    def remove(self, work):
        self.mount_hidden_cgroups()
        for mount in self.cgroup_mounts:
            self.remove_cgroup("%s/%s" % (mount, os.path.basename(work)))
        for mount in self.hidden_cgroups:
            self.remove_cgroup("%s/%s" % (mount, os.path.basename(work)))
            run(["umount", mount])
        self.hidden_cgroups = []
        shutil.rmtree(work)

    def mount_hidden_cgroups(self):
        """Where cgroup v1 has hugetlb mounted nowhere, gantryd mounts it for each container: a killed node leaves groups there too."""
        mount = self.work + "/hugetlb"
        if os.path.exists("/sys/fs/cgroup/memory") and not os.path.exists("/sys/fs/cgroup/hugetlb"):
            os.makedirs(mount, exist_ok=True)
            if subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "hugetlb", mount], stderr=subprocess.DEVNULL).returncode == 0:
                self.hidden_cgroups = [mount]

    def remove_leftovers(self):
        """The directory and the groups of a demo that was killed; its processes ended with it."""
        for work in glob.glob("/tmp/%s*" % PREFIX):
            try:
                with open(work + "/lock") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.remove(work)
            except (FileNotFoundError, BlockingIOError):
                pass

    @staticmethod
    def remove_cgroup(top):
        """Removes a group and those below it, children first. Repeated, because the kernel still counts processes that have just ended."""
        def gone():
            try:
                for directory, _, _ in os.walk(top, topdown=False):
                    os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError:
                return False
            return not os.path.exists(top)
        wait_for("removal of " + top, gone, 20)
