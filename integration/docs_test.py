#!/usr/bin/env python3
"""Runs the command lines of the pages for users (docs/user/*.md, README.md) on a daemon of their own.

    docs_test.py BIN [PAGE...]      BIN: the directory of the built programs

Each page's `sh` blocks run in one shell, in order, in namespaces of their own where /run, /var/lib/gantry and /etc/gantry are empty, so that
the usual paths are the daemon's. There are the images busybox and debian:12 (both the same busybox), and, where Debian's
docker-registry is, a registry on localhost:5000 that has busybox and app:1. A command must end with status 0, or with the one named at its
end:

    ctl run --rm busybox sh -c 'exit 3'   # exits with 3

In front of a block, invisible on the page:

    <!-- not run: REASON -->            the block is left alone, and listed with its reason
    <!-- needs: PROGRAM -->             it is left alone where there is no such program
    <!-- run:                           commands of the test's own: files that the reader has, waiting for a service
    COMMANDS -->

Of inline code that begins with `ctl `, verbs and flags are looked up in `--help`. The last line is "N passed, N failed".
"""
import json
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND_SECONDS = 120


def pages():
    return [ROOT / "README.md"] + sorted((ROOT / "docs/user").glob("*.md"))


class Block:
    def __init__(self, line, text, hidden=False, skip=None, needs=None):
        self.line, self.text, self.hidden, self.skip, self.needs = line, text, hidden, skip, needs


def blocks_of(text):
    """The blocks of a page, hidden ones among them."""
    found, skip, needs = [], None, None
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        line = lines[i]
        if m := re.match(r"<!-- not run: (.*) -->$", line):
            skip = m[1]
        elif m := re.match(r"<!-- needs: (\S+) -->$", line):
            needs = m[1]
        elif line.startswith("<!-- run:"):
            begin = i
            body = [line[len("<!-- run:"):].strip()]
            while not body[-1].endswith("-->"):
                i += 1
                body.append(lines[i])
            body[-1] = body[-1][:-3]
            found.append(Block(begin + 1, "\n".join(body), hidden=True, needs=needs))
            needs = None
        elif line.startswith("```"):
            begin, language, body = i, line[3:].strip(), []
            i += 1
            while not lines[i].startswith("```"):
                body.append(lines[i])
                i += 1
            if language == "sh":
                found.append(Block(begin + 2, "\n".join(body), skip=skip, needs=needs))
            skip = needs = None
        i += 1
    return found


def commands_of(block):
    """(line, command) of each complete command of a block."""
    found, held, begin = [], [], 0
    for i, line in enumerate(block.text.splitlines()):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if not held:
            begin = i
        held.append(line)
        text = "\n".join(held)
        # A here-document without its end is only a warning to bash.
        check = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
        if check.returncode == 0 and "here-document" not in check.stderr and not line.endswith("\\"):
            found.append((block.line + begin, text))
            held = []
    if held:
        found.append((block.line + begin, "\n".join(held)))
    return found


class Shell:
    """One bash that runs commands one after the other and tells the status of each."""

    def __init__(self, directory, environment):
        self.output = directory / ".output"
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=directory, env=environment, start_new_session=True)

    def run(self, command):
        """(status, output); status 124: it did not end in time."""
        self.process.stdin.write("{ %s\n} > %s 2>&1 < /dev/null\necho :$?\n" % (command, self.output))
        self.process.stdin.flush()
        deadline = time.monotonic() + COMMAND_SECONDS
        seen = ""
        while not (m := re.search(r":(\d+)\n", seen)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not data:
                return 124, self.output.read_text(errors="replace")
            seen += data.decode(errors="replace")
        return int(m[1]), self.output.read_text(errors="replace")

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


class World:
    """The daemon, images and registry. Made inside namespaces of our own."""

    def __init__(self, binaries, environment={}, registry=True):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="gantry-docs."))
        for directory in ("/run", "/var/lib/gantry", "/etc/gantry"):
            os.makedirs(directory, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        programs, home = self.work / "bin", self.work / "home"
        programs.mkdir()
        home.mkdir()
        for program in ("ctl/ctl", "supervisor/gantryd"):
            (programs / pathlib.Path(program).name).symlink_to((binaries / program).resolve())
        self.environment = {"PATH": "%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" % programs, "HOME": str(home),
                            "LANG": "C.UTF-8", "TERM": "dumb", **environment}
        shutil.copy(ROOT / "packaging/config.toml", "/etc/gantry/config.toml")
        self.registry = None
        self.log = open(self.work / "gantryd.log", "w")
        self.daemon = subprocess.Popen([binaries / "supervisor/gantryd", "--shim", binaries / "shim/gantry-shim", "--metrics-address",
                                        "127.0.0.1:9323"],
                                       stderr=self.log, env=self.environment)
        self.wait(["ctl", "version"])
        self.make_images()
        if registry:
            self.start_registry()

    def run(self, *argv, **options):
        return subprocess.run(argv, env=self.environment, check=True, capture_output=True, text=True, **options)

    def run_with(self, variables, *argv, check=True):
        return subprocess.run(argv, env={**self.environment, **variables}, check=check, capture_output=True, text=True)

    def wait(self, argv, seconds=60):
        deadline = time.monotonic() + seconds
        while subprocess.run(argv, env=self.environment, capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError("not within %d s: %s" % (seconds, " ".join(argv)))
            time.sleep(0.1)

    def make_images(self):
        tree = self.work / "rootfs"
        for directory in ("bin", "etc", "tmp", "root", "var/www", "data", "usr/bin"):
            (tree / directory).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in self.run("/bin/busybox", "--list").stdout.split():
            if not (tree / "bin" / applet).exists():
                (tree / "bin" / applet).symlink_to("busybox")
        (tree / "bin/bash").symlink_to("busybox")
        (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
        (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
        self.run("tar", "-C", str(tree), "-cf", str(self.work / "image.tar"), ".")
        self.run("ctl", "import", "-c", 'CMD ["sh"]', str(self.work / "image.tar"), "busybox:latest")
        self.run("ctl", "tag", "busybox:latest", "debian:12")
        shutil.rmtree(tree)

    def start_registry(self):
        if not shutil.which("docker-registry"):
            return
        config = self.work / "registry.yml"
        config.write_text("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: \"127.0.0.1:5000\"}\n" %
                          (self.work / "registry"))
        self.registry = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait(["bash", "-c", "exec 3<> /dev/tcp/127.0.0.1/5000"])
        for name in ("busybox:latest", "app:1"):
            self.run("ctl", "tag", "busybox:latest", "localhost:5000/" + name)
            self.run("ctl", "push", "-q", "localhost:5000/" + name)
            self.run("ctl", "rmi", "localhost:5000/" + name)

    def clear(self):
        """What a page leaves does not reach the next one."""
        for what in (["ctl", "rm", "-f"], ):
            ids = self.run("ctl", "ps", "-aq").stdout.split()
            if ids:
                subprocess.run(what + ids, env=self.environment, capture_output=True)
        for noun in ("network", "volume"):
            subprocess.run("ctl %s prune -f; ctl volume ls -q | xargs -r ctl volume rm -f" % noun, shell=True, env=self.environment,
                           capture_output=True)

    def end(self, failed):
        self.clear()
        for process in (self.daemon, self.registry):
            if process:
                process.terminate()
                process.wait()
        self.log.close()
        if failed:
            print("".join(open(self.work / "gantryd.log").readlines()[-40:]))
        subprocess.run(["umount", "-l", "/run/gantry/tasks"], capture_output=True)
        shutil.rmtree(self.work, ignore_errors=True)


class Results:
    passed = failed = 0
    skips = []

    def one(self, good, where, what, detail=""):
        if good:
            self.passed += 1
            return
        self.failed += 1
        print("FAILED %s: %s" % (where, what))
        for line in detail.splitlines()[-12:]:
            print("    " + line)
        sys.stdout.flush()


def run_page(page, world, results):
    directory = pathlib.Path(tempfile.mkdtemp(dir=world.work))
    shell = Shell(directory, world.environment)
    name = str(page.relative_to(ROOT))
    for block in blocks_of(page.read_text()):
        where = "%s:%d" % (name, block.line)
        reason = block.skip
        if block.needs and not shutil.which(block.needs):
            reason = "there is no %s here" % block.needs
        if reason:
            results.skips.append("%s: %s" % (where, reason))
            continue
        for line, command in commands_of(block):
            want = int(m[1]) if (m := re.search(r"# exits with (\d+)$", command)) else 0
            status, output = shell.run(command)
            results.one(status == want, "%s:%d" % (name, line), "%s\n    status %d, not %d" % (command, status, want), output)
            if status == 124:
                break
    shell.end()
    world.clear()


def check_inline(page, world, results, known={}):
    """Verbs and flags of `ctl ...` in running text."""
    name = str(page.relative_to(ROOT))
    fenced = False
    known_verb([], world, known)
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        if fenced:
            continue
        for code in re.findall(r"`(ctl [^`]+)`", line):
            words = code.split()
            verbs = []
            for word in words[1:]:
                if not re.fullmatch(r"[a-z][a-z-]*", word) or not known_verb(verbs + [word], world, known):
                    break
                verbs.append(word)
            help_text = known.get(tuple(verbs)) or ""
            rest = words[1 + len(verbs):]
            wrong = [] if verbs or rest[:1] == ["VERB"] or rest[0].startswith("-") else ["no such verb"]
            if "\nCommands:\n" in help_text and rest and re.fullmatch(r"[a-z-]+", rest[0]) and not rest[0].startswith("-"):
                wrong.append("no command " + rest[0])
            for word in rest:
                if re.fullmatch(r"-[a-zA-Z]|--[a-z][a-z-]*(=.*)?", word) and word.split("=")[0] not in re.split(r"[\s,\[\]]+", help_text + " --help " + known[()]):
                    wrong.append("no flag " + word)
                if word == "--" or not word.startswith("-") and verbs and verbs[-1] in ("run", "exec"):
                    break
            results.one(not wrong, "%s:%d" % (name, number), "`%s`: %s" % (code, ", ".join(wrong)))


def known_verb(verbs, world, known):
    for path in ((), tuple(verbs)):
        if path not in known:
            # A word that is no verb: the group's own help is shown, or an error.
            shown = subprocess.run(["ctl", *path, "--help"], env=world.environment, capture_output=True, text=True)
            usage = re.match(r"Usage:  ctl((?: [a-z][a-z-]*)*)", shown.stdout)
            right = shown.returncode == 0 and usage and tuple(usage[1].split()) == path
            known[path] = shown.stdout if right or not path else None
    return known[tuple(verbs)] is not None


# Families that appear only on one version of control groups: looked up in the source instead.
CGROUP_FAMILIES = (ROOT / "supervisor/task_metric_text.cc")


def check_dashboard(world, results):
    """Every metric that the dashboard shows is there."""
    world.run("ctl", "run", "-d", "--name", "measured", "busybox", "sleep", "60")
    with urllib.request.urlopen("http://127.0.0.1:9323/metrics") as answer:
        there = set(re.findall(r"^# TYPE (\w+)", answer.read().decode(), re.M))
    world.clear()
    source = CGROUP_FAMILIES.read_text()
    dashboard = json.loads((ROOT / "packaging/grafana.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            for metric in set(re.findall(r"\b((?:gantry|container|process)_\w+)\{", target["expr"])):
                family = re.sub(r"_bucket$", "", metric)
                results.one(family in there or '"%s"' % family in source, "packaging/grafana.json", "no metric " + metric)


def main():
    if os.environ.get("GANTRY_DOCS_INSIDE") != "1":
        if os.geteuid() != 0:
            print("skipped: needs root, for namespaces and containers")
            return 0
        environment = dict(os.environ, GANTRY_DOCS_INSIDE="1")
        return subprocess.run(["unshare", "-n", "-m", "--propagation", "private", sys.executable, __file__, *sys.argv[1:]],
                              env=environment).returncode
    binaries = pathlib.Path(sys.argv[1]).resolve()
    chosen = [pathlib.Path(p).resolve() for p in sys.argv[2:]] or pages()
    results = Results()
    world = World(binaries)
    try:
        for page in chosen:
            before = results.passed, results.failed
            start = time.monotonic()
            run_page(page, world, results)
            check_inline(page, world, results)
            print("%-32s %3d passed, %d failed, %.1f s" % (page.relative_to(ROOT), results.passed - before[0],
                                                        results.failed - before[1], time.monotonic() - start))
            sys.stdout.flush()
        if not sys.argv[2:]:
            check_dashboard(world, results)
    finally:
        world.end(results.failed)
    for skip in results.skips:
        print("not run: " + skip)
    print("%d passed, %d failed" % (results.passed, results.failed))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
