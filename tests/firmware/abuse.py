# SPDX-License-Identifier: MIT
"""Firmware with small pools on a bad cable, under attack, while a well-behaved client must be served.

    abuse.py SECONDS [CONNECTIONS [SEED]]

For lwIP's raw API and for its sockets, on the board of 64 KB: frames are lost, doubled and late; peers reset, stall in
every phase, do not read, do not close; more connections than PCBs; downloads and uploads that hold every pbuf; SYNs from
nowhere. Each image runs for half of SECONDS, longer until it has seen half of CONNECTIONS. At the end everything is
answered again, lwIP has all its PCBs and pbufs back, and no stack has come to its end.
"""
import asyncio
import os
import random
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
os.environ.setdefault("MINIPROXY_STACK", "lm3s")
os.environ.setdefault("MINIPROXY_SUITE", "abuse")
os.environ.setdefault("MINIPROXY_PATIENCE", "30")

import hostile  # noqa: E402
import peers  # noqa: E402
import proxy as proxies  # noqa: E402
import world  # noqa: E402

IMAGES = ("lm3s-raw", "lm3s-sockets")
ATTACKERS = 8         # from two addresses with two sessions each: two of six are left for others
FLOODERS = 2
STACK_LEFT = 64       # octets that must never have been used
SERVED_WITHIN = 60.0  # a lost frame costs seconds, when it is one of a handshake
TIMEOUTS = [part for name, seconds in (("head", 4), ("idle", 4), ("body", 12), ("dns", 4), ("connect", 15),
                                       ("first_byte", 12), ("response", 12), ("write", 12), ("tunnel", 8),
                                       ("half_closed", 8), ("linger", 2), ("total", 40), ("tunnel_total", 20))
            for part in ("--timeout", f"{name}={seconds}")]


class Abuse(hostile.Attackers):
    """The attacks of hostile.py, and those that are about memory of lwIP."""

    def __init__(self, proxy, origins, names, silent):
        super().__init__(proxy, origins, names, silent)
        for kind in (self.stalled_upload, self.stalled_tunnel, self.no_reader):
            self.kinds += [(kind.__name__, kind)] * 3
        self.connections, self.resets, self.failed_connects, self.syns = 0, 0, 0, 0

    async def stalled_upload(self, _, writer):
        """The origin takes nothing."""
        await self.repeat(writer, peers.request("POST", self.origins.url("mute"), "Content-Length: 9999999"),
                          b"x" * 8192, 0.001)

    async def stalled_tunnel(self, _, writer):
        """Both sides send, nobody reads."""
        writer.write(peers.request("CONNECT", self.origins.authority["endless_body"]))
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await self.repeat(writer, b"GET / HTTP/1.1\r\n\r\n", b"x" * 8192, 0.001)

    async def run(self, number):
        rng = random.Random(number)
        while self.running:
            name, attack = rng.choice(self.kinds)
            writer = None
            try:
                reader, writer = await hostile.connect(self.proxy, f"127.66.0.{1 + number % 2}")
                self.connections += 1
                self.count[name] = self.count.get(name, 0) + 1
                await asyncio.wait_for(attack(reader, writer), 4)
            except ConnectionResetError:
                self.resets += 1
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                self.failed_connects += writer is None
            if writer is not None:
                hard = rng.random() < 0.5
                self.resets += hard
                await hostile.close(writer, hard=hard)
            await asyncio.sleep(rng.random() * 0.1)

    async def flood(self, number):
        """Connections, one after the other, with all sorts of short lives."""
        rng = random.Random(1000 + number)
        loop = asyncio.get_running_loop()
        while self.running:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                sock.bind((f"127.66.2.{1 + number}", 0))
                await asyncio.wait_for(loop.sock_connect(sock, self.proxy.at), 10)
                self.connections += 1
                what = rng.randrange(4)
                if what == 0:
                    await loop.sock_sendall(sock, os.urandom(rng.randrange(1, 300)))
                elif what == 1:
                    await loop.sock_sendall(sock, peers.request("GET", self.origins.url("good")))
                elif what == 2:
                    await loop.sock_sendall(sock, peers.request("GET", self.origins.url("hangup")))
                    await asyncio.wait_for(loop.sock_recv(sock, 1000), 0.5)
            except (OSError, asyncio.TimeoutError):
                self.failed_connects += 1
            self.resets += 1
            sock.close()
            await asyncio.sleep(0.002)

    async def half_open(self):
        """SYNs whose answers nobody gets."""
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            while self.running:
                for _ in range(2):
                    source = f"127.66.3.{random.randrange(1, 255)}"
                    sock.sendto(syn(source, *self.proxy.at), (self.proxy.at[0], 0))
                    self.syns += 1
                await asyncio.sleep(5)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def syn(source, host, port):
    addresses = socket.inet_aton(source) + socket.inet_aton(host)
    segment = struct.pack(">HHIIBBHHH", random.randrange(1024, 65536), port, random.getrandbits(32), 0, 0x50, 2, 8192, 0, 0)
    total = checksum(addresses + struct.pack(">BBH", 0, 6, len(segment)) + segment)
    segment = segment[:16] + struct.pack(">H", total) + segment[18:]
    return struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + addresses + segment


def drop_answers():
    """127.66.3.0/24 stays silent: the kernel would answer by resets."""
    import subprocess
    subprocess.run(["ip", "route", "add", "table", "local", "blackhole", "127.66.3.0/24"], check=False)


async def connect_patiently(proxy, source):
    """Where the queue of the listener is full, SYNs are ignored: who is not accepted tries again."""
    until = time.monotonic() + SERVED_WITHIN
    while True:
        try:
            return await asyncio.wait_for(asyncio.open_connection(*proxy.at, local_addr=(source, 0), limit=1 << 20), 7)
        except (OSError, asyncio.TimeoutError):
            if time.monotonic() > until:
                raise


async def transaction(proxy, origins, number, good):
    """By one connection: None when all is well, "again", or what went wrong."""
    writer = None
    try:
        reader, writer = await connect_patiently(proxy, "127.77.0.1")
        act = hostile.tunnel if number % 3 == 0 else hostile.plain
        failure = await asyncio.wait_for(act(reader, writer, origins, number), SERVED_WITHIN)
    except ConnectionResetError:
        good.resets += 1
        return "again"
    except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
        return repr(error)
    finally:
        if writer is not None:
            await hostile.close(writer)
    if failure and failure[0] == 503 and b"retry-after:" in failure[1]:
        good.told_to_wait += 1
        await asyncio.sleep(0.2)
        return "again"
    return failure


async def behave(proxy, origins, good, more):
    """One transaction after another, each tried again after 503 and after a reset; it has SERVED_WITHIN seconds."""
    number = 0
    while more():
        begun, problem = time.monotonic(), "again"
        while problem == "again" and time.monotonic() - begun < SERVED_WITHIN:
            problem = await transaction(proxy, origins, number, good)
        if problem is None:
            good.seconds.append(time.monotonic() - begun)
        else:
            good.lost.append(problem)
        number += 1
        await asyncio.sleep(0.05)


async def attack(proxy, names, seconds, connections):
    origins, good = await hostile.Origins().start(), hostile.Served()
    good.resets = 0
    begun = time.monotonic()
    with peers.Silent() as silent:
        abuse = Abuse(proxy, origins, names, silent)

        def more():
            return time.monotonic() - begun < seconds or abuse.connections < connections
        bad = [abuse.run(i) for i in range(ATTACKERS)] + [abuse.flood(i) for i in range(FLOODERS)] + [abuse.half_open()]
        bad = [asyncio.create_task(one) for one in bad]
        await behave(proxy, origins, good, more)
        abuse.running = False
        await asyncio.wait(bad, timeout=20)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
    print("attacks:", ", ".join(f"{n} {name}" for name, n in sorted(abuse.count.items())))
    print(f"{abuse.connections} connections, {abuse.resets} resets, {abuse.failed_connects} not accepted in time, "
          f"{abuse.syns} SYNs from nowhere, {time.monotonic() - begun:.0f} s")
    good.report(f"the well-behaved client, {good.resets} times reset,")
    return abuse, good


def pools(proxy):
    """Of lwIP: name -> (used, most, available); and single numbers."""
    after = len(proxy.lines)
    proxy.process.send_signal(signal.SIGUSR2)
    line = proxy.line(r"pools: .*", after=after)[0]
    table = {name: tuple(map(int, numbers)) for name, *numbers in re.findall(r"(\w+)=(\d+)/(\d+)/(\d+)", line)}
    return line, table, {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)(?![\d/])", line)}


def answered_again(proxy):
    """Twenty requests, by a kept connection and by new ones."""
    origin = peers.Origin()
    try:
        for _ in range(10):
            client = proxy.client()
            for _ in range(2):
                if client.ask("GET", origin.url + "/").status != 200:
                    return "refused"
            client.close()
    except Exception as error:
        return repr(error)
    finally:
        origin.stop()
    return ""


def stacks(proxy):
    """Octets of each stack that were never used."""
    text = proxy.line(r"stack: .*")[0]
    return {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", text) if name != "heap"}


def settle(proxy, results, image):
    proxy.wait_idle(60)
    problem = answered_again(proxy)
    results.check(not problem, f"{image}: afterwards everything is answered", "Z08,Z03", problem)
    deadline, held = time.monotonic() + 60, True
    while held and time.monotonic() < deadline:  # FINs may still be on their way
        time.sleep(1)
        line, table, _ = pools(proxy)
        held = {name: table[name][0] for name in ("PBUF_POOL", "TCP_SEG", "PBUF") if table[name][0] > 0}
    print(line)
    results.check(not held, f"{image}: no pbuf is held when all is quiet", "Z08,Z06", str(held))
    try:
        proxy.stop()
        problem = ""
    except AssertionError as error:
        problem = str(error)
    results.check(not problem, f"{image}: all PCBs and pbufs have come back, and it ends in order", "Z08", problem)
    left = stacks(proxy)
    print("stacks, octets never used:", left)
    results.check(min(left.values()) >= STACK_LEFT, f"{image}: no stack has come to its end", "Z06", str(left))


def run_image(image, names, seconds, connections, seed, results):
    print(f"\n{image}")
    os.environ["MINIPROXY_LINK"] = f"lost=10,twice=10,late=20,seed={seed}"
    with tempfile.TemporaryDirectory() as directory:
        proxy = proxies.Proxy(directory, *proxies.OPEN, *TIMEOUTS, "--per-client", "2",
                              binary=os.path.join(ROOT, "build", "firmware-test", "bin", image))
        try:
            drive(proxy, image, names, seconds, connections, results)
        finally:
            proxy.kill()


def drive(proxy, image, names, seconds, connections, results):
    abuse, good = asyncio.run(attack(proxy, names, seconds, connections))
    served = len(good.seconds) > seconds / 20 and not good.lost and good.resets <= 1 + len(good.seconds) / 10
    results.check(served, f"{image}: a well-behaved client is served",
                  "Z02,Z04,Z05,Z08,D01", f"{len(good.seconds)} served, {good.resets} resets, lost: {good.lost[:5]}")
    if proxy.process.poll() is not None:
        results.check(False, f"{image}: survives", "Z08", proxy.stderr()[-3000:])
        return
    print("counters:", proxy.counters())
    line, table, numbers = pools(proxy)
    print(line)
    full = [name for name in ("TCP_PCB", "PBUF_POOL") if table[name][1] == table[name][2]]
    results.check(numbers["lost_in"] > 0 and numbers["lost_out"] > 0 and numbers["twice"] > 0 and numbers["late"] > 0 and
                  "PBUF_POOL" in full, f"{image}: frames were lost and pools were used up", "Z08", str(full))
    results.check(abuse.connections >= connections, f"{image}: {abuse.connections} connections", "Z08")
    settle(proxy, results, image)




def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    connections = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    results = hostile.Results()
    world.enter()
    if not world.cables:
        print("ABUSE NOT RUN:", world.why_no_cables)
        results.lines.append(f"skip\tabuse\t{world.why_no_cables}\t-\n")
        results.write()
        return 0
    drop_answers()
    names = world.Names()
    names.zone.update({f"silent{i}.example.test": "silent" for i in range(1000)})
    for image in IMAGES:
        try:
            run_image(image, names, seconds / len(IMAGES), connections // len(IMAGES), seed, results)
        except Exception as error:
            results.check(False, f"{image}: the run comes to its end", "Z08", repr(error))
    results.write()
    return 1 if results.failed else 0


if __name__ == "__main__":
    threading.excepthook = lambda _: None  # readers of a killed process
    sys.exit(main())
