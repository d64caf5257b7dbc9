#!/usr/bin/env python3
"""`ctl compose config` beside `docker compose config`: the same projects, the same words.

Usage: compose_config.py --ctl CTL --compose DOCKER-COMPOSE [--show] [CASE...]

Each case of compose_cases.py is written to a directory and given to both programs, as YAML and as JSON. Both must
accept it and print the same bytes, or both must refuse it; then the hashes of its services must be the same. No daemon
is needed. What may differ, and why, is REVIEWED.
"""

import argparse
import difflib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from compose_cases import CASES

# Case -> why ctl's answer is another one, on purpose.
REVIEWED = {
    "misc_keys": "`config --hash` of docker compose leaves the names of label files out, its `up` has them; the hash here is that of `up`",
    "dot_env": "`config --hash` of docker compose leaves variables without a value out, its `up` resolves them; the hash here is that of `up`",
    "environment_forms": "the same as dot_env",
    "bind_that_must_be_there": "create_host_path: false is printed; docker compose leaves it out, and its output loads as true",
    "build_ssh_keys": "printed as key=/k, which loads again; docker compose prints the text 'key: /k', and as JSON nothing",
    "include_conflict": "the file's own values win over an included service, as in docker compose 5; 2.40 refuses",
    "interpolation_off": "keys have their usual order; docker compose sorts them when nothing is interpolated",
    "ipam_options": "printed; docker compose reads them and drops them",
    "limits_in_two_places": "a limit in one place only is no conflict; docker compose compares with a limit that nobody wrote",
    "null_networks": "a key without a value is as good as none, as everywhere else; docker compose refuses it here",
    "one_letter_volume": "a volume may have a name of one letter; docker compose takes it for a drive of Windows",
    "reset_in_a_list": "!reset works on labels that another file wrote as a list; docker compose keeps them",
    "same_target": "two mounts at one target in a file are an error, as in docker compose 5; 2.40 takes the last",
    "secrets_at_one_target": "two secrets at one path are one entry, the later; docker compose keeps both",
    "service_env_file_unresolved": "--no-env-resolution leaves env_file as it is, as its help says; docker compose resolves it",
    "start_interval_alone": "said at once; docker compose says at up that start_interval needs start_period",
}
# Lists that docker compose prints in an order of chance.
UNORDERED = ("--services", "--networks", "--images", "--variables", "--volumes")


def run(program, case, directory, extra):
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/user", "PWD": str(directory), "DOCKER_HOST": "unix:///nonexistent/docker.sock",
                   "DOCKER_CONFIG": str(directory / "docker-config")}
    environment.update(case.env)
    done = subprocess.run([*program, *case.args, "config", *case.config, *extra], cwd=directory, env=environment,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    return done.returncode, done.stdout, done.stderr


def without_extensions(value, depth=0):
    """docker compose's JSON has extensions (x-) at the top only."""
    if isinstance(value, dict):
        return {key: without_extensions(one, depth + 1) for key, one in value.items()
                if depth == 0 or not key.startswith("x-") or isinstance(one, dict) and "command" in one}
    if isinstance(value, list):
        return [without_extensions(one, depth + 1) for one in value]
    return value


def tidied(value):
    """docker compose's JSON without what only its implementation explains: names of Go in blkio_config, and an empty command in every watch."""
    if isinstance(value, dict):
        if value.get("exec") == {"command": None}:
            value = {key: one for key, one in value.items() if key != "exec"}
        return {{"Path": "path", "Weight": "weight", "Rate": "rate"}.get(key, key): tidied(one) for key, one in value.items()}
    if isinstance(value, list):
        return [tidied(one) for one in value]
    return value


def same_json(ours, theirs):
    try:
        ours, theirs = without_extensions(json.loads(ours)), tidied(json.loads(theirs))
    except ValueError:
        return ours == theirs
    ours.pop("models", None)  # docker compose's JSON has none
    return ours == theirs


def differences(ours, theirs):
    return "".join(difflib.unified_diff(theirs.splitlines(True), ours.splitlines(True), "docker compose", "ctl compose"))


def compare(name, case, directory, ctl, compose):
    """Why the two differ; "" where they do not."""
    print_model = not any(flag.startswith("--") and flag not in
                          ("--no-interpolate", "--no-normalize", "--no-path-resolution", "--no-env-resolution",
                           "--no-consistency") for flag in case.config)
    for extra in ((), ("--format", "json")) if print_model else ((),):
        ours = run(ctl, case, directory, extra)
        theirs = run(compose, case, directory, extra)
        if (ours[0] == 0) != (theirs[0] == 0):
            return f"status {ours[0]}, docker compose {theirs[0]}\n  ours:   {ours[2].strip()}\n  theirs: {theirs[2].strip()}\n"
        if ours[0] != 0:
            if case.refused and (case.refused not in ours[2] or case.refused not in theirs[2]):
                return f"{case.refused!r} is not in both messages\n  ours:   {ours[2].strip()}\n  theirs: {theirs[2].strip()}\n"
            continue
        if case.refused:
            return f"accepted by both, expected {case.refused!r}\n"
        if any(flag in UNORDERED for flag in case.config):
            same = sorted(ours[1].splitlines()) == sorted(theirs[1].splitlines())
        else:
            same = same_json(ours[1], theirs[1]) if extra else ours[1] == theirs[1]
        if not same:
            return differences(ours[1], theirs[1])
    return "" if case.config or case.refused else hashes_differ(case, directory, ctl, compose)


def hashes_differ(case, directory, ctl, compose):
    """Which services are others to docker compose than to ctl: it would make their containers anew."""
    ours, theirs = (run(program, case, directory, ("--hash", "*")) for program in (ctl, compose))
    if ours[0] != 0 and theirs[0] != 0:
        return ""  # what both refuse has been compared
    if ours[0] != 0 or theirs[0] != 0:
        return f"--hash: status {ours[0]}, docker compose {theirs[0]}\n  ours:   {ours[2].strip()}\n  theirs: {theirs[2].strip()}\n"
    return "" if ours[1] == theirs[1] else "--hash\n" + differences(ours[1], theirs[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ctl", required=True)
    parser.add_argument("--compose", required=True)
    parser.add_argument("--show", action="store_true", help="also show the reviewed differences")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    ctl, compose = [os.path.abspath(options.ctl), "compose"], [os.path.abspath(options.compose)]
    top = pathlib.Path(tempfile.mkdtemp(prefix="compose-config-"))
    failed = reviewed = 0
    names = options.cases or list(CASES)
    try:
        for name in names:
            case = CASES[name]
            directory = top / name
            for path, text in case.files.items():
                file = directory / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            why = compare(name, case, directory, ctl, compose)
            if name in REVIEWED:
                reviewed += 1
                if not why:
                    failed += 1
                    print(f"FAIL {name}: no longer differs; take it out of REVIEWED")
                elif options.show:
                    print(f"reviewed {name}: {REVIEWED[name]}\n{why}")
            elif why:
                failed += 1
                print(f"FAIL {name}\n{why}")
    finally:
        shutil.rmtree(top)
    print(f"compose config: {len(names) - failed} passed, {failed} failed, {reviewed} of them differ for a reviewed reason")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
