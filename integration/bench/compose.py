#!/usr/bin/env python3
"""./dev bench compose: projects brought up, left as they are and taken down, beside docker compose v2 on Debian's dockerd.

Ten services in three layers, images present. `up -d`, `up -d` again (nothing to do) and `down`, in turn by ctl compose and by docker compose.
Then a hundred services in five layers by ctl compose alone: up, a change of all, down, beside the longest chain of them alone.

Everything is in namespaces and below a temporary directory of its own (parity.py).

Environment: GANTRY_BIN (built programs, default out/bin), GANTRY_COMPOSE (the docker-compose program; none: go_client.sh's), BENCH_REPEAT (5),
BENCH_SERVICES (100; 0: leave the large project out).
"""
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))
sys.path.insert(0, HERE)
from parity import Stage  # noqa: E402

REPEAT = int(os.environ.get("BENCH_REPEAT", "5"))
SERVICES = int(os.environ.get("BENCH_SERVICES", "100"))
IMAGE = "bb:1"


def project(count, layers, tag=""):
    """`count` services; each of a layer depends on the one at its place in the layer before."""
    wide = count // layers
    lines = ["services:"]
    for i in range(count):
        lines += ["  s%03d:" % i, "    image: " + IMAGE, "    command: [sleep, '3600']", "    stop_signal: SIGKILL",
                  "    environment: {TAG: '%s'}" % tag]
        if i >= wide:
            lines.append("    depends_on: [s%03d]" % (i - wide))
    return "\n".join(lines) + "\n"


def timed(argv, directory, env):
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=directory, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                          check=False)
    if done.returncode != 0:
        raise SystemExit("bench: %s ended with status %d\n%s" % (" ".join(argv), done.returncode, done.stdout[-2000:]))
    return time.monotonic() - begin


def write(directory, text):
    os.makedirs(directory, exist_ok=True)
    with open(directory + "/compose.yaml", "w", encoding="utf-8") as out:
        out.write(text)
    return directory


def row(name, ours, theirs, budget):
    mine = statistics.median(ours)
    other = statistics.median(theirs)
    print("%-24s ctl compose %6.3f s   docker compose %6.3f s   ratio %.2f   (%s)" % (name, mine, other, mine / other, budget))


def main():
    compose = os.environ.get("GANTRY_COMPOSE") or subprocess.run(
        [os.path.join(HERE, "..", "go_client.sh"), "docker-compose"], stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    with Stage() as stage:
        archive = stage.words["archive"]
        ctl_env = dict(os.environ, GANTRY_ADDRESS=stage.address)
        ctl = [stage.programs + "/ctl"]
        timed(ctl + ["load", "-i", archive], stage.work, ctl_env)
        docker_env = dict(os.environ, DOCKER_HOST="unix://" + stage.theirs, DOCKER_CONFIG=stage.work + "/docker-config")
        sides = {"ours": (ctl + ["compose"], ctl_env)}
        if compose:
            timed(["docker", "load", "-i", archive], stage.work, docker_env)
            sides["theirs"] = ([compose], docker_env)
        else:
            print("docker compose is not there and left out")
        ten = write(stage.work + "/ten", project(10, 3))
        times = {side: {"up": [], "again": [], "down": [], "both": []} for side in sides}
        for _ in range(REPEAT):
            for side, (argv, env) in sides.items():
                up = timed(argv + ["up", "-d"], ten, env)
                again = timed(argv + ["up", "-d"], ten, env)
                down = timed(argv + ["down"], ten, env)
                for key, value in (("up", up), ("again", again), ("down", down), ("both", up + down)):
                    times[side][key].append(value)
        for key, name, budget in (("up", "up, 10 services", ""), ("down", "down", ""), ("both", "up and down", "at most 0.25"),
                                  ("again", "up with nothing to do", "at most 0.15 s")):
            row(name, times["ours"][key], times.get("theirs", times["ours"])[key], budget)
        if SERVICES:
            large(stage, ctl + ["compose"], ctl_env)


def life(argv, env, directory, count, layers):
    """Seconds of up, up with nothing to do, a change of all, and down."""
    write(directory, project(count, layers))
    up, again = timed(argv + ["up", "-d"], directory, env), timed(argv + ["up", "-d"], directory, env)
    write(directory, project(count, layers, tag="changed"))
    return up, again, timed(argv + ["up", "-d"], directory, env), timed(argv + ["down"], directory, env)


def large(stage, argv, env):
    """A chain of services is nothing but its critical path; of many, each may cost 1.5 times what one of the chain does."""
    layers = 5
    alone = life(argv, env, stage.work + "/chain", layers, layers)
    many = life(argv, env, stage.work + "/large", SERVICES, layers)
    print("%d services in %d layers, beside a chain of %d:" % (SERVICES, layers, layers))
    for name, mine, chain in zip(("up", "nothing to do", "all changed", "down"), many, alone):
        print("  %-14s %6.2f s   chain %5.2f s   each %5.1f ms beside %5.1f ms   ratio %.2f   (%s)"
              % (name, mine, chain, mine / SERVICES * 1000, chain / layers * 1000, mine / SERVICES / (chain / layers),
                 "" if name == "nothing to do" else "at most 1.5"))


if __name__ == "__main__":
    main()
