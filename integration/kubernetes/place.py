#!/usr/bin/env python3
"""Process 1 of a machine of the demo: place.py NAME DIR [--node].

Runs in new network, mount, process and host name namespaces, mounts what a machine of its own has there, prints "ready", and reaps orphans from
then on. When it is killed, everything in these namespaces ends, as when the power is cut.
"""
import ctypes
import os
import subprocess
import sys
import time
import uuid

# A kubelet sets these at its start, for the whole kernel. Files with the values it wants are mounted over them, so that it changes nothing.
TUNABLES = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
            "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def unmount(path):
    # --lazy: umount needs no /proc of this process namespace then.
    subprocess.run(["umount", "--lazy", path], check=True)


def bind(source, target):
    os.makedirs(source, exist_ok=True)
    mount("--bind", source, target)


def become(name, directory, node):
    ctypes.CDLL(None).sethostname(name.encode(), len(name))
    unmount("/proc")
    mount("-t", "proc", "proc", "/proc")
    # /sys/class/net is that of the network namespace in which /sys was mounted. The cgroups are kept aside meanwhile.
    cgroups = directory + "/cgroup"
    os.makedirs(cgroups, exist_ok=True)
    mount("--rbind", "/sys/fs/cgroup", cgroups)
    unmount("/sys")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("--rbind", cgroups, "/sys/fs/cgroup")
    unmount(cgroups)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if not node:
        return
    # As on hosts with systemd: volumes may ask for mounts to be passed on (mountPropagation).
    mount("--make-rshared", "/")
    # Paths that the kubelet does not let one choose, and where the demo's volumes are.
    bind(directory + "/log", "/var/log")
    bind(directory + "/volumes", "/srv")
    # A user namespace may mount /proc only where another one is visible that has no mounts over it, as the kernel rules.
    os.makedirs(directory + "/proc", exist_ok=True)
    mount("-t", "proc", "proc", directory + "/proc")
    # A boot id of its own, so that a node that is started again counts as rebooted.
    for path, value in {**TUNABLES, "kernel/random/boot_id": uuid.uuid4()}.items():
        stand_in = "/run/tunables/" + path.replace("/", "-")
        os.makedirs("/run/tunables", exist_ok=True)
        with open(stand_in, "w") as out:
            out.write("%s\n" % value)
        mount("--bind", stand_in, "/proc/sys/" + path)
    # kube-proxy's rules must see traffic that stays on the pods' bridge: a Service may lead to a pod on the same bridge.
    for path in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        with open("/proc/sys/" + path, "w") as out:
            out.write("1\n")


become(sys.argv[1], sys.argv[2], "--node" in sys.argv[3:])
print("ready", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.2)
