# SPDX-License-Identifier: MIT
"""Flash and RAM of firmware images, and with --parts what takes the RAM.

    memory.py [--parts] IMAGE.elf...
"""
import os
import re
import subprocess
import sys

# Who owns a variable: the first pattern that matches its name.
PARTS = (
    ("miniproxy: instance", r"^proxy$"),
    ("miniproxy: port", r"^(port|queries)$"),
    ("lwIP: TCP PCBs", r"^memp_memory_TCP_PCB\w*_base$"),
    ("lwIP: TCP segments", r"^memp_memory_TCP_SEG_base$"),
    ("lwIP: received frames (pbuf pool)", r"^memp_memory_PBUF_POOL_base$"),
    ("lwIP: pbuf references", r"^memp_memory_PBUF_base$"),
    ("lwIP: sockets, netconns, messages", r"^(memp_memory_(NETCONN|NETBUF|TCPIP|NETDB|SELECT|API|SOCKET)\w*|sockets)$"),
    ("lwIP: heap", r"^ram_heap$"),
    ("lwIP: DNS", r"^dns_"),
    ("lwIP: ARP", r"^arp_"),
    ("lwIP: UDP PCBs, timers", r"^memp_memory_\w+_base$"),
    ("lwIP: counters", r"^(lwip_stats|memp_stats\w*)$"),
    ("TLS", r"^tls$"),
    ("frames in reserve", r"^reserve$"),
    ("thread of lwIP: stack", r"^stack$"),
    ("C library", r"^(impure_data|_impure\w*|__sf\w*|errno)$"),
)


def tool(name):
    return os.environ.get("CROSS", "arm-none-eabi-") + name


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sections(image):
    """{name: size} of what lies in the memories."""
    text = output(tool("size"), "-A", image)
    return {m[1]: int(m[2]) for m in re.finditer(r"^(\.\S+)\s+(\d+)\s+\d+$", text, re.M)}


def sizes(image):
    """(flash, RAM, of which stack) in octets."""
    s = sections(image)
    return (s.get(".text", 0) + s.get(".ARM.exidx", 0) + s.get(".data", 0), s.get(".data", 0) + s.get(".bss", 0) +
            s[".stack"], s[".stack"])


def variables(image):
    """[(name, octets)] in RAM."""
    lines = output(tool("nm"), "-S", image).splitlines()
    fields = (line.split() for line in lines)
    return [(f[3], int(f[1], 16)) for f in fields if len(f) == 4 and f[2] in "bBdD"]


def parts(image):
    """{part: octets}, together exactly the RAM."""
    _, ram, stack = sizes(image)
    found = {name: 0 for name, _ in PARTS}
    for name, size in variables(image):
        part = next((p for p, pattern in PARTS if re.search(pattern, re.sub(r"\.\d+$", "", name))), None)
        if part is not None:
            found[part] += size
    found["stack"] = stack
    found["the rest"] = ram - sum(found.values())
    return found


def no_heap(image):
    """Names of the C library's allocator that were linked in: none are expected."""
    names = {line.split()[-1] for line in output(tool("nm"), image).splitlines()}
    return sorted(names & {"malloc", "free", "calloc", "realloc", "_malloc_r", "_free_r", "_sbrk", "sbrk", "_sbrk_r"})


def main():
    images = [a for a in sys.argv[1:] if a != "--parts"]
    print(f"{'image':24}{'flash':>9}{'RAM':>9}{'of it stack':>13}")
    for image in images:
        flash, ram, stack = sizes(image)
        print(f"{os.path.basename(image)[:-4]:24}{flash:9,}{ram:9,}{stack:13,}")
        if heap := no_heap(image):
            sys.exit(f"memory.py: {image} has an allocator in it: {' '.join(heap)}")
    if "--parts" in sys.argv:
        tables = [parts(image) for image in images]
        print(f"\n{'octets of RAM':36}" + "".join(f"{os.path.basename(i)[:-4]:>18}" for i in images))
        for name in tables[0]:
            if any(t[name] for t in tables):
                print(f"{name:36}" + "".join(f"{t[name]:18,}" for t in tables))


if __name__ == "__main__":
    main()
