#!/usr/bin/env python3
"""./dev bench docker: the Docker door beside Debian's dockerd, with the same command line and the same client.

Measures, in turn: `docker run --rm IMAGE true` on a bridge; the same life by the API alone over one connection that stays (create, start,
wait, remove); lists of many containers; and the daemons' memory with containers running. Then a crowd on the door alone: connections,
followers of logs and of events, and a client that stops reading.

Everything is in a network and a mount namespace of its own; roots, states and sockets are below a temporary directory.

Environment: GANTRY_BIN (built programs, default out/bin), DOCKER (the command line, default /usr/bin/docker), BENCH_REPEAT (20),
BENCH_LIST (1000 containers that do not run; 0: none), BENCH_CONTAINERS (50 that do), BENCH_CROWD (200 connections; half as many follow a log,
a quarter events; 0: none).
"""
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from peers import Daemon, enter_namespaces, have, install, make_image, make_state, mount_free_controllers, start_containerd, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
DOCKER = os.environ.get("DOCKER", "/usr/bin/docker")
REPEAT = int(os.environ.get("BENCH_REPEAT", "20"))
LIST = int(os.environ.get("BENCH_LIST", "1000"))
CONTAINERS = int(os.environ.get("BENCH_CONTAINERS", "50"))
CROWD = int(os.environ.get("BENCH_CROWD", "200"))
IMAGE = "bench:latest"


class Api:
    """One connection that stays."""

    def __init__(self, path):
        self.connection = http.client.HTTPConnection("docker")
        self.connection.sock = socket.socket(socket.AF_UNIX)
        self.connection.sock.connect(path)

    def ask(self, method, target, body=None):
        self.connection.request(method, "/v1.41" + target, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit("bench: %s %s: %d %s" % (method, target, answer.status, text[:300]))
        return text


class Peer:
    def __init__(self, name, sock, processes):
        self.name, self.sock, self.processes = name, sock, processes
        self.api = Api(sock)

    def docker(self, *argv):
        done = subprocess.run([DOCKER, "-H", "unix://" + self.sock] + list(argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit("bench: %s: docker %s: %s" % (self.name, " ".join(argv), done.stderr.strip()))
        return done.stdout.strip()

    def memory_mib(self):
        return sum(process.memory_kib() for process in self.processes) / 1024

    def life(self):
        made = json.loads(self.api.ask("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"]}))["Id"]
        self.api.ask("POST", "/containers/%s/start" % made)
        self.api.ask("POST", "/containers/%s/wait" % made)
        self.api.ask("DELETE", "/containers/%s" % made)

    def make(self, count, command, start):
        out = []
        for _ in range(count):
            out.append(json.loads(self.api.ask("POST", "/containers/create", {"Image": IMAGE, "Cmd": command}))["Id"])
            if start:
                self.api.ask("POST", "/containers/%s/start" % out[-1])
        return out

    def remove(self, ids):
        for one in ids:
            self.api.ask("DELETE", "/containers/%s?force=1" % one)


def table(head, rows):
    widths = [max(len(str(row[i])) for row in [head] + rows) for i in range(len(head))]
    for row in [head, ["-" * width for width in widths]] + rows:
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |")
    print(flush=True)


def timed(function):
    begin = time.monotonic()
    function()
    return (time.monotonic() - begin) * 1000


def beside(title, unit, measured, budget):
    """measured: peer's name -> samples; the last peer is the measure."""
    base = statistics.median(list(measured.values())[-1])
    print("%s; median of %d, %s (wanted: %s)" % (title, len(list(measured.values())[0]), unit, budget))
    table(["", unit, "beside the last"],
          [[name, "%.1f" % statistics.median(samples), "%.2f" % (statistics.median(samples) / base)] for name, samples in measured.items()])


def in_turn(peers, repeat, function):
    measured = {peer.name: [] for peer in peers}
    for i in range(repeat + 1):
        for peer in peers:
            sample = timed(lambda: function(peer))
            if i > 0:
                measured[peer.name].append(sample)
    return measured


def crowd(peer):
    """Half of CROWD follow the log of a container that writes, a quarter events, one reads nothing; the rest ask in turn."""
    talker = peer.make(1, ["sh", "-c", "while :; do echo a line of some length that is written again and again; sleep 0.02; done"], True)
    flood = peer.make(1, ["sh", "-c", "while :; do echo 0123456789012345678901234567890123456789012345678901234567890123; done"], True)
    before = peer.memory_mib()

    def stream(target):
        one = socket.socket(socket.AF_UNIX)
        one.connect(peer.sock)
        one.sendall(b"GET /v1.41%s HTTP/1.1\r\nHost: d\r\n\r\n" % target.encode())
        return one

    followers = [stream("/containers/%s/logs?stdout=1&follow=1" % talker[0]) for _ in range(CROWD // 2)]
    listeners = [stream("/events") for _ in range(CROWD // 4)]
    deaf = stream("/containers/%s/logs?stdout=1&follow=1" % flood[0])  # takes nothing, from one that writes all the time
    askers = [Api(peer.sock) for _ in range(CROWD - len(followers) - len(listeners) - 1)]
    for asker in askers:
        asker.ask("GET", "/_ping")
    for one in followers + listeners:
        one.settimeout(20)
    silent = sum(b"200 OK" not in one.recv(65536) for one in followers + listeners)
    times = []
    begin = time.monotonic()
    while time.monotonic() - begin < 5:
        for asker in askers[:10]:
            times.append(timed(lambda: asker.ask("GET", "/containers/json?all=1")))
        for one in followers:
            one.recv(1 << 20)
    lives = [timed(peer.life) for _ in range(5)]
    heard = sum(b"destroy" in one.recv(1 << 20) for one in listeners)
    print("A crowd of %d: %d follow a log, %d events, one does not read" % (CROWD, len(followers), len(listeners)))
    table(["", ""], [["lists of containers, median / worst, ms", "%.1f / %.1f" % (statistics.median(times), max(times))],
                     ["lives of containers by the API, median, ms", "%.1f" % statistics.median(lives)],
                     ["streams without an answer", silent], ["listeners that heard of them", "%d of %d" % (heard, len(listeners))],
                     ["memory before / with the crowd, MiB", "%.1f / %.1f" % (before, peer.memory_mib())]])
    for one in followers + listeners + [deaf]:
        one.close()
    peer.remove(talker + flood)


def main():
    for program in (DOCKER, "dockerd", "containerd"):
        if not have(program):
            raise SystemExit("bench: %s is not installed: ./dev setup" % program)
    enter_namespaces()
    work = tempfile.mkdtemp(prefix="gantry-bench-docker-")
    daemons, peers = [], []
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_image(work)[1]
        address = state + "/gantry.sock"
        gantry = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address, "--docker-address",
                         state + "/gantry-docker.sock", "--shim", programs + "/gantry-shim"],
                        [programs + "/ctl", "--address", address, "version"], work + "/gantryd.log")
        gantry.start()
        daemons.append(gantry)
        containerd = start_containerd(work, state + "/containerd.sock", state)
        daemons.append(containerd)
        sock = state + "/docker.sock"
        dockerd = Daemon(["dockerd", "--containerd", state + "/containerd.sock", "--data-root", work + "/docker", "--exec-root", state + "/docker",
                          "--pidfile", state + "/docker.pid", "-H", "unix://" + sock, "--storage-driver", "overlay2"],
                         [DOCKER, "-H", "unix://" + sock, "version"], work + "/dockerd.log")
        dockerd.start()
        daemons.append(dockerd)
        peers = [Peer("Gantry", state + "/gantry-docker.sock", [gantry]), Peer("dockerd", sock, [dockerd, containerd])]
        for peer in peers:
            peer.docker("load", "-i", archive)
        print(subprocess.check_output([DOCKER, "--version"], text=True))
        beside("docker run --rm %s true, on a bridge" % IMAGE, "ms", in_turn(peers, REPEAT, lambda peer: peer.docker("run", "--rm", IMAGE, "true")),
               "at most 0.3")
        beside("docker version, which is mostly the command line itself", "ms", in_turn(peers, REPEAT, lambda peer: peer.docker("version")), "-")
        beside("Create, start, wait and remove by the API, one connection, on a bridge", "ms", in_turn(peers, REPEAT, Peer.life), "at most 0.15")
        if CONTAINERS > 0:
            idle = {peer.name: peer.memory_mib() for peer in peers}
            ids = {peer.name: peer.make(CONTAINERS, ["sleep", "3600"], True) for peer in peers}
            print("Memory of the daemon (dockerd: with containerd), MiB (wanted: at most 30 with 50 containers)")
            table(["", "before", "with %d running" % CONTAINERS],
                  [[peer.name, "%.1f" % idle[peer.name], "%.1f" % peer.memory_mib()] for peer in peers])
            beside("List of %d that run" % CONTAINERS, "ms", in_turn(peers, REPEAT, lambda peer: peer.api.ask("GET", "/containers/json")), "-")
            for peer in peers:
                peer.remove(ids[peer.name])
        if LIST > 0:
            ids = {peer.name: peer.make(LIST, ["true"], False) for peer in peers}
            beside("List of %d containers" % LIST, "ms", in_turn(peers, REPEAT, lambda peer: peer.api.ask("GET", "/containers/json?all=1")),
                   "at most 0.2, and 10 ms")
            for peer in peers:
                peer.remove(ids[peer.name])
        if CROWD > 0:
            crowd(peers[0])
    finally:
        for peer in peers:
            ids = subprocess.run([DOCKER, "-H", "unix://" + peer.sock, "ps", "-aq"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.split()
            if ids:
                subprocess.run([DOCKER, "-H", "unix://" + peer.sock, "rm", "-f"] + ids, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for daemon in reversed(daemons):
            daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
