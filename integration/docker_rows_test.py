#!/usr/bin/env python3
"""Every operation of the Engine API, row by row, in the API versions 1.24 to 1.51.

    docker_rows_test.py BIN      BIN: the directory of the built programs

docker/api.tsv has the operations with their responses, and the documents in these with the version since which each field is there; a row
"gone" or "respgone" is a field that the newest version no longer has, with the version in which it was dropped in its last column. Here is a
call for each operation: it must be answered, with a status that the table has for it (or one that docker gives besides, said here), and the
document in the answer must have fields of the table's names, types and versions only. An operation without a call fails the test.

Runs in the namespaces and with the daemon of docs_test.py. The last line is "N passed, N failed".
"""
import http.client
import io
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import docs_test

TABLE = HERE / "docker/api.tsv"
SOCKET = "/run/gantry/docker.sock"
VERSIONS = ["1.%d" % minor for minor in range(24, 52)]
# With all that changes something, too.
WHOLE = {"1.24", "1.30", "1.40", "1.41", "1.43", "1.44", "1.47", "1.48", "1.51"}
IMAGE = "busybox:latest"
# The one object in which documents have fields of our own.
OURS = "Gantry"


def number(version):
    return tuple(int(part) for part in version.split("."))


class Table:
    def __init__(self):
        self.operations, self.responses, self.inline, self.kinds, self.fields, self.embedded = [], {}, {}, {}, {}, {}
        for line in open(TABLE):
            kind, one, two, name, place, type, _, values, version = line.rstrip("\n").split("\t")
            if kind == "op":
                self.operations.append((one, two, version))
            elif kind == "response":
                self.responses.setdefault((one, two), {})[int(name) if name.isdigit() else 0] = type
            elif kind in ("respfield", "respgone"):
                self.inline.setdefault((one, two), {})[name] = (type, *self.span(kind == "respgone", version))
            elif kind == "def":
                self.kinds[one] = type
            elif kind in ("prop", "gone"):
                self.fields.setdefault(one, {})[two] = (type, *self.span(kind == "gone", version))
            elif kind == "embed":
                self.embedded.setdefault(one, []).append((two, name))

    @staticmethod
    def span(gone, version):
        """The versions of a field: the first that has it, the first that has it no longer."""
        limit = None if version == "-" else number(version)
        return (None, limit) if gone else (limit, None)

    def fields_of(self, name):
        found = dict(self.fields.get(name, {}))
        for part in re.split(r"&", self.kinds.get(name, "")):
            if part in self.kinds:
                found.update(self.fields_of(part))
        for at, other in self.embedded.get(name, []):
            if at == "-":
                found.update(self.fields_of(other))
        return found

    def check(self, value, type, version, where):
        """What is wrong with a value of a document."""
        type = type.split(" ")[0]
        name = type.split(":")[0]
        if value is None or type in ("-", "object") and not isinstance(value, dict):
            return [] if value is None or type == "-" else ["%s: %r is no object" % (where, value)]
        if name.startswith("array<"):
            if not isinstance(value, list):
                return ["%s: %r is no list" % (where, value)]
            return [e for i, one in enumerate(value) for e in self.check(one, type[6:-1], version, "%s[]" % where)]
        if name.startswith("map<"):
            if not isinstance(value, dict):
                return ["%s: %r is no map" % (where, value)]
            return [e for one in value.values() for e in self.check(one, type[type.index(",") + 1:-1], version, where + "{}")]
        scalar = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}.get(name)
        if scalar:
            good = isinstance(value, scalar) and not (isinstance(value, bool) and scalar is not bool)
            return [] if good else ["%s: %r is no %s" % (where, value, name)]
        names = [part for part in name.split("&") if part in self.kinds]
        if not names:
            return []
        kind = self.kinds[names[0]]
        if kind.split(":")[0] in ("string", "integer", "boolean", "number") or kind.startswith(("array<", "map<")):
            return self.check(value, kind, version, where)
        fields = {}
        for one in names:
            fields.update(self.fields_of(one))
        return self.object(value, fields, "", version, where)

    def object(self, value, fields, prefix, version, where):
        if not isinstance(value, dict):
            return ["%s: %r is no object" % (where, value)]
        wrong = []
        if not any(path.startswith(prefix) for path in fields):
            return wrong
        for key, one in value.items():
            at = "%s.%s" % (where, key)
            type, since, gone = fields.get(prefix + key, (None, None, None))
            if type is None:
                if key != OURS:
                    wrong.append("%s: not in the table" % at)
                continue
            if since is not None and number(version) < since:
                wrong.append("%s: only since %d.%d" % (at, *since))
            if gone is not None and number(version) >= gone:
                wrong.append("%s: no longer since %d.%d" % (at, *gone))
            inner = [path for path in fields if path.startswith(prefix + key + ".") or path.startswith(prefix + key + "[]") or path.startswith(prefix + key + "{}")]
            if isinstance(one, dict) and any(path.startswith(prefix + key + ".") for path in inner):
                wrong += self.object(one, fields, prefix + key + ".", version, at)
            elif not inner:
                wrong += self.check(one, type, version, at)
        return wrong


class Connection(http.client.HTTPConnection):
    def __init__(self):
        super().__init__("docker", timeout=60)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(SOCKET)


class Caller:
    def __init__(self, table, results):
        self.table, self.results, self.called, self.version = table, results, set(), "1.51"

    def call(self, method, pattern, more=(), body=None, fields={}, **parameters):
        """Calls one operation; `more` are statuses beside the table's good ones. The decoded document, or the bytes."""
        self.called.add((method, pattern))
        path = pattern
        for name in re.findall(r"{(\w+)}", pattern):
            path = path.replace("{%s}" % name, urllib.parse.quote(parameters.pop(name), safe="/:@"))
        query = urllib.parse.urlencode({name.replace("_", "-"): value for name, value in parameters.items()})
        target = "/v%s%s%s" % (self.version, path, "?" + query if query else "")
        headers = dict(fields)
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body)
            headers["Content-Type"] = "application/json"
        connection = Connection()
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            status, text, kind = response.status, (b"" if response.status == 101 else response.read()), response.getheader("Content-Type") or ""
        except Exception as error:
            self.results.one(False, target, "is answered", repr(error))
            return None
        finally:
            connection.close()
        known = self.table.responses.get((method, pattern), {})
        good = {code for code in known if code < 400} | set(more) if not more or min(more) < 400 else set(more)
        self.results.one(status in good, "%s %s" % (method, target), "status %d is one of %s" % (status, sorted(good)), text[:300].decode("utf-8", "replace"))
        if not kind.startswith("application/json"):
            return text
        try:
            documents = [json.loads(line) for line in text.decode().splitlines() if line.strip()]
        except ValueError as error:
            self.results.one(False, target, "is JSON", "%s: %r" % (error, text[:300]))
            return text
        type = known.get(status, "ErrorResponse" if status >= 400 else "-")
        for document in documents:
            if type in ("-", "object") and (method, pattern) in self.table.inline:
                wrong = self.table.object(document, self.table.inline[method, pattern], "", self.version, "$")
            else:
                wrong = self.table.check(document, type, self.version, "$")
            self.results.one(not wrong, "%s %s" % (method, target), "the document is the table's", "\n".join(sorted(set(wrong))[:40]))
        return documents[-1] if documents else None


def archive(name, content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read_only(c):
    """All that changes nothing, about things that are there."""
    for query in ({}, {"all": 1, "size": 1}, {"all": 1, "filters": '{"label":["rows"]}'}):
        c.call("GET", "/containers/json", **query)
    for id in ("rows", "rows-ended"):
        c.call("GET", "/containers/{id}/json", id=id, size=1)
    c.call("GET", "/containers/{id}/top", id="rows")
    c.call("GET", "/containers/{id}/logs", id="rows", stdout=1)
    c.call("GET", "/containers/{id}/changes", id="rows")
    c.call("GET", "/containers/{id}/stats", id="rows", stream=0, one_shot=1)
    c.call("GET", "/containers/{id}/export", id="rows-ended")
    c.call("HEAD", "/containers/{id}/archive", id="rows", path="/etc/passwd")
    c.call("GET", "/containers/{id}/archive", id="rows", path="/etc/passwd")
    c.call("GET", "/images/json", all=1, digests=1, manifests=1, shared_size=1)
    c.call("GET", "/images/{name}/json", name=IMAGE, manifests=1)
    c.call("GET", "/images/{name}/history", name=IMAGE)
    c.call("GET", "/images/{name}/get", name=IMAGE)
    c.call("GET", "/images/get", names=IMAGE)
    c.call("GET", "/images/search", term="none", more=(200, 400, 404, 500, 503))
    c.call("GET", "/info")
    c.call("GET", "/version")
    c.call("GET", "/_ping")
    c.call("HEAD", "/_ping")
    c.call("GET", "/events", since=1, until=2)
    c.call("GET", "/system/df")
    c.call("GET", "/volumes")
    c.call("GET", "/volumes/{name}", name="rows-volume")
    c.call("GET", "/networks")
    for id in ("bridge", "rows-network"):
        c.call("GET", "/networks/{id}", id=id, verbose=1)
    c.call("GET", "/distribution/{name}/json", name="localhost:5000/busybox:latest", more=(200, 404, 503))
    c.call("GET", "/plugins")
    c.call("GET", "/plugins/privileges", remote="x", more=(501,))
    c.call("GET", "/plugins/{name}/json", name="x", more=(404,))
    for pattern in ("/swarm", "/swarm/unlockkey", "/nodes", "/services", "/tasks", "/secrets", "/configs"):
        c.call("GET", pattern, more=(503,))
    for pattern in ("/nodes/{id}", "/services/{id}", "/services/{id}/logs", "/tasks/{id}", "/tasks/{id}/logs", "/secrets/{id}", "/configs/{id}"):
        c.call("GET", pattern, id="x", more=(503,))
    c.call("GET", "/containers/{id}/json", id="nobody", more=(404,))
    c.call("GET", "/networks/{id}", id="nobody", more=(404,))
    c.call("GET", "/volumes/{name}", name="nobody", more=(404,))
    c.call("GET", "/images/{name}/json", name="nobody", more=(404,))


def make(c):
    c.call("POST", "/volumes/create", body={"Name": "rows-volume", "Labels": {"a": "b"}, "DriverOpts": {}})
    c.call("POST", "/networks/create", body={"Name": "rows-network", "IPAM": {"Config": [{"Subnet": "10.66.0.0/24"}]}, "Labels": {"a": "b"}})
    host = {"Binds": ["rows-volume:/data"], "PortBindings": {"80/tcp": [{"HostPort": ""}]}, "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            "NetworkMode": "rows-network", "Memory": 64 << 20, "Tmpfs": {"/tmp": "size=1m"},
            "Mounts": [{"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 1 << 20}}], "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 99}]}
    c.call("POST", "/containers/create", name="rows", body={
        "Image": IMAGE, "Cmd": ["sh", "-c", "echo said; exec sleep 1000"], "Labels": {"rows": "1"}, "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000}, "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {"rows-network": {"IPAMConfig": {"IPv4Address": "10.66.0.9"}, "Aliases": ["also"], "GwPriority": 7}}}})
    c.call("POST", "/containers/{id}/start", id="rows")
    c.call("POST", "/containers/create", name="rows-ended", body={"Image": IMAGE, "Cmd": ["false"]})
    c.call("POST", "/containers/{id}/start", id="rows-ended")
    c.call("POST", "/containers/{id}/wait", id="rows-ended")


def unmake(c):
    c.call("DELETE", "/containers/{id}", id="rows", force=1, v=1)
    c.call("DELETE", "/containers/{id}", id="rows-ended")
    c.call("DELETE", "/networks/{id}", id="rows-network")
    c.call("DELETE", "/volumes/{name}", name="rows-volume")


def changing(c):
    upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
    c.call("POST", "/containers/{id}/attach", id="rows", logs=1, stdout=1, more=(101, 200), fields=upgrade)
    c.call("GET", "/containers/{id}/attach/ws", id="rows", logs=1, stdout=1, more=(101,),
           fields={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    c.call("POST", "/containers/{id}/resize", id="rows", h=10, w=20, more=(200, 409, 500))
    c.call("POST", "/containers/{id}/update", id="rows", body={"Memory": 128 << 20, "MemorySwap": -1})
    c.call("POST", "/containers/{id}/pause", id="rows")
    c.call("POST", "/containers/{id}/start", id="rows", more=(409,))
    c.call("POST", "/containers/{id}/unpause", id="rows")
    c.call("POST", "/containers/{id}/start", id="rows", more=(304,))
    c.call("POST", "/containers/{id}/rename", id="rows", name="rows-other")
    c.call("POST", "/containers/{id}/rename", id="rows-other", name="rows")
    c.call("PUT", "/containers/{id}/archive", id="rows", path="/tmp", body=archive("file", b"text"), fields={"Content-Type": "application/x-tar"})
    exec = c.call("POST", "/containers/{id}/exec", id="rows", body={"Cmd": ["true"], "AttachStdout": True}) or {"Id": "none"}
    c.call("POST", "/exec/{id}/start", id=exec["Id"], body={"Detach": False, "Tty": False}, more=(101, 200))
    c.call("GET", "/exec/{id}/json", id=exec["Id"])
    c.call("POST", "/exec/{id}/resize", id=exec["Id"], h=1, w=1, more=(200, 201, 404, 409, 500))
    c.call("POST", "/networks/{id}/disconnect", id="rows-network", body={"Container": "rows"})
    c.call("POST", "/networks/{id}/connect", id="rows-network", body={"Container": "rows", "EndpointConfig": {"Aliases": ["again"]}})
    c.call("POST", "/containers/{id}/restart", id="rows", t=0)
    c.call("POST", "/containers/{id}/kill", id="rows", signal="SIGHUP")
    c.call("POST", "/containers/{id}/stop", id="rows", t=0)
    c.call("POST", "/containers/{id}/stop", id="rows", more=(304,), t=0)
    made = c.call("POST", "/commit", container="rows", repo="rows", tag="1", body={"Cmd": ["true"]})
    c.call("POST", "/images/{name}/tag", name="rows:1", repo="localhost:5000/rows", tag="2")
    c.call("POST", "/images/{name}/push", name="localhost:5000/rows", tag="2", fields={"X-Registry-Auth": "e30="})
    c.call("DELETE", "/images/{name}", name="localhost:5000/rows:2")
    c.call("POST", "/images/create", fromImage="localhost:5000/rows", tag="2")
    saved = c.call("GET", "/images/{name}/get", name="localhost:5000/rows:2")
    c.call("DELETE", "/images/{name}", name="localhost:5000/rows:2")
    c.call("POST", "/images/load", body=saved or b"", fields={"Content-Type": "application/x-tar"})
    c.call("DELETE", "/images/{name}", name="localhost:5000/rows:2")
    c.call("DELETE", "/images/{name}", name="rows:1", force=1)
    c.call("POST", "/build", t="rows:built", version=1, body=archive("Dockerfile", b"FROM busybox:latest\nLABEL a=b\n"), fields={"Content-Type": "application/x-tar"})
    c.call("DELETE", "/images/{name}", name="rows:built")
    c.call("POST", "/session", more=(101, 400), fields={"Connection": "Upgrade", "Upgrade": "h2c", "X-Docker-Expose-Session-Uuid": "rows"})
    c.call("POST", "/auth", body={"username": "u", "password": "p", "serveraddress": "localhost:5000"}, more=(200, 204, 401, 500, 503))
    c.call("PUT", "/volumes/{name}", name="rows-volume", version=1, body={"Spec": {}}, more=(400, 404, 500, 501, 503))
    c.call("POST", "/containers/prune", filters='{"label":["rows=none"]}')
    c.call("POST", "/images/prune", filters='{"label":["rows=none"]}')
    c.call("POST", "/volumes/prune", filters='{"label":["rows=none"]}')
    c.call("POST", "/networks/prune", filters='{"label":["rows=none"]}')
    c.call("POST", "/build/prune", all=0)
    c.call("DELETE", "/plugins/{name}", name="x", more=(404,))
    for verb in ("enable", "disable", "upgrade", "push", "set"):
        c.call("POST", "/plugins/{name}/" + verb, name="x", more=(404,), body=[] if verb in ("upgrade", "set") else None)
    for pattern in ("/plugins/pull", "/plugins/create"):
        c.call("POST", pattern, more=(501,))
    for pattern in ("/swarm/init", "/swarm/join"):
        c.call("POST", pattern, body={}, more=(501,))
    for pattern in ("/swarm/leave", "/swarm/update", "/swarm/unlock", "/services/create", "/secrets/create", "/configs/create"):
        c.call("POST", pattern, body={}, more=(503,))
    for noun in ("nodes", "services", "secrets", "configs"):
        c.call("POST", "/%s/{id}/update" % noun, id="x", body={}, more=(503,))
        c.call("DELETE", "/%s/{id}" % noun, id="x", more=(503,))
    return made


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    table, results = Table(), docs_test.Results()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve())
    try:
        c = Caller(table, results)
        for version in VERSIONS:
            c.version = version
            if version in WHOLE:
                if version != VERSIONS[0]:
                    unmake(c)
                make(c)
            read_only(c)
            if version in WHOLE:
                changing(c)
                c.call("POST", "/containers/{id}/start", id="rows")
        unmake(c)
        for method, path, _ in table.operations:
            results.one((method, path) in c.called, "%s %s" % (method, path), "has a call here")
        for version in ("1.23", "1.52"):
            c.version = version
            c.call("GET", "/info", more=(400,))
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
