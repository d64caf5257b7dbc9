#!/usr/bin/env python3
"""./dev bench run: containers beside the peers, everything interleaved in one run.

Measures run-to-removed latency (back to back and after pauses), exec, lifecycles per second with four clients, private memory per shim,
the daemon's memory, and the time from kill -9 of the daemon to all containers reported running.

Peers are started with roots, states and sockets of their own below a temporary directory; nothing of the machine's is touched.
With BENCH_ONLY=cpu nothing but the processor time of `ctl run --rm`, process by process, in turn with `crun run`.

Environment: GANTRY_BIN (built programs, default out/bin), BENCH_REPEAT (20), BENCH_CONTAINERS (50), BENCH_SECONDS (5), BENCH_ONLY.
"""
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from peers import Daemon, enter_namespaces, have, install, make_image, make_state, mount_free_controllers, private_kib, sh, start_containerd, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
REPEAT = int(os.environ.get("BENCH_REPEAT", "20"))
CONTAINERS = int(os.environ.get("BENCH_CONTAINERS", "50"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
SETTLE = 6
IMAGE = "docker.io/library/bench:latest"

enter_namespaces()


def children_named(name, below):
    """Processes called `name` whose command line or environment of files names the directory `below`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if open("/proc/%s/comm" % pid).read().strip() != name[:15]:
                continue
            line = open("/proc/%s/cmdline" % pid, "rb").read().decode(errors="replace")
            cwd = os.readlink("/proc/%s/cwd" % pid)
            if below in line or cwd.startswith(below):
                found.append(int(pid))
        except OSError:
            continue
    return found


def cpu_ms(pid):
    """Processor time of a process, and of the children that it has reaped with theirs."""
    fields = open("/proc/%d/stat" % pid).read().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(x) * 1000 / os.sysconf("SC_CLK_TCK") for x in fields[11:15])
    return user + system, children_user + children_system


def processor_time(table, daemon, ctl_run, crun_run):
    """Per container, four clients: who uses how much. What is ours is all but a `crun run` by itself."""
    zygote = next(int(pid) for pid in filter(str.isdigit, os.listdir("/proc"))
                  if os.path.exists("/proc/%s/comm" % pid) and open("/proc/%s/comm" % pid).read() == "gantry-zygote\n"
                  and int(open("/proc/%s/stat" % pid).read().rpartition(")")[2].split()[1]) == daemon.process.pid)

    def waited_ms():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (used.ru_utime + used.ru_stime) * 1000

    def all_at_once(command, count):
        def client():
            for _ in range(count):
                subprocess.run(command(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        threads = [threading.Thread(target=client) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]

    count = max(REPEAT, 5)
    used = {name: [] for name in ("crun run, by itself", "ctl", "gantryd", "zygote", "shims with crun and the process")}
    for _ in range(5):
        before = waited_ms()
        all_at_once(crun_run, count)
        used["crun run, by itself"].append((waited_ms() - before) / (4 * count))
        at_begin, of_daemon, of_zygote = waited_ms(), cpu_ms(daemon.process.pid), cpu_ms(zygote)
        all_at_once(ctl_run, count)
        time.sleep(1)  # the last shims end, and what was removed is swept
        used["ctl"].append((waited_ms() - at_begin) / (4 * count))
        used["gantryd"].append((cpu_ms(daemon.process.pid)[0] - of_daemon[0]) / (4 * count))
        used["zygote"].append((cpu_ms(zygote)[0] - of_zygote[0]) / (4 * count))
        used["shims with crun and the process"].append((cpu_ms(zygote)[1] - of_zygote[1]) / (4 * count))
    for name, values in used.items():
        table.add("cpu: " + name, values, "ms")
    ours = [sum(used[name][i] for name in used if name != "crun run, by itself") - used["crun run, by itself"][i] for i in range(5)]
    table.add("cpu: ours", ours, "ms")
    table.add("cpu: ours / crun run", [a / b for a, b in zip(ours, used["crun run, by itself"])], "")


class Table:
    def __init__(self):
        self.rows = []

    def add(self, measure, values, unit, note=""):
        self.rows.append((measure, statistics.median(values), min(values), unit, note))
        print("  %-46s %9.2f %9.2f %-5s %s" % (measure, statistics.median(values), min(values), unit, note), flush=True)

    def of(self, measure):
        for row in self.rows:
            if row[0] == measure:
                return row[1]
        return None


def timed(argv):
    begin = time.monotonic()
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    took = (time.monotonic() - begin) * 1000
    if done.returncode != 0:
        raise SystemExit("bench: %s: %s" % (" ".join(argv), done.stderr.decode(errors="replace")))
    return took


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is cleaned up
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    work = tempfile.mkdtemp(prefix="gantry-bench.")
    daemons = []
    number = [0]
    lock = threading.Lock()

    def fresh():
        with lock:
            number[0] += 1
            return "b%d" % number[0]

    try:
        mount_free_controllers(work)
        state = make_state(work)
        root, archive = make_image(work)
        gsock = work + "/gantry.sock"
        programs = install(BIN, work)
        gantry = Daemon([programs + "/gantryd", "--default-network", "none", "--root", work + "/groot", "--state", state + "/gantry", "--address", gsock,
                         "--docker-address", work + "/gdocker.sock", "--shim", programs + "/gantry-shim"],
                        [programs + "/ctl", "--address", gsock, "version"], work + "/gantryd.log")
        daemons.append(gantry)
        gantry.start()
        ctl = [programs + "/ctl", "--address", gsock]
        sh(*ctl, "load", "-q", "-i", archive)
        csock = work + "/containerd.sock"
        peer = None
        if have("containerd"):
            peer = start_containerd(work, csock, state)
            daemons.append(peer)
            sh("ctr", "--address", csock, "images", "import", archive)

        bundle = work + "/bundle"
        os.makedirs(bundle)
        os.rename(root, bundle + "/rootfs")
        subprocess.run(["crun", "spec"], cwd=bundle, check=True)
        spec = json.load(open(bundle + "/config.json"))
        spec["process"]["terminal"] = False
        spec["process"]["args"] = ["true"]
        spec["process"]["env"] = ["PATH=/bin"]
        json.dump(spec, open(bundle + "/config.json", "w"))

        ways = {
            "crun run": lambda: ["crun", "--root", state + "/crun", "run", "--bundle", bundle, fresh()],
            "ctl run --rm": lambda: ctl + ["run", "--rm", "bench", "true"],
            "ctr run --rm on gantryd": lambda: ["ctr", "--address", gsock, "run", "--rm", IMAGE, fresh(), "true"],
        }
        if have("runc"):
            ways["runc run"] = lambda: ["runc", "--root", state + "/runc", "run", "--bundle", bundle, fresh()]
        if peer:
            ways["ctr run --rm on containerd"] = lambda: ["ctr", "--address", csock, "run", "--rm", IMAGE, fresh(), "true"]
        if have("podman"):
            podman = ["podman", "--root", work + "/podman", "--runroot", state + "/podman", "--cgroup-manager", "cgroupfs"]
            if subprocess.run(podman + ["load", "-q", "-i", archive], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60).returncode == 0:
                ways["podman run --rm"] = lambda: podman + ["run", "--rm", "--network", "none", IMAGE, "true"]
        for name in list(ways):
            if subprocess.run(ways[name](), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
                print("  (%s does not work on this machine and is left out)" % name)
                del ways[name]

        table = Table()
        print("load average %s; %d repetitions\n  %-46s %9s %9s" % (open("/proc/loadavg").read().split()[0], REPEAT, "", "median", "min"))
        if os.environ.get("BENCH_ONLY") == "cpu":
            processor_time(table, gantry, ways["ctl run --rm"], ways["crun run"])
            return
        for pause in (0, 0.3):
            label = " after 300 ms" if pause else ""
            times = {name: [] for name in ways}
            for _ in range(REPEAT):
                for name, command in ways.items():
                    if pause:
                        time.sleep(2 * pause)  # what one contender does to keep the kernel's locks cheap must not help the next
                    timed(command())  # the command before was another client's: the second in a row counts
                    time.sleep(pause)
                    times[name].append(timed(command()))
            for name in ways:
                table.add(name + label, times[name], "ms")

        processor_time(table, gantry, ways["ctl run --rm"], ways["crun run"])

        sh(*ctl, "run", "-d", "--name", "execs", "bench", "sleep", "1000")
        subprocess.run(["crun", "--root", state + "/crun", "delete", "-f", "execs"], stderr=subprocess.DEVNULL)
        spec["process"]["args"] = ["sleep", "1000"]
        json.dump(spec, open(bundle + "/config.json", "w"))
        # The container keeps what it inherits: no pipe of ours, whose end would never come.
        subprocess.run(["crun", "--root", state + "/crun", "run", "--detach", "--bundle", bundle, "execs"], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        execs = {"crun exec": lambda: ["crun", "--root", state + "/crun", "exec", "execs", "true"],
                 "ctl exec": lambda: ctl + ["exec", "execs", "true"]}
        if peer:
            sh("ctr", "--address", csock, "run", "-d", IMAGE, "execs", "sleep", "1000")
            execs["ctr exec on containerd"] = lambda: ["ctr", "--address", csock, "task", "exec", "--exec-id", fresh(), "execs", "true"]
        times = {name: [] for name in execs}
        for _ in range(REPEAT):
            for name, command in execs.items():
                timed(command())
                times[name].append(timed(command()))
        for name in execs:
            table.add(name, times[name], "ms")
        sh(*ctl, "rm", "-f", "execs")
        sh("crun", "--root", state + "/crun", "delete", "-f", "execs")
        if peer:
            subprocess.run(["ctr", "--address", csock, "task", "kill", "-s", "KILL", "execs"], stdout=subprocess.DEVNULL)
            subprocess.run(["ctr", "--address", csock, "task", "rm", "-f", "execs"], stdout=subprocess.DEVNULL)
            subprocess.run(["ctr", "--address", csock, "container", "rm", "execs"], stdout=subprocess.DEVNULL)

        def throughput(command):
            until = time.monotonic() + SECONDS
            done = [0] * 4

            def client(k):
                while time.monotonic() < until:
                    timed(command())
                    done[k] += 1
            threads = [threading.Thread(target=client, args=(k,)) for k in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            return sum(done) / SECONDS
        table.add("ctl run --rm, 4 clients", [throughput(ways["ctl run --rm"])], "/s")
        if "ctr run --rm on containerd" in ways:
            table.add("ctr run --rm on gantryd, 4 clients", [throughput(ways["ctr run --rm on gantryd"])], "/s")
            table.add("ctr run --rm on containerd, 4 clients", [throughput(ways["ctr run --rm on containerd"])], "/s")

        # Idle, not just done with a burst: both daemons give memory back when they have had nothing to do for a moment.
        time.sleep(SETTLE)
        table.add("gantryd idle", [gantry.memory_kib() / 1024], "MiB")
        names = ["m%d" % k for k in range(CONTAINERS)]
        for name in names:
            sh(*ctl, "run", "-d", "--name", name, "bench", "sleep", "1000")
        shims = [pid for pid in children_named("gantry-shim", work)]
        # Neither the zygote nor the shim that stands by, whose working directory is still its parent's.
        serving = [pid for pid in shims if os.readlink("/proc/%d/cwd" % pid) != "/"]
        table.add("gantry-shim private, each of %d" % CONTAINERS, [private_kib(pid) / 1024 for pid in serving] or [0], "MiB")
        time.sleep(SETTLE)
        table.add("gantryd with %d" % CONTAINERS, [gantry.memory_kib() / 1024], "MiB")
        listing = [timed(ctl + ["ps", "-q"]) for _ in range(5)]
        table.add("ctl ps with %d" % CONTAINERS, listing, "ms")
        gantry.process.send_signal(signal.SIGKILL)
        gantry.process.wait()
        time.sleep(0.2)
        begin = time.monotonic()
        gantry.start()
        while True:
            running = subprocess.run(ctl + ["ps", "-q"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.split()
            if len(running) == CONTAINERS:
                break
            if time.monotonic() - begin > 10:
                raise SystemExit("bench: %d of %d containers came back" % (len(running), CONTAINERS))
        table.add("kill -9 of gantryd to all %d running" % CONTAINERS, [(time.monotonic() - begin) * 1000], "ms")
        sh(*ctl, "rm", "-f", *names)
        if peer:
            time.sleep(SETTLE)
            table.add("containerd idle", [peer.memory_kib() / 1024], "MiB")
            for name in names:
                sh("ctr", "--address", csock, "run", "-d", IMAGE, name, "sleep", "1000")
            table.add("containerd-shim private, each of %d" % CONTAINERS,
                      [private_kib(pid) / 1024 for pid in children_named("containerd-shim-runc-v2", csock)] or [0], "MiB")
            time.sleep(SETTLE)
            table.add("containerd with %d" % CONTAINERS, [peer.memory_kib() / 1024], "MiB")
            for name in names:
                subprocess.run(["ctr", "--address", csock, "task", "rm", "-f", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                subprocess.run(["ctr", "--address", csock, "container", "rm", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        print("\nbudgets")

        def budget(what, ours, theirs, limit, most=True):
            a, b = table.of(ours), table.of(theirs)
            if a is None or b is None or b == 0:
                return
            ratio = a / b
            met = ratio <= limit if most else ratio >= limit
            print("  %-58s %6.2f  (%s %.2f)  %s" % (what, ratio, "<=" if most else ">=", limit, "met" if met else "MISSED"))
        budget("ctl run --rm / crun run, back to back", "ctl run --rm", "crun run", 1.5)
        budget("ctl run --rm / crun run, after pauses", "ctl run --rm after 300 ms", "crun run after 300 ms", 1.0)
        budget("ctl run --rm / ctr run --rm on containerd", "ctl run --rm", "ctr run --rm on containerd", 0.15)
        budget("ctl exec / crun exec", "ctl exec", "crun exec", 2.0)
        budget("lifecycles, 4 clients: ctl / ctr on containerd", "ctl run --rm, 4 clients", "ctr run --rm on containerd, 4 clients", 4.0, most=False)
        for what, limit in (("gantry-shim private, each of %d" % CONTAINERS, 0.5), ("gantryd idle", 20), ("gantryd with %d" % CONTAINERS, 28),
                            ("kill -9 of gantryd to all %d running" % CONTAINERS, 100)):
            value = table.of(what)
            if value is not None:
                print("  %-58s %6.2f  (<= %g)  %s" % (what, value, limit, "met" if value <= limit else "MISSED"))
    finally:
        if os.path.exists(work + "/gantry.sock"):
            left = subprocess.run([BIN + "/ctl/ctl", "--address", work + "/gantry.sock", "ps", "-aq"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL).stdout.split()
            if left:
                subprocess.run([BIN + "/ctl/ctl", "--address", work + "/gantry.sock", "rm", "-f"] + [x.decode() for x in left],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for daemon in daemons:
            daemon.stop()
        for pid in children_named("containerd-shim-runc-v2", work):
            os.kill(pid, signal.SIGKILL)
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


main()
