#!/usr/bin/env python3
"""Traces from end to end: ctl, daemon and shim, at a collector that this test is.

    trace_test.py BIN      BIN: the directory of the built programs

Runs in the namespaces and with the daemon of docs_test.py. The last line is "N passed, N failed".
"""
import http.server
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import docs_test

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP in JSON; `spans` grows."""

    def __init__(self):
        collector = self
        self.lock = threading.Lock()
        self.spans = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(self.path, self.headers["Content-Type"], json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = "http://127.0.0.1:%d" % self.server.server_port

    def take(self, path, kind, body):
        assert (path, kind) == ("/v1/traces", "application/json"), (path, kind)
        with self.lock:
            for resource in body["resourceSpans"]:
                service = next(a["value"]["stringValue"] for a in resource["resource"]["attributes"] if a["key"] == "service.name")
                for scope in resource["scopeSpans"]:
                    self.spans += [dict(span, service=service) for span in scope["spans"]]

    def wait(self, wanted, seconds=30):
        """The spans, once wanted(spans) holds; else those there are."""
        deadline = time.monotonic() + seconds
        while True:
            with self.lock:
                if wanted(self.spans) or time.monotonic() > deadline:
                    return list(self.spans)
            time.sleep(0.05)


def traced_run(collector, world, results):
    world.run_with({"TRACEPARENT": PARENT}, "ctl", "run", "--rm", "busybox", "true")
    # The shim makes and starts the container in one call.
    spans = collector.wait(lambda all: "shim Create and Start" in {s["name"] for s in all if s["service"] == "gantry-shim"} and
                           any(s["name"] == "ctl run" for s in all) and any(s["name"].endswith("Containers/Run") for s in all))
    where = "ctl run --rm"
    mine = [s for s in spans if s["traceId"] == PARENT[3:35]]
    by_id = {s["spanId"]: s for s in mine}
    command = next((s for s in mine if s["name"] == "ctl run"), None)
    results.one(command is not None and command["parentSpanId"] == PARENT[36:52], where, "ctl's span is below TRACEPARENT", str(spans))
    call = next((s for s in mine if s["name"] == "gantry.v1.Containers/Run"), None)
    results.one(call is not None and command is not None and call["parentSpanId"] == command["spanId"], where,
                "the daemon's span is below ctl's", str(mine))
    shim = [s for s in mine if s["service"] == "gantry-shim"]
    results.one("shim Create and Start" in {s["name"] for s in shim}, where, "the shim's span is there, the start in it", str(mine))
    for span in shim:
        client = by_id.get(span["parentSpanId"])
        chain = client and by_id.get(client["parentSpanId"])
        results.one(client is not None and client["kind"] == 3 and chain is not None and chain["service"] == "gantryd", where,
                    "%s is below the daemon's call" % span["name"], str(mine))
        results.one(client is not None and int(client["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]) <=
                    int(span["endTimeUnixNano"]) <= int(client["endTimeUnixNano"]), where, "%s lies within it" % span["name"], str(mine))


def failed_command(collector, world, results):
    world.run_with({}, "ctl", "inspect", "nobody", check=False)
    spans = collector.wait(lambda all: any(s["name"] == "ctl inspect" for s in all))
    span = next((s for s in spans if s["name"] == "ctl inspect"), {})
    results.one(span.get("status", {}).get("code") == 2, "ctl inspect nobody", "the span says that it failed", str(spans))


def docker_door(collector, world, results):
    request = "GET /v1.41/containers/json HTTP/1.0\r\nHost: d\r\ntraceparent: %s\r\n\r\n" % PARENT
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/gantry/docker.sock")
        client.sendall(request.encode())
        while client.recv(65536):
            pass
    spans = collector.wait(lambda all: any(s["name"] == "GET /containers/json" for s in all))
    span = next((s for s in spans if s["name"] == "GET /containers/json"), {})
    results.one(span.get("parentSpanId") == PARENT[36:52], "docker's door", "a request has a span below its traceparent", str(spans))


def silent_collector(world, results):
    """ctl is done soon after its work, whatever the collector does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        begin = time.monotonic()
        world.run_with({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:%d" % listener.getsockname()[1]}, "ctl", "version")
        results.one(time.monotonic() - begin < 30, "a collector that hangs", "ctl ends")
    world.run_with({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "ctl", "version")
    said = world.run_with({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://c"}, "ctl", "version").stderr
    results.one("OTEL_EXPORTER_OTLP_ENDPOINT" in said, "a URL that cannot be used", "is named", said)


def fields(message):
    """(number, value) of each field of a protobuf message; a value is a number or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7f) << shift, shift + 7
            if byte < 0x80:
                return value
    while at < len(message):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        elif tag & 7 == 1:
            yield tag >> 3, int.from_bytes(message[at:at + 8], "little")
            at += 8
        else:
            size = varint()
            yield tag >> 3, message[at:at + size]
            at += size


def within_tls(world, results):
    """Protobuf, which is what is sent unless JSON is asked for, to a collector with a certificate of its own."""
    where = "an https:// collector"
    taken = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            taken.append((self.headers["Content-Type"], self.headers["api-key"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory + "/key", "-out", directory + "/cert"],
                       check=True, stderr=subprocess.DEVNULL)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory + "/cert", directory + "/key")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:%d" % server.server_port, "OTEL_EXPORTER_OTLP_PROTOCOL": "",
                     "OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret"}
        done = world.run_with(variables, "ctl", "version")
        results.one(done.returncode == 0 and not taken, where, "with a certificate that nobody vouches for gets no span", str(taken))
        world.run_with(dict(variables, OTEL_EXPORTER_OTLP_CERTIFICATE=directory + "/cert"), "ctl", "version")
        server.shutdown()
    results.one(len(taken) == 1 and taken[0][:2] == ("application/x-protobuf", "secret"), where, "gets the span of one that it trusts, with headers",
                str(taken))
    if taken:
        resource_spans = dict(fields(dict(fields(taken[0][2]))[1]))
        span = dict(fields(dict(fields(resource_spans[2]))[2]))
        results.one(span[5] == b"ctl version" and len(span[1]) == 16 and span[8] >= span[7], where, "the span is readable", str(span))


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=dict(os.environ, GANTRY_DOCS_INSIDE="1")).returncode
    results = docs_test.Results()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    collector = Collector()
    world = docs_test.World(pathlib.Path(sys.argv[1]).resolve(), {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, registry=False)
    try:
        traced_run(collector, world, results)
        failed_command(collector, world, results)
        docker_door(collector, world, results)
        silent_collector(world, results)
        within_tls(world, results)
    finally:
        world.end(results.failed)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
