#!/usr/bin/env python3
"""./dev test spec: the runtime configurations (config.json) that Gantry and Debian's dockerd make of the same `docker run` command lines.

Both daemons have a runtime that keeps the configuration and then refuses to create the container. What differs and stands in
spec_compare.list, with its reason, is passed over; anything else is printed and fails the run, and so does an entry of the list that
nothing matches any more. Ids, paths of the daemons' own files and the order of what has no order do not count; a seccomp profile counts as
the verdict that it gives each system call.

Environment: GANTRY_BIN (built programs, default out/bin), SPEC_ONLY (a word: only command lines with it), SPEC_PART=1 (one command line of
each kind, for every run of the tests), SPEC_VERBOSE=1 (print both documents where they differ).
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "bench"))
sys.path.insert(0, HERE)
from parity import make_busybox, wild  # noqa: E402
from peers import Daemon, enter_namespaces, have, install, make_state, mount_free_controllers, start_containerd, unmount_below  # noqa: E402

BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "out", "bin"))
DOCKER = "/usr/bin/docker"  # one whose defaults are those of the daemon it is compared with
ONLY = os.environ.get("SPEC_ONLY", "")
PART = os.environ.get("SPEC_PART") == "1"
VERBOSE = os.environ.get("SPEC_VERBOSE") == "1"
LIST = os.path.join(HERE, "spec_compare.list")
SECONDS = 90

# The options of `docker run`, and what follows the image.
LINES = [
    "bb:1", "-t bb:1", "-i bb:1 cat", "bb:1 sh -c {words}", "--entrypoint /bin/echo bb:1 a b", "-w /work/here bb:1", "-e A=b -e PATH=/x bb:1",
    "-e HOSTNAME=other -e TERM=dumb bb:1", "-u 1000:1001 bb:1", "-u 1000 --group-add 44 --group-add 45 bb:1", "-u nobody bb:1",
    "-h host1 bb:1", "-h host1 --domainname example.org bb:1", "--privileged bb:1", "--cap-add NET_ADMIN bb:1", "--cap-add ALL bb:1",
    "--cap-drop ALL bb:1", "--cap-drop ALL --cap-add CHOWN bb:1", "--cap-drop MKNOD -u 5 bb:1", "--cap-add SYS_ADMIN --cap-drop CHOWN bb:1",
    "--security-opt no-new-privileges bb:1", "--security-opt seccomp=unconfined bb:1", "--security-opt systempaths=unconfined bb:1",
    "--security-opt label=disable bb:1", "--cap-add SYS_PTRACE bb:1", "--cap-add SYS_TIME --cap-add SYSLOG bb:1",
    "--read-only bb:1", "--read-only --tmpfs /run bb:1", "--tmpfs /t:size=1m,exec,mode=700 bb:1", "--shm-size 32m bb:1",
    "-v {work}/dir:/d bb:1", "-v {work}/dir:/d:ro bb:1", "-v {work}/note:/etc/note:ro bb:1", "-v {work}/dir:/a/b/c -v {work}/dir:/a bb:1",
    "-v named:/data bb:1", "-v named:/data:ro,nocopy bb:1", "-v /anonymous bb:1", "-v {work}/dir:/d:rslave bb:1", "-v {work}/dir:/d:shared bb:1", "-v {work}/shared:/d:rshared bb:1",
    "--mount type=bind,src={work}/dir,dst=/d,readonly bb:1", "--mount type=bind,src={work}/dir,dst=/d,bind-nonrecursive bb:1",
    "--mount type=tmpfs,dst=/t,tmpfs-size=65536,tmpfs-mode=1770 bb:1", "--mount type=volume,dst=/v bb:1", "-v {work}/dir:/dev/shm bb:1",
    "-v {work}/note:/etc/hosts bb:1", "-m 64m bb:1", "-m 64m --memory-swap 128m --memory-reservation 32m --memory-swappiness 10 bb:1",
    "-m 64m --memory-swap -1 bb:1", "--cpus 0.5 bb:1", "-c 512 --cpuset-cpus 0 bb:1", "--cpu-period 50000 --cpu-quota 20000 bb:1",
    "--pids-limit 100 bb:1", "--pids-limit -1 bb:1", "--blkio-weight 300 bb:1", "--oom-kill-disable -m 64m bb:1", "--oom-score-adj 500 bb:1",
    "--ulimit nofile=100:200 --ulimit core=0 bb:1", "--device /dev/null:/dev/other:r bb:1", "--device /dev/zero bb:1",
    "--device-cgroup-rule {rule} bb:1", "--device-read-bps /dev/{disk}:1mb bb:1", "--sysctl net.ipv4.ip_forward=1 bb:1",
    "--sysctl kernel.msgmax=65536 bb:1", "--network host bb:1", "--network none bb:1", "--pid host bb:1", "--ipc host bb:1", "--ipc none bb:1",
    "--ipc shareable bb:1", "--uts host bb:1", "--network host --uts host bb:1", "--cgroupns host bb:1", "--cgroup-parent /other bb:1",
    "--init bb:1 sleep 1", "--userns host bb:1", "--pid container:base bb:1", "--network container:base bb:1",
    "-l a=b --stop-signal INT bb:1", "--privileged --cap-drop NET_ADMIN --read-only bb:1", "--privileged -u 7 -v {work}/dir:/d:ro bb:1",
    "--device /dev/null --privileged bb:1", "--volumes-from base bb:1", "--dns 10.0.0.1 --add-host h:10.0.0.2 bb:1",
]

# Of LINES: each part of a configuration has one that shows it.
PART_LINES = [
    "bb:1", "-t bb:1", "--entrypoint /bin/echo bb:1 a b", "-u nobody bb:1", "-h host1 --domainname example.org bb:1", "--privileged bb:1",
    "--cap-drop ALL --cap-add CHOWN bb:1", "--cap-add SYS_PTRACE bb:1", "--security-opt systempaths=unconfined bb:1",
    "--read-only --tmpfs /run bb:1", "-v {work}/dir:/a/b/c -v {work}/dir:/a bb:1", "-v named:/data bb:1", "-v {work}/dir:/d:rslave bb:1",
    "-v {work}/shared:/d:rshared bb:1", "-m 64m --memory-swap 128m --memory-reservation 32m --memory-swappiness 10 bb:1",
    "--ulimit nofile=100:200 --ulimit core=0 bb:1", "--device /dev/null:/dev/other:r bb:1", "--sysctl kernel.msgmax=65536 bb:1",
    "--network host bb:1", "--pid container:base bb:1", "--init bb:1 sleep 1", "--volumes-from base bb:1",
]
if not set(PART_LINES) <= set(LINES):
    raise SystemExit("spec: PART_LINES has what LINES has not")


def wanted():
    return [line for line in (PART_LINES if PART else LINES) if ONLY in line]


SPY = """#!/bin/sh
# The command line of an OCI runtime; keeps the configuration of what it is to create, and refuses to create it.
bundle=. before= create=
for word; do
  case $before in --bundle|-b) bundle=$word ;; esac
  case $word in create|run) create=yes ;; esac
  before=$word
done
if [ -z "$create" ] || [ -e {kept}/pass ]; then exec runc "$@"; fi
cp "$bundle/config.json" {kept}/next && mv {kept}/next {kept}/config.json
echo "kept" >&2
exit 1
"""


# --- configurations as they are compared

def verdicts(profile):
    """What a profile does with each system call, and for which arguments."""
    if not profile:
        return None
    out = {"default": [profile["defaultAction"], profile.get("defaultErrnoRet") or 1], "architectures": sorted(profile.get("architectures") or [])}
    for rule in profile.get("syscalls") or []:
        arguments = sorted(json.dumps({k: v for k, v in one.items() if v}, sort_keys=True) for one in rule.get("args") or [])
        verdict = json.dumps([rule["action"], rule.get("errnoRet"), arguments])
        if rule["action"] == profile["defaultAction"] and rule.get("errnoRet") == profile.get("defaultErrnoRet"):
            continue  # what it would do anyway
        for name in rule["names"]:
            out.setdefault("call " + name, set()).add(verdict)
    for name, what in out.items():
        if not name.startswith("call "):
            continue
        # A call that is allowed whatever its arguments are needs no rule for some of them.
        always = json.dumps(["SCMP_ACT_ALLOW", None, []])
        out[name] = [always] if always in what else sorted(what)
    return out


def normal(spec, work):
    text = json.dumps(spec)
    # The container's id, wherever it is a name.
    for found in set(re.findall(r"\b[0-9a-f]{64}\b", text)):
        text = text.replace(found, "ID")
        text = text.replace(found[:12], "SHORT")
    text = text.replace(work, "WORK")
    spec = json.loads(text)
    process, linux = spec["process"], spec["linux"]
    for name in ("bounding", "effective", "permitted", "inheritable", "ambient"):
        capabilities = process.get("capabilities") or {}
        if capabilities.get(name) is not None:
            capabilities[name] = sorted(capabilities[name])
    process["user"]["additionalGids"] = sorted(process["user"].get("additionalGids") or [])
    process["rlimits"] = sorted(process.get("rlimits") or [], key=lambda one: one["type"])
    # Without it the runtime looks it up in the image's passwd file, and finds the same.
    process["env"] = [one for one in process["env"] if not one.startswith("HOME=")]
    spec["root"]["path"] = "ROOT"
    for mount in spec["mounts"]:
        if mount["destination"] in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf") and "note" not in mount["source"]:
            mount["source"] = "GENERATED"
        if "/volumes/" in mount["source"]:
            mount["source"] = "VOLUME"
        if mount["destination"] == "/dev/shm" and mount["source"].startswith("WORK/") and "dir" not in mount["source"]:
            mount["source"] = "SHM"
        mount["options"] = sorted(mount.get("options") or [])
    spec["order of mounts"] = [mount["destination"] for mount in spec["mounts"]]
    spec["mounts"] = {mount.pop("destination"): mount for mount in spec["mounts"]}
    namespaces = {}
    for one in linux.get("namespaces") or []:
        path = one.get("path", "")
        if one["type"] == "network" and path.endswith("/default"):
            continue  # the host's, by the name that dockerd gives it
        if one["type"] == "network" and path and not path.startswith("/proc"):
            path = ""  # made beforehand or by the runtime: a new one in both cases
        namespaces[one["type"]] = re.sub(r"^/proc/\d+/", "/proc/PID/", path) or "new"
    linux["namespaces"] = namespaces
    linux["cgroupsPath"] = re.sub(r"^.*(?=/[^/]+/ID$)", "", linux.get("cgroupsPath", ""))
    linux["devices"] = {one.pop("path"): one for one in linux.get("devices") or []}
    for name in ("maskedPaths", "readonlyPaths"):
        linux[name] = sorted(linux.get(name) or [])
    linux["seccomp"] = verdicts(linux.get("seccomp"))
    spec.pop("ociVersion")
    return spec


def empty(value):
    return value in (None, [], {}, "", 0, False)


def compare(theirs, ours, path=""):
    """Lines that say how our document differs. What is absent is what is empty, zero or false."""
    if empty(theirs) and empty(ours):
        return
    if isinstance(theirs, dict) and isinstance(ours, dict) or isinstance(theirs, dict) and empty(ours) or isinstance(ours, dict) and empty(theirs):
        for key in sorted(set(theirs or {}) | set(ours or {})):
            yield from compare((theirs or {}).get(key), (ours or {}).get(key), "%s.%s" % (path, key) if path else key)
        return
    if theirs != ours:
        yield "%s: %s, not %s" % (path, json.dumps(ours, sort_keys=True), json.dumps(theirs, sort_keys=True))


# --- running

def configuration(sock, kept, line, words):
    """What the runtime was given, or the message of a refusal before that."""
    path = kept + "/config.json"
    if os.path.exists(path):
        os.remove(path)
    argv = ["run", "--rm"]
    for word in line.split():
        for name, value in words.items():
            word = word.replace("{%s}" % name, value)
        argv.append(word)
    env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=words["work"] + "/config", LC_ALL="C")
    done = subprocess.run([DOCKER] + argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, timeout=SECONDS)
    if not os.path.exists(path):
        return None, done.stderr.decode(errors="replace").strip()
    return json.load(open(path)), ""


def differences(theirs, ours, words):
    for line in wanted():
        specs = [configuration(sock, kept, line, words) for sock, kept in (theirs, ours)]
        (a, refused_a), (b, refused_b) = specs
        if a is None or b is None:
            if (a is None) != (b is None):
                yield line, "refused by %s: %s" % (("dockerd", refused_a) if a is None else ("Gantry", refused_b)), a, b
            continue
        for text in compare(normal(a, words["work"]), normal(b, words["work"])):
            yield line, text, a, b


def docker(sock, words, *argv):
    env = dict(os.environ, DOCKER_HOST="unix://" + sock, DOCKER_CONFIG=words["work"] + "/config", LC_ALL="C")
    return subprocess.run([DOCKER] + list(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, text=True, timeout=SECONDS)


def reviewed():
    entries = []
    for number, line in enumerate(open(LIST), 1):
        line = line.rstrip("\n")
        if not line or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|||")]
        if len(parts) != 3 or not parts[2]:
            raise SystemExit("%s:%d: not COMMAND LINE ||| DIFFERENCE ||| REASON" % (LIST, number))
        entries.append(parts)
    return entries


def report(found):
    entries = reviewed()
    used, fresh, shown = set(), 0, set()
    for line, text, theirs, ours in found:
        hit = [i for i, entry in enumerate(entries) if wild(line, entry[0]) and wild(text, entry[1])]
        used.update(hit)
        if hit:
            continue
        fresh += 1
        print("%s ||| %s" % (line, text))
        if VERBOSE and line not in shown:
            shown.add(line)
            print("    dockerd: %s\n    Gantry:  %s" % (json.dumps(theirs), json.dumps(ours)))
    stale = [] if ONLY or PART else [entry for i, entry in enumerate(entries) if i not in used]
    for entry in stale:
        print("nothing differs any more as the list says: %s" % " ||| ".join(entry))
    lines = len(wanted())
    print("spec: %d command lines, %d differences, %d of them reviewed" % (lines, len(found), len(found) - fresh))
    return 1 if fresh or stale else 0


def spy(work, name):
    kept = os.path.join(work, "kept-" + name)
    os.mkdir(kept)
    path = os.path.join(work, "spy-" + name)
    with open(path, "w") as script:
        script.write(SPY.replace("{kept}", kept))
    os.chmod(path, 0o755)
    return path, kept


def main():
    for program in (DOCKER, "dockerd", "containerd", "runc", "busybox"):
        if not have(program):
            raise SystemExit("spec: %s is not installed: ./dev setup" % program)
    enter_namespaces()
    work = tempfile.mkdtemp(prefix="gantry-spec.", dir="/tmp")
    os.chmod(work, 0o755)
    daemons = []
    words = {"work": work, "words": "a;b", "rule": "c 1:3 rwm", "disk": "null"}
    status = 1
    try:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as forward:
            forward.write("1")
        state = make_state(work)
        mount_free_controllers(work)
        programs = install(BIN, work)
        archive = make_busybox(work)
        os.makedirs(work + "/dir")
        os.makedirs(work + "/shared")
        for options in (["--bind", work + "/shared"], ["--make-shared"]):
            subprocess.run(["mount"] + options + [work + "/shared"], check=True)
        open(work + "/note", "w").write("note\n")
        disks = sorted(name for name in os.listdir("/sys/block") if os.path.exists("/dev/" + name))
        words["disk"] = disks[0] if disks else "null"
        ours = state + "/gantry-docker.sock"
        our_spy, our_kept = spy(work, "gantry")
        their_spy, their_kept = spy(work, "dockerd")
        open(work + "/gantry.toml", "w").write('default_runtime = "spy"\n[runtimes.spy]\npath = "%s"\n' % our_spy)
        gantry = Daemon([programs + "/gantryd", "--config", work + "/gantry.toml", "--root", work + "/root", "--state", state + "/gantry", "--address",
                         state + "/gantry.sock", "--docker-address", ours, "--shim", programs + "/gantry-shim"],
                        [programs + "/ctl", "--address", state + "/gantry.sock", "version"], work + "/gantryd.log")
        gantry.start()
        daemons.append(gantry)
        containerd_socket = state + "/containerd.sock"
        daemons.append(start_containerd(work, containerd_socket, state))
        theirs = state + "/docker.sock"
        dockerd = Daemon(["dockerd", "--containerd", containerd_socket, "--data-root", work + "/docker", "--exec-root", state + "/docker", "--pidfile",
                          state + "/docker.pid", "-H", "unix://" + theirs, "--storage-driver", "overlay2", "--add-runtime", "spy=" + their_spy,
                          "--default-runtime", "spy"],
                         [DOCKER, "-H", "unix://" + theirs, "version"], work + "/dockerd.log")
        dockerd.start()
        daemons.append(dockerd)
        for sock, kept in ((theirs, their_kept), (ours, our_kept)):
            loaded = docker(sock, words, "load", "-i", archive)
            if loaded.returncode != 0:
                raise SystemExit("spec: load: %s" % loaded.stdout)
            open(kept + "/pass", "w").close()
            base = docker(sock, words, "run", "-d", "--name", "base", "-v", "base:/from-base", "bb:1", "sleep", "3600")
            if base.returncode != 0:
                raise SystemExit("spec: run: %s" % base.stdout)
            os.remove(kept + "/pass")
        status = report(list(differences((theirs, their_kept), (ours, our_kept), words)))
        for sock in (theirs, ours):
            docker(sock, words, "rm", "-f", "base")
    finally:
        for daemon in reversed(daemons):
            daemon.stop()
        if status != 0 and os.environ.get("SPEC_LOG"):
            shutil.copy(work + "/gantryd.log", os.environ["SPEC_LOG"])
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
