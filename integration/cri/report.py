#!/usr/bin/env python3
"""Reads a ginkgo JSON report: report.py REPORT EXPECTED. Prints failures and what was skipped without being on the list, and as the
last line how many specs passed, failed and were skipped. Ends with 1 when a spec failed or was skipped that is not in EXPECTED.

EXPECTED has a line for each spec that cannot pass here: a part of its full name, a tab, the reason."""
import json, sys

report, expected_file = sys.argv[1:3]
expected = dict(line.rstrip("\n").split("\t", 1) for line in open(expected_file)
                if line.strip() and not line.startswith("#"))
counts = {"passed": 0, "failed": 0, "skipped": 0, "expected": 0}
bad = False
for suite in json.load(open(report)):
    for spec in suite["SpecReports"] or []:
        if spec["LeafNodeType"] != "It":
            if spec["State"] not in ("passed", "skipped"):
                bad = True
                print("FAILED  ", spec["LeafNodeType"], (spec.get("Failure") or {}).get("Message", ""))
            continue
        name = " ".join((spec["ContainerHierarchyTexts"] or []) + [spec["LeafNodeText"]])
        state, failure = spec["State"], (spec.get("Failure") or {}).get("Message", "")
        if "benchmark" in name:
            continue
        # Left out by --ginkgo.focus. A spec that skips itself says why.
        if state == "skipped" and not failure and suite["SuiteConfig"].get("FocusStrings"):
            continue
        reason = next((why for part, why in expected.items() if part in name), None)
        if state == "passed":
            counts["passed"] += 1
            if reason is not None:
                print("passes, though it is on the list:", name)
        elif reason is not None:
            counts["expected"] += 1
        else:
            bad = True
            counts["skipped" if state in ("skipped", "pending") else "failed"] += 1
            print(state.upper(), name, "\n    " + failure.replace("\n", "\n    ")[:1500])
print("critest: {passed} passed, {failed} failed, {skipped} skipped, {expected} cannot pass here".format(**counts))
sys.exit(1 if bad else 0)
