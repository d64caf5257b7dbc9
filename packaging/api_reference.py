#!/usr/bin/env python3
"""Prints docs/user/api.md's generated part: gantry.v1 from the protos, docker's API from the door's route tables.

    api_reference.py            print it, as Markdown
    api_reference.py --check    exit with 1 and say so when docs/user/api.md has another one
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROTOS = sorted((ROOT / "proto/gantry/v1").glob("*.proto"))
ROUTES = sorted((ROOT / "supervisor/api/docker").rglob("*_routes.cc"))
MARK = "<!-- made from the code"


def comment_above(lines, i):
    """The comment that ends right above line i, as one paragraph."""
    words = []
    while i > 0 and lines[i - 1].strip().startswith("//"):
        i -= 1
        words.insert(0, lines[i].strip().lstrip("/").strip())
    return " ".join(words)


def cell(text):
    return text.replace("|", "\\|")


def fields_of(messages, name):
    return ", ".join("`%s`" % field for field in messages.get(name, [])) or "-"


def read_protos():
    """({service: [(rpc, request, streams, response, streams, comment)]}, {message: [field]}, {service: comment})"""
    services, messages, about = {}, {}, {}
    for path in PROTOS:
        lines = path.read_text().splitlines()
        service, stack = None, []
        i = 0
        while i < len(lines):
            line = lines[i].split("//")[0].rstrip()
            start = i
            # A declaration may take several lines.
            while re.match(r"\s*(rpc|repeated|optional|map<|\w[\w.]* \w+ =)", line) and not line.rstrip().endswith((";", "{", "}")):
                i += 1
                line += " " + lines[i].split("//")[0].strip()
            if m := re.match(r"service (\w+)", line):
                service = m[1]
                services[service] = []
                about[service] = comment_above(lines, start)
            elif m := re.match(r"\s*rpc (\w+)\s*\((stream )?([\w.]+)\) returns \((stream )?([\w.]+)\)", line):
                services[service].append((m[1], m[3], bool(m[2]), m[5], bool(m[4]), comment_above(lines, start)))
            elif m := re.match(r"\s*(message|oneof|enum) (\w+) \{(.*)", line):
                if "}" not in m[3]:
                    stack.append((m[1], m[2]))
                if m[1] == "message":
                    messages.setdefault(m[2], [])
            elif line.strip() == "}" and stack:
                stack.pop()
            elif m := re.match(r"\s*(?:repeated |optional )?(?:map<[^>]*>|[\w.]+) (\w+) = \d+", line):
                owner = next((name for kind, name in reversed(stack) if kind == "message"), None)
                if owner and stack[-1][0] != "enum":
                    messages[owner].append(m[1])
            i += 1
    return services, messages, about


def read_routes():
    """[(method, path)] that do something, and [(method, path)] that only say that Gantry does not."""
    served, refused = set(), set()
    for path in ROUTES:
        target = refused if path.name.startswith("absent") else served
        for method, pattern in re.findall(r'\b(?:router\.Add|[Aa]dd)\(\s*"(GET|HEAD|POST|PUT|DELETE)",\s*"(/[^"]*)"', path.read_text()):
            target.add((pattern.replace("...", ""), method))
        loop = r'for \(const char\* method : \{([^}]*)\}\)\s*\{?\s*(?:router\.Add|[Aa]dd)\(\s*method,\s*"(/[^"]*)"'
        for methods, pattern in re.findall(loop, path.read_text()):
            target |= {(pattern.replace("...", ""), method) for method in re.findall(r'"(\w+)"', methods)}
    return sorted(served), sorted(refused - served)


def text():
    services, messages, about = read_protos()
    out = ["## gantry.v1", "", "gRPC on `/run/gantry/gantry.sock`; the messages are in `proto/gantry/v1/`.", ""]
    for service in sorted(services):
        out += ["### %s" % service, ""]
        if about[service]:
            out += [about[service], ""]
        out += ["| call | fields of the request | answers with | |", "| --- | --- | --- | --- |"]
        for rpc, request, in_stream, response, out_stream, comment in services[service]:
            out.append("| `%s` | %s%s | %s%s | %s |" % (
                rpc, "stream of " if in_stream else "", fields_of(messages, request),
                "stream of " if out_stream else "", fields_of(messages, response), cell(comment)))
        out.append("")
    served, refused = read_routes()
    out += ["## Docker Engine API", "", "HTTP/1.1 on `/run/gantry/docker.sock`, versions 1.24 to 1.51; each path also with `/v1.NN` in front.", "",
            "| path | methods |", "| --- | --- |"]
    for path in sorted({p for p, _ in served}):
        out.append("| `%s` | %s |" % (path, ", ".join(m for p, m in served if p == path)))
    out += ["", "Answered with docker's error for what is not there: " +
            ", ".join("`%s %s`" % (m, p) for p, m in refused) + "."]
    return "\n".join(out) + "\n"


def main():
    made = text()
    if "--check" not in sys.argv[1:]:
        sys.stdout.write(made)
        return 0
    page = (ROOT / "docs/user/api.md").read_text()
    if page.split(MARK, 1)[-1].split("\n", 2)[-1] == made:
        return 0
    print("docs/user/api.md is stale: packaging/make_reference.sh writes it anew", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
