# SPDX-License-Identifier: MIT
"""Compilers and targets for which the core is built and measured."""
import functools
import os
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WARNINGS = "-Wall -Wextra -Wconversion -Wpedantic -Wvla -Werror".split()

# name: (gcc, flags of both compilers, clang's target)
TARGETS = {
    "cortex-m0": ("arm-none-eabi-gcc", ["-mthumb", "-mcpu=cortex-m0"], "thumbv6m-none-eabi"),
    "cortex-m3": ("arm-none-eabi-gcc", ["-mthumb", "-mcpu=cortex-m3"], "thumbv7m-none-eabi"),
    "rv32imac": ("riscv64-unknown-elf-gcc", ["-march=rv32imac", "-mabi=ilp32"], "riscv32-unknown-elf"),
    "x86-64": ("gcc", ["-m64", "-fno-pic", "-fno-pie"], "x86_64-linux-gnu"),
}


def run(command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def must(command):
    """Output of a command that has to succeed."""
    done = run(command)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


@functools.lru_cache(None)
def find_clang():
    for name in ["clang"] + [f"clang-{n}" for n in range(25, 12, -1)]:
        if shutil.which(name):
            return name
    return None


@functools.lru_cache(None)
def compiler(target, kind):
    """Command of gcc or clang for a target, with no libc but tests/tools/freestanding; None if it is not installed."""
    gcc, flags, triple = TARGETS[target]
    if kind == "clang":
        clang = find_clang()
        if clang is None:
            return None
        where = os.path.join(run([clang, "-print-resource-dir"]).stdout.strip(), "include")
        command = [clang, "--target=" + triple] + flags
    else:
        if shutil.which(gcc) is None:
            return None
        where = run([gcc, "-print-file-name=include"]).stdout.strip()
        command = [gcc] + flags
    return command + ["-std=c11", "-ffreestanding", "-fbuiltin", "-nostdinc", "-isystem", where,
                      "-isystem", "tests/tools/freestanding", "-I."]


def binutil(target, tool):
    return TARGETS[target][0].replace("gcc", tool)


@functools.lru_cache(None)
def version(target):
    return run([TARGETS[target][0], "-dumpfullversion"]).stdout.strip()


def config_flag(name):
    return f'-DMINIPROXY_CONFIG="tests/configs/{name}.h"'


class Results:
    """build/results/<suite>.tsv, written as the tests run."""

    def __init__(self, suite):
        self.suite, self.failed = suite, 0
        directory = os.path.join(ROOT, "build", "results")
        os.makedirs(directory, exist_ok=True)
        self.file = open(os.path.join(directory, suite + ".tsv"), "w", encoding="utf-8", buffering=1)

    def add(self, result, name, rules="-", detail=""):
        self.file.write(f"{result}\t{self.suite}\t{name}\t{rules}\n")
        if result == "fail":
            self.failed += 1
        print(f"{result}  {name}" + (f"\n{detail}" if detail and result != "pass" else ""))

    def check(self, ok, name, rules="-", detail=""):
        self.add("pass" if ok else "fail", name, rules, detail)
