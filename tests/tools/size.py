# SPDX-License-Identifier: MIT
"""What the core costs: flash, RAM and stack for each target and configuration, compared with tests/budget.txt.

    size.py [--update]      --update rewrites tests/budget.txt and the table in README.md

The deepest stack is computed from gcc's call graph. Calls through function pointers (the port, the application's
hooks) count as 0 and are listed; recursion and frames of variable size are errors.
"""
import os
import re
import sys

from targets import ROOT, TARGETS, Results, binutil, compiler, config_flag, run, version

CONFIGS = ("tunnels", "smallest", "default", "everything")
OUT = os.path.join(ROOT, "build", "size")
BUDGET = os.path.join(ROOT, "tests", "budget.txt")
README = os.path.join(ROOT, "README.md")
COLUMNS = ("flash", "ram", "stack", "fixed", "session", "buffer", "slots", "buffers")
PROBE = """#include "miniproxy.h"
char fixed[offsetof(struct miniproxy, sessions)], session[sizeof(struct miniproxy_session)];
char buffer[sizeof(struct miniproxy_buffer)], ram[sizeof(struct miniproxy)];
char slots[MINIPROXY_SLOTS], buffers[MINIPROXY_BUFFERS];
_Static_assert(MINIPROXY_RAM <= sizeof(struct miniproxy) && sizeof(struct miniproxy) - MINIPROXY_RAM < 8,
               "the formula and the instance differ");
"""


def must(command):
    done = run(command)
    if done.returncode != 0:
        sys.exit(" ".join(command) + "\n" + done.stderr)
    return done.stdout


def read_graph(path):
    """Frames {function: bytes}, calls {function: callees}, functions with a frame of variable size."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    frames, calls, dynamic = {}, {}, []
    for title, label in re.findall(r'^node: \{ title: "([^"]+)" label: "([^"]*)"', text, re.M):
        size = re.search(r"(\d+) bytes \((\w[\w,]*)\)", label)
        if size:
            frames[title] = int(size.group(1))
            if size.group(2) != "static":
                dynamic.append(title)
    for source, target in re.findall(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', text, re.M):
        calls.setdefault(source, set()).add(target)
    return frames, calls, dynamic


def short(title):
    return re.sub(r"^.*:", "", title)


def deepest(frames, calls):
    """(bytes, path) of the deepest chain and the first recursion found, or None."""
    known, recursion = {}, []

    def visit(name, path):
        if name in path:
            recursion.append([short(n) for n in path[path.index(name):] + [name]])
            return 0, []
        if name not in known:
            below = [visit(callee, path + [name]) for callee in sorted(calls.get(name, ()))]
            depth, tail = max(below, default=(0, []))
            known[name] = (frames.get(name, 0) + depth, [name] + tail)
        return known[name]

    worst = max((visit(name, []) for name in sorted(frames)), default=(0, []))
    return worst, recursion[0] if recursion else None


def sections(target, path):
    """Octets in flash, and octets of variables."""
    flash = variables = 0
    for line in must([binutil(target, "size"), "-A", path]).splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[1].isdigit():
            if parts[0].startswith((".text", ".rodata", ".data.rel.ro")):
                flash += int(parts[1])
            elif parts[0].startswith((".data", ".bss", ".sdata", ".sbss")):
                variables += int(parts[1])
    return flash, variables


def measure(results, target, config):
    label = f"{config} on {target}"
    base = os.path.join(OUT, f"{config}-{target}")
    command = compiler(target, "gcc") + ["-Os", "-DNDEBUG", "-ffunction-sections", "-fdata-sections",
                                         "-fno-asynchronous-unwind-tables", config_flag(config)]
    must(command + ["-fcallgraph-info=su", "-c", "miniproxy.c", "-o", base + ".o"])
    with open(base + "-probe.c", "w", encoding="utf-8") as f:
        f.write(PROBE)
    must(command + ["-c", base + "-probe.c", "-o", base + "-probe.o"])
    row = {}
    for line in must([binutil(target, "nm"), "-S", base + "-probe.o"]).splitlines():
        parts = line.split()
        row[parts[3]] = int(parts[1], 16)
    row["flash"], variables = sections(target, base + ".o")
    frames, calls, dynamic = read_graph(base + ".ci")
    (row["stack"], path), recursion = deepest(frames, calls)
    results.check(variables == 0, f"{label}: no variables beside the instance", "-", f"{variables} octets")
    results.check(recursion is None, f"{label}: no recursion", "-", " > ".join(recursion or []))
    results.check(not dynamic, f"{label}: every frame has a fixed size", "Z06", " ".join(map(short, dynamic)))
    row["path"] = " > ".join(f"{short(n)} {frames.get(n, 0)}" for n in path)
    row["pointers"] = sorted(short(n) for n, callees in calls.items() if any("__indirect_call" in c for c in callees))
    return row


def read_budget():
    """{(target, config): ({column: limit}, compiler version)}"""
    budget = {}
    if os.path.exists(BUDGET):
        with open(BUDGET, encoding="utf-8") as f:
            for line in f:
                parts = line.split()
                if parts and not line.startswith("#"):
                    budget[parts[0], parts[1]] = (dict(zip(COLUMNS, map(int, parts[3:]))), parts[2])
    return budget


def write_budget(rows):
    with open(BUDGET, "w", encoding="utf-8") as f:
        f.write("# Octets that the core may cost; written by `make size UPDATE=1`.\n")
        f.write(f"# {'target':9} {'config':10} {'gcc':7} " + " ".join(f"{c:>8}" for c in COLUMNS) + "\n")
        for (target, config), row in rows.items():
            f.write(f"{target:11} {config:10} {version(target):7} " + " ".join(f"{row[c]:8}" for c in COLUMNS) + "\n")


def readme_table(budget):
    lines = ["| target, gcc -Os | configuration | flash | RAM | = fixed | + sessions | + buffers | deepest stack |",
             "|---|---|---|---|---|---|---|---|"]
    for (target, config), (row, _) in budget.items():
        lines.append(f"| {target} | {config} | {row['flash']:,} | {row['ram']:,} | {row['fixed']} | "
                     f"{row['slots']} × {row['session']} | {row['buffers']} × {row['buffer']:,} | {row['stack']} |")
    return "<!-- size -->\n" + "\n".join(lines) + "\n<!-- /size -->"


def readme(update):
    """True when the table in the README says what the budget says."""
    with open(README, encoding="utf-8") as f:
        before = f.read()
    table = readme_table(read_budget())
    after = re.sub(r"<!-- size -->.*?<!-- /size -->", lambda _: table, before, flags=re.S)
    if update:
        with open(README, "w", encoding="utf-8") as f:
            f.write(after)
    return table in before if not update else table in after


def compare(results, rows):
    budget = read_budget()
    for (target, config), row in rows.items():
        limit, made_with = budget.get((target, config), ({}, ""))
        name = f"{config} on {target} within its budget"
        over = [f"{c} {row[c]} > {limit[c]}" for c in ("flash", "ram", "stack") if c in limit and row[c] > limit[c]]
        if not limit:
            results.add("fail", name, "-", "not in tests/budget.txt")
        elif made_with == version(target):
            results.check(not over, name, "-", ", ".join(over))
        else:
            print(f"not compared: {name}: measured with gcc {made_with}, this is {version(target)}; {', '.join(over)}")
    results.check(readme(False), "the table in README.md says what tests/budget.txt says")


def main():
    os.makedirs(OUT, exist_ok=True)
    results = Results("size")
    rows = {}
    for target in TARGETS:
        if compiler(target, "gcc") is None:
            results.add("skip", f"{target}: compiler not installed")
            continue
        for config in CONFIGS:
            rows[target, config] = measure(results, target, config)
    if "--update" in sys.argv:
        write_budget(rows)
        readme(True)
    compare(results, rows)
    print()
    for (target, config), row in rows.items():
        print(f"{target:10} {config:10} flash {row['flash']:6}  stack {row['stack']:5}  RAM {row['ram']:8} = "
              f"{row['fixed']} fixed + {row['slots']} sessions x {row['session']} + "
              f"{row['buffers']} buffers x {row['buffer']}")
        print(f"{'':21} deepest: {row['path']}")
    pointers = sorted({name for row in rows.values() for name in row["pointers"]})
    print("calls through pointers, counted as 0, in: " + (" ".join(pointers) or "-"))
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
