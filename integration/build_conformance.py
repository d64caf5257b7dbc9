#!/usr/bin/env python3
"""Builds Dockerfiles with Gantry, with Debian's dockerd and with buildkitd, and compares what comes out.

Usage: build_conformance.py BIN [CASE...]        BIN has supervisor/gantryd, shim/gantry-shim and ctl/ctl

Each case is built by `ctl build`, by `docker build` (classic) on Gantry's Docker door, and by the classic builder of a dockerd
of its own; where go_client.sh has built buildkitd and buildctl, also by these. Compared are the configuration and the file tree:
path, kind, mode, owner, link, extended attributes, size and content; beside buildkitd the history texts, too. Times and the
number of layers differ by design. Everything runs in a mount and network namespace of its own; nothing is left behind.
Needs root, docker.io, busybox-static and runc. The last line is "N passed, N failed".
"""
import glob
import hashlib
import io
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
    "attributes": {"Dockerfile": "FROM base\nCOPY d /d\nCOPY d/tool /usr/bin/\n", "d/tool": "!cap:#!/bin/sh\n", "d/plain": "p"},
    "copy-link": {"Dockerfile": "FROM base\nRUN mkdir /real && ln -s real /alias\nCOPY --link d/f /alias/f\nCOPY --link d /x/\n",
                  "d/f": "f\n", "d/g": "!g\n", "only": "buildkit"},
    "copy-parents": {"Dockerfile": "FROM base\nCOPY --parents d/./s/g d/s/h /x/\nCOPY --exclude=s d /y\n", "d/f": "f\n",
                     "d/s/g": "g\n", "d/s/h": "h\n", "only": "buildkit"},
    "heredocs": {"Dockerfile": "FROM base\nENV N=1\nCOPY <<A <<'B' /d/\n$N \"$N\" \\$N\nA\n$N\nB\nRUN <<E\necho $N > /one\n"
                               "echo two > /two\nE\n", "only": "buildkit"},
    "workdir-user": {"Dockerfile": "FROM base\nUSER 7\nWORKDIR /w/x\nRUN id -u > u\n", "only": "buildkit"},
    "fragments-variables": {
        "Dockerfile": "FROM base\nENV A=0\nENV A=1 B=$A\nENV X a  \"b c\"\nENV C=\"x y\" D=x\\ y E='$A'\nENV F=a.tar.gz\n"
                      "WORKDIR /${F%%.*}/${F#*.}/${F//a/b}\nLABEL l=\"$B $X\"\nEXPOSE 80 443/UDP 9000-9001\n", "only": "buildkit"},
    "fragments-args": {"Dockerfile": "ARG V=1\nFROM base\nRUN echo $V > /a\nARG V\nRUN echo $V > /b\n", "only": "buildkit"},
    "fragments-heredocs": {
        "Dockerfile": "FROM base\nENV N=1\nCOPY <<E /f\n$N \"$N\" \\$N a\\tb\nE\nCOPY <<'E' /g\n$N \\n\nE\nCOPY <<-E /h\n\t\tx\n\tE\n"
                      "COPY <<X <<Y /d/\nY\nX\nX\nY\nRUN <<E\n#!/bin/sh\necho hi > /i\nE\nRUN cat <<E >/j\n$PATH\nE\n", "only": "buildkit"},
    "copy-nothing": {"Dockerfile": "FROM base\nCOPY *.none /x/\nCOPY l /y/\nCOPY d /z\n", "f": "f\n", "l": "-> f", "d/f": "f\n", "only": "buildkit"},
    "copy-chmod": {"Dockerfile": "FROM base\nCOPY --chmod=u=rwX,go=rX d /d\nCOPY --chmod=0600 d/f /f\nADD --chown=3:4 --chmod=755 d/f /n/g\n",
                   "d/f": "!f\n", "d/s/g": "g\n", "only": "buildkit"},
    "copy-users": {"Dockerfile": "FROM base\nRUN echo app:x:5:6::/:/bin/sh >> /etc/passwd && echo grp:x:9: >> /etc/group\nCOPY --chown=app f /a\n"
                                 "COPY --chown=app:grp d /n/d\nCOPY --chown=:grp f /b\nUSER app\nWORKDIR /home/x\nRUN touch y\n",
                   "f": "f\n", "d/f": "f\n", "only": "buildkit"},
    "mounts": {
        "Dockerfile": "FROM base AS other\nRUN echo o > /o\nFROM base\nRUN --mount=type=bind,target=/src cat /src/f > /a\n"
                      "RUN --mount=from=other,source=/o,target=/m/o cat /m/o > /b\nRUN --mount=type=cache,target=/c/d touch /c/d/x\n"
                      "RUN --mount=type=tmpfs,target=/t touch /t/x\nRUN --mount=type=secret,id=none,target=/s/t true\n", "f": "f\n", "only": "buildkit"},
    "add-archive-flags": {"Dockerfile": "FROM base\nADD --unpack=false a.tar /x/\nADD --chown=7:8 a.tar /y\nADD a.tar d /z/\n", "a.tar": "tar:",
                          "d/f": "f\n", "only": "buildkit"},
    "args-after-env": {"Dockerfile": "FROM base\nENV X=e\nARG X=a\nARG A=1 B=$A\nRUN echo \"$X $B\" > /out\n", "only": "buildkit"},
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
        attributes = tuple(sorted((key, value) for key, value in entry.pax_headers.items() if key.startswith("SCHILY.xattr.")))
        if not entry.isdir():
            for one in [p for p in tree if p.startswith(path + "/")]:
                del tree[one]
        tree[path] = (kind, oct(entry.mode & 0o7777), entry.uid, entry.gid, entry.linkname, content, attributes)


def histories(config):
    """The texts of the instructions, without those of the base."""
    # That of HEALTHCHECK has changed since this buildkitd.
    return [entry.get("created_by", "").split("&{")[0].split("{Test")[0]
            for entry in config.get("history", []) if entry.get("comment") == "buildkit.dockerfile.v0"]


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

    def buildkitd(self):
        """False where there is none."""
        cache = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")) + "/gantry"
        found = sorted(glob.glob(cache + "/buildkitd-*/buildkitd")), sorted(glob.glob(cache + "/buildctl-*/buildctl"))
        if not all(found):
            return False
        address = "unix://" + self.base + "/buildkit.sock"
        self.start([found[0][-1], "--root", self.base + "/buildkit", "--addr", address, "--containerd-worker=false", "--oci-worker-binary",
                    "runc", "--oci-worker-snapshotter", "overlayfs"], "buildkitd.log")
        wait(self.base + "/buildkit.sock")
        self.buildctl = [found[1][-1], "--addr", address]
        # The bases, as OCI layouts.
        self.layouts = []
        for name in ("base", "trigger"):
            layout = self.base + "/layout-" + name
            os.makedirs(layout)
            self.ctl("save", "-o", self.base + "/layout.tar", name)
            run(["tar", "-C", layout, "-xf", self.base + "/layout.tar"])
            with open(layout + "/index.json") as index:
                digest = json.load(index)["manifests"][0]["digest"]
            self.layouts += ["--oci-layout", name + "=" + layout, "--opt", "context:%s=oci-layout://%s@%s" % (name, name, digest)]
        return True

    def by_buildkitd(self, directory, case, archive):
        argv = self.buildctl + ["build", "--progress", "plain", "--frontend", "dockerfile.v0", "--opt", "force-network-mode=none", "--local",
                                "context=" + directory, *self.layouts]
        file, args = "Dockerfile", list(case.get("args", []))
        while args:
            flag, value = args.pop(0), args.pop(0)
            if flag == "--build-arg":
                argv += ["--opt", "build-arg:" + value]
            elif flag == "--target":
                argv += ["--opt", "target=" + value]
            elif flag == "-f":
                file = value.lstrip("@/")
        argv += ["--local", "dockerfile=" + os.path.join(directory, os.path.dirname(file)), "--opt", "filename=" + os.path.basename(file)]
        run(argv + ["--output", "type=docker,name=made,dest=" + archive])

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
        if path in ("args", "only"):
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
                    archive.addfile(info, io.BytesIO(content))
        else:
            capable = text.startswith("!cap:")
            with open(whole, "w") as out:
                out.write(text[5:] if capable else text.lstrip("!"))
            os.chmod(whole, 0o755 if text.startswith("!") else 0o644)
            if capable:
                # cap_net_bind_service, permitted and effective.
                os.setxattr(whole, "security.capability", bytes([1, 0, 0, 2, 0, 4, 0, 0] + [0] * 12))


def differences(expected, got, builder="dockerd"):
    lines = []
    for key in COMPARED:
        if expected[0][key] != got[0][key]:
            lines.append("  config %s: %s %r, gantry %r" % (key, builder, expected[0][key], got[0][key]))
    for path in sorted(set(expected[1]) | set(got[1])):
        if expected[1].get(path) != got[1].get(path):
            lines.append("  %s: %s %r, gantry %r" % (path, builder, expected[1].get(path), got[1].get(path)))
    if builder == "buildkitd" and expected[2] != got[2]:
        lines.append("  history: buildkitd %r, gantry %r" % (expected[2], got[2]))
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
        return normal(config), tree, histories(config)

    failures = []
    place.ctl("build", "--progress", "plain", "-t", "made", *args, directory)
    made = saved(lambda: place.ctl("save", "-o", archive, "made"))
    if place.has_buildkitd:
        failures += differences(saved(lambda: place.by_buildkitd(directory, case, archive)), made, "buildkitd")
    if case.get("only") == "buildkit":
        return failures
    place.docker(place.docker_socket, "build", "-t", "made", *args, directory)
    expected = saved(lambda: place.docker(place.docker_socket, "save", "-o", archive, "made"))
    failures += differences(expected, made)
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
        # As all images have them: buildkitd leaves what it mounts on.
        for directory in ("dev", "proc", "sys"):
            os.makedirs(root + "/" + directory)
        base = place.base + "/base.tar"
        run(["tar", "-C", root, "-cf", base, "."])
        with open(base, "rb") as data:
            content = data.read()
        place.docker(place.docker_socket, "import", "-", "base", data=content)
        place.docker(place.docker_socket, "build", "-t", "trigger", "-", data=b"FROM base\nONBUILD COPY f /f\n")
        for image in ("base", "trigger"):
            place.docker(place.docker_socket, "save", "-o", place.base + "/image.tar", image)
            place.ctl("load", "-i", place.base + "/image.tar")
        place.has_buildkitd = place.buildkitd()
        if not place.has_buildkitd:
            print("left out: buildkitd (integration/go_client.sh buildkitd and buildctl build it)", flush=True)
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
