# SPDX-License-Identifier: MIT
"""Which test proves which rule: joins tests/requirements.tsv with build/results/*.tsv.

    requirements.py [RESULTS_DIRECTORY]

A rule is proven when at least one test that names it passed and none failed. Exit status 1 if a rule in scope fails.
"""
import glob
import os
import sys

GATE = {"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "P-MUST"}
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def read_rules(path):
    with open(path, encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f if not line.startswith("#")]
    return [dict(zip(("id", "level", "scope", "title"), row)) for row in rows]


def read_results(directory, known):
    """{ID: {(suite, test): result}}; the worst result of a test that ran more than once counts."""
    worst = {"fail": 2, "pass": 1, "skip": 0}
    proofs, unknown = {}, set()
    for path in sorted(glob.glob(os.path.join(directory, "*.tsv"))):
        with open(path, encoding="utf-8") as f:
            for line in f:
                parts = line.rstrip("\n").split("\t")
                if len(parts) != 4 or parts[3] in ("", "-"):
                    continue
                result, suite, name, ids = parts
                for rule in (i.strip() for i in ids.split(",")):
                    if rule not in known:
                        unknown.add((suite, name, rule))
                        continue
                    tests = proofs.setdefault(rule, {})
                    before = tests.get((suite, name))
                    if before is None or worst.get(result, 2) > worst.get(before, 2):
                        tests[(suite, name)] = result
    return proofs, unknown


def verdict(tests):
    results = set(tests.values())
    if "fail" in results:
        return "fails"
    return "proven" if "pass" in results else "no test"


def print_rule(rule, tests, state):
    print(f"{rule['id']}  {rule['level']:10} {state:8} {rule['title']}")
    shown = sorted(tests.items(), key=lambda item: (item[1] != "fail", item[0]))
    for (suite, name), result in shown[:6]:
        print(f"       {result:4} {suite}: {name}")
    if len(shown) > 6:
        print(f"            and {len(shown) - 6} more")


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "results")
    rules = read_rules(os.path.join(ROOT, "tests", "requirements.tsv"))
    proofs, unknown = read_results(directory, {r["id"] for r in rules})
    gate = [r for r in rules if r["level"] in GATE]
    now = [r for r in gate if r["scope"] == "now"]
    by_state = {"proven": [], "fails": [], "no test": []}
    for rule in now:
        tests = proofs.get(rule["id"], {})
        state = verdict(tests)
        by_state[state].append(rule)
        print_rule(rule, tests, state)

    print("\nFailing:" if by_state["fails"] else "\nFailing: none")
    for rule in by_state["fails"]:
        print(f"  {rule['id']}  {rule['title']}")
    print("Without a test:" if by_state["no test"] else "Without a test: none")
    for rule in by_state["no test"]:
        print(f"  {rule['id']}  {rule['level']:10} {rule['title']}")
    print("Open, out of scope for now:")
    for rule in gate:
        if rule["scope"] != "now":
            print(f"  {rule['id']}  {rule['level']:10} {rule['title']} ({rule['scope']})")
    extra = [r for r in rules if r["level"] not in GATE and verdict(proofs.get(r["id"], {})) == "proven"]
    print("Optional rules (MAY, P-SHOULD, status definitions) with a passing test: "
          + (" ".join(r["id"] for r in extra) or "-"))
    for suite, name, rule in sorted(unknown):
        print(f"Unknown ID {rule} in {suite}: {name}")
    proven = len(by_state["proven"])
    print(f"Proven: {proven} of {len(now)} in scope now ({100 * proven // len(now)} %), "
          f"{len(by_state['fails'])} failing, {len(by_state['no test'])} without a test, "
          f"{len(gate) - len(now)} out of scope")
    return 1 if by_state["fails"] or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
