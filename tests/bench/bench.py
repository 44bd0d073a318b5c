# SPDX-License-Identifier: MIT
"""Processor time of the proxy for the same work, side by side with tinyproxy, on loopback.

    bench.py            needs build/miniproxy and build/bench/load
    bench.py tunnels    private memory of 10,000 idle CONNECT tunnels, miniproxy alone
"""
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOAD = os.path.join(ROOT, "build", "bench", "load")
TICK = os.sysconf("SC_CLK_TCK")
ROUNDS = 3

# what is measured: load's arguments, and how many of the unit that is
WORK = [
    ("10k GETs, 16 kept clients", ["get", 48000, 16], 4.8),
    ("10k GETs, 1 kept client", ["get", 10000, 1], 1),
    ("1k GETs, new connections", ["new", 6000, 8], 6),
    ("1k CONNECT set-ups", ["connect", 6000, 8], 6),
    ("GB down a tunnel", ["tunnel", 2 << 30, 1], 2.147),
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / TICK


def private_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"Private_Dirty:\s+(\d+)", f.read()).group(1))


def miniproxy(directory, port):
    return [os.path.join(ROOT, "build", "miniproxy"), "--listen", f"127.0.0.1:{port}", "--allow-private",
            "--connect-ports", "any", "--log", os.path.join(directory, "access.log")]


def tinyproxy(directory, port):
    path = os.path.join(directory, "tinyproxy.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"Port {port}\nListen 127.0.0.1\nMaxClients 300\nTimeout 60\nAllow 127.0.0.1\nLogLevel Connect\n"
                f"LogFile \"{directory}/tinyproxy.log\"\n")
    return ["tinyproxy", "-d", "-c", path]


class Running:
    """A process that listens on a port, ended with the block."""

    def __init__(self, command, port):
        self.command, self.port = command, port

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self.process.pid
            time.sleep(0.02)
        sys.exit(f"{self.command[0]} does not listen")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def load(mode, proxy_port, origin_port, count, threads):
    subprocess.run([LOAD, mode, str(proxy_port), str(origin_port), str(count), str(threads)], check=True, timeout=300)


def compare(origin_port, directory):
    kinds = {"miniproxy": miniproxy}
    if shutil.which("tinyproxy"):
        kinds["tinyproxy"] = tinyproxy
    print(f"processor seconds of the proxy, median of {ROUNDS}")
    print(f"{'':28}" + "".join(f"{kind:>12}" for kind in kinds) + "       ratio")
    for label, (mode, count, threads), units in WORK:
        used = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, command in kinds.items():
                port = free_port()
                with Running(command(directory, port), port) as pid:
                    before = cpu_s(pid)
                    share = 1 if kind == "miniproxy" else 4  # slower ones are told apart from the clock's ticks sooner
                    load(mode, port, origin_port, count // share, threads)
                    used[kind].append((cpu_s(pid) - before) * share / units)
        medians = [statistics.median(used[kind]) for kind in kinds]
        ratio = f"{medians[-1] / max(medians[0], 1e-9):12.1f}" if len(medians) > 1 else ""
        print(f"{label:28}" + "".join(f"{m:12.3f}" for m in medians) + ratio, flush=True)


def tunnels(origin_port, directory, count=10000):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit < 2 * count + 200:
        count = (limit - 200) // 2
        print(f"only {limit} descriptors may be open")
    port = free_port()
    with Running(miniproxy(directory, port), port) as pid:
        load("connect", port, origin_port, 10, 1)
        time.sleep(0.5)
        before = private_kib(pid)
        held = subprocess.Popen([LOAD, "idle", str(port), str(origin_port), str(count), "1"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE)
        ready = held.stdout.readline()
        after = private_kib(pid)
        held.stdin.close()
        held.wait(60)
        if ready != b"ready\n":
            sys.exit("the tunnels could not be opened")
    each = (after - before) * 1024 // count
    print(f"{count} idle tunnels: {before} KiB before, {after} KiB with them, {each} octets each")


def main():
    with tempfile.TemporaryDirectory() as directory:
        served = subprocess.Popen([LOAD, "origin"], stdout=subprocess.PIPE)
        try:
            origin_port = int(served.stdout.readline())
            if sys.argv[1:] == ["tunnels"]:
                tunnels(origin_port, directory)
            else:
                compare(origin_port, directory)
        finally:
            served.kill()
            served.wait()


if __name__ == "__main__":
    main()
