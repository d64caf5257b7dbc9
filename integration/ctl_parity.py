#!/usr/bin/env python3
"""./dev test parity: the same command lines by docker's command line on Debian's dockerd, or on the newest, and by ctl on gantryd.

Compared are exit statuses, the shape of what is printed (ids, times, sizes and addresses count as one word each), of JSON its keys and
types, of error messages what kind of error they tell, and of help texts which commands and options they have. What differs and stands in
ctl_parity.list, or in ctl_parity_newest.list, with its reason, is passed over; anything else is printed and fails the run, and so does an entry of the list that nothing
matches any more.

Then ctl is driven in real terminals and shells (ctl_terminals.py).

Both run in a network and a mount namespace of their own, with roots, states and sockets below a temporary directory. parity.py has the
environment variables that are read.
"""
import os
import re
import sys

from ctl_lines import CLIENT_CASES
from ctl_terminals import checks
from docker_lines import CASES
from parity import DOCKERD, HERE, ONLY, Stage, differences, fill, own, report, run

LIST = os.path.join(HERE, "ctl_parity_newest.list" if DOCKERD else "ctl_parity.list")

# Groups of docker's whose objects Gantry does not have.
ABSENT_GROUPS = {"swarm", "node", "service", "stack", "secret", "config", "trust", "checkpoint", "buildx", "compose", "model", "init", "scout"}

# What an error message is about; the first that fits.
ERROR_KINDS = [
    ("unknown flag", r"unknown (shorthand )?flag"),
    ("number of arguments", r"requires (exactly|at least|at most)|accepts no argument|requires \d+ argument|requires .* argument"),
    ("unknown command", r"is not a (docker|ctl)|unknown command|docker's command '.*' does not exist"),
    ("missing value", r"flag needs an argument"),
    ("not found", r"[Nn]o such|not found|does not exist|could not find|no such"),
    ("in use", r"already in use|already exists|is using|being used|in use|conflict"),
    ("wrong state", r"is not running|is (already )?running|is (already )?paused|is not paused|cannot (kill|stop|pause)"),
    ("invalid", r"[Ii]nvalid|not valid|bad |malformed|cannot parse|must be|not supported|is not a|is neither|unknown|too small|too large|[Mm]inimum"),
]


def kind_of_error(text):
    for kind, pattern in ERROR_KINDS:
        if re.search(pattern, text):
            return kind
    return "other"


def ctl(stage, line):
    env = dict(os.environ, GANTRY_ADDRESS=stage.address, DOCKER_CONFIG=stage.work + "/ctl-config", LC_ALL="C", COLUMNS="80")
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        env.pop(variable, None)
    status, out, err = run([stage.programs + "/ctl"] + fill(line, dict(stage.words, **own(stage.ours, stage.work))), env)
    # The program's name is the only thing that may be another one.
    return status, re.sub(r"\bctl\b", "docker", out), err


def errors(theirs, ours):
    """Where both failed, and of something else."""
    if theirs[0] == ours[0] and theirs[0] not in (0, "no end"):
        a, b = kind_of_error(theirs[2]), kind_of_error(ours[2])
        if a != b and "other" not in (a, b):
            yield "error is about %s, not %s" % (b, a)


# --- help

def help_of(text):
    """(options, commands) that a help text names."""
    options = set()
    commands = set()
    section = ""
    for line in text.splitlines():
        if re.match(r"\S.*:$", line):
            section = line.lower()
        option = re.match(r"\s+(-\w), (--[\w-]+)|\s+(--[\w-]+)", line)
        if option and "examples" not in section:
            options.update(one for one in option.groups() if one)
        command = re.match(r"  ([a-z][\w-]*)\*?  +\S", line)
        if command and "commands" in section:
            commands.add(command[1])
    return options, commands


def help_differences(theirs, ours, way=""):
    """Options and commands that docker's help has and ours has not, down the tree of commands."""
    line = (way + " --help").strip()
    if ONLY not in "help":
        return
    a, b = theirs(line), ours(line)
    if b[0] != 0:
        yield "help", line, "status %s, not %s" % (b[0], a[0]), a, b
        return
    (options, commands), (our_options, our_commands) = help_of(a[1]), help_of(b[1])
    for option in sorted(options - our_options):
        yield "help", line, "no option " + option, a[:1], b[:1]
    for command in sorted(commands - our_commands):
        if way or command not in ABSENT_GROUPS:
            yield "help", line, "no command " + command, a[:1], b[:1]
    for command in sorted(commands & our_commands):
        if way or command not in ABSENT_GROUPS:
            yield from help_differences(theirs, ours, (way + " " + command).strip())


def main():
    with Stage() as stage:
        theirs, ours = stage.docker_on(stage.theirs), lambda line: ctl(stage, line)
        for side in (theirs, ours):
            loaded = side("load -i {archive}")
            if loaded[0] != 0:
                raise SystemExit("parity: load: %s" % (loaded,))
        cases = CASES + CLIENT_CASES
        found = list(differences(cases, theirs, ours, errors)) + list(help_differences(theirs, ours))
        status = report(found, LIST, sum(len(lines) for name, lines in cases if ONLY in name))
        if DOCKERD:
            sys.exit(status)  # no terminal knows which dockerd there is
        passed = failed = 0
        for name, wrong in checks(stage, ONLY):
            passed, failed = passed + (wrong is None), failed + (wrong is not None)
            if wrong is not None:
                print("%s: %s" % (name, wrong))
        print("terminals: %d passed, %d failed" % (passed, failed))
        sys.exit(1 if failed else status)


if __name__ == "__main__":
    main()
