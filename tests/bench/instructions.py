# SPDX-License-Identifier: MIT
"""Instructions that the core executes for one request, exactly and on every target.

    instructions.py                            of what make builds for this machine, gcc -O2
    instructions.py TARGET CONFIG [-O2 ...]    of one target and configuration, function by function

tests/bench/instructions.c is built with the core, as `make size` builds it, and with the target's libc: newlib-nano for
ARM, picolibc for RV32, a static glibc kept to the instructions that every x86-64 has. Three phases are counted:

    get_new     GET of 700 octets, response with 250, on a new connection: from its arrival to the last octet
    get_kept    the same again on the kept connections
    connect     CONNECT of 290 octets on a new connection: from its arrival until 200 is sent

Counted is every instruction in the phase outside instructions.c: the core, what libc does for it, and the compiler's
helpers. The port, the hooks and the loop are in instructions.c, which calls nothing but the core; so all of libc that
is executed was called by the core.

x86-64: callgrind tells how much each function executed by itself. Elsewhere the program runs bare in QEMU, which
executes one instruction at a time and writes down the address of each; their functions are looked up in the image. A
Cortex-M0's code runs on a Cortex-M3, whose instruction set includes it. Nothing is sampled and nothing depends on
time: each run gives the same figures.

The smallest configuration gets larger buffers, because a head of 700 octets would not fit; see targets/config.h.
"""
import bisect
import glob
import os
import re
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "tools"))
from targets import binutil, compiler, must, run  # noqa: E402  pylint: disable=wrong-import-position

PHASES = ("get_new", "get_kept", "connect")
OUT = os.path.join(ROOT, "build", "bench")
SIZE_FLAGS = ["-Os", "-DNDEBUG", "-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables"]
ARM = ["qemu-system-arm", "-M", "mps2-an385", "-semihosting-config", "enable=on,target=native"]
# target: (emulator, specs file of the libc, start-up, begin of memory)
MACHINES = {
    "cortex-m0": (ARM, "nano.specs", "arm.c", "0"),
    "cortex-m3": (ARM, "nano.specs", "arm.c", "0"),
    "rv32imac": (["qemu-system-riscv32", "-M", "virt", "-bios", "none"], "picolibc.specs", "riscv.c", "0x80000000"),
}
# glibc chooses its memcpy by what the processor has; all have SSE2
PLAIN_X86 = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-EVEX,-ERMS,-FSRM,-SSSE3," \
            "-SSE4_1,-SSE4_2,-BMI1,-BMI2,-MOVBE,-LZCNT," \
            "-AVX_Fast_Unaligned_Load"


class Missing(Exception):
    """What is not installed and why it is needed."""


def build(target, config, flags, base, core):
    """The program for a target, linked from the core (base-core.o, if nobody has built it), base-harness.o and a
    start-up."""
    if compiler(target, "gcc") is None:
        raise Missing("no compiler for " + target)
    command = compiler(target, "gcc") + ['-DMINIPROXY_CONFIG="tests/bench/targets/config.h"',
                                         f'-DCOUNTED_CONFIG="tests/configs/{config}.h"']
    if core is None:
        core = base + "-core.o"
        must(command + flags + ["-c", "miniproxy.c", "-o", core])
    # -O1 without builtins: no loop may become a call of memcpy
    harness = ["-O1", "-fno-builtin", "-fno-tree-loop-distribute-patterns", "-c"]
    must(command + harness + ["tests/bench/instructions.c", "-o", base + "-harness.o"])
    wanted = re.findall(r" U (\w+)", must([binutil(target, "nm"), base + "-harness.o"]))
    called = [name for name in wanted if not name.startswith("miniproxy_")]
    if called:
        raise RuntimeError("instructions.c calls " + " ".join(called))
    objects, program = [core, base + "-harness.o"], base + ".elf"
    if target not in MACHINES:
        linked = run(command[:1] + ["-static", "-no-pie"] + objects + ["-o", program])
        if linked.returncode != 0:
            raise Missing(f"no static libc for {target}: {linked.stderr.strip().splitlines()[-1]}")
        return program
    _, specs, start, memory = MACHINES[target]
    must(command + harness + ["tests/bench/targets/" + start, "-o", base + "-start.o"])
    if not os.path.exists(must(command + ["-print-file-name=" + specs]).strip()):
        raise Missing(f"no libc for {target} ({specs})")
    must(command + ["--specs=" + specs, "-nostartfiles", "-T", "tests/bench/targets/image.ld",
         f"-Wl,--defsym=memory_begin={memory}"] +
         objects + [base + "-start.o", "-o", program])
    return program


def one_at_a_time(emulator):
    found = re.search(r"version (\d+)\.(\d+)", must([emulator, "--version"]))
    new = found and (int(found.group(1)), int(found.group(2))) >= (8, 1)
    return ["-accel", "tcg,one-insn-per-tb=on"] if new else ["-singlestep"]


class Image:
    """Which function an address belongs to."""

    def __init__(self, target, path):
        symbols = {}
        self.named = {}
        for line in must([binutil(target, "nm"), "-n", path]).splitlines():
            parts = line.split()
            if len(parts) == 3 and not parts[2].startswith("$"):
                self.named[parts[2]] = int(parts[0], 16)
                if parts[1] in "tTwW":
                    symbols[int(parts[0], 16)] = parts[2]
        self.starts = sorted(symbols)
        self.names = [symbols[a] for a in self.starts]

    def function(self, address):
        at = bisect.bisect_right(self.starts, address)
        return self.names[at - 1] if at > 0 else "?"


def emulate(target, base):
    """[{function: instructions}] of each phase."""
    path = base + ".elf"
    machine = MACHINES[target][0]
    if shutil.which(machine[0]) is None:
        raise Missing(machine[0] + " is not installed")
    log = base + ".trace"
    must(["timeout", "60"] + machine + ["-display", "none", "-monitor", "none", "-serial", "none", "-kernel", path,
         "-d", "exec,nochain", "-D", log] + one_at_a_time(machine[0]))
    image = Image(target, path)
    begin, end = image.named["phase_begin"], image.named["phase_end"]
    harness = range(image.named["harness_begin"], image.named["harness_end"])
    executed, phases, inside = {}, [], False
    traced = re.compile(r"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/")
    with open(log, encoding="ascii", errors="replace") as f:
        for line in f:
            found = traced.match(line)
            if not found:
                continue
            address = int(found.group(1), 16)
            if address == begin:
                executed, inside = {}, True
            elif address == end and inside:
                phases.append(executed)
                inside = False
            elif inside and address not in harness:
                executed[address] = executed.get(address, 0) + 1
    os.remove(log)
    return [by_function(image, executed) for executed in phases]


def by_function(image, executed):
    functions = {}
    for address, times in executed.items():
        name = image.function(address)
        functions[name] = functions.get(name, 0) + times
    return functions


def callgrind(target, base):
    """The same by callgrind, which runs the program on this machine."""
    if shutil.which("valgrind") is None:
        raise Missing("valgrind is not installed")
    out = base + ".callgrind"
    for old in glob.glob(out + "*"):
        os.remove(old)
    must(["timeout", "120", "env", PLAIN_X86, "valgrind", "--tool=callgrind", "--compress-strings=no", "--dump-line=no",
          "--zero-before=phase_begin", "--dump-before=phase_end", "--callgrind-out-file=" + out, base + ".elf"])
    harness = {line.split()[2] for line in must([binutil(target, "nm"), base + "-harness.o"]).splitlines()
               if len(line.split()) == 3}
    dumps = [f"{out}.{n + 1}" for n in range(len(PHASES))]
    return [own_costs(dump, harness) for dump in dumps if os.path.exists(dump)]


def own_costs(path, harness):
    """What each function executed by itself; lines behind "calls=" are those of its callees again."""
    functions, name, inclusive = {}, "", False
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.startswith("fn="):
                name = re.sub(r"'\d+$", "", line[3:].strip())
            elif line.startswith("calls="):
                inclusive = True
            elif line[:1].isdigit() or line[:1] in "+-*":
                if not inclusive and name not in harness and "below main" not in name:
                    functions[name] = functions.get(name, 0) + int(line.split()[1])
                inclusive = False
    return functions


def base_name(target, config, own=False):
    return os.path.join(OUT, f"instructions-{config}-{target}" + ("-own" if own else ""))


def count(target, config, flags=None, core=None):
    """{phase: {function: instructions}}; raises Missing. core: the object, if it has been built."""
    os.makedirs(OUT, exist_ok=True)
    base = base_name(target, config, flags is not None)
    build(target, config, SIZE_FLAGS if flags is None else flags, base, core)
    return execute(target, base)


def execute(target, base):
    """Of the program that was built."""
    phases = (emulate if target in MACHINES else callgrind)(target, base)
    if len(phases) not in (1, len(PHASES)):  # a build without forwarding has no GET
        raise RuntimeError(f"{len(phases)} phases instead of {len(PHASES)}")
    return dict(zip(PHASES[-len(phases):], phases))


def totals(counted):
    return {phase: sum(functions.values()) for phase, functions in counted.items()}


def main():
    target, config = sys.argv[1:3] if len(sys.argv) > 2 else ("x86-64", "default")
    counted = count(target, config, sys.argv[3:] or (["-O2"] if len(sys.argv) < 2 else None))
    for phase, total in totals(counted).items():
        print(f"instructions in the core, {config} on {target}, {phase}: {total:,}")
        if len(sys.argv) > 2:
            for name, n in sorted(counted[phase].items(), key=lambda item: -item[1])[:25]:
                print(f"    {n:7,}  {name}")


if __name__ == "__main__":
    main()
