#!/usr/bin/env python3
"""What user interfaces call, played again: docker/ui_calls.list, and docker/ui_trace.list where docker_ui.py has recorded one.

    docker_trace_test.py BIN      BIN: the directory of the built programs

Each interface's calls are made in their order on things like those that it was shown. Each must be answered with the status of the list, with
JSON where the answer says so, and with the fields that the interface reads of it. Runs in the namespaces and with the daemon of docs_test.py.
The last line is "N passed, N failed".
"""
import json
import os
import pathlib
import socket
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import docs_test
from docker_rows_test import Connection, SOCKET

TRACES = (HERE / "docker/ui_calls.list", HERE / "docker/ui_trace.list")
SCRIPT = "while :; do echo a line; sleep 1; done"


class Call:
    def __init__(self, line):
        self.who, self.method, self.target, status, self.upgrade, *rest = line.split(" ", 5)
        self.status, self.body, self.fields = int(status), rest[0] if rest else None, []


def calls_of(path):
    calls = []
    for line in open(path):
        line = line.strip()
        if line.startswith(">"):
            calls[-1].fields += line[1:].split()
        elif line and not line.startswith("#"):
            calls.append(Call(line))
    return calls


def upgraded(call, target, body):
    """(status, connection): a stream has begun when its first byte is here."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(SOCKET)
    body = (body or "").encode()
    lines = ["%s %s HTTP/1.1" % (call.method, target), "Host: docker", "Connection: Upgrade", "Upgrade: " + call.upgrade, "Content-Length: %d" % len(body)]
    if body:
        lines.append("Content-Type: application/json")
    if call.upgrade == "websocket":
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
    connection.sendall("\r\n".join(lines + ["", ""]).encode() + body)
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1)
        if not part:
            return 0, connection
        head += part
    status = int(head.split(b" ")[1])
    if status == 101:
        connection.recv(1)
    return status, connection


def ask(call, target, body):
    """(status, content type, body)"""
    connection = Connection()
    try:
        connection.request(call.method, target, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        once = "stream=0" in target or "stream=false" in target
        endless = "follow=" in target or "/events" in target or ("/stats" in target and not once)
        return response.status, response.getheader("Content-Type") or "", b"" if endless else response.read()
    finally:
        connection.close()


def missing(document, path):
    """What of a path like "Volumes[].Name" a document does not have; "" if it has all of it."""
    key, _, rest = path.partition(".")
    levels = key.count("[]")
    key = key.replace("[]", "")
    if key:
        if not isinstance(document, dict) or key not in document:
            return key
        document = document[key]
    elements = [document]
    for _ in range(levels):
        if not elements or not all(isinstance(one, list) and one for one in elements):
            return key + "[]"
        elements = [inner for one in elements for inner in one]
    if not rest:
        return ""
    return next((problem for problem in (missing(one, rest) for one in elements) if problem), "")


def made(who, world):
    """What the interface had before it: the ids that stand in its calls."""
    name = {"lazydocker": "lazy", "isaiah": "isa", "pages": "app-web-1"}[who]
    volume, network = {"pages": ("app_data", "app_net")}.get(who, ("isadata", "isanet"))
    world.run("ctl", "tag", "busybox:latest", "bb:1")
    found = {}
    if who != "lazydocker":
        world.run("ctl", "network", "create", network)
        found["networks"] = world.run("ctl", "network", "inspect", "-f", "{{.Id}}", network).stdout.strip()
    options = ["--network", network, "-l", "com.docker.compose.project=app", "-l", "com.docker.compose.service=web"] if who == "pages" else []
    world.run("ctl", "run", "-d", "--name", name, "-v", volume + ":/data", *options, "bb:1", "sh", "-c", SCRIPT)
    found["containers"] = world.run("ctl", "inspect", "-f", "{{.Id}}", name).stdout.strip()
    found["images"] = world.run("ctl", "image", "inspect", "-f", "{{.Id}}", "bb:1").stdout.strip().replace("sha256:", "")
    return found


def filled(text, ids, noun):
    """With the ids in place of the words in braces."""
    text = text.replace("{id}", ids.get(noun, ids["containers"])).replace("{exec}", ids.get("exec", "none"))
    for word in ("container", "image", "network"):
        text = text.replace("{%s}" % word, ids.get(word + "s", "none"))
    return text


def play(calls, world, results):
    ids, who, streams = {}, "", []
    for call in calls:
        if call.who != who:
            who, ids = call.who, made(call.who, world)
        noun = next((part for part in call.target.split("?")[0].split("/") if part in ("containers", "images", "networks")), "containers")
        target = filled(call.target, ids, noun)
        body = filled(call.body, ids, noun) if call.body else None
        name = "%s %s" % (call.method, target)
        if call.upgrade != "-":
            status, connection = upgraded(call, target, body)
            streams.append(connection)  # the page stays open
            results.one(status == call.status, name, "is answered with %d" % call.status, str(status))
            continue
        status, kind, text = ask(call, target, body)
        results.one(status == call.status, name, "is answered with %d" % call.status, "%d %s" % (status, text[:300].decode("utf-8", "replace")))
        if not kind.startswith("application/json") or not text:
            results.one(not call.fields, name, "is answered with a document", "%s %r" % (kind, text[:100]))
            continue
        try:
            document = json.loads(text.splitlines()[0] if b"\n{" in text.strip() else text)
        except ValueError:
            results.one(False, name, "is JSON", text[:300].decode("utf-8", "replace"))
            continue
        for field in call.fields:
            problem = missing(document, filled(field, ids, noun))
            results.one(not problem, name, "has %s" % field, "no %s in %s" % (problem, text[:600].decode("utf-8", "replace")))
        if status == 201 and isinstance(document, dict) and "Id" in document:
            path = target.split("?")[0]
            for end, what in (("/exec", "exec"), ("/containers/create", "containers"), ("/networks/create", "networks")):
                if path.endswith(end):
                    ids[what] = document["Id"]
    for connection in streams:
        connection.close()


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    results = docs_test.Results()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve(), registry=False)
    try:
        for trace in TRACES:
            calls = calls_of(trace) if trace.exists() else []
            play(calls, world, results)
            results.one(len(calls) > 40 or not trace.exists(), str(trace), "has calls")
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
