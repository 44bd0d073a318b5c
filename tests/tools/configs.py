# SPDX-License-Identifier: MIT
"""Legal configurations build without warnings, illegal ones fail with a message of their own.

Those in tests/configs: illegal_* fail with the message that they announce, the others build for every target and
compiler. And those that follow from the sources: both ends of every range that miniproxy.c checks build, one beyond
either end does not; every combination of what can be left out builds.
"""
import glob
import itertools
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from targets import ROOT, TARGETS, WARNINGS, Results, compiler, config_flag, run

OUT = os.path.join(ROOT, "build", "configs")
FULLY = ["-O1", "-c", "-o", "/dev/null"]    # some warnings need the optimiser
QUICKLY = ["-O0", "-c", "-o", "/dev/null"]
# What a value at the end of its range needs beside it.
BESIDE = {
    ("MINIPROXY_BUFFER_SIZE", 512): {"MINIPROXY_ADDRESSES": 4, "MINIPROXY_NAME_MAX": 32},
    ("MINIPROXY_SESSIONS", 20000): {"MINIPROXY_ATTEMPTS": 2},
}


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def checked_ranges():
    """{macro: (low, high)} of what is set by configurations; what follows from others is no range to try."""
    settable = set(re.findall(r"^#ifndef (MINIPROXY_\w+)$", read("miniproxy.h"), re.M))
    found = re.findall(r"^CHECK\((\w+), (\d+), (\d+)\);", read("miniproxy.c"), re.M)
    return {name: (int(low), int(high)) for name, low, high in found if name in settable}


def stated_ranges():
    """{macro: (low, high)} as the comments of miniproxy.h say it."""
    found = re.findall(r"/\*((?:[^*]|\*(?!/))*)\*/\s*#ifndef (\w+)", read("miniproxy.h"))
    ranges = {}
    for comment, name in found:
        stated = re.search(r"Range (\d+)\.\.(\d+)", comment)
        if stated:
            ranges[name] = (int(stated.group(1)), int(stated.group(2)))
    return ranges


def generated(name, values):
    """Flag that includes a configuration of these values."""
    path = os.path.join(OUT, name + ".h")
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(f"#define {macro} {value}\n" for macro, value in values.items())
    return f'-DMINIPROXY_CONFIG="{os.path.relpath(path, ROOT)}"'


class Plan:
    """Builds to try, two at a time; results in the order in which they were planned."""

    def __init__(self):
        self.tries = []

    def add(self, name, command, config, how, message=None):
        """message: what the build has to fail with; None: it has to succeed."""
        self.tries.append((name, command + WARNINGS + how + [config, "miniproxy.c"], message))

    def run(self, results):
        with ThreadPoolExecutor(2) as pool:
            for (name, _, message), built in zip(self.tries, pool.map(lambda t: run(t[1]), self.tries)):
                if message is None:
                    results.check(built.returncode == 0, name, "-", built.stderr[:2000])
                else:
                    # the message of the check itself, not what follows from it
                    ok = built.returncode != 0 and message in built.stderr
                    results.check(ok, name, "-", f"expected: {message}\n{built.stderr[:1500]}")


def compilers(results, targets):
    """[(name, command)] of those that are installed."""
    found = []
    for target, kind in itertools.product(targets, ("gcc", "clang")):
        command = compiler(target, kind)
        if command is None:
            results.add("skip", f"{target} with {kind}: compiler not installed")
        else:
            found.append((f"{target} with {kind}", command))
    return found


def plan_files(plan, results, everywhere, here):
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "configs", "*.h"))):
        name = os.path.basename(path)[:-2]
        if not name.startswith("illegal_"):
            for label, command in everywhere:
                how = FULLY if (label, command) in here else QUICKLY
                plan.add(f"{name} builds for {label}", command, config_flag(name), how)
            continue
        expected = re.search(r"/\* fails with: (.*?) \*/", read(f"tests/configs/{name}.h"))
        if expected is None:
            results.add("fail", f"{name} announces its message")
            continue
        for label, command in here:
            plan.add(f"{name} is refused for {label} with its own message", command, config_flag(name),
                     ["-fsyntax-only"], expected.group(1))


def plan_ranges(plan, results, here):
    ranges, stated = checked_ranges(), stated_ranges()
    results.check(len(ranges) > 10, "the ranges that miniproxy.c checks are found")
    for name, limits in ranges.items():
        results.check(stated.get(name) == limits, f"{name}: miniproxy.h states the range that is checked", "-",
                      f"{stated.get(name)} stated, {limits} checked")
        for end, step in zip(limits, (-1, 1)):
            short = name.replace("MINIPROXY_", "").lower()
            for label, command in here:
                values = {**BESIDE.get((name, end), {}), name: end}
                plan.add(f"{name} {end} builds for {label}", command, generated(f"{short}-{end}", values),
                         ["-fsyntax-only"])
                plan.add(f"{name} {end + step} is refused for {label}", command,
                         generated(f"{short}-{end + step}", {name: end + step}), ["-fsyntax-only"], name)
    for name in sorted(set(stated) - set(ranges)):
        results.add("fail", f"{name}: the range that miniproxy.h states is checked")


# What one option needs another for.
NEEDS = {"MINIPROXY_WITH_PBKDF2": ["MINIPROXY_WITH_AUTH"], "MINIPROXY_WITH_ROUTES": ["MINIPROXY_WITH_FORWARDING"],
         "MINIPROXY_WITH_PAC": ["MINIPROXY_WITH_PAGES"],
         "MINIPROXY_WITH_STATUS": ["MINIPROXY_WITH_PAGES", "MINIPROXY_WITH_METRICS"]}


def plan_options(plan, here):
    """Every combination of what can be left out; if these are too many, each alone in and out."""
    options = sorted(set(re.findall(r"^#ifndef (MINIPROXY_WITH_\w+)$", read("miniproxy.h"), re.M)))
    if len(options) <= 4:
        combinations = list(itertools.product((0, 1), repeat=len(options)))
    else:
        combinations = [tuple(int((n == at) == kept) for n in range(len(options)))
                        for kept in (False, True) for at in range(-1, len(options))]
    for combination in combinations:
        values = dict(zip(options, combination))
        for option, needed in NEEDS.items():
            if values[option] > min(values[n] for n in needed) and sum(combination) > 1:
                values[option] = 0
            values.update({n: max(values[option], values[n]) for n in needed})
        name = "with-" + "".join(map(str, combination))
        text = " ".join(f"{macro.replace('MINIPROXY_WITH_', '')} {value}" for macro, value in values.items())
        for label, command in here:
            plan.add(f"{text} builds for {label}", command, generated(name, values), QUICKLY)


def main():
    os.makedirs(OUT, exist_ok=True)
    results = Results("configs")
    everywhere = compilers(results, TARGETS)
    here = [c for c in everywhere if c[0].startswith("x86-64")] + \
           [c for c in everywhere if c[0] == "cortex-m3 with gcc"]
    plan = Plan()
    plan_files(plan, results, everywhere, here)
    plan_ranges(plan, results, here[:2])
    plan_options(plan, here)
    plan.run(results)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
