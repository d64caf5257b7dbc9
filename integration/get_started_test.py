#!/usr/bin/env python3
"""docker's "get started" (get_started.sh), with `alias docker=ctl` and with docker's command line on our socket.

    get_started_test.py BIN      BIN: the directory of the built programs

Runs in the namespaces and with the daemon of docs_test.py. The last line is "N passed, N failed".
"""
import glob
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import docs_test


def compose_program():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return next(iter(sorted(glob.glob(cache + "/gantry/docker-compose-v2*/docker-compose"))), "")


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    results = docs_test.Results()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve())
    if world.registry is None:
        print("skipped: needs docker-registry")
        return 0
    try:
        ways = [["ctl"]]
        if shutil.which("docker"):
            ways.append(["docker", compose_program()])
        else:
            print("left out: docker's command line, which is not installed")
        for way in ways:
            directory = world.work / ("started-" + way[0])
            directory.mkdir()
            done = subprocess.run(["bash", str(HERE / "get_started.sh"), *way], cwd=directory, capture_output=True, text=True, timeout=600,
                                  env={**world.environment, "DOCKER_HOST": "unix:///run/gantry/docker.sock"}, stdin=subprocess.DEVNULL)
            results.one(done.returncode == 0 and done.stdout.endswith("done\n"), "get_started.sh " + way[0], "status %d" % done.returncode,
                        done.stdout[-2000:] + done.stderr[-2000:])
            world.clear()
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
