"""What `./dev test parity` looks at on a terminal: sessions, detach keys, sizes, progress, and the completion of real shells.

Each check drives a shell in tmux as a person would and reads the screen. A check is a function with a Terminal; it raises Wrong where
the screen does not show what it should. Nothing is slept for: a screen is read until it fits, for at most PATIENCE seconds.
"""
import os
import re
import shutil
import subprocess
import time

PATIENCE = 60


class Wrong(Exception):
    pass


class Terminal:
    """A shell in a terminal of 100 columns and 30 lines."""

    def __init__(self, stage, shell):
        self.stage = stage
        self.tmux = ["tmux", "-f", "/dev/null", "-S", stage.work + "/tmux"]
        env = dict(os.environ, GANTRY_ADDRESS=stage.address, DOCKER_CONFIG=stage.work + "/ctl-config", TERM="xterm", PS1="$ ", LC_ALL="C.UTF-8",
                   PATH=stage.programs + ":" + os.environ["PATH"], HISTFILE="/dev/null", HOME=stage.work)
        env.pop("TMUX", None)
        self.commands = 0
        self.status = "$status" if shell[0] == "fish" else "$?"
        self.raw = stage.work + "/terminal.raw"
        open(self.raw, "w").close()
        subprocess.run(self.tmux + ["new-session", "-d", "-x", "100", "-y", "30"] + shell, env=env, check=True)
        subprocess.run(self.tmux + ["set-option", "-g", "window-size", "manual"], check=True)
        subprocess.run(self.tmux + ["pipe-pane", "cat >> " + self.raw], check=True)

    def end(self):
        subprocess.run(self.tmux + ["kill-server"], stderr=subprocess.DEVNULL)

    def keys(self, *keys):
        subprocess.run(self.tmux + ["send-keys"] + list(keys), check=True)

    def text(self, text):
        subprocess.run(self.tmux + ["send-keys", "-l", text], check=True)

    def line(self, text):
        self.text(text)
        self.keys("Enter")

    def resize(self, columns, lines):
        subprocess.run(self.tmux + ["resize-window", "-x", str(columns), "-y", str(lines)], check=True)

    def screen(self):
        out = subprocess.run(self.tmux + ["capture-pane", "-p"], check=True, stdout=subprocess.PIPE).stdout.decode(errors="replace")
        return "\n".join(line.rstrip() for line in out.splitlines()).rstrip()

    def wait(self, pattern, again=lambda: None):
        """Reads the screen until the pattern is in it, and calls `again` in between."""
        deadline = time.monotonic() + PATIENCE
        while True:
            screen = self.screen()
            if re.search(pattern, screen, re.M):
                return screen
            if time.monotonic() > deadline:
                raise Wrong("no %r on the screen:\n%s" % (pattern, screen))
            time.sleep(0.05)
            again()

    def command(self, text):
        """Runs it and returns what is on the screen when it has ended; the status is the last line."""
        self.commands += 1
        # The number tells the end of this one from what a screen has had before.
        self.line("clear; %s; echo end%d status=%s" % (text, self.commands, self.status))
        return self.wait(r"^end%d status=\d+$" % self.commands)


def expect(condition, text, screen):
    if not condition:
        raise Wrong("%s:\n%s" % (text, screen))


def session(t):
    t.line("ctl run -it --rm --network none bb:1 sh")
    t.wait(r"#$")
    t.line("stty size")
    t.wait(r"^30 100$")
    t.resize(120, 40)
    # The size arrives a moment after the window has it.
    t.wait(r"^40 120$", again=lambda: t.line("stty size"))
    t.line("exit 7")
    # What is typed before the shell has its terminal back goes to the container.
    t.wait(r"^\$$")
    t.line("echo status=$?")
    t.wait(r"^status=7$")


def detach(t):
    t.line("ctl run -it --name dk --network none bb:1 sh")
    t.wait(r"#$")
    t.keys("C-p", "C-q")
    t.wait(r"^\$$")
    screen = t.command("ctl ps --format '{{.Names}} {{.State}}'")
    expect("dk running" in screen, "detach keys ended the container", screen)
    t.line("ctl attach --detach-keys ctrl-x,x dk")
    t.keys("Enter")
    t.wait(r"#$")
    t.keys("C-x", "x")
    t.wait(r"^\$$")
    screen = t.command("ctl rm -f dk")
    expect("status=0" in screen, "rm", screen)


def stats(t):
    t.command("ctl run -d --name st --network none bb:1 sleep 600")
    start = os.path.getsize(t.raw)
    t.line("ctl stats")
    t.wait(r"^\w{12} +st +\d")
    # Two more frames.
    frames = lambda: open(t.raw, "rb").read()[start:].count(b"CONTAINER ID")
    deadline = time.monotonic() + PATIENCE
    while frames() < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    expect(frames() >= 3, "stats shows no further frames", t.screen())
    t.keys("C-c")
    raw = open(t.raw, "rb").read()[start:]
    # The first frame may clear what the shell had left; the others may not.
    expect(raw.count(b"\x1b[2J") + raw.count(b"\x1bc") <= 1, "stats clears the screen for every frame", raw[-400:].decode(errors="replace"))
    t.line("echo status=$?")
    t.wait(r"^status=")
    t.command("ctl rm -f st")


def finished(screen, word, what):
    layers = [line for line in screen.splitlines() if re.match(r"[0-9a-f]{12}: ", line)]
    expect(layers, what + " shows no layer", screen)
    for line in layers:
        expect(re.search(word, line) and "[" not in line, what + " leaves a layer unfinished", screen)
    total = re.search(r"^Total (\d+)/(\d+)", screen, re.M)
    expect(total is None or total[1] == total[2], what + " leaves a total unfinished", screen)


def progress(t):
    registry = t.stage.words["registry"]
    screen = t.command("ctl tag bb:1 %s/term:1 && ctl push %s/term:1" % (registry, registry))
    finished(screen, "Pushed|Layer already exists|Mounted", "push")
    expect("status=0" in screen and "1: digest: sha256:" in screen, "push", screen)
    t.command("ctl rmi -f %s/term:1 bb:1 >/dev/null" % registry)
    screen = t.command("ctl pull %s/term:1" % registry)
    finished(screen, "Pull complete|Already exists", "pull")
    expect("Status: Downloaded newer image" in screen, "pull", screen)
    t.command("ctl rmi -f %s/term:1 >/dev/null" % registry)
    screen = t.command("ctl load -i %s" % t.stage.words["archive"])
    expect("Loaded image: bb:1" in screen and not re.search(r"Reading|Extracting", screen), "load leaves an unfinished line", screen)
    screen = t.command("ctl build -t term:2 %s/app" % t.stage.work)
    expect("status=0" in screen and not re.search(r"^.*\[=+>", screen, re.M), "build", screen)
    t.command("ctl rmi -f term:2")


def nobody(t):
    """A registry that is not there is an answer, not a wait."""
    t.command("true")
    screen = t.command("ctl pull 127.0.0.1:1/none:1")
    expect("status=1" in screen and "refused" in screen.replace("\n", "") and "Total" not in screen, "pull of nobody", screen)

    def seconds(*line):
        """The least of some tries: what else this machine does is not counted."""
        times = []
        for _ in range(5):
            started = time.monotonic()
            subprocess.run([t.stage.programs + "/ctl", *line], env=dict(os.environ, GANTRY_ADDRESS=t.stage.address), stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times.append(time.monotonic() - started)
        return min(times)
    usual = seconds("version")
    for line in (("pull", "127.0.0.1:1/none:1"), ("pull", "nosuch.invalid/none:1"), ("run", "--rm", "nosuch.invalid/none:1"),
                 ("push", "127.0.0.1:1/none:1"), ("login", "-u", "a", "-p", "b", "127.0.0.1:1"), ("search", "127.0.0.1:1/x"),
                 ("manifest", "inspect", "nosuch.invalid/none:1")):
        took = seconds(*line) - usual
        expect(took < 1, "ctl %s: no answer for %.1f s" % (" ".join(line), took), "")


COMPLETIONS = [
    # What is typed, then what must be on the screen after TAB.
    ("ctl run bb:", r"ctl run bb:1"),
    ("ctl rmi 127.0.0.1:5055/com", r"ctl rmi 127\.0\.0\.1:5055/complete:1"),
    ("ctl run --name=a bb:", r"ctl run --name=a bb:1"),
    ("ctl sto", r"ctl stop"),
    ("ctl inspect --type=vol", r"ctl inspect --type=volume"),
    ("ctl run --restart=unl", r"ctl run --restart=unless-stopped"),
    ("ctl ps --filter status=run", r"ctl ps --filter status=running"),
    ("ctl volume rm compl", r"ctl volume rm completed"),
    ("ctl network rm compl", r"ctl network rm completed"),
    ("ctl rm -f compl", r"ctl rm -f completed"),
    ("ctl load -i {work}/not", r"ctl load -i {work}/note"),
    ("ctl context use def", r"ctl context use default"),
    ("ctl kill --signal SIGK", r"ctl kill --signal SIGKILL"),
    ("ctl run --env-file={work}/not", r"--env-file={work}/note"),
    ("ctl run -v complet", r"ctl run -v completed:"),
    ("ctl run --mount type=im", r"ctl run --mount type=image,"),
    ("ctl ps --filter network=compl", r"ctl ps --filter network=completed"),
    ("ctl build --call outl", r"ctl build --call outline"),
    ("ctl -n defau", r"ctl -n default"),
]


def complete(t, load):
    t.line(load)
    t.command("true")
    for typed, wanted in COMPLETIONS:
        words = {"{work}": t.stage.work}
        for name, value in words.items():
            typed, wanted = typed.replace(name, value), wanted.replace(name, re.escape(value))
        t.keys("C-l")
        t.text(typed)
        t.keys("Tab")
        t.wait(wanted)
        t.keys("C-u")


SHELLS = [
    ("bash", ["bash", "--norc", "--noprofile"], "source <(ctl completion bash)"),
    ("zsh", ["zsh", "-f"], "autoload -Uz compinit && compinit -D && source <(ctl completion zsh)"),
    # As the package has it: a file that compinit finds.
    ("zsh-installed", ["zsh", "-f"], "mkdir -p ~/zsh && ctl completion zsh > ~/zsh/_ctl && fpath=(~/zsh $fpath) && autoload -Uz compinit && compinit -D -u"),
    ("fish", ["fish", "--no-config"], "ctl completion fish | source"),
]


def checks(stage, only):
    """(name, what is wrong or None) of every check with `only` in its name."""
    wanted = [("terminal-" + check.__name__, SHELLS[0][1], check) for check in (session, detach, stats, progress, nobody)]
    for shell, argv, load in SHELLS:
        if shutil.which(argv[0]):
            wanted.append(("completion-" + shell, argv, lambda t, load=load: complete(t, load)))
        else:
            print("left out: completion of %s, which is not installed" % shell)
    env = dict(os.environ, GANTRY_ADDRESS=stage.address)
    ctl = [stage.programs + "/ctl"]
    for line in (["load", "-q", "-i", stage.words["archive"]], ["tag", "bb:1", "127.0.0.1:5055/complete:1"], ["volume", "create", "completed"],
                 ["network", "create", "completed"], ["create", "--name", "completed", "--network", "none", "bb:1"]):
        subprocess.run(ctl + line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, argv, check in wanted:
        if only not in name:
            continue
        subprocess.run(ctl + ["load", "-q", "-i", stage.words["archive"]], env=env, stdout=subprocess.DEVNULL)
        terminal = Terminal(stage, argv)
        try:
            check(terminal)
            yield name, None
        except Wrong as wrong:
            yield name, str(wrong)
        finally:
            terminal.end()
