# SPDX-License-Identifier: MIT
"""Instructions in miniproxy.c for one GET on kept connections and for one CONNECT, by callgrind."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.join(ROOT, "build", "bench", "instructions")


def in_core(mode, times):
    out = os.path.join(ROOT, "build", "bench", f"callgrind-{mode}-{times}.out")
    done = subprocess.run(["valgrind", "--tool=callgrind", "--compress-strings=no", "--compress-pos=no",
                           "--callgrind-out-file=" + out, PROGRAM, mode, str(times)],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    total, file, inclusive = 0, "", False
    with open(out, encoding="utf-8") as f:
        for line in f:
            if line.startswith(("fl=", "fi=", "fe=")):
                file = line[3:].strip()
            elif line.startswith("calls="):
                inclusive = True
            elif line[:1].isdigit():
                if not inclusive and file.endswith("miniproxy.c"):
                    total += int(line.split()[1])
                inclusive = False
    return total


for name, what in (("get", "GET of 700 octets, response of 250"), ("connect", "CONNECT of 290 octets")):
    print(f"instructions in the core, {what}: {(in_core(name, 300) - in_core(name, 100)) / 200:.0f}")
