# SPDX-License-Identifier: MIT
"""Every header here builds the raw port, or with "sockets" in its name that port, without warnings; those named illegal_*
fail with the message they announce.

Argument: where lwIP is.
"""
import glob
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
from targets import ROOT, WARNINGS, Results, find_clang, run  # noqa: E402

COMPILERS = {
    "gcc": ["gcc"],
    "clang": [find_clang() or "clang"],
    "arm gcc": ["arm-none-eabi-gcc", "-mthumb", "-mcpu=cortex-m3"],
}


def build(compiler, lwip, name, how):
    flags = ["-std=c11", "-I.", "-Itests/lwip/configs", "-Itests/lwip/raw",
             "-isystem", os.path.join(lwip, "src/include"), f'-DMINIPROXY_CONFIG="tests/lwip/configs/{name}.h"']
    return run(compiler + WARNINGS + flags + how + [f"port/miniproxy_lwip_{'sockets' if 'sockets' in name else 'raw'}.c"])


def check_illegal(results, compiler, lwip, name, path, kind):
    with open(path, encoding="utf-8") as f:
        expected = re.search(r"/\* fails with: (.*?) \*/", f.read())
    built = build(compiler, lwip, name, ["-fsyntax-only"])
    ok = expected is not None and built.returncode != 0 and expected.group(1) in built.stderr
    results.check(ok, f"{name} is refused by {kind} with its own message", "-",
                  f"expected: {expected.group(1) if expected else 'no message announced'}\n{built.stderr[:1500]}")


def main():
    results = Results("lwip-configs")
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "lwip", "configs", "*.h"))):
        name = os.path.basename(path)[:-2]
        if name in ("base", "lwipopts"):
            continue
        for kind, compiler in COMPILERS.items():
            if shutil.which(compiler[0]) is None:
                results.add("skip", f"{name} with {kind}: compiler not installed")
            elif name.startswith("illegal_"):
                check_illegal(results, compiler, sys.argv[1], name, path, kind)
            else:
                built = build(compiler, sys.argv[1], name, ["-O2", "-c", "-o", "/dev/null"])
                results.check(built.returncode == 0, f"{name} builds with {kind}", "-", built.stderr[:2000])
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
