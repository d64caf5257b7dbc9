#!/usr/bin/env python3
"""./dev test docker: user interfaces made for docker, driven on Gantry's Docker door, and what they call.

    lazydocker  a terminal interface: its panels are walked through and its keys pressed on a pseudo terminal
    isaiah      a web interface: a browser's WebSocket commands are sent to its server

Neither comes from a package index: GANTRY_LAZYDOCKER and GANTRY_ISAIAH name programs that were built from their sources; else they are left out.

Both reach the door through a proxy here, which writes down each call with its answer's status. With UI_TRACE=FILE the calls are kept in the
form of docker/ui_trace.list, which docker_trace_test.py plays in CI. The last line is "N passed, N failed, N left out".

Environment: GANTRY_BIN (built programs, default out/bin), GANTRY_LAZYDOCKER, GANTRY_ISAIAH, UI_TRACE, UI_VERBOSE.
"""
import base64
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
for directory in ("bench", "."):
    sys.path.insert(0, os.path.join(HERE, directory))
from peers import Daemon, enter_namespaces, install, make_state, mount_free_controllers, unmount_below  # noqa: E402
from parity import make_busybox  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
IMAGE = "bb:1"


class Proxy:
    """Between a client and the door: a request a connection, written down with its status."""

    def __init__(self, path, door):
        self.door, self.calls, self.lock, self.who = door, [], threading.Lock(), ""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(100)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.one, args=(client,), daemon=True).start()

    @staticmethod
    def head(client):
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return None, b""
            data += part
        head, _, rest = data.partition(b"\r\n\r\n")
        return head.decode("latin-1").split("\r\n"), rest

    def one(self, client):
        lines, rest = self.head(client)
        if lines is None:
            client.close()
            return
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = rest
        if "content-length" in fields:
            while len(body) < int(fields["content-length"]):
                body += client.recv(65536)
        elif fields.get("transfer-encoding", "") == "chunked":
            while not body.endswith(b"0\r\n\r\n"):
                body += client.recv(65536)
        door = socket.socket(socket.AF_UNIX)
        door.connect(self.door)
        kept = [line for line in lines if "upgrade" in fields or not line.lower().startswith("connection:")]
        if "upgrade" not in fields:
            kept.insert(1, "Connection: close")
        door.sendall("\r\n".join(kept).encode("latin-1") + b"\r\n\r\n" + body)
        method, target, _ = lines[0].split(" ")
        call = {"who": self.who, "method": method, "target": target, "upgrade": fields.get("upgrade", ""), "status": 0,
                "body": body.decode("utf-8", "replace") if fields.get("content-type", "").startswith("application/json") else ""}
        with self.lock:
            self.calls.append(call)
        first = door.recv(65536)
        if first.startswith(b"HTTP/1.1 "):
            call["status"] = int(first[9:12])
        try:
            client.sendall(first)
            sockets = [client, door]
            while sockets:
                for one in select.select(sockets, [], [])[0]:
                    data = one.recv(65536)
                    other = door if one is client else client
                    if data:
                        other.sendall(data)
                    else:
                        sockets.remove(one)
                        other.shutdown(socket.SHUT_WR)
                        if one is door:
                            return
        except OSError:
            pass
        finally:
            client.close()
            door.close()


class Screen:
    """A program on a terminal: what it has written since the last look, without the sequences that move the cursor."""

    def __init__(self, argv, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        self.text = ""

    def read(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    break
                self.text += re.sub(r"\x1b(\[[0-9;?<>]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])", "", data.decode("utf-8", "replace"))
        return self.text

    def wait(self, word, seconds=20):
        deadline = time.monotonic() + seconds
        while word not in self.read(0.3):
            if time.monotonic() > deadline:
                raise AssertionError("%r is not shown: %r" % (word, self.text[-1500:]))
        return True

    def keys(self, text, seconds=0.8):
        os.write(self.fd, text.encode())
        self.read(seconds)

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except OSError:
            pass
        os.close(self.fd)


class WebSocket:
    """The browser's end."""

    def __init__(self, port):
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(("GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n" % (port, port, key)).encode())
        self.data = b""
        while b"\r\n\r\n" not in self.data:
            part = self.socket.recv(65536)
            if not part:
                raise AssertionError("no WebSocket: %r" % self.data[:200])
            self.data += part
        assert b" 101 " in self.data.split(b"\r\n")[0], self.data[:200]
        self.data = self.data.partition(b"\r\n\r\n")[2]

    def send(self, document):
        data = json.dumps(document).encode()
        mask = os.urandom(4)
        head = bytes([0x81]) + (bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data)))
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def messages(self, seconds):
        """Documents that come within that time."""
        out, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self.socket], [], [], 0.1)[0]:
                part = self.socket.recv(1 << 20)
                if not part:
                    break
                self.data += part
            while len(self.data) >= 2:
                size, at = self.data[1] & 127, 2
                if size == 126 and len(self.data) >= 4:
                    size, at = struct.unpack(">H", self.data[2:4])[0], 4
                elif size == 127 and len(self.data) >= 10:
                    size, at = struct.unpack(">Q", self.data[2:10])[0], 10
                if len(self.data) < at + size:
                    break
                if self.data[0] & 15 in (1, 2):
                    out.append(json.loads(self.data[at:at + size]))
                self.data = self.data[at + size:]
        return out


def lazydocker(program, env, docker):
    docker("run", "-d", "--name", "lazy", "--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=web", IMAGE, "sh", "-c",
           "while :; do echo a line for the panel; sleep 1; done")
    screen = Screen([program], env)
    try:
        screen.wait("lazy")
        screen.wait("a line for the panel")
        # The tabs of a container: logs, stats, environment, configuration, top.
        for _ in range(5):
            screen.keys("]", 1.2)
        # The panels: images with their history, volumes, networks.
        for panel in "3456123":
            screen.keys(panel, 1)
        screen.wait(IMAGE.split(":")[0])
        # On the containers again: stop, start again, pause.
        screen.keys("2")
        screen.keys("r", 3)
        screen.keys("s", 1)
        screen.keys("\r", 4)
        until(lambda: docker("inspect", "-f", "{{.State.Status}}", "lazy").strip() == "exited", "lazydocker did not stop the container")
        screen.keys("d", 1)
        screen.keys("\r", 3)
        until(lambda: "lazy" not in docker("ps", "-a", "--format", "{{.Names}}").split(), "lazydocker did not remove the container")
        screen.keys("q", 1)
    finally:
        screen.end()
        docker("rm", "-f", "lazy", code=None)


def isaiah(program, env, docker):
    docker("run", "-d", "--name", "isa", "-p", "8099:80", "-v", "isadata:/data", IMAGE, "sh", "-c", "while :; do echo a line for the page; sleep 1; done")
    docker("network", "create", "isanet")
    place = tempfile.mkdtemp(dir="/tmp")
    environment = dict(env, SERVER_PORT="3999", AUTHENTICATION_ENABLED="FALSE", SKIP_VERIFICATIONS="TRUE", SERVER_ROLE="Master")
    server = subprocess.Popen([program], cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = WebSocket(3999)

        def ask(action, seconds=2.0, wanted="", **args):
            page.send({"action": action, "args": args, "host": ""})
            text, deadline = "", time.monotonic() + 15
            while True:
                text += json.dumps(page.messages(seconds if not wanted else 0.5))
                if not wanted or wanted in text:
                    return text
                if time.monotonic() > deadline:
                    raise AssertionError("%s: %r is not in %s" % (action, wanted, text[-1500:]))

        listed = ask("init", wanted="isanet")
        for word in ("isa", "isadata", IMAGE.split(":")[0]):
            assert word in listed, listed[-1500:]
        id = docker("inspect", "-f", "{{.Id}}", "isa").strip()
        image = docker("inspect", "-f", "{{.Image}}", "isa").strip()
        network = docker("network", "inspect", "-f", "{{.Id}}", "isanet").strip()
        container = {"ID": id, "Name": "isa", "State": "running", "Image": IMAGE}
        ask("overview")
        for tab in ("containers", "images", "volumes", "networks"):
            ask(tab + ".list")
        ask("container.inspect.logs", wanted="a line for the page", Resource=container, showTimestamps=False)
        ask("clear", 1)
        ask("container.inspect.stats", wanted="Inspector", Resource=container)
        ask("container.inspect.env", wanted="PATH", Resource=container)
        ask("container.inspect.config", wanted="Inspector", Resource=container)
        ask("container.inspect.top", wanted="sleep", Resource=container)
        ask("container.browser", Resource=container)
        ask("container.rename", Resource=container, Name="isa2", wanted="renamed")
        ask("container.pause", Resource=dict(container, Name="isa2"), wanted="paused")
        until(lambda: docker("inspect", "-f", "{{.State.Status}}", "isa2").strip() == "paused", "not paused")
        ask("container.pause", Resource=dict(container, Name="isa2", State="paused"), wanted="unpaused")
        ask("container.restart", 12, Resource=container)
        until(lambda: docker("inspect", "-f", "{{.State.Status}}", "isa2").strip() == "running", "not running after the restart")
        ask("container.shell", 2, Resource=container)
        ask("image.inspect.config", wanted="Inspector", Resource={"ID": image, "Name": "bb", "Version": "1"})
        ask("volume.inspect.config", wanted="Inspector", Resource={"Name": "isadata"})
        ask("network.inspect.config", wanted="Inspector", Resource={"ID": network, "Name": "isanet"})
        ask("network.remove.default", Resource={"ID": network, "Name": "isanet"}, wanted="removed")
        ask("container.stop", 12, Resource=container)
        ask("container.remove.force.volumes", Resource=container, wanted="removed")
        ask("volume.remove.default", Resource={"Name": "isadata"}, wanted="removed")
        for prune in ("containers.prune", "images.prune", "volumes.prune", "networks.prune"):
            ask(prune)
        left = docker("ps", "-a", "--format", "{{.Names}}").split()
        assert not left, left
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(place, ignore_errors=True)
        docker("rm", "-f", "isa", "isa2", code=None)


def until(condition, what):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(what)
        time.sleep(0.2)


def keep(calls, path):
    """One line a call, of those that only read each kind once; what has a name of its own in each run is written as a word in braces."""
    seen, lines = set(), []
    for call in calls:
        target = re.sub(r"[0-9a-f]{64}", "{id}", call["target"])
        target = re.sub(r"/exec/[^/]+", "/exec/{exec}", target)
        target = re.sub(r"(since|until)=[0-9.]+", r"\1=1", target)
        line = (call["who"], call["method"], target, call["status"], call["upgrade"] or "-", call["body"].strip() if len(call["body"]) < 200 else "")
        if call["method"] not in ("GET", "HEAD") or line[:5] not in seen:
            seen.add(line[:5])
            lines.append(" ".join(str(part) for part in line).strip())
    with open(path, "w") as out:
        out.write("# What user interfaces call, as docker_ui.py recorded it: WHO METHOD TARGET STATUS UPGRADE [BODY]\n")
        out.write("".join(line + "\n" for line in lines))


def main():
    enter_namespaces()
    work = tempfile.mkdtemp(prefix="gantry-ui.", dir="/tmp")
    passed, failed, left, daemon = 0, 0, 0, None
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        sock, address, seen = state + "/docker.sock", state + "/gantry.sock", state + "/seen.sock"
        ctl = [programs + "/ctl", "--address", address]
        daemon = Daemon([programs + "/gantryd", "--root", work + "/root", "--state", state + "/gantry", "--address", address, "--docker-address", sock,
                         "--shim", programs + "/gantry-shim"], ctl + ["version"], work + "/gantryd.log")
        daemon.start()
        subprocess.run(ctl + ["load", "-i", archive], check=True, stdout=subprocess.DEVNULL)
        proxy = Proxy(seen, sock)

        def docker(*argv, code=0):
            done = subprocess.run(["docker"] + list(argv), env=dict(os.environ, DOCKER_HOST="unix://" + sock), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True, timeout=60)
            if code is not None and done.returncode != code:
                raise AssertionError("docker %s: %s" % (" ".join(argv), done.stderr))
            return done.stdout

        for name, drive in (("lazydocker", lazydocker), ("isaiah", isaiah)):
            program = os.environ.get("GANTRY_" + name.upper(), "")
            if not program or shutil.which("docker") is None:
                print("left out: %s: no such program, or no docker" % name)
                left += 1
                continue
            proxy.who = name
            home = work + "/home-" + name
            os.makedirs(home)
            env = dict(os.environ, DOCKER_HOST="unix://" + seen, HOME=home, CONFIG_DIR=home, TERM="xterm-256color")
            try:
                drive(program, env, docker)
                bad = sorted({(c["method"], c["target"], c["status"]) for c in proxy.calls if c["who"] == name and c["status"] >= 500})
                assert not bad, bad
                passed += 1
                print("passed: %s: %d calls" % (name, sum(c["who"] == name for c in proxy.calls)), flush=True)
            except Exception:
                failed += 1
                print("FAILED: %s" % name)
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
        if os.environ.get("UI_VERBOSE"):
            for call in proxy.calls:
                print(call["who"], call["method"], call["target"], call["status"])
        if os.environ.get("UI_TRACE"):
            keep(proxy.calls, os.environ["UI_TRACE"])
        ids = subprocess.run(ctl + ["ps", "-aq"], stdout=subprocess.PIPE, text=True).stdout.split()
        if ids:
            subprocess.run(ctl + ["rm", "-f"] + ids, stdout=subprocess.DEVNULL)
    finally:
        if daemon is not None:
            daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    print("%d passed, %d failed, %d left out" % (passed, failed, left))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
