# SPDX-License-Identifier: MIT
"""Every header in tests/configs builds without warnings, those named illegal_* fail with the message they announce."""
import glob
import os
import re
import sys

from targets import ROOT, WARNINGS, Results, compiler, config_flag, run


def build(command, name, how):
    return run(command + WARNINGS + how + [config_flag(name), "miniproxy.c"])


def check_illegal(results, command, name, path, kind):
    with open(path, encoding="utf-8") as f:
        expected = re.search(r"/\* fails with: (.*?) \*/", f.read())
    built = build(command, name, ["-fsyntax-only"])
    ok = expected is not None and built.returncode != 0 and expected.group(1) in built.stderr
    results.check(ok, f"{name} is refused by {kind} with its own message", "-",
                  f"expected: {expected.group(1) if expected else 'no message announced'}\n{built.stderr[:1500]}")


def main():
    results = Results("configs")
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "configs", "*.h"))):
        name = os.path.basename(path)[:-2]
        for kind, target in (("gcc", "x86-64"), ("clang", "x86-64"), ("arm gcc", "cortex-m3")):
            command = compiler(target, kind.split()[-1])
            if command is None:
                results.add("skip", f"{name} with {kind}: compiler not installed")
            elif name.startswith("illegal_"):
                check_illegal(results, command, name, path, kind)
            else:
                built = build(command, name, ["-O2", "-c", "-o", "/dev/null"])
                results.check(built.returncode == 0, f"{name} builds with {kind}", "-", built.stderr[:2000])
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
