#!/usr/bin/env python3
"""./dev demo kubernetes [--keep] [--logs DIR]: a Kubernetes cluster of two nodes on Gantry, on this machine, from nothing.

Every step says what it does and checks what comes of it; the first that fails is named, and the status is 1 then. What was made is removed in any
case. cluster.py says what runs where. As root.

  --keep      leave the cluster standing until Enter
  --logs DIR  keep what the programs logged in DIR

Environment: GANTRY_BIN, the directory of the built programs (out/bin); GANTRY_KUBERNETES, the directory of Kubernetes' programs (else programs.sh
builds them, once); GANTRY_KUBE_PROXY, nftables or iptables.
"""
import argparse
import collections
import fcntl
import glob
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
from cluster import Cluster, Failed, run, wait_for  # noqa: E402

MANIFESTS = HERE + "/manifests/"
NEEDED = {"etcd": "etcd-server", "docker-registry": "docker-registry", "/usr/lib/cni/bridge": "containernetworking-plugins", "nft": "nftables",
          "iptables": "iptables", "busybox": "busybox-static", "openssl": "openssl", "ip": "iproute2", "nsenter": "util-linux"}
STEPS = []


def step(title):
    def keep(function):
        STEPS.append((title, function))
        return function
    return keep


def say(text):
    print("  " + text, flush=True)


def shown(text):
    print("".join("    %s\n" % line for line in text.rstrip().splitlines()), end="", flush=True)


def check(right, text):
    """One thing that has to be so."""
    if not right:
        raise Failed("not so: " + text)
    say("ok: " + text)


def show(cluster, *argv):
    """A command line of kubectl as one would type it, and what it prints."""
    print("  $ kubectl " + " ".join(argv), flush=True)
    out = cluster.kubectl(*argv)
    shown(out)
    return out


# What is asked of the cluster.

def pods(cluster, label):
    return [pod for pod in cluster.get("pods", "-l", label)["items"] if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def ready_pods(cluster, label, count):
    def found():
        live = pods(cluster, label)
        return live if len(live) == count and all(map(is_ready, live)) else None
    return wait_for("%d ready pods of %s" % (count, label), found, 90)


def name_of(pod):
    return pod["metadata"]["name"]


def node_of(pod):
    return pod["spec"].get("nodeName")


def restarts(pod):
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))


def pod_named(cluster, name):
    return cluster.get("pod", name)


def identity(pod):
    """What stays the same as long as nobody touched a pod."""
    return (name_of(pod), pod["metadata"]["uid"], pod["status"].get("podIP"), restarts(pod),
            tuple(sorted(status.get("containerID", "") for status in pod["status"].get("containerStatuses", []))))


def client_on(cluster, node):
    return next(name_of(pod) for pod in pods(cluster, "app=client") if node_of(pod) == node)


def inside(cluster, pod, script, *options):
    return cluster.kubectl("exec", *options, pod, "--", "sh", "-c", script)


def service_address(cluster):
    return cluster.get("service", "web")["spec"]["clusterIP"]


def requests(cluster, pod, count):
    """Answers to so many requests to the Service from inside a pod."""
    out = inside(cluster, pod, "for i in $(seq %d); do get %s 80; done" % (count, service_address(cluster)))
    return collections.Counter(out.splitlines())


def ready_endpoints(cluster):
    slices = cluster.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
    return {address for one in slices for endpoint in one.get("endpoints") or [] if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]}


class Traffic:
    """Requests from a pod to the Service, one after the other, until stop()."""

    def __init__(self, cluster, node):
        self.cluster, self.pod = cluster, client_on(cluster, node)
        inside(cluster, self.pod, "rm -f /tmp/stop")
        script = "while [ ! -e /tmp/stop ]; do get %s 80; done" % service_address(cluster)
        self.process = subprocess.Popen(cluster.kubectl_line() + ["exec", self.pod, "--", "sh", "-c", script],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def stop(self):
        inside(self.cluster, self.pod, "touch /tmp/stop")
        out, _ = self.process.communicate(timeout=60)
        answers = collections.Counter(out.splitlines())
        return sum(answers.values()), answers.pop("lost", 0), answers


# The steps.

@step("Images: made of busybox, built by ctl, served by a registry inside the cluster")
def images(cluster):
    node, root = cluster.nodes["node1"], cluster.work + "/image"
    os.makedirs(root + "/bin")
    os.makedirs(root + "/etc")
    os.makedirs(root + "/tmp")
    os.chmod(root + "/tmp", 0o1777)
    shutil.copy(shutil.which("busybox"), root + "/bin/busybox")
    shutil.copy(HERE + "/image/get", root + "/bin/get")
    for applet in run([root + "/bin/busybox", "--list"]).split():
        if applet != "busybox":
            os.symlink("busybox", root + "/bin/" + applet)
    for path, text in (("passwd", "root:x:0:0:root:/:/bin/sh\n"), ("group", "root:x:0:\n")):
        with open(root + "/etc/" + path, "w") as out:
            out.write(text)
    run(["tar", "-C", root, "-cf", cluster.work + "/image.tar", "."])
    node.ctl("import", "-q", "-c", 'CMD ["sh"]', cluster.work + "/image.tar", "demo.test/busybox:1")
    for version in "12":
        node.ctl("build", "-q", "-t", "demo.test/web:" + version, "--build-arg", "VERSION=" + version, HERE + "/image")
    for image in ("busybox:1", "web:1", "web:2"):
        node.ctl("push", "-q", "demo.test/" + image)
        say("pushed demo.test/" + image)


@step("Two nodes, each with a gantryd, a kubelet and a kube-proxy")
def nodes(cluster):
    def ready():
        cluster.check()
        found = cluster.try_kubectl("get", "nodes", "-o", "json")
        items = json.loads(found)["items"] if found else []
        return len(items) == 2 and all(map(is_ready, items)) and items
    items = wait_for("both nodes Ready", ready, 90)
    show(cluster, "get", "nodes", "-o", "wide")
    for node in items:
        runtime = node["status"]["nodeInfo"]["containerRuntimeVersion"]
        check(runtime.startswith("gantry://"), node["metadata"]["name"] + " is Ready and runs on Gantry")


@step("A DaemonSet: one pod on each node")
def daemon_set(cluster):
    wait_for("the service account", lambda: cluster.try_kubectl("get", "serviceaccount", "default"), 30)
    show(cluster, "apply", "-f", MANIFESTS + "client.yaml")
    found = ready_pods(cluster, "app=client", 2)
    check({node_of(pod) for pod in found} == {"node1", "node2"}, "a client pod runs on each node")


@step("A Deployment of three copies, spread over the nodes")
def deployment(cluster):
    show(cluster, "apply", "-f", MANIFESTS + "web.yaml")
    show(cluster, "rollout", "status", "deployment/web", "--timeout=90s")
    found = ready_pods(cluster, "app=web", 3)
    show(cluster, "get", "pods", "-l", "app=web", "-o", "wide")
    check({node_of(pod) for pod in found} == {"node1", "node2"}, "both nodes have some of the three")


@step("A Service: its address leads to every copy, from both nodes")
def service(cluster):
    address, names = service_address(cluster), {name_of(pod) for pod in pods(cluster, "app=web")}
    show(cluster, "get", "service", "web")
    wait_for("three endpoints", lambda: len(ready_endpoints(cluster)) == 3, 30)
    for node in ("node1", "node2"):
        answers = wait_for("answers of all three", lambda: (lambda got: got if len(got) == 3 and "lost" not in got else None)(
            requests(cluster, client_on(cluster, node), 40)), 30)
        check({line.split()[-1] for line in answers} == names, "from %s 40 of 40 requests to %s are answered, by all three pods" % (node, address))
    own = name_of(pods(cluster, "app=web")[0])
    answers = requests(cluster, own, 40)
    check("lost" not in answers and "web 1 from " + own in answers, "%s reaches the Service too, and itself through it" % own)
    for node in cluster.nodes.values():
        answer = cluster.fetch("http://%s:30080/" % node.address)
        check(answer.startswith("web 1 from"), "port 30080 of %s leads there from outside" % node.name)


@step("A rolling update without a lost request")
def rolling_update(cluster):
    traffic = Traffic(cluster, "node1")
    try:
        show(cluster, "set", "image", "deployment/web", "web=demo.test/web:2")
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
        ready_pods(cluster, "app=web", 3)
    finally:
        total, lost, answers = traffic.stop()
    by_version = collections.Counter()
    for line, count in answers.items():
        by_version[line.split()[1]] += count
    say("%d requests: %s" % (total, ", ".join("%d answered by version %s" % (n, v) for v, n in sorted(by_version.items()))))
    check(lost == 0 and by_version["1"] and by_version["2"], "both versions have answered and no request was lost")


@step("A Job: four pods, each tried twice")
def job(cluster):
    show(cluster, "apply", "-f", MANIFESTS + "job.yaml")
    show(cluster, "wait", "--for=condition=complete", "job/sums", "--timeout=120s")
    found = cluster.get("pods", "-l", "job-name=sums")["items"]
    check(len(found) == 4 and all(restarts(pod) == 1 for pod in found), "four pods have completed, each restarted once in its place")
    lines = [cluster.kubectl("logs", name_of(pod)).strip() for pod in found]
    check(sorted(lines) == ["index %d: %d" % (i, i * i) for i in range(4)], "their logs have the four sums")


@step("A StatefulSet: its data survives its pod")
def stateful_set(cluster):
    show(cluster, "apply", "-f", MANIFESTS + "keeper.yaml")
    old = ready_pods(cluster, "app=keeper", 1)[0]
    inside(cluster, "keeper-0", "echo remember > /data/note")
    show(cluster, "delete", "pod", "keeper-0")
    new = ready_pods(cluster, "app=keeper", 1)[0]
    check(new["metadata"]["uid"] != old["metadata"]["uid"] and inside(cluster, "keeper-0", "cat /data/note") == "remember\n",
          "the new keeper-0 reads what the old one wrote")


@step("A liveness probe restarts a container")
def liveness(cluster):
    show(cluster, "apply", "-f", MANIFESTS + "alive.yaml")
    show(cluster, "wait", "--for=condition=Ready", "pod/alive", "--timeout=60s")
    first = cluster.kubectl("logs", "alive")
    inside(cluster, "alive", "rm /tmp/alive")
    pod = wait_for("a restart", lambda: (lambda pod: pod if restarts(pod) and is_ready(pod) else None)(pod_named(cluster, "alive")), 60)
    last = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    check(restarts(pod) == 1 and last["exitCode"] == 137, "alive was ended (code %d) and started again, once" % last["exitCode"])
    check(cluster.kubectl("logs", "--previous", "alive") == first, "logs --previous shows the container before")


@step("A readiness probe takes a pod out of the Service, and back in")
def readiness(cluster):
    found = ready_pods(cluster, "app=web", 3)
    chosen, client = found[0], client_on(cluster, "node2")
    inside(cluster, name_of(chosen), "rm /www/ready")
    wait_for("two endpoints", lambda: len(ready_endpoints(cluster)) == 2, 30)
    answers = wait_for("answers of two", lambda: (lambda got: got if len(got) == 2 else None)(
        requests(cluster, client, 30)), 30)
    check("lost" not in answers and not any(line.endswith(name_of(chosen)) for line in answers), "30 requests go to the two others")
    inside(cluster, name_of(chosen), "touch /www/ready")
    wait_for("three endpoints", lambda: len(ready_endpoints(cluster)) == 3, 30)
    check(restarts(pod_named(cluster, name_of(chosen))) == 0, "it is back and was not restarted")


@step("What a pod's description asks for reaches its containers")
def settings(cluster):
    cluster.kubectl("apply", "-f", MANIFESTS + "settings.yaml")
    show(cluster, "wait", "--for=condition=Ready", "pod/settings", "--timeout=60s")
    out = wait_for("its log", lambda: (lambda log: log if "complete" in log else None)(cluster.kubectl("logs", "settings", "-c", "main")), 30)
    shown(out)
    for wanted in ("user 1000:2000 groups 2000 3000", 'host chosen pod settings colour colour="blue"', "config hello secret open sesame",
                   "first prepared beside /shared/beside", "limit 67108864 root touch: /new: Read-only file system", "ports 40000\t50000",
                   "aliases 10.9.8.7\telsewhere.demo.test dns search demo.test\nnameserver 10.96.0.10",
                   "CapEff:\t0000000000000000 Seccomp:\t2 NoNewPrivs:\t1", "memory volume tmpfs token there", "sidecars seen 1"):
        if wanted not in out:
            raise Failed("not in the pod's log: " + wanted)
    say("ok: users, volumes, names, limits, init and sidecar containers, sysctls, capabilities, seccomp")
    before = pod_named(cluster, "settings")
    cluster.kubectl("patch", "pod", "settings", "--subresource", "resize", "--patch",
                    json.dumps({"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "300m"}}}]}}))
    quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"
    wait_for("the new limit", lambda: inside(cluster, "settings", quota, "-c", "main").strip() == "30000", 60)
    check(identity(pod_named(cluster, "settings")) == identity(before), "its limit is raised from 0.2 to 0.3 CPUs while it runs")
    greedy = wait_for("the end of greedy", lambda: (lambda pod: pod if pod["status"]["phase"] == "Failed" else None)(
        pod_named(cluster, "greedy")), 60)
    ended = greedy["status"]["containerStatuses"][0]["state"]["terminated"]
    check((ended["reason"], ended["exitCode"]) == ("OOMKilled", 137), "a pod that takes more memory than its limit is OOMKilled")
    apart = wait_for("the end of apart", lambda: (lambda pod: pod if pod["status"]["phase"] in ("Failed", "Succeeded") else None)(
        pod_named(cluster, "apart")), 60)
    owner, first = cluster.kubectl("logs", "apart").split()
    check(apart["status"]["phase"] == "Succeeded" and owner == "0" and int(first) > 0,
          "a pod with users of its own: its root is user %s of the node, and owns its volume" % first)
    cluster.kubectl("delete", "pod", "settings", "greedy", "apart")


@step("exec, with a terminal too")
def execute(cluster):
    pod = client_on(cluster, "node2")
    done = subprocess.run(cluster.kubectl_line() + ["exec", "-i", pod, "--", "sh", "-c", "cat; echo problem >&2; exit 42"],
                          input="through and back\n", capture_output=True, text=True, timeout=60)
    check((done.stdout, done.returncode) == ("through and back\n", 42) and "problem" in done.stderr,
          "input, output, errors and the exit code 42 come through")
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    script = "until stty size 2> /dev/null | grep .; do sleep 0.1; done; tty"  # the size comes a moment after the terminal
    process = subprocess.Popen(cluster.kubectl_line() + ["exec", "-it", pod, "--", "sh", "-c", script],
                               stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    out = b""
    try:
        while chunk := os.read(main, 4096):
            out += chunk
    except OSError:
        pass  # the terminal's other side was closed
    os.close(main)
    if process.wait(30) != 0 or b"33 111" not in out or b"/dev/pts/0" not in out:
        raise Failed("exec -it gave status %d and printed %r" % (process.returncode, out))
    say("ok: a terminal of 33 rows and 111 columns is one inside")


@step("logs -f from the first line to the last")
def logs(cluster):
    cluster.kubectl("apply", "-f", MANIFESTS + "counter.yaml")
    wait_for("counter", lambda: pod_named(cluster, "counter")["status"]["phase"] != "Pending", 60)
    began = time.monotonic()
    out = cluster.kubectl("logs", "-f", "counter", timeout=60)
    took = time.monotonic() - began
    check(out == "".join("line %d\n" % i for i in range(1, 31)), "logs -f gave 30 lines in %.1f s and ended with the container" % took)
    check(cluster.kubectl("logs", "--tail", "2", "counter") == "line 29\nline 30\n", "logs --tail 2 gives the last two")
    cluster.kubectl("delete", "pod", "counter")


@step("port-forward")
def port_forward(cluster):
    pod = name_of(pods(cluster, "app=web")[0])
    process = subprocess.Popen(cluster.kubectl_line() + ["port-forward", pod, "18080:8080"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    try:
        line = process.stdout.readline()
        if "Forwarding" not in line:
            raise Failed("port-forward: " + line)
        for _ in range(3):
            answer = cluster.fetch("http://127.0.0.1:18080/")
            if answer != "web 2 from %s\n" % pod:
                raise Failed("through the forwarded port came " + answer)
    finally:
        process.terminate()
        process.wait(30)
    say("ok: three requests to 127.0.0.1:18080 were answered by " + pod)


@step("cp, there and back")
def copy(cluster):
    pod, there, back = client_on(cluster, "node2"), cluster.work + "/there", cluster.work + "/back"
    content = os.urandom(3_000_000)
    with open(there, "wb") as out:
        out.write(content)
    cluster.kubectl("cp", there, pod + ":/tmp/copied")
    said = inside(cluster, pod, "sha256sum /tmp/copied").split()[0]
    check(said == hashlib.sha256(content).hexdigest(), "3 MB have arrived in the pod")
    cluster.kubectl("cp", pod + ":/tmp/copied", back)
    with open(back, "rb") as read:
        check(read.read() == content, "and come back the same")


@step("An ephemeral container looks at a running one")
def debug(cluster):
    pod = name_of(pods(cluster, "app=web")[0])
    cluster.kubectl("debug", pod, "--image=demo.test/busybox:1", "--target=web", "--container=look", "--", "sh", "-c",
                    "ps | grep -q 'httpd -p 808[0]' && get 127.0.0.1 8080")
    def ended():
        for status in pod_named(cluster, pod)["status"].get("ephemeralContainerStatuses", []):
            return status["state"].get("terminated")
    state = wait_for("its end", ended, 60)
    check(state["exitCode"] == 0 and cluster.kubectl("logs", pod, "-c", "look") == "web 2 from %s\n" % pod,
          "it sees the processes and the network of the pod")


@step("The kubelet's statistics")
def statistics(cluster):
    def complete():
        text = cluster.try_kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary")
        found = {pod["podRef"]["name"]: pod for pod in json.loads(text)["pods"]} if text else {}
        wanted = [name_of(pod) for pod in cluster.get("pods")["items"] if node_of(pod) == "node1" and pod["status"]["phase"] == "Running"]
        good = [name for name in wanted if name in found and found[name].get("memory", {}).get("workingSetBytes") and
                "usageNanoCores" in found[name].get("cpu", {}) and found[name]["containers"][0].get("memory", {}).get("workingSetBytes")]
        return found if wanted and len(good) == len(wanted) else None
    found = wait_for("numbers for all pods of node1", complete, 60)
    pod = found[client_on(cluster, "node1")]
    check(True, "memory and CPU of each pod on node1; its client has %d KiB" % (pod["memory"]["workingSetBytes"] // 1024))


@step("gantryd is killed: pods keep running, and everything goes on when it is back")
def killed_gantryd(cluster):
    label = "app in (web, client, keeper)"
    wait_for("the pods", lambda: all(map(is_ready, pods(cluster, label))), 60)
    # alive is on either node; its container ends while no gantryd is there to see it.
    alive = pod_named(cluster, "alive")
    node = cluster.nodes[node_of(alive)]
    other = "node2" if node.name == "node1" else "node1"
    before = sorted(map(identity, pods(cluster, label)))
    traffic = Traffic(cluster, other)
    try:
        inside(cluster, "alive", "touch /tmp/end")
        node.processes["gantryd"].kill(signal.SIGKILL)
        say("gantryd of %s is killed" % node.name)
        time.sleep(6)
        node.start_gantryd()
        say("and started again after 6 s")
    finally:
        total, lost, _ = traffic.stop()
    check(lost == 0 and total > 0, "%d requests to the Service meanwhile, none lost" % total)
    wait_for("the node", lambda: is_ready(cluster.get("node", node.name)), 60)
    check(sorted(map(identity, pods(cluster, label))) == before, "the same pods and containers, with their addresses and restart counts")
    pod = wait_for("alive's restart", lambda: (lambda pod: pod if restarts(pod) == restarts(alive) + 1 and is_ready(pod) else None)(
        pod_named(cluster, "alive")), 60)
    check(pod["status"]["podIP"] == alive["status"]["podIP"], "the container that ended meanwhile was started again, in the same pod")
    check(inside(cluster, client_on(cluster, node.name), "echo back") == "back\n", "exec into a pod of before works")
    cluster.kubectl("delete", "pod", "alive")
    say("and a pod of before can be deleted")


@step("The kubelet is killed and started again")
def killed_kubelet(cluster):
    node, label = cluster.nodes["node1"], "app in (web, client, keeper)"
    before = sorted(map(identity, pods(cluster, label)))
    node.processes["kubelet"].kill(signal.SIGKILL)
    node.start_kubelet()
    wait_for("the kubelet", lambda: cluster.try_kubectl("exec", client_on(cluster, "node1"), "--", "true") == "" and
             cluster.try_kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/healthz") == "ok", 60)
    time.sleep(3)
    wait_for("the pods", lambda: all(map(is_ready, pods(cluster, label))), 30)
    check(sorted(map(identity, pods(cluster, label))) == before, "it has found its pods and left them as they were")


@step("A node is drained, without a lost request")
def drain(cluster):
    traffic = Traffic(cluster, "node2")
    try:
        show(cluster, "drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        found = ready_pods(cluster, "app=web", 3)
    finally:
        total, lost, _ = traffic.stop()
    check({node_of(pod) for pod in found} == {"node2"}, "all three copies are on node2")
    check(lost == 0 and total > 0, "%d requests to the Service meanwhile, none lost" % total)
    show(cluster, "uncordon", "node1")
    ready_pods(cluster, "app=keeper", 1)
    check(inside(cluster, "keeper-0", "cat /data/note") == "remember\n", "keeper-0, whose volume is on node1, is back there with its data")


@step("A node is lost: its pods are made on the other one")
def lost_node(cluster):
    check(all(node_of(pod) == "node2" for pod in pods(cluster, "app=web")), "the three copies are on node2")
    cluster.nodes["node2"].end()
    began = time.monotonic()
    say("node2 is off")
    def moved():
        cluster.check()
        return [(node_of(pod), is_ready(pod)) for pod in pods(cluster, "app=web")] == [("node1", True)] * 3
    wait_for("three copies on node1", moved, 120)
    wait_for("their endpoints", lambda: len(ready_endpoints(cluster)) == 3, 30)
    show(cluster, "get", "nodes")
    answers = wait_for("answers", lambda: (lambda got: got if "lost" not in got else None)(
        requests(cluster, client_on(cluster, "node1"), 20)), 60)
    check(sum(answers.values()) == 20, "after %.0f s all are on node1 and answer 20 of 20 requests" % (time.monotonic() - began))


@step("The lost node comes back, as after a power cut")
def node_returns(cluster):
    node = cluster.add_node(2)
    wait_for("node2", lambda: is_ready(cluster.get("node", "node2")), 90)
    found = ready_pods(cluster, "app=client", 2)
    check({node_of(pod) for pod in found} == {"node1", "node2"}, "node2 is Ready, and its DaemonSet's pod runs")
    wait_for("the end of the old pods", lambda: len(cluster.get("pods", "-l", "app=web")["items"]) == 3, 90)
    answers = requests(cluster, client_on(cluster, "node2"), 20)
    check("lost" not in answers, "from there 20 of 20 requests are answered")
    check(node.ctl("version") != "", "its gantryd answers")


@step("Everything is deleted, and nothing is left on the nodes")
def nothing_left(cluster):
    for name in ("web", "client", "job", "keeper"):
        cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "%s%s.yaml" % (MANIFESTS, name))
    wait_for("the end of all pods", lambda: not cluster.get("pods")["items"], 90)
    for node in cluster.nodes.values():
        def left():
            found = ["container " + line for line in node.ctl("-n", "k8s.io", "ps", "-aq").split()]
            found += [path for path in glob.glob(node.directory + "/addresses/pods/*") if re.match(r"\d+\.", os.path.basename(path))]
            found += node.run("sh", "-c", "ls -d /run/gantry/pods/k8s.io/* /run/gantry/tasks/k8s.io/* 2> /dev/null || true").split()
            found += re.findall(r" (\S*(?:/pods/|/overlay)\S*) ", node.run("cat", "/proc/self/mountinfo"))
            found += [line for line in node.run("ip", "-o", "link").splitlines() if "veth" in line]
            return found
        try:
            wait_for("node", lambda: not left(), 150)  # a kubelet collects what is left once a minute
        except Failed:
            raise Failed("left on %s: %s" % (node.name, ", ".join(left())))
        say("ok: no container, pod, interface or address is left on " + node.name)


def last_words(cluster):
    """What one wants to see when a step has failed."""
    for argv in (("get", "nodes", "-o", "wide"), ("get", "pods", "-A", "-o", "wide"), ("get", "events", "--sort-by=.lastTimestamp")):
        if cluster.control:
            print("\n$ kubectl " + " ".join(argv) + "\n" + "\n".join(cluster.try_kubectl(*argv).splitlines()[-30:]), file=sys.stderr)
    for place in cluster.places:
        for process in place.processes.values():
            if process.name in ("gantryd", "kubelet"):
                print("\n%s of %s, the last lines:\n%s" % (process.name, place.name, process.last_words(15)), file=sys.stderr)


def interrupted(number, frame):
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="demo kubernetes", description="A Kubernetes cluster of two nodes on Gantry, on this machine.")
    parser.add_argument("--keep", action="store_true", help="leave the cluster standing until Enter")
    parser.add_argument("--logs", metavar="DIR", help="keep what the programs logged in DIR")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("this needs root")
    # Mounts are not made in the machine's namespace.
    here = os.readlink("/proc/self/ns/mnt")
    if os.environ.get("GANTRY_KUBERNETES_OUTSIDE", here) == here:
        os.environ["GANTRY_KUBERNETES_OUTSIDE"] = here
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable] + sys.argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)

    for program, package in NEEDED.items():
        if not shutil.which(program):
            sys.exit("kubernetes: %s is not there; install the package %s" % (program, package))
    programs = os.environ.get("GANTRY_KUBERNETES")
    if not programs:
        built = subprocess.run([HERE + "/programs.sh"], stdout=subprocess.PIPE, text=True)
        if built.returncode != 0:
            sys.exit("kubernetes: Kubernetes' programs were not built")
        programs = built.stdout.strip()
    began = time.monotonic()
    cluster = Cluster(os.environ.get("GANTRY_BIN", HERE + "/../../out/bin"), programs, os.environ.get("GANTRY_KUBE_PROXY", "nftables"))
    status, title, number = 1, "the control plane", 0
    try:
        print("\033[1m0. A control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler\033[0m", flush=True)
        cluster.start()
        say(cluster.kubectl("version").replace("\n", ", ").rstrip(", "))
        cluster.add_node(1)
        cluster.add_node(2)
        for number, (title, function) in enumerate(STEPS, 1):
            print("\n\033[1m%d. %s\033[0m" % (number, title), flush=True)
            function(cluster)
        print("\nkubernetes: all %d steps in %d s" % (len(STEPS), time.monotonic() - began), flush=True)
        status = 0
    except Exception as error:
        kind = "" if isinstance(error, Failed) else type(error).__name__ + ": "
        print("\nkubernetes: step %d, %s, failed: %s%s" % (number, title, kind, error), file=sys.stderr)
        last_words(cluster)
    except KeyboardInterrupt:
        print("\nkubernetes: interrupted in step %d, %s" % (number, title), file=sys.stderr)
        status = 130
    finally:
        try:
            if options.keep and status != 130 and cluster.control:
                print("\nThe cluster stands until Enter. As root:\n  %s get pods -A" % " ".join(cluster.kubectl_line()))
                for node in cluster.nodes.values():
                    print("  %s %s/ctl -n k8s.io ps" % (" ".join(node.enter), cluster.bin))
                sys.stdout.flush()
                sys.stdin.readline()
        except KeyboardInterrupt:
            pass
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if options.logs:
                for place in cluster.places:
                    os.makedirs("%s/%s" % (options.logs, place.name), exist_ok=True)
                    for log in glob.glob(place.directory + "/*.log"):
                        shutil.copy(log, "%s/%s" % (options.logs, place.name))
            cluster.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
