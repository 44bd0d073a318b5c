# SPDX-License-Identifier: MIT
"""Every header here builds the raw port, or with "sockets" in its name that port, without warnings; those named illegal_*
fail with the message they announce.

So do some of them with the names that addresses are compared by in lwIP 2.1. Argument: where lwIP is.
"""
import glob
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from targets import ROOT, WARNINGS, Results, find_clang, run  # noqa: E402

COMPILERS = {
    "gcc": ["gcc"],
    "clang": [find_clang() or "clang"],
    "arm gcc": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m3"],
}

OF_2_1 = "one_segment", "ipv6_alone", "both_families"


def rename_to_2_1(include):
    """lwIP 2.2 renamed ip_addr_cmp to ip_addr_eq, and so on, and kept the old names beside."""
    for folder, _, files in os.walk(include):
        for path in (os.path.join(folder, name) for name in files):
            with open(path, encoding="utf-8") as f:
                text = f.read()
            text = re.sub(r"#define \w+cmp\w*\(.*?\)\s+\w+_eq\(.*\)", "", text)
            text = re.sub(r"\b(ip\w+)_zoneless_eq\b", r"\1_cmp_zoneless", text)
            with open(path, "w", encoding="utf-8") as f:
                f.write(re.sub(r"\b(ip\w+)_eq\b", r"\1_cmp", text))


def build(compiler, include, name, how):
    flags = ["-std=c11", "-I.", "-Itests/lwip/configs", "-Itests/lwip/raw", "-isystem", include,
             f'-DMINIPROXY_CONFIG="tests/lwip/configs/{name}.h"']
    return run(compiler + WARNINGS + flags + how + [f"port/miniproxy_lwip_{'sockets' if 'sockets' in name else 'raw'}.c"])


def check_illegal(results, compiler, include, name, path, kind):
    with open(path, encoding="utf-8") as f:
        expected = re.search(r"/\* fails with: (.*?) \*/", f.read())
    built = build(compiler, include, name, ["-fsyntax-only"])
    ok = expected is not None and built.returncode != 0 and expected.group(1) in built.stderr
    results.check(ok, f"{name} is refused by {kind} with its own message", "-",
                  f"expected: {expected.group(1) if expected else 'no message announced'}\n{built.stderr[:1500]}")


def check_legal(results, compiler, include, name, kind):
    built = build(compiler, include, name, ["-O2", "-c", "-o", "/dev/null"])
    results.check(built.returncode == 0, f"{name} builds with {kind}", "-", built.stderr[:2000])


def main():
    results = Results("lwip-configs")
    include = os.path.join(sys.argv[1], "src", "include")
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "lwip", "configs", "*.h"))):
        name = os.path.basename(path)[:-2]
        if name in ("base", "lwipopts"):
            continue
        for kind, compiler in COMPILERS.items():
            if shutil.which(compiler[0]) is None:
                results.add("skip", f"{name} with {kind}: compiler not installed")
            elif name.startswith("illegal_"):
                check_illegal(results, compiler, include, name, path, kind)
            else:
                check_legal(results, compiler, include, name, kind)
    with tempfile.TemporaryDirectory() as temporary:
        old = os.path.join(temporary, "include")
        shutil.copytree(include, old)
        rename_to_2_1(old)
        for name in OF_2_1:
            check_legal(results, COMPILERS["gcc"], old, name, "gcc and the names of lwIP 2.1")
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
