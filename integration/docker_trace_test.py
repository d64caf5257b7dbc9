#!/usr/bin/env python3
"""What user interfaces call, played again: docker/ui_trace.list, which docker_ui.py recorded with the interfaces themselves.

    docker_trace_test.py BIN      BIN: the directory of the built programs

Each interface's calls are made in their order on things like those that it was shown. Each must be answered with the status of the recording,
and with JSON where the answer says so. Runs in the namespaces and with the daemon of docs_test.py. The last line is "N passed, N failed".
"""
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import docs_test
from docker_rows_test import Connection

TRACE = HERE / "docker/ui_trace.list"
SCRIPT = "while :; do echo a line; sleep 1; done"


def ask(method, target, body=None, upgrade="-"):
    fields = {"Content-Type": "application/json"} if body else {}
    if upgrade != "-":
        fields.update({"Connection": "Upgrade", "Upgrade": upgrade})
    connection = Connection()
    try:
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        endless = response.status == 101 or "follow=" in target or "/events" in target or ("/stats" in target and "stream=0" not in target)
        return response.status, response.getheader("Content-Type") or "", b"" if endless else response.read()
    finally:
        connection.close()


def made(who, world):
    """What the interface had before it: the ids that stand in its calls."""
    name = {"lazydocker": "lazy", "isaiah": "isa"}[who]
    world.run("ctl", "tag", "busybox:latest", "bb:1")
    world.run("ctl", "run", "-d", "--name", name, "-v", "isadata:/data", "bb:1", "sh", "-c", SCRIPT)
    if who == "isaiah":
        world.run("ctl", "network", "create", "isanet")
    found = {"containers": world.run("ctl", "inspect", "-f", "{{.Id}}", name).stdout.strip()}
    found["images"] = world.run("ctl", "image", "inspect", "-f", "{{.Id}}", "bb:1").stdout.strip().replace("sha256:", "")
    if who == "isaiah":
        found["networks"] = world.run("ctl", "network", "inspect", "-f", "{{.Id}}", "isanet").stdout.strip()
    return found


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    calls = [line.rstrip("\n").split(" ", 5) for line in open(TRACE) if line.strip() and not line.startswith("#")]
    results = docs_test.Results()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve(), registry=False)
    try:
        ids, exec, who = {}, "none", ""
        for one, method, target, status, upgrade, *rest in calls:
            if one != who:
                who, ids = one, made(one, world)
            noun = next((part for part in target.split("?")[0].split("/") if part in ("containers", "images", "networks")), "containers")
            target = target.replace("{id}", ids.get(noun, ids["containers"])).replace("{exec}", exec)
            got, kind, body = ask(method, target, rest[0] if rest else None, upgrade)
            # A stop takes the image's or the container's grace, whoever asks.
            results.one(got == int(status), "%s %s" % (method, target), "is answered with %s" % status, "%d %s" % (got, body[:300]))
            if kind.startswith("application/json") and body:
                try:
                    document = json.loads(body.splitlines()[0] if b"\n{" in body.strip() else body)
                    if target.endswith("/exec") and got == 201:
                        exec = document["Id"]
                    results.one(True, target, "is JSON")
                except ValueError:
                    results.one(False, target, "is JSON", body[:300].decode("utf-8", "replace"))
        results.one(len(calls) > 40, str(TRACE), "has calls")
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
