#!/usr/bin/env python3
"""./dev bench growth: what commands cost as containers and images become many.

With 10, 100, 1,000 and 5,000 created containers and one that runs: the lists of ids, `system df`, the daemon's restart and its memory. With as many
images (at most 1,000): `images -q` and the removal of all of them in one command. With as many running containers (at most 1,000): the daemon's
restart until all are known again, and their removal in one command. Times are medians of whole commands in ms; the last column is how many times
the largest number costs what the smallest does.

Environment: GANTRY_BIN (built programs, default out/bin), BENCH_REPEAT (5), BENCH_SIZES ("10 100 1000 5000").
"""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from concurrent.futures import ThreadPoolExecutor

from peers import Daemon, enter_namespaces, install, make_image, make_state, mount_free_controllers, sh, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
REPEAT = int(os.environ.get("BENCH_REPEAT", "5"))
SIZES = [int(size) for size in os.environ.get("BENCH_SIZES", "10 100 1000 5000").split()]
MOST_IMAGES = MOST_RUNNING = 1000
CLIENTS = 4

enter_namespaces()


class Table:
    """Figures by measure and size, printed once all are known."""

    def __init__(self):
        self.figures = {}
        self.units = {}

    def add(self, measure, size, value, unit="ms"):
        self.figures.setdefault(measure, {})[size] = value
        self.units[measure] = unit

    def show(self):
        print("%-44s %5s %s %8s" % ("", "", "".join("%10s" % format(size, ",") for size in SIZES), "factor"))
        for measure, by_size in self.figures.items():
            cells = "".join("%10s" % ("%.1f" % by_size[size] if size in by_size else "") for size in SIZES)
            known = [by_size[size] for size in SIZES if size in by_size]
            print("%-44s %5s %s %7.1f×" % (measure, self.units[measure], cells, known[-1] / known[0] if known[0] else 0))


class Bench:
    def __init__(self, work):
        mount_free_controllers(work)
        self.work = work
        self.state = make_state(work)
        self.programs = install(BIN, work)
        _, self.archive = make_image(work)
        socket = work + "/gantry.sock"
        self.ctl = [self.programs + "/ctl", "--address", socket]
        self.daemon = Daemon([self.programs + "/gantryd", "--default-network", "none", "--root", work + "/root", "--state", self.state + "/gantry", "--address", socket,
                              "--docker-address", work + "/docker.sock", "--shim", self.programs + "/gantry-shim"],
                             self.ctl + ["version"], work + "/gantryd.log")
        self.daemon.start()
        sh(*self.ctl, "load", "-q", "-i", self.archive)

    def output(self, *args):
        return subprocess.check_output(self.ctl + list(args), text=True)

    def once(self, *args):
        begin = time.monotonic()
        done = subprocess.run(self.ctl + list(args), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        took = (time.monotonic() - begin) * 1000
        if done.returncode != 0:
            raise SystemExit("bench: ctl %s: %s" % (" ".join(args)[:200], done.stderr.decode(errors="replace")[:1000]))
        return took

    def median(self, *args):
        self.once(*args)
        return statistics.median(self.once(*args) for _ in range(REPEAT))

    def many(self, count, *args):
        """`args` so many times, by a few clients."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda _: sh(*self.ctl, *args), range(count)))

    def restart(self):
        """ms from the start of a daemon that was killed to its first answer, and its memory then."""
        self.daemon.process.kill()
        self.daemon.process.wait()
        begin = time.monotonic()
        self.daemon.start()
        return (time.monotonic() - begin) * 1000, self.daemon.memory_kib() / 1024

    def images(self, table, size):
        """So many images: a layer that all share, a configuration of each its own."""
        directory = self.work + "/images"
        os.makedirs(directory)
        shutil.copy(self.work + "/layer.tar", directory)
        config = json.load(open(self.work + "/config.json"))
        manifest = []
        for i in range(size):
            config["config"]["Labels"] = {"number": str(i)}
            with open("%s/config%d.json" % (directory, i), "w") as f:
                json.dump(config, f)
            manifest.append({"Config": "config%d.json" % i, "RepoTags": ["image%d:latest" % i], "Layers": ["layer.tar"]})
        with open(directory + "/manifest.json", "w") as f:
            json.dump(manifest, f)
        archive = self.work + "/images.tar"
        sh("tar", "-C", directory, "-cf", archive, *sorted(os.listdir(directory)))
        shutil.rmtree(directory)
        table.add("load of N images", size, self.once("load", "-q", "-i", archive))
        table.add("images -q, N images", size, self.median("images", "-q"))
        table.add("rmi of N", size, self.once("rmi", *["image%d:latest" % i for i in range(size)]))
        os.unlink(archive)

    def running(self, table, size):
        self.many(size, "run", "-d", "bench", "sleep", "100000")
        ids = self.output("ps", "-q").split()
        if len(ids) != size:
            raise SystemExit("bench: %d of %d containers run" % (len(ids), size))
        table.add("ps -q, N running", size, self.median("ps", "-q"))
        self.daemon.process.kill()
        self.daemon.process.wait()
        begin = time.monotonic()
        self.daemon.start()
        while len(self.output("ps", "-q").split()) < size:
            if time.monotonic() > begin + 60:
                raise SystemExit("bench: not all of %d containers are known again after 60 s" % size)
        table.add("restart, N running known again", size, (time.monotonic() - begin) * 1000)
        table.add("rm -f of N running", size, self.once("rm", "-f", *ids))

    def created(self, table, size, before):
        self.many(size - before, "create", "bench", "true")
        table.add("ps -aq, N created", size, self.median("ps", "-aq"))
        table.add("ps -q, N created and one running", size, self.median("ps", "-q"))
        table.add("images -q, one image", size, self.median("images", "-q"))
        table.add("system df, N created", size, self.median("system", "df"))
        time.sleep(3)
        table.add("memory at rest, N created", size, self.daemon.memory_kib() / 1024, "MiB")
        took, memory = zip(*[self.restart() for _ in range(REPEAT)])
        table.add("restart, N created", size, statistics.median(took))
        table.add("memory just after a restart, N created", size, statistics.median(memory), "MiB")
        time.sleep(3)
        table.add("memory 3 s later", size, self.daemon.memory_kib() / 1024, "MiB")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is cleaned up
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    work = tempfile.mkdtemp(prefix="gantry-bench.")
    bench = None
    try:
        bench = Bench(work)
        table = Table()
        print("load average %s; %d repetitions" % (open("/proc/loadavg").read().split()[0], REPEAT), flush=True)
        for size in SIZES:
            if size <= MOST_IMAGES:
                bench.images(table, size)
            if size <= MOST_RUNNING:
                bench.running(table, size)
        sh(*bench.ctl, "run", "-d", "bench", "sleep", "100000")
        before = 0
        for size in SIZES:
            bench.created(table, size, before)
            before = size
        table.show()
    finally:
        if bench:
            left = subprocess.run(bench.ctl + ["ps", "-q"], stdout=subprocess.PIPE, text=True).stdout.split()
            if left:
                subprocess.run(bench.ctl + ["rm", "-f", *left], stdout=subprocess.DEVNULL)
            bench.daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


main()
