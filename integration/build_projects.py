#!/usr/bin/env python3
"""Thirty projects as people have them, each built through every entrance: what comes out is the same.

Usage: build_projects.py BIN [--entrances ctl,classic,buildkit,compose] [CASE...]     BIN has supervisor/gantryd, shim/gantry-shim and ctl/ctl

Entrances: `ctl build`; POST /build as docker's classic builder sends it, spoken by this script; `docker build` of Debian's docker.io with
DOCKER_BUILDKIT=1, which speaks BuildKit's protocol by itself; `ctl compose build`. Compared are the whole configuration but for times and the file
tree of the image: path, kind, mode, owner, link, size and content. One that needs a program which is not there is left out and named.

The machine has no network, so compilers and package managers are stand-ins: scripts of the base image that do to files what the real ones do (a
compiler's output depends on its sources, a package manager unpacks files and writes its database). Everything runs in a mount and network namespace of
its own; nothing is left behind. Needs root and busybox-static. The last line is "N passed, N failed".
"""
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse

# A compiler, three package managers and what goes with them. Each writes what depends on its input and on nothing else.
TOOLS = {
    "cc": 'out=a.out; last=; for a; do [ "$last" = -o ] && out=$a; last=$a; done; { echo "#!/bin/sh"; for a; do case $a in *.c|*.o|*.h) '
          'echo "# $(sha256sum < $a | cut -c1-16) $a";; esac; done; echo "echo built"; } > $out; chmod 755 $out',
    "go": 'case $1 in mod) mkdir -p /root/go/pkg/mod/cache; sha256sum go.sum > /root/go/pkg/mod/cache/lock;; build) '
          'out=$(echo "$@" | sed "s/.*-o \\([^ ]*\\).*/\\1/"); { echo "#!/bin/sh"; find . -name "*.go" | sort | xargs sha256sum; echo "# ${GOOS:-linux}/${GOARCH:-amd64} '
          '$CGO_ENABLED"; } > $out; chmod 755 $out;; test) find . -name "*_test.go" | grep -q . ;; esac',
    "npm": 'case $1 in ci|install) mkdir -p node_modules/.bin; while read name version; do mkdir -p node_modules/$name; echo "{\\"name\\":\\"$name\\",\\"version\\":\\"$version\\"}" '
           '> node_modules/$name/package.json; ln -sf ../$name/package.json node_modules/.bin/$name; done < package-lock.txt;; run) mkdir -p dist; cat src/* > dist/bundle.js;; '
           'prune) rm -rf node_modules/dev-*;; esac',
    "pip": 'target=/usr/lib/python3/site-packages; for a; do case $a in --target=*) target=${a#*=};; esac; done; mkdir -p $target; sed "s/==.*//" requirements.txt | while read '
           'name; do mkdir -p $target/$name; echo "# $name" > $target/$name/__init__.py; done',
    "apt-get": 'case $1 in update) mkdir -p /var/lib/apt/lists; echo index > /var/lib/apt/lists/packages;; install) shift; for p; do case $p in -*) continue;; esac; mkdir -p '
               '/usr/share/doc/$p /var/lib/dpkg; echo "$p" > /usr/share/doc/$p/copyright; printf "Package: %s\\nStatus: install ok installed\\nVersion: 1\\n\\n" $p '
               '>> /var/lib/dpkg/status; done;; esac',
    "mvn": 'mkdir -p target /root/.m2; find src -type f | sort | xargs sha256sum > target/app.jar; echo deps > /root/.m2/settings',
    "make": 'sed -n "s/^\\t//p" Makefile | while read line; do sh -c "$line" || exit 1; done',
    "useradd": 'for n; do :; done; echo "$n:x:1000:1000::/home/$n:/bin/sh" >> /etc/passwd; echo "$n:x:1000:" >> /etc/group; mkdir -p /home/$n; chown 1000:1000 /home/$n',
}

PROJECTS = {
    "c-make": {"Dockerfile": "FROM debian AS build\nRUN apt-get update && apt-get install -y gcc make && rm -rf /var/lib/apt/lists/*\nWORKDIR /src\n"
                             "COPY Makefile *.c *.h ./\nRUN make\nFROM scratch\nCOPY --from=build /src/hello /hello\nENTRYPOINT [\"/hello\"]\n",
               "Makefile": "hello: hello.c\n\tcc -O2 -o hello hello.c util.c\n", "hello.c": "int main() {}\n", "util.c": "\n", "util.h": "\n"},
    "c-debug": {"Dockerfile": "ARG FLAGS=-O2\nFROM debian\nARG FLAGS\nENV CFLAGS=${FLAGS}\nCOPY . /src\nRUN cd /src && cc $CFLAGS -o /usr/bin/app main.c\n"
                              "CMD [\"app\"]\n", "main.c": "x\n", "args": {"FLAGS": "-g"}},
    "go-static": {"Dockerfile": "FROM debian AS build\nENV CGO_ENABLED=0\nWORKDIR /go/src/app\nCOPY go.mod go.sum ./\nRUN go mod download\nCOPY . .\n"
                                "RUN go build -trimpath -o /bin/app ./cmd/app\nFROM scratch\nCOPY --from=build /bin/app /app\nCOPY --from=build /etc/passwd /etc/\n"
                                "USER nobody\nENTRYPOINT [\"/app\"]\n",
                  "go.mod": "module app\n", "go.sum": "x h1:y\n", "cmd/app/main.go": "package main\n", "pkg/a.go": "package pkg\n"},
    "go-tests": {"Dockerfile": "FROM debian AS base\nWORKDIR /app\nCOPY . .\nFROM base AS test\nRUN go test ./...\nFROM base AS build\nRUN go build -o /app/bin .\n"
                               "FROM scratch AS release\nCOPY --from=build /app/bin /bin/app\nLABEL org.opencontainers.image.title=app\n",
                 "main.go": "package main\n", "main_test.go": "package main\n", "target": "release"},
    "python-pip": {"Dockerfile": "FROM debian\nENV PYTHONDONTWRITEBYTECODE=1 \\\n    PYTHONUNBUFFERED=1\nWORKDIR /app\nCOPY requirements.txt .\n"
                                 "RUN pip install --no-cache-dir -r requirements.txt\nCOPY . .\nEXPOSE 8000\nHEALTHCHECK --interval=30s CMD wget -q localhost:8000\n"
                                 "CMD [\"python\", \"-m\", \"app\"]\n",
                   "requirements.txt": "flask==3.0\nrequests==2.31\n", "app/__init__.py": "", "app/main.py": "print()\n"},
    "python-venv": {"Dockerfile": "FROM debian AS deps\nCOPY requirements.txt .\nRUN pip install --target=/venv/lib\nFROM debian\nCOPY --from=deps /venv /venv\n"
                                  "COPY --chown=1000:1000 src /home/app\nUSER 1000:1000\nENV PATH=/venv/bin:$PATH\nWORKDIR /home/app\n",
                    "requirements.txt": "django==5\n", "src/manage.py": "#!/usr/bin/env python\n"},
    "node-npm": {"Dockerfile": "FROM debian AS build\nWORKDIR /app\nCOPY package*.json package-lock.txt ./\nRUN npm ci\nCOPY . .\nRUN npm run build && npm prune\n"
                               "FROM debian\nENV NODE_ENV=production\nWORKDIR /srv\nCOPY --from=build /app/dist ./dist\nCOPY --from=build /app/node_modules ./node_modules\n"
                               "STOPSIGNAL SIGTERM\nCMD [\"node\", \"dist/bundle.js\"]\n", ".dockerignore": "node_modules\ndist\n*.log\n",
                 "package.json": "{}\n", "package-lock.txt": "left-pad 1.0\ndev-lint 2.0\n", "src/a.js": "a\n", "src/b.js": "b\n", "npm.log": "no\n"},
    "node-onbuild": {"Dockerfile": "FROM node-onbuild\nEXPOSE 3000\n", "package.json": "{}\n", "package-lock.txt": "express 4\n", "server.js": "1\n"},
    "java-maven": {"Dockerfile": "FROM debian AS build\nWORKDIR /build\nCOPY pom.xml .\nCOPY src src\nRUN mvn -q package\nFROM debian\n"
                                 "COPY --from=build /build/target/*.jar /app/\nENV JAVA_OPTS=\"-Xmx64m -Dname='a b'\"\nENTRYPOINT exec java $JAVA_OPTS -jar /app/app.jar\n",
                   "pom.xml": "<project/>\n", "src/main/java/A.java": "class A {}\n", "src/test/java/ATest.java": "class ATest {}\n"},
    "tomcat": {"Dockerfile": "FROM debian\nENV CATALINA_HOME /usr/local/tomcat\nENV PATH $CATALINA_HOME/bin:$PATH\nRUN mkdir -p \"$CATALINA_HOME\"\nWORKDIR $CATALINA_HOME\n"
                             "ENV TOMCAT_MAJOR=10\\\n    TOMCAT_VERSION=10.1.1\nADD apache-tomcat.tar.gz /tmp/unpacked/\nRUN set -eux; cp -r /tmp/unpacked/in/. .; rm -rf /tmp/unpacked; "
                             "find . -name '*.bat' -exec rm {} +; chmod -R +rX .\nEXPOSE 8080\nCMD [\"catalina.sh\", \"run\"]\n", "apache-tomcat.tar.gz": "tar:gz"},
    "debian-rootfs": {"Dockerfile": "FROM scratch\nADD rootfs.tar /\nCMD [\"bash\"]\n", "rootfs.tar": "tar:"},
    "alpine-user": {"Dockerfile": "FROM debian\nRUN useradd -m app\nCOPY --chown=app:app site /home/app/site\nUSER app\nWORKDIR /home/app\nRUN echo $(id -u) > uid\n",
                    "site/index.html": "<p>\n", "site/img/logo.svg": "<svg/>\n"},
    "static-site": {"Dockerfile": "FROM debian AS build\nCOPY . /in\nRUN mkdir /out && for f in /in/pages/*.md; do echo \"<html>$(cat $f)</html>\" > /out/$(basename $f .md).html; done\n"
                                  "FROM debian\nCOPY --from=build /out /usr/share/nginx/html\nCOPY nginx.conf /etc/nginx/conf.d/default.conf\nVOLUME /var/cache/nginx\nEXPOSE 80 443\n",
                    "pages/a.md": "a\n", "pages/b.md": "b\n", "nginx.conf": "server {}\n"},
    "php-apache": {"Dockerfile": "FROM debian\nCOPY --chmod=0644 src/ /var/www/html/\nRUN find /var/www -type d -exec chmod 2755 {} +\nENV APACHE_RUN_USER=www-data\n",
                   "src/index.php": "<?php\n", "src/lib/a.php": "<?php\n"},
    "ruby-bundler": {"Dockerfile": "FROM debian AS gems\nCOPY Gemfile Gemfile.lock* ./\nRUN mkdir -p /bundle && cp Gemfile /bundle/\nFROM debian\nCOPY --from=gems /bundle /bundle\n"
                                   "COPY --link . /app\nSHELL [\"/bin/sh\", \"-euc\"]\nRUN test -f /app/Gemfile; touch /ready\n", "Gemfile": "source\n"},
    "rust-cargo": {"Dockerfile": "FROM debian AS chef\nWORKDIR /app\nFROM chef AS planner\nCOPY . .\nRUN sha256sum Cargo.toml > recipe.json\nFROM chef AS builder\n"
                                 "COPY --from=planner /app/recipe.json recipe.json\nRUN cp recipe.json /deps\nCOPY . .\nRUN cc -o app src/main.c\nFROM debian AS runtime\n"
                                 "COPY --from=builder /app/app /usr/local/bin/\n", "Cargo.toml": "[package]\n", "src/main.c": "fn\n"},
    "heredocs": {"Dockerfile": "FROM debian\nARG NAME=app\nRUN <<EOF\nset -e\nmkdir -p /srv/$NAME\necho one > /srv/$NAME/a\nEOF\nCOPY <<-EOT /srv/config.ini\n\t[main]\n\tname=${NAME}\nEOT\n"
                               "COPY <<'RAW' <<\"TWO\" /srv/raw/\n$NAME\nRAW\nsecond\nTWO\n", "skip": ["classic"]},
    "cache-mounts": {"Dockerfile": "FROM debian\nRUN --mount=type=cache,target=/root/.cache --mount=type=bind,target=/src,source=src cat /src/* > /all && touch /root/.cache/x\n"
                                   "RUN --mount=type=tmpfs,target=/scratch touch /scratch/y && test ! -e /root/.cache/x\n", "src/a": "a\n", "src/b": "b\n", "skip": ["classic"]},
    "labels": {"Dockerfile": "FROM debian\nARG REV=none\nLABEL maintainer=\"A <a@b>\" version=1.0 \\\n      \"multi word\"=\"x y\"\nLABEL rev=$REV\nMAINTAINER me\n", "args": {"REV": "abc"}},
    "entrypoint-script": {"Dockerfile": "FROM debian\nCOPY docker-entrypoint.sh /usr/local/bin/\nRUN ln -s usr/local/bin/docker-entrypoint.sh / \nENTRYPOINT [\"docker-entrypoint.sh\"]\n"
                                        "CMD [\"serve\", \"--port\", \"80\"]\n", "docker-entrypoint.sh": "!#!/bin/sh\nexec \"$@\"\n"},
    "database": {"Dockerfile": "FROM debian\nENV PGDATA=/var/lib/postgresql/data\nRUN mkdir -p \"$PGDATA\" && chown -R 999:999 \"$PGDATA\" && chmod 1777 \"$PGDATA\"\nVOLUME $PGDATA\n"
                               "COPY init/*.sql /docker-entrypoint-initdb.d/\nSTOPSIGNAL SIGINT\nEXPOSE 5432/tcp\n", "init/1.sql": "select 1;\n", "init/2.sql": "select 2;\n", "init/no.txt": "no\n"},
    "ignore-rules": {"Dockerfile": "FROM debian\nCOPY . /ctx\n", ".dockerignore": "# comment\n*.md\n!README.md\n**/tmp\nbuild/*\n!build/keep\n.git\n", "README.md": "r\n", "notes.md": "n\n",
                     "a/tmp/x": "x\n", "a/y": "y\n", "build/out": "o\n", "build/keep": "k\n", ".git/HEAD": "ref\n"},
    "links": {"Dockerfile": "FROM debian\nCOPY tree /t\nRUN ln /t/a /t/hard && ln -s ../t/a /t/up && mkdir /t/d && ln -s d /t/dl\nCOPY more /t/d\n",
              "tree/a": "a\n", "tree/l": "-> a", "tree/dangling": "-> /nowhere", "more/m": "m\n"},
    "permissions": {"Dockerfile": "FROM debian\nRUN mkdir -m 0700 /secret && touch /secret/a && chmod 04755 /secret/a && chmod 02775 /secret && chown 5:6 /secret\nCOPY f /secret/b\n"
                                  "RUN chmod 000 /secret/b\n", "f": "f\n"},
    "deletions": {"Dockerfile": "FROM debian\nCOPY d /d\nRUN rm -r /d/sub && rm /d/a && mkdir /d/sub && echo new > /d/sub/n\nRUN mv /d /e\n", "d/a": "a\n", "d/b": "b\n", "d/sub/c": "c\n"},
    "workdirs": {"Dockerfile": "FROM debian\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\nENV D=deep\nWORKDIR $D/er\nRUN pwd > /where\n"},
    "expansion": {"Dockerfile": "FROM debian\nENV A=one B=\"two words\"\nENV C=${A:-x} D=${Z:-z} E=${A:+set} F=\"${B#two }\"\nCOPY ${A}.txt /$A/\nRUN echo \"$C $D $E $F\" > /vars\n", "one.txt": "1\n"},
    "exec-forms": {"Dockerfile": "FROM debian\nRUN [\"/bin/sh\", \"-c\", \"echo json > /j\"]\nSHELL [\"/bin/sh\", \"-c\"]\nRUN echo shell > /s\nCMD echo hi\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"x\"]\n"},
    "other-file": {"Dockerfile": "FROM nothing\n", "docker/prod.Dockerfile": "FROM debian\nCOPY app /app\n", "app/x": "x\n", "file": "docker/prod.Dockerfile"},
    "many-stages": {"Dockerfile": "FROM debian AS s0\nRUN echo 0 > /0\n" + "".join("FROM s%d AS s%d\nRUN echo %d > /%d\n" % (i - 1, i, i, i) for i in range(1, 6)) +
                                  "FROM scratch\n" + "".join("COPY --from=s%d /%d /\n" % (i, i) for i in range(6))},
}


def run(argv, env=None, data=None):
    done = subprocess.run(argv, env=env, input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise RuntimeError("%s: exit %d\n%s" % (" ".join(argv), done.returncode, text[-3000:]))
    return text


def write_files(directory, project):
    for path, text in project.items():
        if path in ("args", "target", "file", "skip"):
            continue
        whole = os.path.join(directory, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        if text.startswith("-> "):
            os.symlink(text[3:], whole)
        elif text.startswith("tar:"):
            with tarfile.open(whole, "w:" + text[4:]) as archive:
                for name, mode in (("in/bin/catalina.sh", 0o755), ("in/bin/catalina.bat", 0o644), ("in/conf/server.xml", 0o600)):
                    info = tarfile.TarInfo(name)
                    info.size, info.mode, info.uid, info.gid = len(name), mode, 3, 4
                    archive.addfile(info, io.BytesIO(name.encode()))
        else:
            with open(whole, "w") as out:
                out.write(text.lstrip("!"))
            os.chmod(whole, 0o755 if text.startswith("!") else 0o644)


def apply(layer, tree):
    for entry in layer:
        path = os.path.normpath("/" + entry.name)
        folder, name = os.path.split(path)
        gone = folder if name == ".wh..wh..opq" else os.path.join(folder, name[4:]) if name.startswith(".wh.") else None
        if gone is not None:
            for one in [p for p in tree if p.startswith(gone + "/") or (p == gone and name != ".wh..wh..opq")]:
                del tree[one]
        elif entry.islnk():
            tree[path] = tree[os.path.normpath("/" + entry.linkname)]
        elif path != "/":
            content = hashlib.sha256(layer.extractfile(entry).read()).hexdigest() if entry.isfile() else ""
            if not entry.isdir():
                for one in [p for p in tree if p.startswith(path + "/")]:
                    del tree[one]
            tree[path] = (entry.type.decode(), oct(entry.mode), entry.uid, entry.gid, entry.linkname, content)


def flatten(archive):
    tree = {}
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))[0]
        config = json.load(outer.extractfile(manifest["Config"]))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                apply(inner, tree)
    config.pop("created", None)
    config.pop("rootfs", None)
    for entry in config.get("history", []):
        entry.pop("created", None)
    return config, tree


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("docker")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Place:
    def __init__(self, programs):
        self.bin = programs
        self.base = tempfile.mkdtemp(prefix="gantry-projects-")
        self.address = self.base + "/gantry.sock"
        self.docker = self.base + "/docker.sock"
        config = self.base + "/config.toml"
        with open(config, "w") as out:
            out.write("[network]\ndefault = \"none\"\n")
        self.daemon = subprocess.Popen([self.bin + "/supervisor/gantryd", "--config", config, "--root", self.base + "/root", "--state", self.base + "/state",
                                        "--address", self.address, "--docker-address", self.docker], stdout=open(self.base + "/log", "wb"), stderr=subprocess.STDOUT)
        for _ in range(600):
            if os.path.exists(self.docker) and subprocess.run([self.bin + "/ctl/ctl", "--address", self.address, "version"], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("gantryd does not start: " + open(self.base + "/log").read()[-2000:])

    def stop(self):
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(20)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
        subprocess.run(["umount", "-R", "-l", self.base], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.base, ignore_errors=True)

    def ctl(self, *args, **more):
        return run([self.bin + "/ctl/ctl", "--address", self.address, *args], **more)

    def make_bases(self):
        root = self.base + "/busybox"
        for directory in ("bin", "etc", "usr/bin", "root", "tmp"):
            os.makedirs(root + "/" + directory)
        shutil.copy("/bin/busybox", root + "/bin/busybox")
        for applet in run([root + "/bin/busybox", "--list"]).split():
            if applet != "busybox" and applet not in TOOLS:
                os.symlink("busybox", root + "/bin/" + applet)
        for name, script in TOOLS.items():
            with open(root + "/usr/bin/" + name, "w") as out:
                out.write("#!/bin/sh\n" + script + "\n")
            os.chmod(root + "/usr/bin/" + name, 0o755)
        with open(root + "/etc/passwd", "w") as out:
            out.write("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        with open(root + "/etc/group", "w") as out:
            out.write("root:x:0:\nnogroup:x:65534:\n")
        archive = self.base + "/base.tar"
        run(["tar", "-C", root, "-cf", archive, "."])
        self.ctl("import", archive, "debian")
        self.ctl("build", "-q", "-t", "node-onbuild", "-",
                 data=b"FROM debian\nWORKDIR /usr/src/app\nONBUILD COPY package*.json package-lock.txt ./\nONBUILD RUN npm install\nONBUILD COPY . .\nCMD [\"npm\", \"start\"]\n")


def by_ctl(place, directory, project, name):
    args = []
    for key, value in project.get("args", {}).items():
        args += ["--build-arg", key + "=" + value]
    if "target" in project:
        args += ["--target", project["target"]]
    if "file" in project:
        args += ["-f", directory + "/" + project["file"]]
    place.ctl("build", "--progress", "plain", "--no-cache", "-t", name, *args, directory)


def by_classic(place, directory, project, name):
    context = io.BytesIO()
    rules = [] if not os.path.exists(directory + "/.dockerignore") else open(directory + "/.dockerignore").read().split()
    # docker's client leaves files out; of these rules it needs what ignore-rules has, so that one is sent as ctl lists it.
    with tarfile.open(fileobj=context, mode="w") as archive:
        def clean(info):
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            return info
        for folder, folders, files in os.walk(directory):
            folders.sort()
            for one in sorted(files) + [f for f in folders if os.path.islink(folder + "/" + f)]:
                path = os.path.join(folder, one)
                relative = os.path.relpath(path, directory)
                if rules and ignored(relative):
                    continue
                archive.add(path, relative, filter=clean, recursive=False)
    query = [("t", name), ("nocache", "1"), ("buildargs", json.dumps(project.get("args", {}))), ("dockerfile", project.get("file", "Dockerfile"))]
    if "target" in project:
        query.append(("target", project["target"]))
    connection = UnixConnection(place.docker)
    connection.request("POST", "/v1.41/build?" + urllib.parse.urlencode(query), context.getvalue(), {"Content-Type": "application/x-tar"})
    text = connection.getresponse().read().decode(errors="replace")
    if "Successfully built" not in text:
        raise RuntimeError("POST /build: " + text[-2000:])


def ignored(path):
    """What the two ignore files of the projects leave out."""
    parts = path.split("/")
    if path in (".dockerignore",):
        return False
    if "node_modules" == parts[0] or "dist" == parts[0] or ".git" == parts[0] or path.endswith(".log") or "tmp" in parts:
        return True
    if len(parts) == 1 and path.endswith(".md"):
        return path != "README.md"
    return parts[0] == "build" and len(parts) > 1 and parts[1] != "keep"


def by_buildkit(place, directory, project, name):
    args = []
    for key, value in project.get("args", {}).items():
        args += ["--build-arg", key + "=" + value]
    if "target" in project:
        args += ["--target", project["target"]]
    if "file" in project:
        args += ["-f", directory + "/" + project["file"]]
    env = dict(os.environ, DOCKER_HOST="unix://" + place.docker, DOCKER_BUILDKIT="1", DOCKER_CONFIG=place.base + "/client")
    run(["/usr/bin/docker", "build", "--progress", "plain", "--no-cache", "-t", name, *args, directory], env=env)


def by_compose(place, directory, project, name):
    build = {"context": directory, "no_cache": True, "args": project.get("args", {})}
    if "target" in project:
        build["target"] = project["target"]
    if "file" in project:
        build["dockerfile"] = project["file"]
    path = place.base + "/compose.json"
    with open(path, "w") as out:
        json.dump({"name": "p", "services": {"app": {"image": name, "build": build}}}, out)
    place.ctl("compose", "-f", path, "build")


ENTRANCES = {"ctl": by_ctl, "classic": by_classic, "buildkit": by_buildkit, "compose": by_compose}


def differences(expected, got):
    lines = []
    if expected[0] != got[0]:
        for key in sorted(set(expected[0]) | set(got[0])):
            if expected[0].get(key) != got[0].get(key):
                lines.append("    config %s: %s, not %s" % (key, json.dumps(got[0].get(key)), json.dumps(expected[0].get(key))))
    for path in sorted(set(expected[1]) | set(got[1])):
        if expected[1].get(path) != got[1].get(path):
            lines.append("    %s: %r, not %r" % (path, got[1].get(path), expected[1].get(path)))
    return lines


def build_all(place, case, project, entrances):
    directory = "%s/%s" % (place.base, case)
    os.makedirs(directory)
    write_files(directory, project)
    archive = place.base + "/saved.tar"
    expected, problems = None, []
    for entrance in entrances:
        # The script here sends no directories of its own, and a classic client parses no heredocs.
        if entrance in project.get("skip", []):
            continue
        name = "%s-%s" % (case, entrance)
        ENTRANCES[entrance](place, directory, project, name)
        place.ctl("save", "-o", archive, name)
        got = flatten(archive)
        os.unlink(archive)
        if expected is None:
            expected = got
            continue
        different = differences(expected, got)
        if different:
            problems += ["  " + entrance + ":"] + different
    return problems


def main():
    if os.environ.get("GANTRY_BUILD_UNSHARED") != "1":
        os.environ["GANTRY_BUILD_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "-n", "-m", "--propagation", "private", sys.executable, *sys.argv])
    run(["ip", "link", "set", "lo", "up"])
    args = sys.argv[2:]
    entrances = list(ENTRANCES)
    if args and args[0] == "--entrances":
        entrances = args[1].split(",")
        args = args[2:]
    if "buildkit" in entrances and not os.path.exists("/usr/bin/docker"):
        print("left out: buildkit (there is no /usr/bin/docker of docker.io)")
        entrances.remove("buildkit")
    place = Place(os.path.abspath(sys.argv[1]))
    passed = failed = 0
    try:
        place.make_bases()
        for case in args or list(PROJECTS):
            try:
                problems = build_all(place, case, PROJECTS[case], entrances)
            except RuntimeError as error:
                problems = ["  " + str(error)]
            if problems:
                failed += 1
                print("FAILED %s\n%s" % (case, "\n".join(problems)), flush=True)
            else:
                passed += 1
                print("ok %s" % case, flush=True)
    finally:
        place.stop()
    print("%d passed, %d failed" % (passed, failed))
    sys.exit(1 if failed else 0)


main()
