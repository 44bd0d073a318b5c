# SPDX-License-Identifier: MIT
"""The core builds without warnings for every target and compiler, with no libc behind it but mem*, str*, and
without a variable of its own."""
import os
import re
import sys

from targets import ROOT, TARGETS, WARNINGS, Results, binutil, compiler, config_flag, run

# Beside the core: lines for logs, and alerts.
BESIDE = ("port/miniproxy_log.c", "port/miniproxy_watch.c")
BESIDE_NEEDS = re.compile(r"^(strcmp|strchr|miniproxy_\w+)$")

# What a compiler may call by itself.
HELPERS = re.compile(r"^(__aeabi_\w+|__gnu_thumb1_case_\w+|mem(cpy|move|set|chr|cmp)|strlen|"
                     r"__u?(div|mod|divmod|mul|ashl|ashr|lshr|cmp|ffs|clz|ctz|popcount|bswap)[sdt]i[234]?)$")


def check_object(results, target, label, path, more=re.compile("$^")):
    lines = run([binutil(target, "nm"), path]).stdout.splitlines()
    symbols = [line.split()[-2:] for line in lines if line.strip()]
    wanted = sorted(name for kind, name in symbols if kind == "U" and not HELPERS.match(name) and
                    not more.match(name))
    results.check(not wanted, f"{label} needs only mem*, strlen and compiler helpers", "Z06,Z09", " ".join(wanted))
    variables = sorted(name for kind, name in symbols if kind in "bBdDC")
    results.check(not variables, f"{label} has no variables", "-", " ".join(variables))


def check_includes(results):
    allowed = {"<stdbool.h>", "<stddef.h>", "<stdint.h>", "<string.h>", '"miniproxy.h"', "MINIPROXY_CONFIG"}
    found = set()
    for name in ("miniproxy.c", "miniproxy.h"):
        with open(os.path.join(ROOT, name), encoding="utf-8") as f:
            found |= set(re.findall(r"^[ \t]*#[ \t]*include[ \t]+(\S+)", f.read(), re.M))
    results.check(found <= allowed, "the core includes freestanding headers and string.h only", "-",
                  " ".join(found - allowed))
    conditional = r"^[ \t]*#[ \t]*(?:el)?if.*\b_*(?:linux|win32|arm|apple|gnuc|unix).*"
    with open(os.path.join(ROOT, "miniproxy.c"), encoding="utf-8") as f:
        platform = re.findall(conditional, f.read(), re.M | re.I)
    results.check(not platform, "the core has no platform conditionals", "-", "\n".join(platform))


def check_beside(results, target, kind, command, out):
    for source in BESIDE:
        for config in ("default", "everything"):
            name = os.path.basename(source)[:-2]
            label = f"{name} with {config} for {target} with {kind}"
            path = os.path.join(out, f"{name}-{config}-{target}-{kind}.o")
            built = run(command + WARNINGS + ["-Os", config_flag(config), "-c", source, "-o", path])
            results.check(built.returncode == 0, f"{label} builds without warnings", "-", built.stderr[:2000])
            if built.returncode == 0:
                check_object(results, target, label, path, BESIDE_NEEDS)


def main():
    results = Results("cross")
    out = os.path.join(ROOT, "build", "cross")
    os.makedirs(out, exist_ok=True)
    check_includes(results)
    for target in TARGETS:
        for kind in ("gcc", "clang"):
            command = compiler(target, kind)
            if command is None:
                results.add("skip", f"{target} with {kind}: compiler not installed")
                continue
            check_beside(results, target, kind, command, out)
            for config in ("tunnels", "smallest", "default", "everything"):
                label = f"{config} for {target} with {kind}"
                path = os.path.join(out, f"{config}-{target}-{kind}.o")
                built = run(command + WARNINGS + ["-Os", config_flag(config), "-c", "miniproxy.c", "-o", path])
                results.check(built.returncode == 0, f"{label} builds without warnings", "-", built.stderr[:2000])
                if built.returncode == 0:
                    check_object(results, target, label, path)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
