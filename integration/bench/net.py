#!/usr/bin/env python3
"""./dev bench net: containers on networks, beside the same without one, beside dockerd and podman, and beside rules made by hand.

Measures a bridged container with one published port, from nothing to the first answer at that port, and its removal, in turn with
the same container in the host's network; then throughput and round trips through a published port from another host, in turn with
a veth pair and an nft rule made by hand; then the answers of a container's resolver, start-ups while a network fills, and what a shim keeps.

Everything is in a network namespace of its own, as are the other host and the containers; roots, states and sockets are below a
temporary directory. Peers that are not installed are named and left out.

Environment: GANTRY_BIN (built programs, default out/bin), BENCH_REPEAT (20), BENCH_SECONDS (3), BENCH_CONTAINERS (200; 0: no scale).
"""
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from peers import Daemon, have, install, make_image, make_state, mount_free_controllers, start_containerd, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
REPEAT = int(os.environ.get("BENCH_REPEAT", "20"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
CONTAINERS = int(os.environ.get("BENCH_CONTAINERS", "200"))
ROUNDS = 3
IMAGE = "bench:latest"
PORT = 28080
BLOCK = bytes(128 << 10)


# --- programs that run inside the namespaces of containers and of the other host

def serve(port):
    """Counts what comes; a connection that begins with p gets each byte back."""
    listener = socket.create_server(("", port), backlog=16)
    print("ready", flush=True)
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = peer.recv(1)
        if data == b"p":
            while data:
                peer.sendall(data)
                data = peer.recv(1)
        else:
            buffer = bytearray(1 << 20)
            while peer.recv_into(buffer):
                pass
            peer.sendall(b".")
        peer.close()


def send(host, port, seconds):
    peer = socket.create_connection((host, port), 10)
    total, begin = 0, time.monotonic()
    while time.monotonic() - begin < seconds:
        peer.sendall(BLOCK)
        total += len(BLOCK)
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    print(total / (time.monotonic() - begin))


def ping(host, port, seconds):
    peer = socket.create_connection((host, port), 10)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times, begin = [], time.monotonic()
    while time.monotonic() - begin < seconds:
        at = time.monotonic()
        peer.sendall(b"p")
        peer.recv(1)
        times.append(time.monotonic() - at)
    print(statistics.median(times))


def ask(name, seconds):
    """Asks the resolver for a name, four queries under way at a time: answers a second, and the median and p99 of the time each took."""
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.connect(("127.0.0.11", 53))
    peer.settimeout(5)
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    sent, times, begin = {}, [], time.perf_counter()
    for number in range(4):
        sent[number] = time.perf_counter()
        peer.send(number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + question)
    while time.perf_counter() - begin < seconds:
        answer = peer.recv(512)
        now = time.perf_counter()
        number = int.from_bytes(answer[:2], "big")
        if answer[3] & 15 or answer[7] == 0:
            raise SystemExit("bench: %s is not answered" % name)
        times.append(now - sent.pop(number))
        following = (number + 4) & 0xffff
        sent[following] = time.perf_counter()
        peer.send(following.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + question)
    took = time.perf_counter() - begin
    times.sort()
    print(len(times) / took, statistics.median(times), times[int(len(times) * 0.99)])


# --- the measurements

def run(argv, **kw):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    if done.returncode != 0:
        raise SystemExit("bench: %s: %s" % (" ".join(argv), done.stderr.strip()))
    return done.stdout.strip()


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as peer:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return peer.recv(1) != b""
    except OSError:
        return False


def start_and_remove(command, name, options, port, server_port):
    """Milliseconds from the command to the first answer, and of the removal."""
    begin = time.monotonic()
    run(command + ["run", "-d", "--name", name] + options + [IMAGE, "busybox", "httpd", "-f", "-p", str(server_port), "-h", "/etc"])
    returned = time.monotonic()
    deadline = begin + 20
    while not answers(port):
        if time.monotonic() > deadline:
            raise SystemExit("bench: %s: nothing answers at port %d" % (command[0], port))
        time.sleep(0.0005)
    answered = time.monotonic()
    run(command + ["rm", "-f", name])
    return (answered - begin) * 1000, (time.monotonic() - answered) * 1000, (returned - begin) * 1000


def median_of(samples, column):
    return statistics.median(one[column] for one in samples)


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head] + rows) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths]] + rows:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |")
    print()


HELPERS = []  # processes that hold a namespace or serve in one


class Namespace:
    """A network namespace that lives as long as a process of ours."""

    def __init__(self):
        self.process = subprocess.Popen(["unshare", "-n", "sleep", "3600"])
        HELPERS.append(self.process)
        self.pid = self.process.pid
        here = os.readlink("/proc/self/ns/net")
        while os.readlink("/proc/%d/ns/net" % self.pid) == here:
            time.sleep(0.001)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv):
        return run(["nsenter", "-t", str(self.pid), "-n"] + list(argv))


def wire(namespace, name, ours, theirs, gateway):
    run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(namespace.pid)])
    run(["ip", "addr", "add", ours, "dev", name])
    run(["ip", "link", "set", name, "up"])
    namespace.run("ip", "addr", "add", theirs, "dev", "eth0")
    namespace.run("ip", "link", "set", "eth0", "up")
    namespace.run("ip", "route", "add", "default", "via", gateway)


def serve_in(pid, port):
    """serve() in the network namespace of a process."""
    server = subprocess.Popen(["nsenter", "-t", str(pid), "-n", sys.executable, os.path.abspath(__file__), "--serve", str(port)],
                              stdout=subprocess.PIPE)
    HELPERS.append(server)
    server.stdout.readline()


def startups(commands):
    """commands: name -> (argv, image is there). Interleaved, so that the machine's other work meets all alike."""
    samples = {}
    for i in range(REPEAT + 1):
        for name, command in commands.items():
            for kind, options, port, inside in (("published port", ["-p", "%d:80" % PORT], PORT, 80),
                                                ("host's network", ["--network", "host"], PORT + 1, PORT + 1)):
                sample = start_and_remove(command, "bench-%d" % i, options, port, inside)
                if i > 0:
                    samples.setdefault((name, kind), []).append(sample)
    print("From nothing to the first answer, and removal; median of %d, ms" % REPEAT)
    table(["", "network", "command returned", "first answer", "removed"],
          [[name, kind, "%.1f" % median_of(s, 2), "%.1f" % median_of(s, 0), "%.1f" % median_of(s, 1)] for (name, kind), s in samples.items()])
    for name in commands:
        bridged, plain = samples[(name, "published port")], samples[(name, "host's network")]
        print("%s: a published port costs %.1f ms at the start, %.1f ms at the end" %
              (name, median_of(bridged, 0) - median_of(plain, 0), median_of(bridged, 1) - median_of(plain, 1)))
    print()


def traffic(commands, inspect):
    other = Namespace()
    hand = Namespace()
    wire(other, "wire", "192.0.2.1/24", "192.0.2.9/24", "192.0.2.1")
    wire(hand, "hand", "198.51.100.1/24", "198.51.100.2/24", "198.51.100.1")
    run(["nft", "add table ip hand; add chain ip hand pre { type nat hook prerouting priority dstnat; }; "
                "add rule ip hand pre ip daddr 192.0.2.1 tcp dport %d dnat to 198.51.100.2:80" % (PORT + 9)])
    serve_in(hand.pid, 80)
    targets = {"veth and nft by hand": (other.pid, "192.0.2.1", PORT + 9)}
    for i, (name, command) in enumerate(commands.items()):
        port = PORT + 20 + i
        run(command + ["run", "-d", "--name", "traffic", "-p", "%d:80" % port, IMAGE, "sleep", "3600"])
        serve_in(inspect(command, "traffic"), 80)
        targets[name + ", another host"] = (other.pid, "192.0.2.1", port)
        targets[name + ", 127.0.0.1"] = (os.getpid(), "127.0.0.1", port)
    rates, trips = {}, {}
    for _ in range(ROUNDS):
        for name, (pid, host, port) in targets.items():
            for what, into in (("--send", rates), ("--ping", trips)):
                into.setdefault(name, []).append(float(run(["nsenter", "-t", str(pid), "-n", sys.executable, os.path.abspath(__file__), what,
                                                            host, str(port), str(SECONDS)])))
    base_rate = statistics.median(rates["veth and nft by hand"])
    base_trip = statistics.median(trips["veth and nft by hand"])
    print("One TCP connection through a published port; median of %d rounds of %g s" % (ROUNDS, SECONDS))
    table(["", "GB/s", "of by hand", "round trip, us", "of by hand"],
          [[name, "%.2f" % (statistics.median(rates[name]) / 1e9), "%.2f" % (statistics.median(rates[name]) / base_rate),
            "%.1f" % (statistics.median(trips[name]) * 1e6), "%.2f" % (statistics.median(trips[name]) / base_trip)] for name in targets])
    for command in commands.values():
        run(command + ["rm", "-f", "traffic"])
    run(["nft", "delete table ip hand"])


def names(ctl, inspect):
    """Answers of a container's own shim to queries of one of its programs."""
    run(ctl + ["network", "create", "names"])
    for name in ("asker", "named"):
        run(ctl + ["run", "-d", "--name", name, "--network", "names", IMAGE, "sleep", "3600"])
    pid = inspect(ctl, "asker")
    rounds = [[float(word) for word in run(["nsenter", "-t", str(pid), "-n", sys.executable, os.path.abspath(__file__), "--ask", "named",
                                            str(SECONDS)]).split()] for _ in range(ROUNDS)]
    print("A neighbour's name, asked for by UDP, four queries under way; median of %d rounds of %g s" % (ROUNDS, SECONDS))
    table(["", "answers a second", "median, us", "p99, us"],
          [["Gantry"] + ["%.0f" % (median_of(rounds, 0))] + ["%.0f" % (median_of(rounds, column) * 1e6) for column in (1, 2)]])
    run(ctl + ["rm", "-f", "asker", "named"])
    run(ctl + ["network", "rm", "names"])


def shim_memory(ctl, inspect, prefix):
    """Private kB of the shims of the containers whose names begin so."""
    sizes = []
    for name in run(ctl + ["ps", "--format", "{{.Names}}"]).split():
        if not name.startswith(prefix):
            continue
        status = open("/proc/%d/status" % inspect(ctl, name)).read()
        parent = int(status.split("PPid:")[1].split()[0])
        rollup = open("/proc/%d/smaps_rollup" % parent).read()
        sizes.append(sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")))
    return sizes


def scale(ctl, inspect):
    """Start-ups while the network fills, in turn with containers that have none."""
    times = {"a published port": [], "no network": []}
    for i in range(CONTAINERS):
        for kind, prefix, options in (("a published port", "ported", ["-p", "%d:80" % (30000 + i)]),
                                      ("no network", "plain", ["--network", "none"])):
            begin = time.monotonic()
            run(ctl + ["run", "-d", "--name", "%s-%d" % (prefix, i)] + options + [IMAGE, "sleep", "3600"])
            times[kind].append((time.monotonic() - begin) * 1000)
    few = max(1, min(20, CONTAINERS // 2))
    print("Start-up of container 1 to %d of a network; median of the first and the last %d, ms" % (CONTAINERS, few))
    table(["", "first", "last", "factor"],
          [[kind, "%.1f" % statistics.median(all[:few]), "%.1f" % statistics.median(all[-few:]),
            "%.2f" % (statistics.median(all[-few:]) / statistics.median(all[:few]))] for kind, all in times.items()])
    print("Private memory of a shim: %d kB with a published port, %d kB without a network" %
          tuple(statistics.median(shim_memory(ctl, inspect, prefix)) for prefix in ("ported", "plain")))
    begin = time.monotonic()
    run(ctl + ["rm", "-f"] + run(ctl + ["ps", "-aq"]).split())
    print("Removal of all: %.1f ms each" % ((time.monotonic() - begin) * 1000 / CONTAINERS / 2))


def main():
    work = tempfile.mkdtemp(prefix="gantry-bench-net-")
    daemons, programs = [], None
    try:
        run(["ip", "link", "set", "lo", "up"])
        # Before dockerd, which otherwise drops what others have forwarded.
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        _, archive = make_image(work)
        address = state + "/gantry.sock"
        gantry = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address,
                         "--shim", programs + "/gantry-shim"], [programs + "/ctl", "--address", address, "version"], work + "/gantryd.log")
        gantry.start()
        daemons.append(gantry)
        ctl = [programs + "/ctl", "--address", address]
        run(ctl + ["load", "-i", archive])
        commands = {"Gantry": ctl}
        if have("dockerd") and have("docker") and have("containerd"):
            containerd_socket = state + "/containerd.sock"
            daemons.append(start_containerd(work, containerd_socket, state))
            docker_socket = "unix://" + state + "/docker.sock"
            dockerd = Daemon(["dockerd", "--containerd", containerd_socket, "--data-root", work + "/docker", "--exec-root", state + "/docker",
                              "--pidfile", state + "/docker.pid", "-H", docker_socket, "--storage-driver", "overlay2"],
                             ["docker", "-H", docker_socket, "version"], work + "/dockerd.log")
            dockerd.start()
            daemons.append(dockerd)
            docker = ["docker", "-H", docker_socket]
            run(docker + ["load", "-i", archive])
            commands["dockerd"] = docker
        else:
            print("dockerd, docker and containerd are not all installed: left out\n")
        if have("podman"):
            podman = ["podman", "--root", work + "/podman", "--runroot", state + "/podman", "--cgroup-manager", "cgroupfs"]
            run(podman + ["load", "-i", archive])
            commands["podman"] = podman
        else:
            print("podman is not installed: left out\n")
        startups(commands)
        def inspect(command, name):
            return int(run(command + ["inspect", "-f", "{{.State.Pid}}", name]))
        traffic(commands, inspect)
        names(ctl, inspect)
        if CONTAINERS > 0:
            scale(ctl, inspect)
    finally:
        for process in HELPERS:
            process.kill()
            process.wait()
        for name, command in ({"Gantry": [programs + "/ctl", "--address", work + "/run/gantry.sock"]} if programs else {}).items():
            left = subprocess.run(command + ["ps", "-aq"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.split()
            if left:
                subprocess.run(command + ["rm", "-f"] + left, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for daemon in reversed(daemons):
            daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["--send"]:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1:2] == ["--ask"]:
        ask(sys.argv[2], float(sys.argv[3]))
    elif sys.argv[1:2] == ["--ping"]:
        ping(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    elif os.environ.get("GANTRY_BENCH_INSIDE") != "1":
        os.environ["GANTRY_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "-m", "-n", "--propagation", "private", sys.executable, os.path.abspath(__file__)] + sys.argv[1:])
    else:
        main()
