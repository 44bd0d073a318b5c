# SPDX-License-Identifier: MIT
"""What miniproxy costs: flash, RAM, stack and instructions, compared with tests/budget.txt.

    size.py [--update]      --update rewrites tests/budget.txt and the tables in README.md

core    miniproxy.c for each target and configuration. Flash, RAM and stack may not grow beyond the budget at all,
        instructions by a hundredth. tests/bench/instructions.py says how those are counted.
option  what each MINIPROXY_WITH_… adds to the default configuration, for Cortex-M3.
port    what stands beside it in a firmware, for Cortex-M3. The ports of lwIP need its sources, of which $LWIP_DIR or
        build/lwip is used, and that of TLS needs those of mbedTLS, $MBEDTLS_DIR or build/mbedtls; skipped without.
image   the firmware images that IMAGES names, of those that are built.
tls     what TLS costs as examples/firmware and examples/desktop have it: code of the port, of mbedTLS in the image, and the
        RAM of a session, its arena included, of what all share, and of the core's session beside it.

The deepest stack is computed from gcc's call graph; frames of variable size are errors. In the core alone, calls
through pointers (the port, the application's hooks) count as 0 and recursion is an error. In an image they are
followed, from main through the port and lwIP down to the driver: see callgraph.py. libc's functions count as 0. mbedTLS is
not followed: what the images with TLS use of their stack is seen when they run, tests/firmware/tls.py.
"""
import glob
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

from callgraph import HOOKS, Graph, short
from targets import ROOT, TARGETS, Results, binutil, compiler, config_flag, must, run, version

sys.path.insert(0, os.path.join(ROOT, "tests", "bench"))
import instructions  # noqa: E402  pylint: disable=wrong-import-position

CONFIGS = ("tunnels", "smallest", "default", "everything")
OUT = os.path.join(ROOT, "build", "size")
BUDGET = os.path.join(ROOT, "tests", "budget.txt")
README = os.path.join(ROOT, "README.md")
LWIP = os.environ.get("LWIP_DIR", "build/lwip")
FIRMWARE = os.path.join(ROOT, "build", "firmware")
COLUMNS = {
    "core": ("flash", "ram", "stack", "fixed", "session", "buffer", "slots", "buffers") + instructions.PHASES,
    "option": ("flash", "once", "session"),
    "port": ("flash", "ram", "stack"),
    "image": ("flash", "ram", "reserved", "stack"),
    "tls": ("flash", "mbedtls", "arena", "session", "shared", "plain"),
}
LIMITED = ("flash", "ram", "stack", "once", "mbedtls", "arena", "session", "shared") + instructions.PHASES
PORTS = ("miniproxy_sha256", "miniproxy_lwip_raw", "miniproxy_lwip_sockets")
MBEDTLS = os.environ.get("MBEDTLS_DIR", "build/mbedtls")
# What is measured upon others that it needs, and what is a number and no choice.
UPON = {"WITH_METRICS": ["WITH_PAGES"], "WITH_STATUS": ["WITH_PAGES", "WITH_METRICS"], "WITH_PAC": ["WITH_PAGES"],
        "RECORDS": ["WITH_PAGES"]}
COUNTED = {"RECORDS": 8}
# target: (mbedTLS's configuration, the proxy's, an image to look for mbedTLS in)
TLS = {
    "cortex-m3": ("examples/firmware/mbedtls_config.h", "examples/firmware/config.h", "lm3s6965-raw-tls"),
    "x86-64": ("tests/tls/mbedtls_host.h", "examples/desktop/config.h", None),
}
HEAD_FITS = 1024      # octets of payload, as in tests/bench/targets/config.h
EXCEPTION_FRAME = 32  # octets that a Cortex-M pushes by itself
# Hooks that an application may leave out: then nothing is stored in them. Every other pointer must lead somewhere.
OPTIONAL = {"unix_time", "minute_of_week", "sha256", "relay", "acd_conflict_callback",
            *(f"miniproxy.c:{hook}" for hook in HOOKS)}
PROBE = """#include "miniproxy.h"
char fixed[offsetof(struct miniproxy, sessions)], session[sizeof(struct miniproxy_session)];
char buffer[sizeof(struct miniproxy_buffer)], ram[sizeof(struct miniproxy)];
char slots[MINIPROXY_SLOTS], buffers[MINIPROXY_BUFFERS], payload[MINIPROXY_BUFFER_SIZE];
_Static_assert(MINIPROXY_RAM <= sizeof(struct miniproxy) && sizeof(struct miniproxy) - MINIPROXY_RAM < 8,
               "the formula and the instance differ");
"""
TLS_LABELS = {
    "flash of `port/miniproxy_tls.c`": "flash",
    "flash of mbedTLS in the image": "mbedtls",
    "RAM of a session by TLS, its record buffers included": "session",
    "RAM of a session of the core, beside it or without TLS": "plain",
}
TLS_PROBE = """#include "port/miniproxy_tls.h"
char session[sizeof(struct miniproxy_tls_session)], arena[MINIPROXY_TLS_ARENA];
char shared[sizeof(struct miniproxy_tls) - MINIPROXY_TLS_SESSIONS * sizeof(struct miniproxy_tls_session)];
char plain[sizeof(struct miniproxy_session)];
"""


def aims(kind, where, what):
    """{column: what it should not exceed}; an aim is printed with how far it is, and fails nothing."""
    if kind == "core" and where == "cortex-m3":
        flash = {"smallest": 8192, "default": 16384}.get(what)
        steps = dict(zip(instructions.PHASES, (20000, 20000, 6000)))
        return {"stack": 512, **steps, **({"flash": flash} if flash else {})}
    sessions = re.search(r"-(4|8|16)$", what)
    if kind == "image" and sessions:
        return {"ram": 1024 * {4: 12, 8: 18, 16: 30}[int(sessions.group(1))]}
    return {}


# ---- Measuring


def sections(target, path):
    """Octets in flash, of variables, and of the stack that an image reserves."""
    flash = variables = stack = 0
    for line in must([binutil(target, "size"), "-A", path]).splitlines():
        parts = line.split()
        if len(parts) != 3 or not parts[1].isdigit():
            continue
        name, size = parts[0], int(parts[1])
        if name.startswith((".text", ".rodata", ".data.rel.ro", ".ARM.ex", ".vectors", ".isr_vector")):
            flash += size
        elif name.startswith((".data", ".sdata")):
            variables += size
            flash += size
        elif name.startswith((".bss", ".sbss", ".noinit")):
            variables += size
        elif name.startswith(".stack"):
            stack += size
    return flash, variables, stack


def sizes_of_variables(target, path):
    lines = (line.split() for line in must([binutil(target, "nm"), "-S", path]).splitlines())
    return {parts[3]: int(parts[1], 16) for parts in lines}


def measure_core(target, config):
    """(row, [(passed, check, rules, detail)])"""
    base = os.path.join(OUT, f"{config}-{target}")
    command = compiler(target, "gcc") + instructions.SIZE_FLAGS + [config_flag(config)]
    must(command + ["-fcallgraph-info=su", "-c", "miniproxy.c", "-o", base + ".o"])
    with open(base + "-probe.c", "w", encoding="utf-8") as f:
        f.write(PROBE)
    must(command + ["-c", base + "-probe.c", "-o", base + "-probe.o"])
    row = sizes_of_variables(target, base + "-probe.o")
    row["flash"], variables, _ = sections(target, base + ".o")
    graph = Graph([base + ".ci"])
    (row["stack"], path), recursions = graph.deepest()
    row["path"] = graph.text(path)
    try:
        # what has small buffers is built once more with larger ones
        core = base + ".o" if row["payload"] >= HEAD_FITS else None
        row.update(instructions.totals(instructions.count(target, config, core=core)))
    except instructions.Missing as missing:
        row["missing"] = str(missing)
    checks = [(variables == 0, "no variables beside the instance", "-", f"{variables} octets"),
              (not recursions, "no recursion", "-", " > ".join(map(short, (recursions or [[]])[0]))),
              (not graph.dynamic, "every frame has a fixed size", "Z06", " ".join(map(short, graph.dynamic)))]
    return row, checks


def measure_options(results, rows):
    """What the default configuration costs with an option, less what it costs without."""
    target = "cortex-m3"
    if compiler(target, "gcc") is None:
        return
    with open(os.path.join(ROOT, "miniproxy.h"), encoding="utf-8") as f:
        options = re.findall(r"^#ifndef MINIPROXY_(WITH_\w+)\n#define MINIPROXY_\1 ([01])$", f.read(), re.M)
    results.check(len(options) > 10, "the options of miniproxy.h are found")

    def measure(flags):
        base = os.path.join(OUT, f"option-{'-'.join(flags) or 'none'}")
        command = compiler(target, "gcc") + instructions.SIZE_FLAGS + [config_flag("default"), *flags]
        with open(base + "-probe.c", "w", encoding="utf-8") as f:
            f.write(PROBE)
        must(command + ["-c", "miniproxy.c", "-o", base + ".o"])
        must(command + ["-c", base + "-probe.c", "-o", base + "-probe.o"])
        row = sizes_of_variables(target, base + "-probe.o")
        return {**row, "flash": sections(target, base + ".o")[0]}

    changes = {name: f"-DMINIPROXY_{name}={1 - int(value)}" for name, value in options}
    changes.update({name: f"-DMINIPROXY_{name}={value}" for name, value in COUNTED.items()})
    before = {name: tuple(f"-DMINIPROXY_{needed}=1" for needed in UPON.get(name, ())) for name in changes}
    after = {name: before[name] + (change,) for name, change in changes.items()}
    builds = sorted({*before.values(), *after.values()})
    with ThreadPoolExecutor(2) as pool:
        measured = dict(zip(builds, pool.map(measure, builds)))
    for name in changes:
        plain, other = measured[before[name]], measured[after[name]]
        sign = -1 if dict(options).get(name) == "1" else 1
        cost = {column: sign * (other[column] - plain[column]) for column in plain}
        cost["once"] = cost["ram"] - cost["session"] * plain["slots"]
        rows["option", target, name] = {column: cost[column] for column in COLUMNS["option"]}


def measure_all_cores(results, rows):
    wanted = []
    for target in TARGETS:
        if compiler(target, "gcc") is None:
            results.add("skip", f"{target}: compiler not installed")
        else:
            wanted += [(target, config) for config in CONFIGS]
    with ThreadPoolExecutor(2) as pool:
        measured = list(pool.map(lambda key: measure_core(*key), wanted))
    for (target, config), (row, checks) in zip(wanted, measured):
        rows["core", target, config] = row
        for passed, what, rules, detail in checks:
            results.check(passed, f"{config} on {target}: {what}", rules, detail)
        if "missing" in row:
            results.add("skip", f"{config} on {target}: instructions not counted: {row['missing']}")


def count_again(results, rows):
    """Is what was counted the same the next time?"""
    for target in ("cortex-m3", "rv32imac", "x86-64"):
        row = rows.get(("core", target, "smallest"), {"missing": ""})
        if "missing" not in row:
            again = instructions.totals(instructions.execute(target, instructions.base_name(target, "smallest")))
            results.check(all(row[phase] == again[phase] for phase in again),
                          f"instructions on {target} are the same when counted again", "-", str(again))


def measure_ports(results, rows):
    target = "cortex-m3"
    gcc, flags, _ = TARGETS[target]
    if compiler(target, "gcc") is None:
        return
    lwip = ["-isystem", os.path.join(LWIP, "src", "include"), "-Iexamples/firmware", '-DMINIPROXY_CONFIG="config.h"']
    for name in PORTS:
        source = f"port/{name}.c"
        with_lwip = "lwip" in name
        needed = [source] + (["examples/firmware/lwipopts.h", lwip[1]] if with_lwip else [])
        absent = [path for path in needed if not os.path.exists(os.path.join(ROOT, path))]
        if absent:
            results.add("skip", f"{name} on {target}: there is no {absent[0]}")
            continue
        base = os.path.join(OUT, f"{name}-{target}")
        command = [gcc] + flags + ["-std=c11"] + instructions.SIZE_FLAGS + ["-I."]
        if with_lwip:
            command += lwip + [f"-DNO_SYS={0 if name.endswith('sockets') else 1}"]
        built = run(command + ["-fcallgraph-info=su", "-c", source, "-o", base + ".o"])
        results.check(built.returncode == 0, f"{name} builds for {target}", "-", built.stderr[:2000])
        if built.returncode == 0:
            flash, variables, _ = sections(target, base + ".o")
            graph = Graph([base + ".ci"])
            (stack, path), _ = graph.deepest()
            rows["port", target, name] = {"flash": flash, "ram": variables, "stack": stack, "path": graph.text(path)}


def measure_tls(results, rows):
    for target, (mbedtls_config, config, image) in TLS.items():
        if not os.path.exists(os.path.join(ROOT, MBEDTLS, "include")):
            results.add("skip", f"TLS on {target}: there is no {MBEDTLS}")
            continue
        gcc, flags, _ = TARGETS[target]
        base = os.path.join(OUT, f"tls-{target}")
        command = [gcc] + flags + ["-std=c11"] + instructions.SIZE_FLAGS + [
            "-I.", "-isystem", os.path.join(MBEDTLS, "include"), f'-DMBEDTLS_CONFIG_FILE="{mbedtls_config}"',
            f'-DMINIPROXY_CONFIG="{config}"', "-DMINIPROXY_WITH_TLS=1"]
        with open(base + "-probe.c", "w", encoding="utf-8") as f:
            f.write(TLS_PROBE)
        must(command + ["-c", base + "-probe.c", "-o", base + "-probe.o"])
        must(command + ["-c", "port/miniproxy_tls.c", "-o", base + ".o"])
        row = sizes_of_variables(target, base + "-probe.o")
        row["flash"], _, _ = sections(target, base + ".o")
        path = os.path.join(FIRMWARE, f"{image}.map")
        if image and os.path.exists(path):
            row["mbedtls"] = part_of_map(path, "libmbedtls.a")
        rows["tls", target, os.path.dirname(config).split("/")[-1]] = row


def part_of_map(path, archive):
    """Octets in flash that a linker's map says are from an archive."""
    with open(path, encoding="utf-8") as f:
        placed = f.read().split("Linker script and memory map")[1]
    found = re.findall(rf"^ \.(?:text|rodata|data)\S*\s+0x0*([0-9a-f]+)\s+0x([0-9a-f]+) \S*{archive}\(", placed, re.M)
    return sum(int(size, 16) for _, size in found)


def measure_images(results, rows):
    images = [path for path in (os.path.join(FIRMWARE, f"{name}.elf") for name in os.environ.get("IMAGES", "").split())
              if os.path.exists(path)]
    if not images:
        results.add("skip", "firmware images: none in build/firmware; make firmware firmware-ram")
    for path in images:
        name = os.path.basename(path)[:-4]
        newer = newer_source(path)
        if newer:
            results.add("skip", f"image {name}: older than {newer}; make firmware firmware-ram")
            continue
        flash, variables, reserved = sections("cortex-m3", path)
        row = {"flash": flash, "ram": variables + reserved, "reserved": reserved}
        graphs = sorted(glob.glob(os.path.join(FIRMWARE, name, "**", "*.ci"), recursive=True))
        if name.endswith("-tls"):
            pass
        elif graphs:
            image_stack(results, name, row, Graph(graphs))
        else:
            results.add("skip", f"image {name}: deepest stack: no call graphs (*.ci) in build/firmware/{name}")
        rows["image", "cortex-m3", name] = row


def newer_source(image):
    """A source that has changed since the image was built: its call graph would name the wrong lines."""
    built = os.path.getmtime(image)
    patterns = ("miniproxy.[ch]", "port/*lwip*.[ch]", "port/*sha256.[ch]", "port/*tls.[ch]", "examples/firmware/**/*.[ch]")
    sources = [path for pattern in patterns for path in glob.glob(os.path.join(ROOT, pattern), recursive=True)]
    return next((os.path.relpath(path, ROOT) for path in sources if os.path.getmtime(path) > built), None)


def image_stack(results, name, row, graph):
    """What main needs at most, and the deepest interrupt handler on top of it."""
    unknown = {key: at for key, at in graph.resolve(ROOT).items() if key not in OPTIONAL}
    (deepest, path), recursions = graph.deepest("main")
    reached = graph.reachable("main")
    handlers = [n for n in graph.frames if re.search(r"_handler$", n) and n not in reached and n != "reset_handler"]
    interrupt, handler = max(((graph.deepest(n)[0][0] + EXCEPTION_FRAME, n) for n in handlers), default=(0, "-"))
    row["stack"] = deepest + interrupt
    row["path"] = f"{graph.text(path)}; interrupted by {handler} {interrupt}"
    results.check(not unknown, f"image {name}: it is known where every pointer call leads", "-", str(unknown))
    dynamic = [short(n) for n in graph.dynamic if n in reached]
    results.check(not dynamic, f"image {name}: every frame has a fixed size", "Z06", " ".join(dynamic))
    text = "\n".join(" > ".join(map(short, recursion)) for recursion in recursions[:5])
    if "-raw" not in name:
        # Who waits there for a lock passes its turn on, which receives frames, which takes locks; and any call through
        # lwIP's message functions seems to lead to all of them. So this is far above what can happen.
        print(f"image {name}: deepest stack is an upper bound; of each recursion one round is counted:\n{text}")
        return
    results.check(not recursions, f"image {name}: no recursion", "-", text)
    results.check(row["stack"] <= row["reserved"], f"image {name}: the deepest stack fits into what it reserves", "-",
                  f"{row['stack']} of {row['reserved']}: {row['path']}")


# ---- Budget and README


def read_budget():
    """{(kind, target, name): ({column: limit}, compiler version)}"""
    budget = {}
    if os.path.exists(BUDGET):
        with open(BUDGET, encoding="utf-8") as f:
            for line in f:
                parts = line.split()
                if parts and parts[0] in COLUMNS:
                    values = {c: int(v) for c, v in zip(COLUMNS[parts[0]], parts[4:]) if v != "-"}
                    budget[tuple(parts[:3])] = (values, parts[3])
    return budget


def write_budget(rows):
    """What could not be measured today keeps its limit."""
    old = read_budget()
    values = {key: limits for key, (limits, _) in old.items()}
    made_with = {key: made for key, (_, made) in old.items()}
    for key, row in rows.items():
        values[key] = {**values.get(key, {}), **row}
        made_with[key] = version(key[1])
    with open(BUDGET, "w", encoding="utf-8") as f:
        f.write("# What it may cost, in octets and in instructions a request; written by `make size UPDATE=1`.\n")
        for kind, columns in COLUMNS.items():
            f.write(f"\n# {'':4} {'target':10} {'':22} {'gcc':7}" + "".join(f" {c:>8}" for c in columns) + "\n")
            for key in (k for k in values if k[0] == kind):
                f.write(f"{kind:6} {key[1]:10} {key[2]:22} {made_with[key]:7}" +
                        "".join(f" {values[key].get(c, '-'):>8}" for c in columns) + "\n")


def readme_tables(budget):
    def number(row, column):
        return f"{row[column]:,}" if column in row else "–"

    lines = ["| target, gcc -Os | configuration | flash | RAM | = fixed | + sessions | + buffers | deepest stack "
             "| instructions: GET | GET, kept | CONNECT |",
             "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for (_, target, config), row in ((k, r) for k, (r, _) in budget.items() if k[0] == "core"):
        lines.append(f"| {target} | {config} | {row['flash']:,} | {row['ram']:,} | {row['fixed']:,} | "
                     f"{row['slots']} × {row['session']} | {row['buffers']} × {row['buffer']:,} | {row['stack']} | " +
                     " | ".join(number(row, phase) for phase in instructions.PHASES) + " |")
    others = [(k, r) for k, (r, _) in budget.items() if k[0] in ("port", "image")]
    if others:
        lines += ["", "| Cortex-M3, gcc -Os | flash | RAM | deepest stack |", "|---|--:|--:|--:|"]
        for (kind, _, name), row in others:
            what = f"`port/{name}.c`" if kind == "port" else f"whole image {name}"
            lines.append(f"| {what} | " + " | ".join(number(row, c) for c in ("flash", "ram", "stack")) + " |")
    options = [(k, r) for k, (r, _) in budget.items() if k[0] == "option"]
    if options:
        lines += ["", "| option, Cortex-M3, gcc -Os: what it adds | flash | RAM, once | RAM, each session |", "|---|--:|--:|--:|"]
        for (_, _, name), row in sorted(options, key=lambda o: -o[1]["flash"]):
            lines.append(f"| `MINIPROXY_{name}`{upon(name)} | " + " | ".join(f"{row[c]:,}" for c in COLUMNS["option"]) + " |")
    return "<!-- size -->\n" + "\n".join(lines) + "\n<!-- /size -->"


def upon(name):
    """How a row says what it was measured upon."""
    number = f" {COUNTED[name]}" if name in COUNTED else ""
    return number + (" upon " + ", ".join(f"`_{needed.replace('WITH_', '')}`" for needed in UPON[name]) if name in UPON else "")


def tls_lines(budget):
    """{first cell: line} of those lines of README's table of TLS that are sizes; the others are measured by make bench."""
    rows = {target: row for (kind, target, _), (row, _) in budget.items() if kind == "tls"}
    if set(rows) != set(TLS):
        return {}
    lines = {}
    for label, column in TLS_LABELS.items():
        cells = [f"{rows[target][column]:,}" if column in rows[target] else "–" for target in TLS]
        lines[label] = f"| {label} | " + " | ".join(cells) + " | – |"
    return lines


def readme(update):
    """True when the tables in the README say what the budget says."""
    with open(README, encoding="utf-8") as f:
        before = f.read()
    tables, lines = readme_tables(read_budget()), tls_lines(read_budget())
    after = re.sub(r"<!-- size -->.*?<!-- /size -->", lambda _: tables, before, flags=re.S)
    for label, line in lines.items():
        after = re.sub(rf"^\| {re.escape(label)} \|.*$", lambda _, line=line: line, after, flags=re.M)
    if update:
        with open(README, "w", encoding="utf-8") as f:
            f.write(after)
    return all(part in (after if update else before) for part in (tables, *lines.values()))


def exceeds(column, value, limit):
    return value * 100 > limit * 101 if column in instructions.PHASES else value > limit


def compare(results, rows):
    budget = read_budget()
    for key, row in rows.items():
        kind, target, what = key
        limit, made_with = budget.get(key, ({}, ""))
        name = f"{kind} {what} on {target} within its budget"
        over = [f"{c} {row[c]} > {limit[c]}" for c in LIMITED
                if c in limit and c in row and exceeds(c, row[c], limit[c])]
        unlimited = [c for c in LIMITED if c in row and c not in limit]
        if unlimited:
            results.add("fail", name, "-", f"not in tests/budget.txt: {' '.join(unlimited)}")
        elif made_with == version(target):
            results.check(not over, name, "-", ", ".join(over))
        else:
            print(f"not compared: {name}: measured with gcc {made_with}, this is {version(target)}; {', '.join(over)}")
    results.check(readme(False), "the tables in README.md say what tests/budget.txt says")


# ---- Report


def print_core(target, config, row):
    print(f"{target:10} {config:10} flash {row['flash']:6}  stack {row['stack']:5}  RAM {row['ram']:8} = "
          f"{row['fixed']} fixed + {row['slots']} sessions x {row['session']} + "
          f"{row['buffers']} buffers x {row['buffer']}")
    counted = ", ".join(f"{phase} {row[phase]:,}" for phase in instructions.PHASES if phase in row)
    print(f"{'':21} instructions: {counted or 'NOT COUNTED: ' + row.get('missing', '')}")
    print(f"{'':21} deepest: {row['path']}")


def print_aims(kind, target, what, row):
    for column, aim in aims(kind, target, what).items():
        if column in row:
            left = aim - row[column]
            verdict = f"met, {left:,} below" if left >= 0 else f"over by {-left:,}"
            print(f"{'':21} {column:8} {row[column]:7,}  aim {aim:,}: {verdict}")


def report(rows):
    print()
    for (kind, target, what), row in rows.items():
        if kind == "core":
            print_core(target, what, row)
        elif kind == "option":
            print(f"{kind:10} {what:24} adds flash {row['flash']:6}  RAM {row['once']:6} + sessions x {row['session']}")
        elif kind == "tls":
            print(f"{target:10} TLS as {what} has it: " + ", ".join(f"{c} {row[c]:,}" for c in COLUMNS[kind] if c in row))
        else:
            print(f"{kind:10} {what:24} flash {row['flash']:6}  RAM {row['ram']:6}" +
                  (f" of which stack {row['reserved']}" if "reserved" in row else "") +
                  f"  deepest stack {row.get('stack', 'unknown')}: {row.get('path', '')}")
        print_aims(kind, target, what, row)


def main():
    os.makedirs(OUT, exist_ok=True)
    results = Results("size")
    rows = {}
    measure_all_cores(results, rows)
    count_again(results, rows)
    measure_options(results, rows)
    measure_ports(results, rows)
    measure_images(results, rows)
    measure_tls(results, rows)
    if "--update" in sys.argv:
        write_budget(rows)
        readme(True)
    compare(results, rows)
    report(rows)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
