#!/usr/bin/env python3
"""./dev bench api: calls of containerd's API on gantryd and on Debian's containerd, by one client program, in turn, in one run.

The client keeps its connections: no client process is in the figures. See api_client_bench.cc for what is called.
Environment: GANTRY_BIN (built programs, default out/bin), BENCH_SECONDS (4, per measure and daemon), BENCH_ONLY (measures whose name
holds this), BENCH_DIR (where the stores are, default the temporary directory), BENCH_HOLD (a command to run beside, PID of gantryd in $1).
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from peers import Daemon, enter_namespaces, have, install, make_image, make_state, mount_free_controllers, sh, start_containerd, unmount_below

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.environ.get("GANTRY_BIN", os.path.join(HERE, "..", "..", "out", "bin"))
IMAGE = "docker.io/library/bench:latest"

enter_namespaces()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    work = tempfile.mkdtemp(prefix="gantry-bench.", dir=os.environ.get("BENCH_DIR"))
    daemons, beside = [], None
    try:
        mount_free_controllers(work)
        _, archive = make_image(work)
        chain_id = json.load(open(work + "/config.json"))["rootfs"]["diff_ids"][0]
        state = make_state(work)
        programs = install(BIN, work)
        gantry = Daemon([programs + "/gantryd", "--root", work + "/groot", "--state", state + "/gantry", "--address", work + "/gantry.sock",
                         "--docker-address", work + "/gdocker.sock", "--shim", programs + "/gantry-shim"],
                        ["ctr", "--address", work + "/gantry.sock", "version"], work + "/gantryd.log")
        daemons.append(gantry)
        gantry.start()
        sockets = ["gantryd=%s/gantry.sock=%d" % (work, gantry.process.pid)]
        if have("containerd"):
            daemons.append(start_containerd(work, work + "/containerd.sock", state))
            sockets.append("containerd=%s/containerd.sock=%d" % (work, daemons[-1].process.pid))
        for socket in sockets:
            sh("ctr", "--address", socket.split("=")[1], "--namespace", "bench", "images", "import", archive)

        spec = json.loads(subprocess.check_output(["ctr", "oci", "spec"]))
        spec["process"].update(args=["true"], env=["PATH=/bin"], terminal=False)
        spec["linux"]["cgroupsPath"] = "/bench/@ID@"
        open(work + "/spec.json", "w").write(json.dumps(spec))
        os.makedirs(work + "/scratch")
        if os.environ.get("BENCH_HOLD"):
            beside = subprocess.Popen(["sh", "-c", os.environ["BENCH_HOLD"], "beside", str(gantry.process.pid)])
        command = [BIN + "/integration/bench/api_client_bench", "--spec", work + "/spec.json", "--image", IMAGE, "--chain-id", chain_id,
                   "--scratch", work + "/scratch", "--seconds", os.environ.get("BENCH_SECONDS", "4")]
        if os.environ.get("BENCH_ONLY"):
            command += ["--only", os.environ["BENCH_ONLY"]]
        print("load average %s; one client, then four" % open("/proc/loadavg").read().split()[0], flush=True)
        done = subprocess.run(command + sockets)
        if beside:
            beside.wait()
        if done.returncode != 0:
            raise SystemExit("bench: the client failed; logs end with\n" + "".join(
                open(daemon.log, errors="replace").read()[-2000:] for daemon in daemons))
    finally:
        for daemon in daemons:
            daemon.stop()
        unmount_below(work)
        shutil.rmtree(work, ignore_errors=True)


main()
