#!/usr/bin/env python3
"""Builds Dockerfiles with Gantry and with Debian's dockerd, and compares what comes out.

Usage: build_conformance.py BIN [CASE...]        BIN has supervisor/gantryd, shim/gantry-shim and ctl/ctl

Each case is built by `ctl build`, by `docker build` (classic) on Gantry's Docker door, and by the classic builder of a dockerd
of its own. Compared are the configuration and the file tree: path, kind, mode, owner, link, size and content. Times, history
and the number of layers differ by design. Everything runs in a mount and network namespace of its own; nothing is left behind.
Needs root, docker.io and busybox-static. The last line is "N passed, N failed".
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

CASES = {
    "environment": {
        "Dockerfile": "FROM base\nENV A=1 B=\"two words\" C='$A'\nENV A=2 D=$A E=${X:-x} F=${A:+y}\nENV G a  b\n"
                      "RUN echo \"$A $B $C $D $E $F $G\" > /out\n",
    },
    "arguments": {
        "Dockerfile": "ARG BASE=base\nFROM $BASE\nARG V=1\nARG W\nRUN echo \"$V $W\" > /out\nLABEL v=$V\n",
        "args": ["--build-arg", "W=given"],
    },
    "metadata": {
        "Dockerfile": "FROM base\nLABEL a=1 \"b c\"=\"d e\"\nEXPOSE 80 81/udp 90-92\nVOLUME /v [\"/w\"]\nVOLUME [\"/x\", \"/y\"]\n"
                      "USER 7:8\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/sh\", \"-ec\"]\nENTRYPOINT [\"a\"]\nCMD b c\n"
                      "HEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN x\nMAINTAINER me\n",
    },
    "entrypoint-drops-cmd": {"Dockerfile": "FROM base\nENTRYPOINT [\"e\"]\n"},
    "workdir": {"Dockerfile": "FROM base\nWORKDIR /a/b\nWORKDIR c\nWORKDIR ../d\nRUN pwd > out\n"},
    "run-changes": {
        "Dockerfile": "FROM base\nRUN mkdir -p /d/e && echo 1 > /d/f && ln -s f /d/l && ln /d/f /d/h\n"
                      "RUN rm /d/h && chmod 4711 /d/f && chown 5:6 /d/e\nRUN mv /d /e && mkdir /d && rm -r /e/e\n",
    },
    "run-exec-form": {"Dockerfile": "FROM base\nRUN [\"/bin/sh\", \"-c\", \"echo exec > /out\"]\n"},
    "copy-file": {"Dockerfile": "FROM base\nCOPY f /x\nCOPY f /y/\nCOPY f z/deep/er\n", "f": "content\n"},
    "copy-directory": {"Dockerfile": "FROM base\nCOPY d /x\nCOPY d/ /y/\nCOPY d/s /x/\n", "d/f": "f\n", "d/s/g": "g\n"},
    "copy-wildcards": {"Dockerfile": "FROM base\nCOPY *.txt [bc]* /x/\n", "a.txt": "a", "b.txt": "b", "c": "c", "d": "d"},
    "copy-links": {"Dockerfile": "FROM base\nCOPY d /x\n", "d/f": "f\n", "d/l": "-> f", "d/broken": "-> nowhere"},
    "copy-modes": {"Dockerfile": "FROM base\nCOPY . /x\n", "run": "!#!/bin/sh\n", "plain": "p"},
    "copy-chown": {"Dockerfile": "FROM base\nCOPY --chown=7:8 d /x\nCOPY --chown=3:3 d/f /y\n", "d/f": "f\n"},
    "copy-dot": {"Dockerfile": "FROM base\nWORKDIR /w\nCOPY . .\n", "a": "a", "sub/b": "b"},
    "copy-over": {"Dockerfile": "FROM base\nRUN mkdir -m 700 /x && echo old > /x/f\nCOPY d /x\n", "d/f": "new\n"},
    "ignored": {"Dockerfile": "FROM base\nCOPY . /x\n", ".dockerignore": "*\n!keep\nkeep/*.o\n", "keep/a.c": "a",
                "keep/a.o": "o", "other": "x"},
    "add-archive": {"Dockerfile": "FROM base\nADD a.tar /x\nADD a.tar.gz /y/\n", "a.tar": "tar:", "a.tar.gz": "tar:gz"},
    "stages": {
        "Dockerfile": "FROM base AS one\nRUN echo 1 > /made\nFROM base AS two\nCOPY --from=one /made /from-one\n"
                      "FROM scratch\nCOPY --from=two /from-one /\nCOPY --from=0 /made /made\nCMD [\"/x\"]\n",
    },
    "stage-target": {"Dockerfile": "FROM base AS a\nRUN echo a > /a\nFROM a AS b\nRUN echo b > /b\nFROM b\nRUN exit 1\n",
                     "args": ["--target", "b"]},
    "onbuild": {"Dockerfile": "FROM trigger\nRUN cat /f > /g\n", "f": "f\n"},
    "comments": {"Dockerfile": "# escape=`\nFROM base\n# note\nRUN echo a `\n  # inside\n  b > /out\n"},
    "named-file": {"Dockerfile": "FROM base\nRUN exit 1\n", "other/File": "FROM base\nRUN echo right > /out\n",
                   "args": ["-f", "@/other/File"]},
    "scratch": {"Dockerfile": "FROM scratch\nENV A=1\nCOPY f /\n", "f": "f\n"},
}
# Of a configuration, what both builders have to agree on.
COMPARED = ["User", "ExposedPorts", "Env", "Cmd", "Entrypoint", "Volumes", "WorkingDir", "Labels", "StopSignal", "OnBuild",
            "Shell", "Healthcheck"]


def run(argv, env=None, data=None, check=True):
    done = subprocess.run(argv, env=env, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if check and done.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (" ".join(argv), done.returncode, text))
    return text


def flatten(archive):
    """Configuration and tree of the image in what `save` wrote."""
    tree = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        config = json.load(outer.extractfile(manifest["Config"]))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                apply(inner, tree)
    return config, tree


def apply(layer, tree):
    for entry in layer:
        path = os.path.normpath("/" + entry.name)
        folder, name = os.path.split(path)
        if name == ".wh..wh..opq":
            for one in [p for p in tree if p.startswith(folder + "/")]:
                del tree[one]
            continue
        if name.startswith(".wh."):
            gone = os.path.join(folder, name[4:])
            for one in [p for p in tree if p == gone or p.startswith(gone + "/")]:
                del tree[one]
            continue
        if path == "/":
            continue
        if entry.islnk():
            tree[path] = tree[os.path.normpath("/" + entry.linkname)]
            continue
        kind = entry.type.decode()
        content = ""
        if entry.isfile():
            content = hashlib.sha256(layer.extractfile(entry).read()).hexdigest()
        if not entry.isdir():
            for one in [p for p in tree if p.startswith(path + "/")]:
                del tree[one]
        tree[path] = (kind, oct(entry.mode & 0o7777), entry.uid, entry.gid, entry.linkname, content)


def normal(config):
    out = {}
    for key in COMPARED:
        value = config.get("config", {}).get(key)
        if key == "WorkingDir" and value == "/":
            value = None  # BuildKit writes it into an image from scratch
        out[key] = value or None
    return out


class Place:
    def __init__(self, programs):
        self.bin = programs
        self.base = tempfile.mkdtemp(prefix="gantry-build-")
        self.processes = []
        os.makedirs(self.base + "/client")

    def start(self, argv, log):
        process = subprocess.Popen(argv, stdout=open(self.base + "/" + log, "wb"), stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["umount", "-R", "-l", self.base], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)

    def gantry(self):
        config = self.base + "/config.toml"
        with open(config, "w") as out:
            out.write("[network]\ndefault = \"none\"\n")
        self.address = self.base + "/gantry.sock"
        self.start([self.bin + "/supervisor/gantryd", "--config", config, "--root", self.base + "/root", "--state",
                    self.base + "/state", "--address", self.address, "--docker-address", self.base + "/gantry-docker.sock"],
                   "gantryd.log")
        wait(self.address)

    def dockerd(self):
        docker = self.base + "/docker"
        self.docker_socket = docker + ".sock"
        self.start(["/usr/sbin/dockerd", "--data-root", docker, "--exec-root", docker + "-exec", "--pidfile", docker + ".pid",
                    "-H", "unix://" + self.docker_socket, "--bridge", "none", "--iptables=false", "--ip6tables=false"],
                   "dockerd.log")
        wait(self.docker_socket)

    def ctl(self, *args, **more):
        return run([self.bin + "/ctl/ctl", "--address", self.address, *args], **more)

    def docker(self, socket, *args, **more):
        env = dict(os.environ, DOCKER_HOST="unix://" + socket, DOCKER_BUILDKIT="0", DOCKER_CONFIG=self.base + "/client")
        return run(["/usr/bin/docker", *args], env=env, **more)


def wait(socket):
    for _ in range(600):
        if os.path.exists(socket):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise RuntimeError(socket + " does not appear")


def write_context(directory, case):
    for path, text in case.items():
        if path == "args":
            continue
        whole = os.path.join(directory, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if text.startswith("-> "):
            os.symlink(text[3:], whole)
        elif text.startswith("tar:"):
            with tarfile.open(whole, "w:" + text[4:]) as archive:
                for name, content in (("in/one", b"1"), ("two", b"22")):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    info.mode = 0o640
                    info.uid, info.gid = 3, 4
                    import io
                    archive.addfile(info, io.BytesIO(content))
        else:
            with open(whole, "w") as out:
                out.write(text.lstrip("!"))
            os.chmod(whole, 0o755 if text.startswith("!") else 0o644)


def differences(expected, got):
    lines = []
    for key in COMPARED:
        if expected[0][key] != got[0][key]:
            lines.append("  config %s: dockerd %r, gantry %r" % (key, expected[0][key], got[0][key]))
    for path in sorted(set(expected[1]) | set(got[1])):
        if expected[1].get(path) != got[1].get(path):
            lines.append("  %s: dockerd %r, gantry %r" % (path, expected[1].get(path), got[1].get(path)))
    return lines


def build_all(place, name, case):
    directory = "%s/context-%s" % (place.base, name)
    os.makedirs(directory)
    write_context(directory, case)
    args = [a.replace("@", directory) for a in case.get("args", [])]
    archive = place.base + "/saved.tar"

    def saved(save):
        save()
        config, tree = flatten(archive)
        os.unlink(archive)
        return normal(config), tree

    place.docker(place.docker_socket, "build", "-t", "made", *args, directory)
    expected = saved(lambda: place.docker(place.docker_socket, "save", "-o", archive, "made"))
    failures = []
    place.ctl("build", "--progress", "plain", "-t", "made", *args, directory)
    failures += differences(expected, saved(lambda: place.ctl("save", "-o", archive, "made")))
    socket = place.base + "/gantry-docker.sock"
    text = place.docker(socket, "build", "-t", "made2", *args, directory)
    if "Successfully built" not in text:
        failures.append("  docker build on the Docker door printed no image:\n" + text)
    failures += differences(expected, saved(lambda: place.ctl("save", "-o", archive, "made2")))
    return failures


def main():
    if os.environ.get("GANTRY_BUILD_UNSHARED") != "1":
        os.environ["GANTRY_BUILD_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "-n", "-m", "--propagation", "private", sys.executable, *sys.argv])
    run(["ip", "link", "set", "lo", "up"])
    place = Place(os.path.abspath(sys.argv[1]))
    wanted = sys.argv[2:] or list(CASES)
    passed = failed = 0
    try:
        place.gantry()
        place.dockerd()
        root = place.base + "/busybox"
        os.makedirs(root + "/bin")
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        for applet in run([root + "/bin/busybox", "--list"]).split():
            if applet != "busybox":
                os.symlink("busybox", root + "/bin/" + applet)
        os.makedirs(root + "/etc")
        with open(root + "/etc/passwd", "w") as out:
            out.write("root:x:0:0:root:/:/bin/sh\n")
        with open(root + "/etc/group", "w") as out:
            out.write("root:x:0:\n")
        os.makedirs(root + "/tmp", 0o1777)
        base = place.base + "/base.tar"
        run(["tar", "-C", root, "-cf", base, "."])
        with open(base, "rb") as data:
            content = data.read()
        place.docker(place.docker_socket, "import", "-", "base", data=content)
        place.docker(place.docker_socket, "build", "-t", "trigger", "-", data=b"FROM base\nONBUILD COPY f /f\n")
        for image in ("base", "trigger"):
            place.docker(place.docker_socket, "save", "-o", place.base + "/image.tar", image)
            place.ctl("load", "-i", place.base + "/image.tar")
        for name in wanted:
            try:
                problems = build_all(place, name, CASES[name])
            except RuntimeError as error:
                problems = ["  " + str(error)]
            if problems:
                failed += 1
                print("FAILED %s\n%s" % (name, "\n".join(problems)), flush=True)
            else:
                passed += 1
                print("ok %s" % name, flush=True)
    finally:
        place.stop()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
