#!/usr/bin/env python3
"""./dev test docker: the same docker command lines against Debian's dockerd and against Gantry's Docker door.

Compared are exit codes, the shape of what is printed (ids, times, sizes and addresses count as one word each), and of JSON its keys and
types. What differs and stands in docker_parity.list, with its reason, is passed over; anything else is printed and fails the run, and so
does an entry of the list that nothing matches any more.

Both daemons run in a network and a mount namespace of their own, with roots, states and sockets below a temporary directory. parity.py has
the environment variables that are read.
"""
import json
import os
import subprocess
import sys

from docker_lines import CASES
from parity import HERE, ONLY, Stage, compare, differences, docker, report

LIST = os.path.join(HERE, "docker_parity.list")

# What the API itself answers: method, path, body. Status and the keys and types of the JSON are compared.
CALLS = [
    ("api-ping", [("GET", "/_ping", None), ("HEAD", "/_ping", None), ("GET", "/v1.41/_ping", None), ("GET", "/v1.10/_ping", None),
                  ("GET", "/v1.99/_ping", None), ("GET", "/nothing", None), ("POST", "/_ping", None)]),
    ("api-system", [("GET", "/v1.41/info", None), ("GET", "/v1.41/version", None), ("GET", "/v1.41/system/df", None),
                    ("POST", "/v1.41/auth", {"username": "a", "password": "b", "serveraddress": "127.0.0.1:1"}),
                    ("GET", "/v1.41/events?since=1&until=2", None), ("GET", "/v1.41/events?since=3&until=2", None),
                    ("GET", "/v1.41/events?filters=nonsense", None)]),
    ("api-images", [("GET", "/v1.41/images/json", None), ("GET", "/v1.41/images/json?shared-size=1", None),
                    ("GET", "/v1.41/images/json?filters=nonsense", None), ("GET", "/v1.41/images/json?filters={\"x\":[\"y\"]}", None),
                    ("GET", "/v1.41/images/bb:1/json", None), ("GET", "/v1.41/images/bb:1/history", None),
                    ("GET", "/v1.41/images/none/json", None), ("POST", "/v1.41/images/create", None),
                    ("POST", "/v1.41/images/bb:1/tag?repo=t&tag=1", None), ("DELETE", "/v1.41/images/t:1", None),
                    ("DELETE", "/v1.41/images/none", None), ("GET", "/v1.41/images/none/get", None), ("POST", "/v1.41/images/prune", None),
                    ("POST", "/v1.41/images/none/push", None)]),
    ("api-networks", [("GET", "/v1.41/networks", None), ("GET", "/v1.41/networks/bridge", None), ("GET", "/v1.41/networks/none-such", None),
                      ("POST", "/v1.41/networks/create", {"Name": "a1"}), ("POST", "/v1.41/networks/create", {"Name": "a1", "CheckDuplicate": True}),
                      ("GET", "/v1.41/networks/a1", None), ("DELETE", "/v1.41/networks/a1", None), ("DELETE", "/v1.41/networks/a1", None),
                      ("POST", "/v1.41/networks/create", {}), ("POST", "/v1.41/networks/create", [1]), ("POST", "/v1.41/networks/prune", None),
                      ("POST", "/v1.41/networks/bridge/connect", {"Container": "none"}), ("DELETE", "/v1.41/networks/host", None)]),
    ("api-volumes", [("GET", "/v1.41/volumes", None), ("POST", "/v1.41/volumes/create", {"Name": "av"}),
                     ("POST", "/v1.41/volumes/create", {}), ("GET", "/v1.41/volumes/av", None), ("DELETE", "/v1.41/volumes/av", None),
                     ("DELETE", "/v1.41/volumes/av", None), ("GET", "/v1.41/volumes/av", None), ("POST", "/v1.41/volumes/prune", None)]),
    ("api-absent", [("GET", "/v1.41/swarm", None), ("GET", "/v1.41/nodes", None), ("GET", "/v1.41/services", None),
                    ("GET", "/v1.41/plugins", None), ("POST", "/v1.41/build/prune", None)]),
    ("api-containers", [("GET", "/v1.41/containers/json?all=1", None), ("GET", "/v1.41/containers/none/json", None),
                        ("POST", "/v1.41/containers/create", {}), ("POST", "/v1.41/containers/create", {"Image": "none:1"}),
                        ("POST", "/v1.41/containers/create?name=ac", {"Image": "bb:1", "Cmd": ["true"]}),
                        ("GET", "/v1.41/containers/ac/json", None), ("GET", "/v1.41/containers/ac/logs", None),
                        ("DELETE", "/v1.41/containers/ac", None), ("POST", "/v1.41/containers/prune", None)]),
]


def call(sock, method, path, body):
    argv = ["curl", "-s", "-g", "--max-time", "30", "--unix-socket", sock, "-o", "-", "-w", "\n%{http_code}", "http://d" + path.replace('"', "%22")]
    argv += ["-I"] if method == "HEAD" else ["-X", method]
    if body is not None:
        argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    text, _, status = done.stdout.decode(errors="replace").rpartition("\n")
    return int(status or 0), "" if method == "HEAD" else text


def call_differences(stage):
    for name, calls in CALLS:
        if ONLY not in name:
            continue
        for sock in (stage.theirs, stage.ours):
            docker(sock, "load -q -i {archive}", stage.words)
        answers = [[call(sock, *one) for one in calls] for sock in (stage.theirs, stage.ours)]
        for (method, path, body), a, b in zip(calls, *answers):
            line = "%s %s%s" % (method, path, "" if body is None else " " + json.dumps(body))
            for text in compare(a, b):
                yield name, line, text, a + ("",), b + ("",)


def main():
    with Stage() as stage:
        theirs, ours = stage.docker_on(stage.theirs), stage.docker_on(stage.ours)
        for side in (theirs, ours):
            loaded = side("load -i {archive}")
            if loaded[0] != 0:
                raise SystemExit("parity: load: %s" % (loaded,))
        found = list(differences(CASES, theirs, ours)) + list(call_differences(stage))
        sys.exit(report(found, LIST, sum(len(lines) for name, lines in CASES + CALLS if ONLY in name)))


if __name__ == "__main__":
    main()
