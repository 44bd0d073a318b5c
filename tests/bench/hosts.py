# SPDX-License-Identifier: MIT
"""Blobs of host names: octets a name, instructions a look-up on x86-64 and on a Cortex-M3, both formats.

    hosts.py        after build/hosts/test and the lists in build/hosts

Each blob holds a whole list, every name with all below it. Looked up are NAMES of its names (hit), "www." and these
(below), and names of the other list that it does not match (miss), as miniproxy_decide does it. Built with gcc -Os and
counted as tests/bench/instructions.py says.
"""
import glob
import os
import sys

from instructions import MACHINES, OUT, PLAIN_X86, SIZE_FLAGS, emulate, own_costs
from targets import ROOT, binutil, compiler, must, run

NAMES = 200
TARGETS = ("x86-64", "cortex-m3")


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read().split()


def spread(names):
    return names[::max(1, len(names) // NAMES)][:NAMES]


def is_below(name, listed):
    labels = name.split(".")
    return any(".".join(labels[at:]) in listed for at in range(len(labels)))


def build(target, base):
    command = compiler(target, "gcc") + ["-DMINIPROXY_WITH_HOST_BLOBS=1"]
    must(command + SIZE_FLAGS + ["-c", "tests/bench/hosts_core.c", "-o", base + "-core.o"])
    harness = ["-O1", "-fno-builtin", "-c"]
    must(command + harness + [f'-DHOSTS_DATA="{base}.h"', "tests/bench/hosts.c", "-o", base + "-harness.o"])
    objects = [base + "-core.o", base + "-harness.o"]
    if target not in MACHINES:
        must(command[:1] + ["-static", "-no-pie"] + objects + ["-o", base + ".elf"])
        return
    _, specs, start, memory = MACHINES[target]
    must(command + harness + ["tests/bench/targets/" + start, "-o", base + "-start.o"])
    must(command + ["--specs=" + specs, "-nostartfiles", "-T", "tests/bench/targets/image.ld", "-Wl,--gc-sections",
                    f"-Wl,--defsym=memory_begin={memory}"] + objects + [base + "-start.o", "-o", base + ".elf"])


def callgrind(target, base):
    out = base + ".callgrind"
    for old in glob.glob(out + "*"):
        os.remove(old)
    must(["timeout", "120", "env", PLAIN_X86, "valgrind", "--tool=callgrind", "--compress-strings=no", "--dump-line=no",
          "--zero-before=phase_begin", "--dump-before=phase_end", "--callgrind-out-file=" + out, base + ".elf"])
    harness = {line.split()[2] for line in must([binutil(target, "nm"), base + "-harness.o"]).splitlines()
               if len(line.split()) == 3}
    dumps = sorted(glob.glob(out + ".*"), key=lambda path: int(path.rsplit(".", 1)[1]))
    costs = [own_costs(dump, harness) for dump in dumps]
    for dump in dumps:
        os.remove(dump)
    return costs


def count(target, base, blob, hits, misses):
    """Instructions of each look-up."""
    with open(base + ".h", "w", encoding="ascii") as f:
        names = ", ".join(f'"{name}"' for name in hits + misses)
        f.write(f'#define HOSTS_BLOB "{blob}"\n#define HOSTS_NAMES {names}\n#define HOSTS_HITS {len(hits)}\n')
    build(target, base)
    costs = (emulate if target in MACHINES else callgrind)(target, base)
    if len(costs) < len(hits + misses):
        raise RuntimeError(f"{len(costs)} look-ups counted, not {len(hits + misses)}")
    return [sum(functions.values()) for functions in costs[:len(hits + misses)]]


def main():
    os.makedirs(OUT, exist_ok=True)
    lists = {os.path.basename(path)[:-4]: read(path) for path in sorted(glob.glob(os.path.join(ROOT, "build/hosts/*.txt")))}
    if not lists:
        sys.exit("hosts.py: no lists in build/hosts")
    print(f"{'list':<12}{'format':<8}{'names':>8}{'octets a name':>15}  instructions, mean/max: "
          f"{'target':<10}{'hit':>13}{'below':>13}{'miss':>13}")
    for name, names in lists.items():
        listed = set(names)
        others = [other for key, value in lists.items() if key != name for other in value]
        hits = spread(names)
        misses = spread([n for n in others if not is_below(n, listed)] or ["x" + n for n in names[::7]])
        for kind in ("exact", "hashed"):
            blob = os.path.join(OUT, f"hosts-{name}.{kind}")
            must(["build/hosts/test", "blob", kind, f"build/hosts/{name}.txt", blob])
            for target in TARGETS:
                if compiler(target, "gcc") is None or run(["sh", "-c", "command -v valgrind"]).returncode != 0:
                    print(f"no compiler for {target}, or no valgrind")
                    continue
                base = os.path.join(OUT, f"hosts-{name}-{kind}-{target}")
                costs = count(target, base, blob, hits + ["www." + n for n in hits], misses)
                parts = (costs[:NAMES], costs[NAMES:2 * NAMES], costs[2 * NAMES:])
                figures = "".join(f"{sum(part) / len(part):>7,.0f}/{max(part):<5}" for part in parts)
                print(f"{name:<12}{kind:<8}{len(names):>8,}{os.path.getsize(blob) / len(names):>15.3f}{'':26}"
                      f"{target:<10}{figures}")


if __name__ == "__main__":
    main()
