# SPDX-License-Identifier: MIT
"""The same cases on every stack, side by side: build/results/e2e-*.tsv and port-*.tsv.

    stacks.py [DIRECTORY]

Prints for each family of suites how many cases passed, failed, were skipped or do not apply, and every case whose
verdict is not the same everywhere. Suites of TLS itself (e2e-tls*) are left out: their cases are not everybody's. Ends
with 1 if a case failed anywhere, or is missing without a reason, or if a stack has no results.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))

import not_applicable  # noqa: E402

FAMILIES = ("e2e-", "port-")
APART = "e2e-tls"
E2E = ("epoll", "poll", "asan", "musl", "over-tls", *(f"{where}-{api}" for where in ("lwip", "lm3s", "mps2")
                                          for api in ("raw", "sockets")))


def read(path):
    """Verdict by case. Two results of the same case: the worse one."""
    worst, cases = ("fail", "skip", "pass"), {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            verdict, _, name, _ = line.rstrip("\n").split("\t")
            name = name.removeprefix("tests/e2e/")
            cases[name] = min(verdict, cases.get(name, "pass"), key=worst.index)
    return cases


def load(directory, family):
    files = sorted(name for name in os.listdir(directory) if name.startswith(family) and name.endswith(".tsv") and
                   not name.startswith(APART))
    return {name.removesuffix(".tsv").removeprefix(family): read(os.path.join(directory, name)) for name in files}


def verdict(family, stack, cases, name):
    """pass, fail, skip; n/a with a reason in not_applicable.py; "missing" without one."""
    if name in cases:
        return cases[name]
    if family == "e2e-":
        return "n/a" if not_applicable.reason(name, stack) else "missing"
    return "n/a"  # a port's own tests, beside those of the contract


def table(rows):
    if len(rows) == 1:
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:])]).rstrip())


def show(family, stacks):
    names = list(dict.fromkeys(name for cases in stacks.values() for name in cases))
    verdicts = {stack: {name: verdict(family, stack, cases, name) for name in names}
                for stack, cases in stacks.items()}
    kinds = ("pass", "fail", "skip", "n/a", "missing")
    print(f"\n{family.rstrip('-')}: {len(names)} cases\n")
    table([["", *kinds]] + [[stack, *(str(list(of.values()).count(kind)) for kind in kinds)]
                            for stack, of in verdicts.items()])
    differing = [name for name in names if len({of[name] for of in verdicts.values()}) > 1]
    if family == "e2e-" and differing:
        print("\nwhere they differ:\n")
        table([["", *stacks]] + [[name[:90], *(verdicts[stack][name] for stack in stacks)] for name in differing])
        reasons = {}
        for stack, of in verdicts.items():
            for name, kind in of.items():
                if kind == "n/a":
                    reasons.setdefault(not_applicable.reason(name, stack), set()).add(stack)
        print("\nnot applicable, because:\n")
        for why, where in reasons.items():
            print(f"  {', '.join(sorted(where))}: {why}")
    not_run = [stack for stack in E2E if stack not in stacks] if family == "e2e-" else []
    for stack in not_run:
        print(f"\nNOT RUN: {stack} (make run-e2e-{stack})")
    return bool(not_run) or any(kind in ("fail", "missing") for of in verdicts.values() for kind in of.values())


def main():
    directory = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "results")
    broken = False
    for family in FAMILIES:
        stacks = load(directory, family)
        if stacks or family == "e2e-":
            broken = show(family, stacks) or broken
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
