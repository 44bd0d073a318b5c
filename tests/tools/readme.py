# SPDX-License-Identifier: MIT
"""README.md tells no lies that a build can find: its C examples compile and link, its make targets exist, its defaults
are those of miniproxy.h, its options are those of the command, and the command answers as shown.

    readme.py [--update]    --update puts in what the command answers today
"""
import glob
import os
import re
import shutil
import sys
import tempfile

from targets import ROOT, Results, find_clang, run

FLAGS = "-std=c11 -Wall -Wextra -Wconversion -Wpedantic -Werror -pthread -I.".split()
PORT = ["miniproxy.c", "port/miniproxy_posix.c"]


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def blocks(text):
    """All blocks between fences: language, name (what stands behind it, or nothing), body."""
    return re.findall(r"^```(\w+)(?: ([\w-]+))?\n(.*?)^```", text, re.S | re.M)


def section(text, title):
    """What stands under a heading of the second level."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]


def check_examples(results, text):
    out = os.path.join(ROOT, "build", "readme")
    os.makedirs(out, exist_ok=True)
    examples = [body for language, _, body in blocks(text) if language == "c"]
    results.check(len(examples) >= 2, "there are examples")
    for n, code in enumerate(examples, 1):
        path = os.path.join(out, f"example{n}.c")
        with open(path, "w", encoding="utf-8") as f:
            f.write(code)
        for cc in ("gcc", find_clang()):
            if cc is None:
                results.add("skip", f"example {n} with clang: compiler not installed")
                continue
            rest = PORT + ["-o", path[:-2]] if "int main(" in code else ["-c", "-o", path[:-2] + ".o"]
            built = run([cc] + FLAGS + [path] + rest)
            results.check(built.returncode == 0, f"example {n} builds with {cc}", "-", built.stderr[:3000])


def check_defaults(results, text):
    header = read("miniproxy.h")
    text = re.sub(r"<!-- size -->.*?<!-- /size -->", "", text, flags=re.S)  # what options cost, not what they are
    for name, value in re.findall(r"^\| `(MINIPROXY_\w+)` \| (\S[^|]*?) \|", text, re.M):
        found = re.search(rf"^#define {name} (.+)$", header, re.M)
        same = found is not None and (found.group(1) == value or not value.isdigit())
        results.check(same, f"the default of {name}", "-", f"README: {value}, header: {found and found.group(1)}")
    ports = "".join(name + read(name) for name in sorted(glob.glob("port/*.h", root_dir=ROOT)))
    for name in sorted(set(re.findall(r"\b(?:MINIPROXY|miniproxy)_\w+", text))):
        known = name in header or name in ports or name == "MINIPROXY_RAM_BUDGET"
        results.check(known, f"{name} exists")


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))


def commands_of_others(text):
    """What a shell is given for programs that are not miniproxy."""
    told = re.findall(r"`((?:curl|git|pip|npm|apt-get|chromium|docker) [^`]*)`", text)
    return "\n".join([*told, *(body for language, _, body in blocks(text) if language == "sh")])


def check_commands(results, text):
    makefile = read("Makefile")
    prose = re.sub(r"^```console\n.*?^```", "", text, flags=re.S | re.M)
    makefile += "".join(read(name) for name in re.findall(r"^include (\S+)", makefile, re.M))
    for target in sorted(set(re.findall(r"\bmake ([a-z][\w-]*)", prose))):
        results.check(re.search(rf"^{target}:", makefile, re.M) is not None, f"make {target} exists")
    help_text = run(["build/miniproxy", "--help"]).stdout + run(["build/miniproxy", "policy", "help"]).stdout
    for option in sorted(options(re.sub(r"^.*\bcurl .*$", "", text, flags=re.M)) - options(commands_of_others(text))):
        results.check(option + " " in help_text or option + "[" in help_text, f"miniproxy has the option {option}")
    for path in sorted(set(re.findall(r"`((?:tests|port|examples)/[\w./-]+)`", text))):
        results.check(os.path.exists(os.path.join(ROOT, path)), f"{path} exists")


def console(text, ask):
    """Every ```console block with each answer replaced by ask(all commands so far, this one)."""
    def block(match):
        out, commands = [], []
        for line in match.group(1).splitlines():
            if not line.startswith("$ "):
                continue
            commands.append(line[2:])
            out += [line, *ask(commands).splitlines()]
        return "```console\n" + "\n".join(out) + "\n```\n"
    return re.sub(r"^```console\n(.*?)^```\n", block, text, flags=re.S | re.M)


def answer(commands):
    """What the last of these commands prints, in a copy of examples/policy."""
    with tempfile.TemporaryDirectory() as directory:
        place = os.path.join(directory, "policy")
        shutil.copytree(os.path.join(ROOT, "examples", "policy"), place)
        for command in commands:
            done = run(["sh", "-c", f"PATH={ROOT}/build:$PATH; cd {place}; {command}"])
        return done.stdout + done.stderr


def check_policies(results, text):
    for n, policy in enumerate((body for language, _, body in blocks(text) if language == "policy"), 1):
        with tempfile.TemporaryDirectory() as directory:
            place = os.path.join(directory, "policy")
            shutil.copytree(os.path.join(ROOT, "examples", "policy"), place)
            with open(os.path.join(place, "readme.policy"), "w", encoding="utf-8") as f:
                f.write(policy)
            done = run(["build/miniproxy", "policy", "check", os.path.join(place, "readme.policy")])
        results.check(done.returncode == 0, f"policy {n} is one", "-", done.stderr)


def check_answers(results, text):
    shown = console(text, answer)
    results.check(text.count("```console") >= 2, "there are examples of commands")
    results.check(shown == text, "commands answer as README shows", "-", "readme.py --update shows what they answer")
    if shown != text and "--update" in sys.argv:
        with open(os.path.join(ROOT, "README.md"), "w", encoding="utf-8") as f:
            f.write(shown)


def check_causes(results, text):
    """The table of causes has each of miniproxy.h's once, with its status."""
    rows = re.search(r"^<!-- causes -->\n(.*?)^<!-- /causes -->", text, re.S | re.M)[1].splitlines()[2:]
    told, status, core = {}, "", read("miniproxy.c")
    for sees, causes, *_ in ([cell.strip() for cell in row.strip("|").split("|")] for row in rows):
        status = sees or status
        if sees[:3].isdigit() and f"{sees[:3]} - NO_STATUS" in core:
            results.check(re.search(rf'[0"]{sees[4:]}[\\"]', core) is not None, f"miniproxy says {sees}")
        for token in re.findall(r"`(\w+)`", causes):
            results.check(token not in told, f"cause {token} is told once")
            told[token] = int(status[:3]) if status[:3].isdigit() else 0
    header = read("miniproxy.h").replace("\\\n", "")
    causes = {token: int(number) for number, token in re.findall(r'\bX\(\w+,\s*(\d+),\s*\w+,\s*"(\w+)"', header)}
    results.check(len(causes) > 50, "causes are found")
    for token in sorted({*causes, *told}):
        results.check(told.get(token) == causes.get(token), f"cause {token} is told with its status", "-",
                      f"README: {told.get(token)}, header: {causes.get(token)}")


def main():
    results = Results("readme")
    text = read("README.md")
    check_policies(results, text)
    check_answers(results, text)
    check_examples(results, text)
    check_defaults(results, text)
    check_commands(results, text)
    check_causes(results, text)
    return 1 if results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
